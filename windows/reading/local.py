"""Token files on local disks: positioned reads, many at once where there are many."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from windows.errors import DataError
from windows.reading.pieces import Piece, Pieces
from windows.reading.places import Place
from windows.reading.threads import in_threads

BLOCK = 32
"""Pieces that one thread reads at a time; fewer than two blocks are read without any thread."""

# Scattered reads of a cold 4.3 GB file: 0.2 GB/s with one thread, 0.6 with 16, 0.7 with 32.
MOST_THREADS = 16


def local_size(path: Path) -> int:
    """Return a file's bytes.

    Raises
    ------
    DataError
        There is no such file.
    """
    try:
        return path.stat().st_size
    except OSError as error:
        raise _unreadable(path, error) from error


def first_bytes(path: Path, count: int) -> bytes:
    """Return the first `count` bytes of a file, fewer where it has no more.

    Raises
    ------
    DataError
        It cannot be read.
    """
    try:
        with path.open("rb", buffering=0) as file:
            return file.read(count)
    except OSError as error:
        raise _unreadable(path, error) from error


def read_local(
    places: Sequence[Place],
    pieces: Pieces,
    into: npt.NDArray[np.uint8],
    done: Callable[[Piece], object],
) -> None:
    """Read pieces of local files.

    Parameters
    ----------
    places
        Every file; those that `pieces` name are paths.
    pieces
        What to read, best in the order in which it lies on disk.
    into
        Where to, ``[rows, bytes of a row]``.
    done
        Called with every piece that was read.

    Raises
    ------
    DataError
        A file is gone, or ends before a piece does.
    """

    def read(block: Pieces) -> Pieces:
        _read_block(places, block, into)
        return block

    def report(block: Pieces) -> None:
        for piece in block:
            done(piece)

    blocks = (pieces.take(slice(i, i + BLOCK)) for i in range(0, len(pieces), BLOCK))
    threads = min(MOST_THREADS, len(pieces) // BLOCK)
    if threads < 2:
        for block in blocks:
            report(read(block))
    else:
        in_threads(read, blocks, threads, done=report)


def _read_block(places: Sequence[Place], block: Pieces, into: npt.NDArray[np.uint8]) -> None:
    opened: dict[int, int] = {}
    try:
        for piece in block:
            path = Path(places[piece.file])
            if piece.file not in opened:
                opened[piece.file] = _open(path)
            row = memoryview(into[piece.row])
            _fill(opened[piece.file], path, piece, row[piece.start : piece.start + piece.length])
    finally:
        for descriptor in opened.values():
            os.close(descriptor)


def _open(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        raise _unreadable(path, error) from error
    if hasattr(os, "posix_fadvise"):
        # Read-ahead would fetch several times what scattered instances need.
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    return descriptor


def _fill(descriptor: int, path: Path, piece: Piece, into: memoryview) -> None:
    done = 0
    while done < len(into):
        try:
            count = os.preadv(descriptor, [into[done:]], piece.offset + done)
        except OSError as error:
            raise _unreadable(path, error) from error
        if count == 0:
            raise DataError(
                "the token file was cut short while it was read",
                where=str(path),
                got=f"its end at byte {piece.offset + done}",
                do="restore the file",
            )
        done += count


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(
        "token file cannot be read", where=str(path), got=error.strerror or "", do="restore it"
    )
