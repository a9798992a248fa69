import random
import threading

import pytest

from windows.reading.faults import Fault
from windows.reading.limits import ReadLimits
from windows.reading.retry import Retry


class Flaky:
    """Fails as told, then answers."""

    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.faults:
            raise self.faults.pop(0)
        return "answer"


def retry(slept: list[float], **limits: float) -> Retry:
    return Retry(
        ReadLimits(**limits),  # type: ignore[arg-type]
        sleep=slept.append,
        rng=random.Random(1),
    )


def test_delays_double_up_to_the_longest_and_differ():
    slept: list[float] = []
    flaky = Flaky(*(Fault("busy") for _ in range(8)))
    with pytest.raises(Fault, match="busy, after 8 attempts"):
        retry(slept, attempts=8, first_delay=1, longest_delay=16).run(flaky)
    assert flaky.calls == 8
    bounds = [1, 2, 4, 8, 16, 16, 16]
    assert len(slept) == len(bounds)
    assert all(bound / 2 <= delay <= bound for delay, bound in zip(slept, bounds, strict=True))
    assert slept[-1] != slept[-2]


def test_what_passes_is_answered_and_counted():
    slept: list[float] = []
    patient = retry(slept, attempts=4)
    assert patient.run(Flaky(Fault("busy"), ConnectionResetError())) == "answer"
    assert patient.retries == len(slept) == 2


def test_what_lasts_is_not_tried_again():
    slept: list[float] = []
    flaky = Flaky(Fault("gone", lasting=True, status=404))
    with pytest.raises(Fault, match=r"^gone$") as error:
        retry(slept).run(flaky)
    assert (flaky.calls, slept) == (1, [])
    assert error.value.missing


def test_a_server_is_left_alone_as_long_as_it_asks():
    slept: list[float] = []
    patient = retry(slept, first_delay=1, longest_delay=40)
    assert patient.run(Flaky(Fault("busy", wait=30))) == "answer"
    assert 30.5 <= slept[0] <= 31
    # The thread that was told, and any other before its next request.
    assert patient.run(Flaky()) == "answer"
    assert 29 < slept[-1] <= 30


def test_a_server_that_asks_for_too_long_is_given_up():
    slept: list[float] = []
    with pytest.raises(Fault, match="left alone for 41 seconds"):
        retry(slept, longest_delay=40).run(Flaky(Fault("busy", wait=41)))
    assert slept == []


def test_a_halt_ends_every_wait():
    patient = Retry(ReadLimits(first_delay=600, longest_delay=600))
    failed = threading.Event()
    raised: list[str] = []

    def attempt() -> None:
        failed.set()
        raise Fault("busy")

    def work() -> None:
        with pytest.raises(Fault) as error:
            patient.run(attempt)
        raised.append(error.value.what)

    thread = threading.Thread(target=work)
    thread.start()
    assert failed.wait(60)
    patient.halt()
    thread.join(60)
    assert len(raised) == 1
