"""How a command ends when it fails: one line that a user can act on, and an exit code."""

import errno
import os
from collections.abc import Iterator

from windows.errors import ModehopError

REFUSED, INTERRUPTED = 2, 130

_DO = {
    errno.ENOSPC: "free some space and run the same command again, which resumes",
    errno.EDQUOT: "free some of your quota and run the same command again, which resumes",
    errno.EACCES: "allow this user to read and write there, or name another folder with --out",
    errno.EPERM: "allow this user to read and write there, or name another folder with --out",
    errno.EROFS: "name a folder that can be written to with --out",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENOTDIR: "a file stands where a folder is needed; name another folder with --out",
}
_AGAIN = "mend that and run the same command again"


def ending(error: BaseException) -> tuple[str, int]:
    """Return what to tell the user about a failure, one line, and the exit code.

    Parameters
    ----------
    error
        Whatever ended the command.
    """
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; the same command resumes where this one stopped", INTERRUPTED
    if isinstance(error, ModehopError):
        return _flat(str(error)), error.exit_code
    for cause in _causes(error):
        system = _system_fault(cause)
        if system:
            return system, REFUSED
    if any(isinstance(cause, MemoryError) for cause in _causes(error)):
        return f"out of memory; set workers lower, and {_AGAIN}", REFUSED
    kind = type(error).__name__
    text = f"internal fault: {kind}: {error}; run the same command with --debug and report it"
    return _flat(text), REFUSED


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and what it was raised from, or while handling."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _system_fault(error: BaseException) -> str:
    full = os.strerror(errno.ENOSPC)
    # Writers of other languages raise errors of their own kind, with the system's words in them.
    if not isinstance(error, OSError):
        return f"{full}; {_DO[errno.ENOSPC]}" if full in str(error) else ""
    if error.errno is None:
        return ""
    where = f"{error.filename}: " if error.filename is not None else ""
    what = error.strerror or os.strerror(error.errno)
    return _flat(f"{where}{what}; {_DO.get(error.errno, _AGAIN)}")


def _flat(text: str) -> str:
    return " ".join(text.split())
