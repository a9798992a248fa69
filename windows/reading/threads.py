"""Many small jobs in a few threads."""

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_threads(
    work: Callable[[T], R],
    items: Iterable[T],
    threads: int,
    *,
    done: Callable[[R], object],
    halt: Callable[[], object] = lambda: None,
) -> None:
    """Do `work` on every item, in any order.

    No more than twice as many items as threads are taken at a time, so there may be millions. All
    threads have ended when this returns.

    Parameters
    ----------
    work
        Called in the threads.
    done
        Called here with every result.
    halt
        Called once where a job has raised, or this thread was interrupted: lets the jobs that are
        under way end soon.

    Raises
    ------
    Exception
        What the first failing job has raised.
    """
    pool = ThreadPoolExecutor(threads)
    waiting: set[Future[R]] = set()
    try:
        for item in items:
            waiting.add(pool.submit(work, item))
            if len(waiting) >= 2 * threads:
                waiting = _reap(waiting, done)
        while waiting:
            waiting = _reap(waiting, done)
    except BaseException:
        halt()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _reap(waiting: set[Future[R]], done: Callable[[R], object]) -> set[Future[R]]:
    ended, rest = wait(waiting, return_when=FIRST_COMPLETED)
    for each in ended:
        done(each.result())
    return rest
