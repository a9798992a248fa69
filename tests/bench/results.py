"""RESULTS.md: each script's figures stand between marks of its own."""

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")


def replace(name: str, text: str) -> None:
    """Put measurements between their marks; new marks go to the end."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    old = RESULTS.read_text(encoding="utf-8")
    if begin not in old:
        old = f"{old.rstrip()}\n\n{begin}\n{end}\n"
    head, _, rest = old.partition(begin)
    _, _, tail = rest.partition(end)
    RESULTS.write_text(f"{head}{begin}\n{text.strip()}\n\n{end}{tail}", encoding="utf-8")


def commit() -> str:
    """Return the commit that is checked out, marked where files differ from it."""
    return subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    ).stdout.strip()


def today() -> str:
    """Return the day, UTC."""
    return datetime.now(UTC).date().isoformat()


def measured_by(script: str) -> str:
    """Say when, on what and by which script."""
    return (
        f"Measured {today()} on {os.cpu_count()} cores at commit {commit()} by"
        f" `python tests/bench/{script}`."
    )
