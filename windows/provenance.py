"""Where and with what something was made: for the reader of a record, never for an identity."""

import contextlib
import functools
import importlib.metadata
import platform
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PACKAGES = (
    "modehop",
    "ai2-olmo-core",
    "datasets",
    "datatrove",
    "numpy",
    "polars",
    "pyarrow",
    "tokenizers",
    "torch",
    "transformers",
)


def provenance() -> dict[str, Any]:
    """Return time (UTC, ISO 8601), host, command line, versions and, in a checkout, the commit."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "argv": list(sys.argv),
        "python": platform.python_version(),
        "packages": _packages(),
        "commit": _commit(Path(__file__).resolve().parents[1]),
    }


@functools.cache
def _packages() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


@functools.cache
def _commit(checkout: Path) -> str | None:
    # Only its own repository counts: an installed package may lie inside somebody else's.
    if not (checkout / ".git").exists():
        return None
    try:
        answer = subprocess.run(
            ["git", "-C", str(checkout), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None if answer.returncode == 0 else None
