"""What a waiting user sees: bars with the time left, and single lines, all on stderr."""

import contextlib
from collections.abc import Iterator
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Advance(Protocol):
    """Moves a task on by `n` of its units."""

    def __call__(self, n: int = 1) -> None:
        """Count `n` more units as done."""


class Reporter:
    """Progress for people; stdout is left to results.

    Parameters
    ----------
    quiet
        Say nothing at all. Otherwise lines are always written, bars only to a terminal.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self._console = Console(stderr=True, quiet=quiet)
        self._progress: Progress | None = None

    @contextlib.contextmanager
    def task(self, description: str, total: int | None) -> Iterator[Advance]:
        """Show a bar while the block runs and yield a function that advances it.

        Tasks may be nested; an inner bar goes away with its block, the outermost stays on the
        screen.

        Parameters
        ----------
        description
            What is being done.
        total
            How many units it takes; None if nobody knows.
        """
        if self.quiet or not self._console.is_terminal:
            yield _nothing
            return
        with self._shown() as (progress, outermost):
            task = progress.add_task(description, total=total)

            def advance(n: int = 1) -> None:
                progress.advance(task, n)

            try:
                yield advance
            finally:
                progress.stop_task(task)
                if not outermost:
                    progress.remove_task(task)

    def note(self, text: str) -> None:
        """Write one line; a running bar stays below it."""
        line = " ".join(text.split())
        self._console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)

    @contextlib.contextmanager
    def _shown(self) -> Iterator[tuple[Progress, bool]]:
        if self._progress is not None:
            yield self._progress, False
            return
        # A redirected stdout would come out on stderr.
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            redirect_stdout=False,
        )
        try:
            with self._progress:
                yield self._progress, True
        finally:
            self._progress = None


def _nothing(n: int = 1) -> None:
    """Advance no bar."""
