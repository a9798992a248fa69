"""Every failure of a command is one line and an exit code."""

import errno
from collections.abc import Callable

import pytest
import typer

from curate.command import Answer, plain_command
from curate.endings import ending
from windows.errors import CheckFailed, DataError


def failing(error: BaseException) -> Callable[[list[str]], int]:
    """A program of one command that raises."""
    program = typer.Typer(add_completion=False)

    def fail(*, quiet: bool) -> Answer:
        raise error

    plain_command(program, "Test")(fail)
    return lambda arguments: int(program(arguments, standalone_mode=False))


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (DataError("torn", where="x", got="y", do="mend"), 2, "x: torn; got y; mend"),
        (CheckFailed("no"), 1, "no"),
        (OSError(errno.ENOSPC, "No space left on device", "/data/x"), 2, "/data/x: No space left"),
        (OSError(errno.EACCES, "Permission denied", "/data"), 2, "allow this user"),
        (RuntimeError("io error: No space left on device (os error 28)"), 2, "resumes"),
        (MemoryError(), 2, "out of memory"),
        (TypeError("a\nb"), 2, "internal fault: TypeError: a b; run the same command with --debug"),
        (KeyboardInterrupt(), 130, "the same command resumes"),
    ],
)
def test_every_failure_ends_in_one_line(
    error: BaseException, code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    program = failing(error)
    assert program([]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert (err.count("\n"), err.startswith("modehop: ")) == (1, True)
    assert program(["--debug"]) == code
    debugged = capsys.readouterr().err
    assert debugged.startswith("Traceback")
    assert debugged.endswith(err)


def test_the_disk_is_named_behind_a_failed_clean_up() -> None:
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "/x")
        finally:
            raise ValueError("while closing")
    except ValueError as error:
        assert ending(error)[0].startswith("/x: No space left on device")
