"""Token files, read one instance at a time, and the documents inside an instance."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from windows.errors import ConfigError, DataError
from windows.order import TOKEN_DTYPES, DataOrder


@dataclass(frozen=True)
class Span:
    """A document, or the part of one, inside an instance.

    Attributes
    ----------
    start, end
        Token positions, half-open; the EOS that ends a document belongs to it.
    head_cut
        The document may have begun before `start`.
    tail_cut
        The document goes on after `end`: its EOS is not in the span.
    """

    start: int
    end: int
    head_cut: bool
    tail_cut: bool


def documents(
    tokens: npt.NDArray[np.uint32], eos_id: int, *, starts_document: bool = False
) -> list[Span]:
    """Split an instance into its documents, by EOS.

    Parameters
    ----------
    tokens
        Token ids, ``[L]``.
    eos_id
        The id that ends a document.
    starts_document
        Whether a document is known to begin at position 0. The tokens alone cannot tell, so the
        first span counts as `head_cut` unless the caller knows better.

    Returns
    -------
    list of Span
        In order, covering ``[0, L)`` without gaps; none for no tokens.
    """
    ends = (np.flatnonzero(tokens == eos_id) + 1).tolist()
    tail_cut = not ends or ends[-1] != len(tokens)
    if tail_cut and len(tokens):
        ends.append(len(tokens))
    starts = [0, *ends[:-1]]
    return [
        Span(start, end, start == 0 and not starts_document, tail_cut and end == ends[-1])
        for start, end in zip(starts, ends, strict=False)
    ]


class TokenFiles:
    """A run's token files on local disks.

    Parameters
    ----------
    paths
        The files in the run's order.
    sequence_length
        Tokens of one instance.
    token_bytes
        Bytes of one token id: 1, 2 or 4.
    expected_bytes
        What the run's manifest says of every file's size, where there is one.

    Attributes
    ----------
    paths : tuple of Path
    sizes : tuple of int
        Bytes of every file.

    Raises
    ------
    DataError
        There is no file, one is missing, cut inside a token id, or not of its expected size.
    ConfigError
        `token_bytes` is not 1, 2 or 4, or there is not one expected size for each file.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        sequence_length: int,
        token_bytes: int = 4,
        expected_bytes: Sequence[int] | None = None,
    ) -> None:
        if not len(paths):
            raise DataError("the run has no token files", where="files", do="list at least one")
        if token_bytes not in TOKEN_DTYPES:
            raise ConfigError(
                "not a size of a token id",
                where="token_bytes",
                got=str(token_bytes),
                do="use 1, 2 or 4",
            )
        if expected_bytes is not None and len(expected_bytes) != len(paths):
            raise ConfigError(
                f"{len(paths)} files need as many sizes",
                where="files",
                got=str(len(expected_bytes)),
            )
        self.paths = tuple(paths)
        self.sequence_length = sequence_length
        self.token_bytes = token_bytes
        expected: Sequence[int | None] = expected_bytes or [None] * len(paths)
        self.sizes = tuple(
            _size(path, token_bytes, size) for path, size in zip(paths, expected, strict=True)
        )

    def instances(self, order: DataOrder, ids: npt.ArrayLike) -> npt.NDArray[np.uint32]:
        """Read instances.

        Each is one positioned read of its own bytes, in the order in which they lie on disk.

        Parameters
        ----------
        order
            The run's order, over files of exactly these sizes.
        ids
            Instance ids, ``[n]``; repeats are allowed.

        Returns
        -------
        uint32[n, L]
            Their tokens, in the order of `ids`.

        Raises
        ------
        DataError
            The files are not those the order was built from, or one ended early.
        ConfigError
            An id is not in the run.
        """
        self._check_order(order)
        files, offsets = order.locate(ids)
        stored = np.empty((len(files), self.sequence_length), dtype=f"<u{self.token_bytes}")
        by_place = np.lexsort((offsets, files))
        edges = np.flatnonzero(np.diff(files[by_place])) + 1
        for rows in np.split(by_place, edges):
            if rows.size:
                self._read(int(files[rows[0]]), rows, offsets, stored)
        return stored.astype(np.uint32, copy=False)

    def _check_order(self, order: DataOrder) -> None:
        ours = (self.sizes, self.sequence_length, self.token_bytes)
        if ours != (order.file_bytes, order.sequence_length, order.token_bytes):
            raise DataError(
                "the token files are not those of this data order",
                where=str(self.paths[0].parent),
                got=f"{len(self.sizes)} files of {sum(self.sizes)} bytes where the order has"
                f" {len(order.file_bytes)} of {sum(order.file_bytes)}, or another sequence length",
                do="rebuild the order from these files, or restore the run's own",
            )

    def _read(
        self,
        file: int,
        rows: npt.NDArray[np.int64],
        offsets: npt.NDArray[np.int64],
        stored: npt.NDArray[np.unsignedinteger],
    ) -> None:
        descriptor = os.open(self.paths[file], os.O_RDONLY)
        try:
            if hasattr(os, "posix_fadvise"):
                # Read-ahead would fetch several times what scattered instances need.
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
            for row in rows:
                self._read_one(
                    descriptor, file, int(offsets[row]), memoryview(stored[row]).cast("B")
                )
        finally:
            os.close(descriptor)

    def _read_one(self, descriptor: int, file: int, offset: int, into: memoryview) -> None:
        done = 0
        while done < len(into):
            count = os.preadv(descriptor, [into[done:]], offset + done)
            if count == 0:
                raise DataError(
                    "the token file was cut short while it was read",
                    where=str(self.paths[file]),
                    got=f"its end at byte {offset + done}",
                    do="restore the file",
                )
            done += count


def _size(path: Path, token_bytes: int, expected: int | None) -> int:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(
            "token file cannot be read", where=str(path), got=error.strerror or "", do="restore it"
        ) from error
    if expected is not None and size != expected:
        raise DataError(
            "token file is cut short"
            if size < expected
            else "token file is longer than it should be",
            where=str(path),
            got=f"{size} bytes where the manifest says {expected}",
            do="restore the file, or correct the manifest",
        )
    if size % token_bytes:
        raise DataError(
            f"token file is cut short: not a whole number of {token_bytes}-byte ids",
            where=str(path),
            got=f"{size} bytes",
            do="restore the file, or correct token_bytes",
        )
    return size
