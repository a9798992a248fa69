"""The small study, run as a user runs it: one command in a process of its own."""

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

from windows.store import RECORD, SUMS, Store, verify
from windows.workers import THREAD_VARIABLES

# Read when a library is loaded, here and in every process that a test starts.
os.environ |= dict.fromkeys(THREAD_VARIABLES, "1")

# Examples take as long as the machine is busy; in CI a run must not depend on luck.
settings.register_profile("modehop", deadline=None, derandomize="CI" in os.environ)
settings.register_profile("quick", settings.get_profile("modehop"), max_examples=25)
settings.load_profile("modehop")

# Who is started in the background may have been told to ignore it, and so are its children.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]
PROGRAM = "import sys; from curate.cli import main; sys.exit(main())"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Take what collecting imports for permanent, which every collection would walk through."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(10_000, 20, 20)
        gc.enable()


class SmallStudy:
    """`tests/studies/small.yaml`: the whole chain in seconds."""

    path = ROOT / "tests" / "studies" / "small.yaml"
    run_path = ROOT / "tests" / "runs" / "small.yaml"

    def start(self, *arguments: str | Path) -> "subprocess.Popen[str]":
        """Start ``modehop`` in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def end(self, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        """Run ``modehop`` to its end."""
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=300)
        finally:
            process.kill()
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def make(self, out: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Make the whole study in a folder, which has to succeed without a word on stderr."""
        ended = self.end("run", self.path, "--out", out, "--quiet", "--json", *arguments)
        assert (ended.returncode, ended.stderr) == (0, "")
        return ended

    def refused(self, *arguments: str | Path) -> str:
        """Run ``modehop``, which has to refuse in one line; return the line."""
        ended = self.end(*arguments)
        assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1), ended
        assert ended.stderr.startswith("modehop: ")
        assert "internal fault" not in ended.stderr
        return ended.stderr

    def sums(self, out: Path) -> dict[str, str]:
        """Return the checksums of every artefact, by its folder."""
        return {
            path.parent.relative_to(out).as_posix(): path.read_text()
            for path in sorted(out.glob(f"*/*/{SUMS}"))
        }

    def leftovers(self, out: Path) -> list[Path]:
        """Return what an attempt that was cut short has left."""
        return [path for path in out.rglob("*") if path.suffix in (".part", ".tmp")]

    def faults(self, out: Path) -> list[str]:
        """Return what is wrong with the artefacts: whatever has a record has to be whole."""
        found = [fault for artefact in Store(out).list() for fault in verify(artefact.path)]
        return found + [str(path) for path in out.glob(f"*/*.part/{RECORD}")]


@pytest.fixture(scope="session")
def small() -> SmallStudy:
    return SmallStudy()


@pytest.fixture(scope="session")
def whole(small: SmallStudy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small study's folder after one uninterrupted run with two workers. Read it only."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # made by the first process that asks for it
        root = root.parent
    out = root / "whole" / "out"
    with FileLock(root / "whole.lock"):
        if not (out / "summary.json").exists():
            small.make(out)
    return out
