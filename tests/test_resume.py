"""Nothing is lost: kill -9 anywhere, a full disk, two at once; then the same command goes on."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import rmtree

import psutil
import pytest

pytestmark = pytest.mark.slow


def kill_group(process: "subprocess.Popen[str]") -> None:
    """Kill a command and its workers at once."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def kill_parent(process: "subprocess.Popen[str]") -> None:
    """Kill a command alone; its workers have to end by themselves."""
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    assert still_running(workers) == []
    process.communicate()


def still_running(workers: list[psutil.Process]) -> list[psutil.Process]:
    """Return who has not ended after a while; who has may wait for its parent to hear of it."""
    _, alive = psutil.wait_procs(workers, timeout=10)
    return [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]


# Every step in order, by the beginning of its folder's name, with the seconds within which the kill
# comes once the step has begun. A step that stands here twice is resumed and killed again.
KILLS: tuple[tuple[str, float, Callable[["subprocess.Popen[str]"], None]], ...] = (
    ("corpus/", 0.3, kill_group),
    ("run/", 5.0, kill_group),
    ("run/", 4.5, kill_parent),
    ("scores/run-", 5.0, kill_group),
    ("scores/run-", 5.0, kill_parent),
    ("labels/", 0.01, kill_group),
    ("prompts/", 0.1, kill_group),
    ("shards/", 0.5, kill_parent),
    ("arm/", 0.5, kill_group),
    ("arm/", 1.0, kill_parent),
    ("scores/arms-", 5.0, kill_group),
    ("replay/", 4.5, kill_parent),
    ("transfer/", 0.01, kill_group),
    ("verdict/", 0.01, kill_group),
    ("truth/", 0.1, kill_group),
    ("report/", 1.0, kill_group),
)
TRIES = 6


def parts(out: Path, step: str) -> list[Path]:
    return list(out.glob(f"{step}*.part"))


def reached(process: "subprocess.Popen[str]", seen: Callable[[], object]) -> bool:
    """Wait until something is seen; False if the command has ended before."""
    limit = time.monotonic() + 300
    while not seen():
        if process.poll() is not None:
            return False
        assert time.monotonic() < limit
        time.sleep(0.0005)
    return True


class Killer:
    """Runs one study again and again, and kills it inside its steps."""

    def __init__(self, small, out: Path) -> None:
        self.small, self.out = small, out
        self.rng = random.Random(0)
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> "subprocess.Popen[str]":
        self.process = self.small.start("run", self.small.path, "--out", self.out, "--quiet")
        return self.process

    def end(self) -> None:
        """Leave no command behind where a test has failed."""
        if self.process and self.process.poll() is None:
            kill_group(self.process)

    def inside(self, step: str, longest: float, kill: Callable[..., None] = kill_group) -> None:
        """Kill inside a step; where it has ended too soon, unmake it and try again."""
        for _ in range(TRIES):
            process = self.start()
            if reached(process, lambda: parts(self.out, step)):
                time.sleep(self.rng.uniform(0, longest))
                kill(process)
            else:  # it ended before the step was seen, and is no process any more
                assert process.communicate()[1] == ""
            assert self.small.faults(self.out) == []
            if parts(self.out, step):
                return
            longest /= 4
            for made in self.out.glob(f"{step}*"):
                rmtree(made)
        raise AssertionError(f"{step} has ended {TRIES} times before the kill")

    def same_as(self, whole: Path) -> None:
        """Let the same command end, and compare every byte with the uninterrupted run."""
        self.small.make(self.out)
        assert self.small.sums(self.out) == self.small.sums(whole)
        assert self.small.faults(self.out) == self.small.leftovers(self.out) == []


@pytest.fixture
def killer(small, tmp_path: Path) -> Iterator[Killer]:
    made = Killer(small, tmp_path / "out")
    yield made
    made.end()


@pytest.mark.timeout(1500)
def test_killed_inside_every_step(small, whole: Path, killer: Killer) -> None:
    steps = {name.split("/")[0] for name, _, _ in KILLS}
    assert steps == {name.split("/")[0] for name in small.sums(whole)}
    for step, longest, kill in KILLS:
        killer.inside(step, longest, kill)
    killer.same_as(whole)


def test_killed_anywhen(small, whole: Path, killer: Killer) -> None:
    for latest in (2, 5, 12):
        process = killer.start()
        time.sleep(killer.rng.uniform(0, latest))
        kill_group(process)
        assert small.faults(killer.out) == []
    # A worker alone: the command says so, in one line, and takes the others with it.
    rmtree(killer.out / "arm", ignore_errors=True)
    process = killer.start()
    assert reached(process, lambda: parts(killer.out, "arm/"))
    workers = [
        child
        for child in psutil.Process(process.pid).children()
        if "spawn_main" in " ".join(child.cmdline())
    ]
    workers[0].kill()
    assert process.wait(timeout=60) == 2
    assert process.communicate()[1].count("a worker process died") == 1
    assert still_running(workers) == []
    killer.same_as(whole)


def test_two_at_once(small, killer: Killer) -> None:
    out, first = killer.out, killer.start()
    assert reached(first, lambda: parts(out, "run/"))
    line = small.refused("run", small.path, "--out", out)
    assert line.startswith(f"modehop: {out}: another process is using this folder")
    assert f"process {first.pid}" in line
    assert small.end("status", small.path, "--out", out).returncode == 0
    kill_group(first)
    ended = small.end("windows", small.path, "--out", out)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mount a small disk; call it again with another size to make room."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def sized(kilobytes: int) -> Path:
        again = ["-o", "remount"] if folder.is_mount() else []
        mount = ["mount", "-t", "tmpfs", *again, "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"a small disk cannot be mounted, which root can: {done.stderr.strip()}")
        return folder

    yield sized
    if folder.is_mount():
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_loses_nothing(
    small, whole: Path, disk: Callable[[int], Path], tmp_path: Path
) -> None:
    needed = sum(-(-path.stat().st_size // 4096) * 4 for path in whole.rglob("*"))
    full_in = set()
    for share in (0.12, 0.65):
        out = disk(int(share * needed)) / "out"
        line = small.refused("run", small.path, "--out", out, "--quiet")
        assert "No space left on device" in line
        assert "run the same command again" in line
        assert small.faults(out) == []
        assert [path for path in small.leftovers(out) if path.suffix == ".tmp"] == []
        full_in |= {part.parent.name for part in parts(out, "*/")}
    assert {"run", "arm"} <= full_in
    out = disk(2 * needed) / "out"
    small.make(out)
    assert small.sums(out) == small.sums(whole)
    assert small.faults(out) == small.leftovers(out) == []
