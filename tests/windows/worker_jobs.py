"""Jobs for test_workers.py, in a module of their own so that workers can import them by name."""

import errno
import os
import signal
import time
from pathlib import Path

from windows.errors import DataError


class Unreadable(Exception):
    """Pickles, and then cannot be read back."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


def square(x: int) -> int:
    return x * x


def wait_for(path: str) -> None:
    """Wait until a file is there."""
    end = time.monotonic() + 30
    while not Path(path).exists():
        assert time.monotonic() < end
        time.sleep(0.01)


def first_waits(job: tuple[int, str | None]) -> int:
    x, awaited = job
    if x == 0 and awaited:
        wait_for(awaited)
    return x


def pid_and_environment(_: int) -> tuple[int, dict[str, str]]:
    """The environment the process was started with, before any code of its own."""
    pairs = Path("/proc/self/environ").read_bytes().decode().split("\0")
    return os.getpid(), dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def fail_as(kind: str) -> str:
    match kind:
        case "refusal":
            raise DataError("too short", where="file 3", got="1 byte", do="fetch it again")
        case "full":
            raise OSError(errno.ENOSPC, "No space left on device", "/data/x")
        case "unreadable":
            raise Unreadable(1, 2)
    return kind


def die(how: int | None) -> int | None:
    if how is not None:
        os.kill(os.getpid(), how)
        time.sleep(30)
    return how


def die_with_payload(job: tuple[bool, bytes]) -> int:
    if job[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return len(job[1])


def announce_and(job: tuple[str, str]) -> None:
    """Touch a file, then sleep or spin for a minute."""
    path, what = job
    Path(path).touch()
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if what == "sleep":
            time.sleep(60)


def fail_or_touch(job: tuple[str, str] | None) -> None:
    if job is None:
        raise ValueError("first failure")
    path, awaited = job
    wait_for(awaited)
    Path(path).touch()


def either(job: tuple[str, tuple[str, str] | int]) -> int | None:
    kind, argument = job
    if kind == "square":
        assert isinstance(argument, int)
        return square(argument)
    assert isinstance(argument, tuple)
    announce_and(argument)
    return None
