import threading

import pytest

from windows.reading.threads import in_threads


def test_every_item_is_done_and_few_at_a_time():
    results: list[int] = []
    at_once, most, lock = 0, 0, threading.Lock()
    taken = 0

    def items():
        nonlocal taken
        for number in range(200):
            taken += 1
            # No more are taken than are waiting to be done.
            assert taken - len(results) <= 2 * 3 + 1
            yield number

    def work(number: int) -> int:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        with lock:
            at_once -= 1
        return number * number

    in_threads(work, items(), 3, done=results.append)
    assert sorted(results) == [number * number for number in range(200)]
    assert most <= 3


def test_the_first_failure_ends_the_rest():
    started: list[int] = []
    halted = threading.Event()

    def work(number: int) -> None:
        started.append(number)
        if number == 1:
            raise LookupError("one")
        assert halted.wait(60)

    with pytest.raises(LookupError, match="one"):
        in_threads(work, range(100), 4, done=lambda result: None, halt=halted.set)
    # Four threads, of which the one that failed may have begun another job.
    assert len(started) <= 8


def test_nothing_to_do_is_done():
    in_threads(lambda item: item, [], 4, done=lambda result: pytest.fail())
