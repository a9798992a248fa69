"""Progress: stdout stays empty, quiet is silent, bars go to terminals only and may be nested."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from windows.progress import Reporter

ROOT = Path(__file__).parents[2]


def work(reporter: Reporter) -> None:
    with reporter.task("outer [bold]", 2) as advance:
        for _ in range(2):
            with reporter.task("inner", None) as step:
                step()
                step(3)
            reporter.note("one [red]line[/red] :smile: with\n two ends " + "x" * 200)
            advance()


def test_without_a_terminal_there_are_lines_and_no_bars(
    capsys: pytest.CaptureFixture[str],
) -> None:
    work(Reporter())
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["one [red]line[/red] :smile: with two ends " + "x" * 200] * 2


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    work(Reporter(quiet=True))
    assert capsys.readouterr() == ("", "")


def test_errors_pass_through_a_task_and_leave_the_reporter_usable(
    capsys: pytest.CaptureFixture[str],
) -> None:
    reporter = Reporter()
    with pytest.raises(ValueError, match="inside"), reporter.task("a", 1):
        raise ValueError("inside")
    work(reporter)


SCRIPT = """
import sys
from windows.progress import Reporter
reporter = Reporter({quiet})
try:
    with reporter.task("outer [bold]", 2) as advance:
        with reporter.task("inner", 4) as step:
            step(); step(3)
            print("a result")
        reporter.note("a note")
        advance(); {fault}
        advance()
except ZeroDivisionError:
    pass
with reporter.task("second", 1) as advance:
    advance()
"""


def on_a_terminal(quiet: bool, fault: str = "") -> tuple[str, str]:
    """Return (stdout, stderr), stderr being a terminal; escape sequences are removed."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(quiet=quiet, fault=fault)],
        stdout=subprocess.PIPE,
        stderr=theirs,
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(theirs)
    seen = b""
    try:
        while piece := os.read(ours, 65536):
            seen += piece
    except OSError:
        pass  # Linux reports the end of a terminal so.
    os.close(ours)
    out, _ = child.communicate(timeout=30)
    assert child.returncode == 0, seen
    return out.decode(), re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())


def test_on_a_terminal_bars_nest_and_results_stay_on_stdout() -> None:
    out, err = on_a_terminal(quiet=False)
    assert out == "a result\n"
    assert "outer [bold]" in err and "2/2" in err
    assert "a note" in err and "second" in err and "1/1" in err


def test_on_a_terminal_quiet_is_silent_too() -> None:
    assert on_a_terminal(quiet=True) == ("a result\n", "")


def test_a_bar_left_by_an_error_makes_room_for_the_next() -> None:
    _, err = on_a_terminal(quiet=False, fault="1 / 0")
    assert "1/2" in err and "second" in err
