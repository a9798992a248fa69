"""A name for the tokens that were read: a run's fingerprint covers names and sizes only."""

import hashlib

import numpy as np
import numpy.typing as npt


def digest(rows: npt.NDArray[np.uint32]) -> str:
    """Return the SHA-256 of instances: their ids as little-endian uint32, row after row.

    For token files of 4-byte ids these are the very bytes of the files.

    Parameters
    ----------
    rows
        Token ids, ``[n, L]``.

    Returns
    -------
    str
        64 lowercase hex digits.
    """
    return hashlib.sha256(np.ascontiguousarray(rows, dtype="<u4").data).hexdigest()
