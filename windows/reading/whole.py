"""Small files of a run fetched whole, once: lists, checkpoints' trainer states."""

import hashlib
import re
from pathlib import Path

from windows.files import write_atomic
from windows.reading.limits import ReadLimits
from windows.reading.places import file_name
from windows.reading.remote import Remote

# Lists and trainer states are 0.1 MB; something much larger is not what was meant.
MOST_BYTES = 64 << 20

_UNFIT = re.compile(r"[^A-Za-z0-9._+-]")


def fetched(address: str, folder: Path, limits: ReadLimits | None = None) -> Path:
    """Fetch a file unless it was fetched before, and return where its copy lies.

    Parameters
    ----------
    address
        A URL of any filesystem that fsspec knows.
    folder
        Where copies lie; made if it is not there.
    limits
        Attempts and timeout; by default as for token files.

    Raises
    ------
    DataError
        It cannot be had, or has more than `MOST_BYTES`. Nothing is left behind.
    ConfigError
        There is no way to such an address.
    OSError
        The copy cannot be written.
    """
    path = _copy(address, folder)
    if not path.is_file():
        with Remote(limits or ReadLimits()) as remote:
            data = remote.whole(address, MOST_BYTES)
        write_atomic(path, data)
    return path


def fetched_before(address: str, folder: Path) -> Path | None:
    """Return where the copy of a fetched file lies, or None; the network is not touched."""
    path = _copy(address, folder)
    return path if path.is_file() else None


def _copy(address: str, folder: Path) -> Path:
    # The whole address decides, the name is for people.
    name = _UNFIT.sub("_", file_name(address))[-80:]
    return folder / f"{hashlib.sha256(address.encode()).hexdigest()[:16]}-{name}"
