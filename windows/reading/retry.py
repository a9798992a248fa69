"""Requests tried again, later and later, by all threads of a call together."""

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from windows.reading.faults import Fault, of_error
from windows.reading.limits import ReadLimits

T = TypeVar("T")


class Retry:
    """Tries again what may pass.

    Before attempt ``n + 1`` it waits ``first_delay * 2 ** (n - 1)`` seconds, at most
    `longest_delay`, of which a random half is left out so that threads do not return in step. Where
    a server names a time to come back, no thread asks anything before it.

    Parameters
    ----------
    limits
        Attempts and delays.
    sleep
        Waits for some seconds; by default a wait that `halt` ends.
    rng
        Of the random halves.

    Attributes
    ----------
    retries
        Attempts after a first one, so far.
    """

    def __init__(
        self,
        limits: ReadLimits,
        *,
        sleep: Callable[[float], object] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.retries = 0
        self._limits = limits
        self._halted = threading.Event()
        self._sleep = sleep or self._halted.wait
        self._rng = rng or random.Random()
        self._lock = threading.Lock()
        self._closed_until = 0.0

    def run(self, attempt: Callable[[], T]) -> T:
        """Return what an attempt returns.

        Raises
        ------
        Fault
            The last attempt's, which says how many there were; or a lasting one.
        """
        for number in range(1, self._limits.attempts + 1):
            self._wait_for_server()
            try:
                return attempt()
            except Exception as error:
                fault = of_error(error)
                if self._is_last(number, fault):
                    raise self._given_up(number, fault) from error
                self._back_off(number, fault)
        raise AssertionError("an attempt neither returned nor raised")

    def halt(self) -> None:
        """Let no attempt be tried again, and end every wait."""
        self._halted.set()

    def _is_last(self, number: int, fault: Fault) -> bool:
        return (
            fault.lasting
            or number == self._limits.attempts
            or self._halted.is_set()
            or (fault.wait or 0) > self._limits.longest_delay
        )

    def _given_up(self, number: int, fault: Fault) -> Fault:
        what = fault.what
        if (fault.wait or 0) > self._limits.longest_delay:
            what += f", and the server asks to be left alone for {fault.wait:.0f} seconds"
        elif number > 1:
            what += f", after {number} attempts"
        return Fault(what, lasting=True, do=fault.do, status=fault.status)

    def _back_off(self, number: int, fault: Fault) -> None:
        limits = self._limits
        # The exponent is bounded: attempts may be many, and a float is not.
        longest = min(limits.first_delay * 2.0 ** min(number - 1, 60), limits.longest_delay)
        with self._lock:
            self.retries += 1
            delay = longest * self._rng.uniform(0.5, 1.0)
            if fault.wait is not None:
                delay += fault.wait
                self._closed_until = max(self._closed_until, time.monotonic() + fault.wait)
        self._sleep(delay)

    def _wait_for_server(self) -> None:
        with self._lock:
            left = self._closed_until - time.monotonic()
        if left > 0:
            self._sleep(left)
