import email.utils
import errno
import time
from types import SimpleNamespace

import httpx
import pytest

from windows.reading.faults import Fault, of_error, of_status, retry_after


@pytest.mark.parametrize(
    ("status", "lasting", "missing"),
    [
        (400, True, False),
        (401, True, False),
        (403, True, False),
        (404, True, True),
        (408, False, False),
        (410, True, True),
        (416, True, False),
        (425, False, False),
        (429, False, False),
        (500, False, False),
        (503, False, False),
        (529, False, False),
    ],
)
def test_a_status_passes_or_lasts(status: int, lasting: bool, missing: bool):
    fault = of_status(status)
    assert (fault.lasting, fault.missing) == (lasting, missing)
    assert str(status) in fault.what
    assert fault.do


def test_a_server_says_when_to_come_back():
    assert of_status(429, {"Retry-After": "7"}).wait == 7
    assert of_status(503, {}).wait is None
    assert retry_after("soon") is None
    soon = email.utils.formatdate(time.time() + 90, usegmt=True)
    assert 80 < (retry_after(soon) or 0) <= 90
    past = email.utils.formatdate(time.time() - 90, usegmt=True)
    assert retry_after(past) == 0


class Answered(Exception):
    """As the errors of the Hub's client and of Google's filesystem carry their status."""

    def __init__(self, **facts: object) -> None:
        super().__init__("no")
        vars(self).update(facts)


@pytest.mark.parametrize(
    ("error", "lasting", "status"),
    [
        (FileNotFoundError("bucket/key"), True, 404),
        (PermissionError("AccessDenied"), True, 403),
        (ConnectionResetError(), False, None),
        (TimeoutError(), False, None),
        (OSError(errno.EIO, "SlowDown"), False, None),
        (OSError(errno.EINVAL, "InvalidRange"), True, 416),
        (httpx.ConnectError("Name or service not known"), True, None),
        (ValueError("odd"), True, None),
        (Answered(response=SimpleNamespace(status_code=429, headers={})), False, 429),
        (Answered(code=503), False, 503),
        (Answered(code="NoCredentials"), False, None),
    ],
)
def test_an_error_of_any_filesystem_passes_or_lasts(
    error: Exception, lasting: bool, status: int | None
):
    fault = of_error(error)
    assert (fault.lasting, fault.status) == (lasting, status)
    assert of_error(fault) is fault


def test_a_response_says_when_to_come_back():
    response = SimpleNamespace(status_code=429, headers={"Retry-After": "3"})
    assert of_error(Answered(response=response)).wait == 3


def test_a_fault_is_one_line():
    assert of_error(OSError("a\nb" * 200)).what.count("\n") == 0
    assert isinstance(of_error(OSError()), Fault)
