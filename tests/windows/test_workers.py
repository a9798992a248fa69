"""Worker processes: order, failures, deaths on either side, and what they inherit."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

from windows.errors import ConfigError, DataError, WorkerError
from windows.workers import THREAD_VARIABLES, WorkerPool

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(HERE)
    import worker_jobs

    return worker_jobs


@pytest.mark.parametrize("workers", [0, 2])
def test_results_come_in_the_order_of_the_jobs(
    jobs: ModuleType, tmp_path: Path, workers: int
) -> None:
    ended, others_ended = [], tmp_path / "ended"

    def on_done(index: int, result: int) -> None:
        ended.append((index, result))
        if len(ended) == 4:
            others_ended.touch()

    awaited = str(others_ended) if workers else None
    with WorkerPool(workers) as pool:
        results = pool.map(jobs.first_waits, [(i, awaited) for i in range(5)], on_done=on_done)
    assert results == [0, 1, 2, 3, 4]
    assert sorted(ended) == [(i, i) for i in range(5)]
    if workers:
        assert ended[-1] == (0, 0), "on_done follows the order in which jobs end"


def test_workers_persist_and_inherit_single_threads(
    jobs: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with WorkerPool(1, threads=3) as pool:
        (first,) = pool.map(jobs.pid_and_environment, [0])
        (second,) = pool.map(jobs.pid_and_environment, [0])
    assert first[0] == second[0] != os.getpid()
    assert {first[1][name] for name in THREAD_VARIABLES} == {"3"}
    assert first[1]["TOKENIZERS_PARALLELISM"] == "false" and first[1]["HF_HUB_OFFLINE"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "7" and "MKL_NUM_THREADS" not in os.environ


def test_no_jobs_start_no_process(jobs: ModuleType) -> None:
    with WorkerPool(2) as pool:
        assert pool.map(jobs.square, []) == []
    assert pool._processes == []


@pytest.mark.parametrize("workers", [0, 1])
def test_a_failure_comes_home_as_it_was_raised(jobs: ModuleType, workers: int) -> None:
    with WorkerPool(workers) as pool:
        with pytest.raises(DataError) as refused:
            pool.map(jobs.fail_as, ["refusal"])
        assert str(refused.value) == "file 3: too short; got 1 byte; fetch it again"
        with pytest.raises(OSError) as full:
            pool.map(jobs.fail_as, ["full"])
        assert (full.value.errno, full.value.filename) == (errno.ENOSPC, "/data/x")
        assert pool.map(jobs.square, [3]) == [9], "the pool goes on after a failure"


def test_a_failure_that_cannot_be_read_back_is_not_taken_for_a_death(jobs: ModuleType) -> None:
    with WorkerPool(1) as pool, pytest.raises(WorkerError, match="Unreadable: a job failed; got 1"):
        pool.map(jobs.fail_as, ["unreadable"])


def test_the_first_failure_drops_the_jobs_not_yet_begun(jobs: ModuleType, tmp_path: Path) -> None:
    failed = tmp_path / "failed"
    paths = [(str(tmp_path / str(i)), str(failed)) for i in range(20)]
    with WorkerPool(1) as pool:
        with pytest.raises(ValueError, match="first failure"):
            pool.map(jobs.fail_or_touch, [None, *paths])
        failed.touch()
        pool.map(jobs.square, [1])
    failed.unlink()
    # These were with the worker or on their way to it.
    assert len(list(tmp_path.iterdir())) <= 3


def test_an_error_in_on_done_comes_out(jobs: ModuleType) -> None:
    def fail(index: int, result: Any) -> None:
        raise RuntimeError("no room for the result")

    with WorkerPool(1) as pool, pytest.raises(RuntimeError, match="no room"):
        pool.map(jobs.square, [1, 2], on_done=fail)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV])
def test_a_killed_worker_is_an_error_and_the_pool_starts_anew(
    jobs: ModuleType, how: signal.Signals
) -> None:
    with WorkerPool(2) as pool:
        with pytest.raises(WorkerError) as died:
            pool.map(jobs.die, [None, int(how), None, None])
        assert f"die: a worker process died; got {how.name}; if memory" in str(died.value)
        assert pool.map(jobs.square, [2]) == [4]


@pytest.mark.timeout(60)
def test_a_worker_killed_while_jobs_are_being_sent_is_an_error(jobs: ModuleType) -> None:
    payload = bytes(30_000_000)
    with WorkerPool(1) as pool, pytest.raises(WorkerError):
        pool.map(jobs.die_with_payload, [(True, b""), (False, payload), (False, payload)])


@pytest.mark.timeout(60)
def test_a_worker_killed_while_idle_is_an_error_not_a_hang(jobs: ModuleType) -> None:
    with WorkerPool(1) as pool:
        ((pid, _),) = pool.map(jobs.pid_and_environment, [0])
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(WorkerError):
            for _ in range(100):
                pool.map(jobs.square, [1])
        assert pool.map(jobs.square, [2]) == [4]


@pytest.mark.timeout(30)
def test_leaving_after_an_error_does_not_wait_for_running_jobs(
    jobs: ModuleType, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match="enough"), WorkerPool(2) as pool:

        def stop(index: int, result: Any) -> None:
            raise RuntimeError("enough")

        long = [(str(tmp_path / "a"), "sleep")]
        pool.map(jobs.either, [("square", 2), *(("announce", job) for job in long)], on_done=stop)


def children_of(parent: subprocess.Popen[bytes], announced: list[Path]) -> list[psutil.Process]:
    deadline = time.monotonic() + 30
    while not all(path.exists() for path in announced):
        assert time.monotonic() < deadline and parent.poll() is None, "the workers did not start"
        time.sleep(0.02)
    return psutil.Process(parent.pid).children(recursive=True)


PARENT = """
import signal, sys
from windows.workers import WorkerPool
import worker_jobs

