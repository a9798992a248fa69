"""What can go wrong with a request, whichever filesystem made it, and whether it may pass."""

import email.utils
import errno
from collections.abc import Mapping
from datetime import UTC, datetime

_LATER = "try again later: what was read so far is kept where there is a cache"
_MISSING, _BARRED, _BUSY = (404, 410), (401, 403), (408, 425, 429)
_CUT_SHORT = 416

# Errors that the same request would meet again; what is not listed may pass.
_LASTING = (
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    LookupError,
    TypeError,
    AttributeError,
    ValueError,
    NotImplementedError,
    ImportError,
)


class Fault(Exception):
    """A request that failed.

    Parameters
    ----------
    what
        How, a short clause.
    lasting
        Whether trying again is of no use.
    wait
        Seconds that the server asked to be left alone, if it did.
    do
        What a user can do about it.
    status
        The HTTP status, or the one that says the same; None where there is none.
    """

    def __init__(
        self,
        what: str,
        *,
        lasting: bool = False,
        wait: float | None = None,
        do: str = _LATER,
        status: int | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.lasting = lasting
        self.wait = wait
        self.do = do
        self.status = status

    @property
    def missing(self) -> bool:
        """Whether the file is said not to be there."""
        return self.status in _MISSING


def of_status(status: int, headers: Mapping[str, str] | None = None) -> Fault:
    """Return the fault that an HTTP status of 400 or more stands for."""
    name = f"HTTP status {status}"
    if status in _MISSING:
        return _missing(name, status)
    if status in _BARRED:
        return _barred(name, status)
    if status == _CUT_SHORT:
        return _cut_short(name)
    if status in _BUSY or status >= 500:
        return Fault(name, wait=retry_after((headers or {}).get("Retry-After")), status=status)
    return Fault(name, lasting=True, do="check the address", status=status)


def of_error(error: Exception) -> Fault:
    """Return the fault that an exception of any filesystem stands for."""
    if isinstance(error, Fault):
        return error
    status, headers = _response(error)
    if status is not None and status >= 400:
        return of_status(status, headers)
    if isinstance(error, FileNotFoundError):
        return _missing("FileNotFoundError", 404)
    if isinstance(error, PermissionError):
        return _barred("PermissionError", 403)
    if isinstance(error, OSError) and error.errno == errno.EINVAL:
        # S3's for a range beyond the end.
        return _cut_short("invalid range")
    text = " ".join(str(error).split())[:120]
    what = f"{type(error).__name__}{': ' if text else ''}{text}"
    if isinstance(error, _LASTING):
        return Fault(what, lasting=True, do="check the address")
    # The Hub's client, which is built on httpx, has tried again by itself.
    return Fault(what, lasting=type(error).__module__.partition(".")[0] == "httpx")


def retry_after(value: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for, a number or a date; None for none."""
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        date = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    now = datetime.now(UTC if date.tzinfo else None)
    return max(0.0, (date - now).total_seconds())


def _missing(name: str, status: int) -> Fault:
    do = "check the address in the run's list of files"
    return Fault(f"{name}: the file is not there", lasting=True, do=do, status=status)


def _barred(name: str, status: int) -> Fault:
    do = "check the address, and your credentials for it"
    return Fault(f"{name}: access is refused", lasting=True, do=do, status=status)


def _cut_short(name: str) -> Fault:
    do = "compare the file's size with the one the run states"
    what = f"{name}: the file ends before these bytes"
    return Fault(what, lasting=True, do=do, status=_CUT_SHORT)


def _response(error: Exception) -> tuple[int | None, Mapping[str, str] | None]:
    """Return status and headers that an error carries: hf's in a response, gcs's by itself."""
    response = getattr(error, "response", None)
    for holder, name in ((response, "status_code"), (error, "status"), (error, "code")):
        status = getattr(holder, name, None)
        if isinstance(status, int):
            return status, getattr(response, "headers", None) or getattr(error, "headers", None)
    return None, None
