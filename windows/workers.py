"""Persistent worker processes that neither outlive their parent nor leave it waiting.

Importing torch and transformers costs seconds, so workers are started once and given many jobs.
They are spawned, not forked: a fork of a process with threads or an open model is not safe.
"""

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Self, TypeVar

from windows.errors import ConfigError, WorkerError

T = TypeVar("T")
R = TypeVar("R")

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "POLARS_MAX_THREADS",
)
"""Read by numeric libraries when they are first imported."""


class WorkerPool:
    """Worker processes behind one method, `map`. Use it as a context manager.

    Leaving the block after an error kills the workers at once; whatever they write must be written
    so that this does no harm (`windows.files`).

    Parameters
    ----------
    workers
        Number of processes. With 0 the jobs run in this process, one after another.
    threads
        Threads that numeric libraries may use in each worker.

    Raises
    ------
    ConfigError
        `workers` is negative or `threads` is not positive.
    """

    def __init__(self, workers: int, *, threads: int = 1) -> None:
        if workers < 0 or threads < 1:
            raise ConfigError(
                "workers must be 0 or more, threads 1 or more",
                where="workers",
                got=f"{workers} workers, {threads} threads",
            )
        self.workers = workers
        self.threads = threads
        self._executor: ProcessPoolExecutor | None = None
        self._processes: list[BaseProcess] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._kill()
        self._shut_down()

    def map(
        self,
        function: Callable[[T], R],
        jobs: Sequence[T],
        *,
        on_done: Callable[[int, R], None] | None = None,
    ) -> list[R]:
        """Return ``[function(job) for job in jobs]``, computed by the workers.

        Parameters
        ----------
        function
            A function of a module, so that it can be sent by name.
        jobs
            Its arguments; they and the results are pickled.
        on_done
            Called in this process with the index and the result of each job as it ends, in the
            order of their ending.

        Returns
        -------
        list
            The results in the order of `jobs`.

        Raises
        ------
        WorkerError
            A worker was killed or could not start. A later call starts new workers.
        Exception
            The first failure of a job, as the job raised it. The other jobs are dropped, except
            the few already sent to a worker: these end on their own, or with the block.
        """
        notify = on_done or _ignore
        if self.workers == 0:
            return [_here(function, job, index, notify) for index, job in enumerate(jobs)]
        try:
            return self._collect(self.submit(function, jobs), notify)
        except BrokenProcessPool as error:
            raise self.death(function) from error

    def submit(self, function: Callable[[T], R], jobs: Sequence[T]) -> dict[Future[R], int]:
        """Begin jobs without waiting; return their indices by what will hold their results.

        There must be workers. Where one dies, a result raises ``BrokenProcessPool``: see `death`.
        """
        # Workers start while jobs are submitted, and their libraries read the environment only
        # then.
        executor = self._started()
        with _environment(self.threads), _interrupts_held():
            try:
                return {executor.submit(_run, function, job): i for i, job in enumerate(jobs)}
            finally:
                # The executor forgets them when it breaks, and has no public way to kill them.
                self._processes = list((executor._processes or {}).values())

    def death(self, function: Callable[[T], R]) -> WorkerError:
        """Return the error to raise once a worker has died of a function; the others are ended."""
        self._shut_down()
        # The executor ends the others with SIGTERM once one of them has died.
        codes = [process.exitcode for process in self._processes]
        first = [code for code in codes if code not in (None, 0, -signal.SIGTERM)] or codes
        return WorkerError(
            "a worker process died",
            where=getattr(function, "__qualname__", repr(function)),
            got=", ".join(_ending(code) for code in first),
            do="if memory ran out, use fewer workers; then run the same command again to go on",
        )

    def _started(self) -> ProcessPoolExecutor:
        if self._executor is None:
            self._executor = ProcessPoolExecutor(
                self.workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_begin,
            )
        return self._executor

    def _collect(self, futures: dict[Future[R], int], notify: Callable[[int, R], None]) -> list[R]:
        results: dict[int, R] = {}
        try:
            for future in as_completed(futures):
                index = futures[future]
                results[index] = future.result()
                notify(index, results[index])
        finally:
            for future in futures:
                future.cancel()
        return [results[index] for index in range(len(futures))]

    def _shut_down(self) -> None:
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=True, cancel_futures=True)

    def _kill(self) -> None:
        for process in self._processes:
            process.kill()


def _here(function: Callable[[T], R], job: T, index: int, notify: Callable[[int, R], None]) -> R:
    result = function(job)
    notify(index, result)
    return result


def _ignore(index: int, result: object) -> None:
    """Stand in for an absent `on_done`."""


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"


@contextlib.contextmanager
def _environment(threads: int) -> Iterator[None]:
    """Set what the workers shall inherit, and put this process's own values back."""
    wanted = dict.fromkeys(THREAD_VARIABLES, str(threads)) | {"TOKENIZERS_PARALLELISM": "false"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold interrupts back, here and in what is started: Python dies of one while it starts."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin() -> None:
    """Prepare a worker: an interrupt is its parent's to handle, and it does not outlive that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_die_with_parent, name="die-with-parent", daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "only a worker has one"
    wait([parent.sentinel])
    # Without a parent nobody reads the results, and a lock or a half-made file may be waited for.
    os._exit(1)


def _run(function: Callable[[T], R], job: T) -> R:
    try:
        return function(job)
    except Exception as error:
        # An exception that cannot be read back would look like a dead worker to the parent.
        if _travels(error):
            raise
        raise WorkerError(
            "a job failed", where=type(error).__qualname__, got=str(error) or repr(error)
        ) from error


def _travels(error: Exception) -> bool:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return False
    return True