if __name__ == "__main__":
    # A process that was started in the background may have been told to ignore interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with WorkerPool(2) as pool:
        pool.map(worker_jobs.announce_and, [(sys.argv[1], "sleep"), (sys.argv[2], "spin")])
"""


@pytest.mark.slow
@pytest.mark.timeout(90)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_die_with_their_parent(tmp_path: Path, how: signal.Signals) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    announced = [tmp_path / "one", tmp_path / "two"]
    parent = subprocess.Popen(
        [sys.executable, script, *announced],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)])},
        stderr=subprocess.DEVNULL,
    )
    try:
        children = children_of(parent, announced)
        assert len(children) >= 2
        parent.send_signal(how)
        parent.wait(timeout=10)
        _, alive = psutil.wait_procs(children, timeout=10)
        # Who has ended may wait for the machine's first process to hear of it.
        assert [each for each in alive if each.status() != psutil.STATUS_ZOMBIE] == []
    finally:
        parent.kill()
        parent.wait()


@pytest.mark.parametrize(("workers", "threads"), [(-1, 1), (1, 0)])
def test_impossible_numbers_are_refused(workers: int, threads: int) -> None:
    with pytest.raises(ConfigError, match="workers must be"):
        WorkerPool(workers, threads=threads)


def test_a_worker_that_is_interrupted_while_it_starts_goes_on() -> None:
    """Ctrl-C reaches every process of a terminal, those that have hardly begun too."""
    stop = threading.Event()

    def interrupt() -> None:
        while not stop.wait(0.001):
            for child in psutil.Process().children():
                with contextlib.suppress(psutil.Error, OSError):
                    if "spawn_main" in " ".join(child.cmdline()):
                        child.send_signal(signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with WorkerPool(2) as pool:
            assert pool.map(abs, [-1, -2, -3, -4]) == [1, 2, 3, 4]
    finally:
        stop.set()
        thread.join()
