"""Is an artefact still what it was, and is this installation fit to make one."""

import importlib.metadata
import os
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from rich.table import Table

from curate.command import Answer
from windows.errors import StoreError
from windows.progress import Reporter
from windows.store import PART, RECORD, verify

DISTRIBUTION = "modehop"
GIB = 2**30
# The demo's artefacts took 320 MiB; the rest is room for what is being made.
ENOUGH_DISK = GIB // 2


def check_folder(folder: Path, *, quiet: bool = False) -> Answer:
    """Check that every byte of an artefact, or of all artefacts below a folder, still matches.

    Parameters
    ----------
    quiet
        Show no progress.

    Raises
    ------
    StoreError
        There is no artefact.
    """
    artefacts = [folder] if (folder / RECORD).is_file() else _below(folder)
    if not artefacts:
        raise StoreError(
            "no artefact here" if folder.is_dir() else "no such folder",
            where=str(folder),
            do="give the folder of an artefact, or the --out folder of a study",
        )
    faults = {}
    with Reporter(quiet).task("checking artefacts", len(artefacts)) as advance:
        for artefact in artefacts:
            faults[str(artefact)] = verify(artefact)
            advance()
    bad = sum(bool(found) for found in faults.values())
    lines = [f"{path}: {fault}" for path, found in faults.items() for fault in found]
    lines.append(f"{len(artefacts) - bad} of {len(artefacts)} artefacts match")
    data = {"artefacts": [{"path": path, "faults": found} for path, found in faults.items()]}
    refusal = f"{bad} of {len(artefacts)} artefacts do not match their checksums" if bad else ""
    return Answer(data, lines, refusal)


def _below(folder: Path) -> list[Path]:
    records = sorted(folder.glob(f"*/*/{RECORD}")) + sorted(folder.glob(f"*/{RECORD}"))
    return [record.parent for record in records if record.parent.suffix != PART]


@dataclass(frozen=True)
class Finding:
    """One thing looked at: what was found, what is needed, and whether it will do."""

    what: str
    found: str
    needed: str
    sound: bool


def examine(folder: Path, *, quiet: bool = False) -> Answer:
    """Examine this installation: packages, threads, and the folder that artefacts go to.

    Parameters
    ----------
    folder
        Where artefacts would be written.
    quiet
        Show no progress.
    """
    findings = [_python()]
    looks = (_packages, _threads, lambda: _disk(folder))
    # Importing torch takes seconds.
    with Reporter(quiet).task("examining", len(looks)) as advance:
        for look in looks:
            findings += look()
            advance()
    table = Table(title="modehop doctor", title_justify="left")
    for name in ("", "what", "found", "needed"):
        table.add_column(name)
    for each in findings:
        table.add_row("ok" if each.sound else "NO", each.what, each.found, each.needed)
    bad = [each.what for each in findings if not each.sound]
    refusal = f"not sound: {', '.join(bad)}" if bad else ""
    data = {"sound": not bad, "findings": [asdict(each) for each in findings]}
    return Answer(data, (table,), refusal)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", version, ">=3.11", sys.version_info >= (3, 11))


def _packages() -> Iterator[Finding]:
    for text in _requirements():
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        needed = str(requirement.specifier) or "any version"
        try:
            found = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(requirement.name, "missing", needed, False)
            continue
        within = requirement.specifier.contains(found, prereleases=True)
        yield Finding(requirement.name, found, needed, within)


def _requirements() -> list[str]:
    """Return what the installed distribution requires; in a bare checkout, what pyproject says."""
    try:
        return importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return list(_project().get("dependencies", [DISTRIBUTION]))


def version() -> str:
    """Return the version of the installed distribution; in a bare checkout, that of pyproject."""
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return str(_project().get("version", "unknown"))


def _project() -> dict[str, Any]:
    path = Path(__file__).resolve().parent.parent / "pyproject.toml"
    try:
        return dict(tomllib.loads(path.read_text(encoding="utf-8"))["project"])
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        return {}


def _threads() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("cores", str(cores), "2 for the demo's pace", True)
    try:
        import torch
    except ImportError as error:
        yield Finding("torch works", f"it does not: {error}", "an import", False)
        return
    yield Finding("torch works", f"version {torch.__version__}", "an import", True)
    found = f"{torch.get_num_threads()} here, 1 in every worker"
    yield Finding("torch threads", found, "any here; each worker sets its own", True)


def _disk(folder: Path) -> Iterator[Finding]:
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"modehop")
        yield Finding(f"writing to {place}", "possible", "write access", True)
    except OSError as error:
        yield Finding(f"writing to {place}", error.strerror or "impossible", "write access", False)
    free = shutil.disk_usage(place).free
    needed = f"{ENOUGH_DISK / GIB} GiB for the demo"
    yield Finding("free disk", f"{free / GIB:.1f} GiB", needed, free >= ENOUGH_DISK)
