"""The shuffle of one epoch: made in memory, or read from the disk where it was kept.

OLMo-core shuffles chunks of neighbouring instances; here they are numbered ``[0, count)``. The
shuffle is numpy's Fisher-Yates, which cannot be computed piecewise, so it is made once, in place.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from windows.errors import DataError

Ids = npt.NDArray[np.uint32]

DISK = np.dtype("<u4")

# Ids looked through at once: 64 MiB of uint32, whatever the size of the run.
SCAN = 1 << 24

# What PCG64(34522) makes of sixteen ids. numpy does not promise that `Generator` keeps its streams.
_PINNED_SEED = 34522
_PINNED = (15, 14, 13, 1, 11, 0, 2, 5, 6, 4, 8, 12, 9, 10, 7, 3)


def shuffled(count: int, seed: int) -> Ids:
    """Return uint32[count]: ``[0, count)`` as numpy's PCG64 of `seed` shuffles it, in place.

    Raises
    ------
    DataError
        This numpy does not shuffle as the runs' did.
    """
    _check_stream()
    return _shuffled(count, seed)


@dataclass(frozen=True)
class Kept:
    """Where a permutation lies on the disk.

    Attributes
    ----------
    order
        File of raw little-endian uint32: the chunk at each position.
    inverse
        File of the same form: the position of each chunk; None where it was not kept.
    """

    order: Path
    inverse: Path | None = None


@dataclass(frozen=True)
class Permutation:
    """The order in which chunks are read, by position.

    Attributes
    ----------
    count
        How many chunks there are.
    seed
        Of the shuffle: the loader's seed plus the epoch; None where nothing is shuffled.
    kept
        Where it lies; None for a shuffle that is made in memory at its first use.
    """

    count: int
    seed: int | None
    kept: Kept | None = None

    def slice(self, start: int, end: int) -> Ids:
        """Return uint32[end - start]: the chunks at positions ``[start, end)``; a copy."""
        if self.seed is None:
            return np.arange(start, end, dtype=np.uint32)
        return np.array(self._ids[start:end], dtype=np.uint32)

    def find(self, chunks: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return int64[n]: the positions of `chunks`, which are ascending and unique.

        Looked up where the inverse is kept, else found in one pass over the permutation.
        """
        if self.seed is None:
            return chunks
        inverse = self._inverse
        return self._scan(chunks) if inverse is None else inverse[chunks].astype(np.int64)

    def __getstate__(self) -> dict[str, Any]:
        # A shuffle in memory is made anew rather than sent to a worker process.
        return {"count": self.count, "seed": self.seed, "kept": self.kept}

    def inverted(self) -> Ids:
        """Return uint32[count]: the position of each chunk."""
        positions = np.empty(self.count, dtype=np.uint32)
        for start, part in self._blocks():
            positions[part] = np.arange(start, start + len(part), dtype=np.uint32)
        return positions

    def _scan(self, chunks: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        # A sieve of a few bits of each id fits into the processor's cache; a map of all ids does
        # not, and to look every id up there takes several times as long.
        mask = np.uint32((1 << max(16, (64 * len(chunks)).bit_length())) - 1)
        sieve = np.zeros(int(mask) + 1, dtype=np.bool_)
        sieve[chunks & int(mask)] = True
        positions = np.empty(len(chunks), dtype=np.int64)
        for start, part in self._blocks() if len(chunks) else ():
            hits = np.flatnonzero(sieve[part & mask])
            places = np.searchsorted(chunks, part[hits])
            found = chunks[np.minimum(places, len(chunks) - 1)] == part[hits]
            positions[places[found]] = hits[found] + start
        return positions

    def _blocks(self) -> Iterator[tuple[int, Ids]]:
        """Yield the permutation in pieces; from a file by reading, since a map would keep pages."""
        if self.kept is None:
            for start in range(0, self.count, SCAN):
                yield start, self._ids[start : start + SCAN]
            return
        with self.kept.order.open("rb") as file:
            for start in range(0, self.count, SCAN):
                yield start, np.fromfile(file, DISK, min(SCAN, self.count - start))

    @cached_property
    def _ids(self) -> Ids:
        if self.kept is not None:
            return _mapped(self.kept.order, self.count)
        assert self.seed is not None
        return shuffled(self.count, self.seed)

    @cached_property
    def _inverse(self) -> Ids | None:
        if self.kept is None or self.kept.inverse is None:
            return None
        return _mapped(self.kept.inverse, self.count)


def _mapped(path: Path, count: int) -> Ids:
    size = path.stat().st_size if path.is_file() else 0
    if size != count * DISK.itemsize:
        raise DataError(
            "the kept order is cut short",
            where=str(path),
            got=f"{size} bytes where {count} ids need {count * DISK.itemsize}",
            do=f"delete {path.parent}; it is made again when it is needed",
        )
    return np.memmap(path, DISK, "r") if count else np.empty(0, DISK)


def _shuffled(count: int, seed: int) -> Ids:
    ids = np.arange(count, dtype=np.uint32)
    np.random.Generator(np.random.PCG64(seed)).shuffle(ids)
    return ids


@cache
def _check_stream() -> None:
    found = tuple(_shuffled(len(_PINNED), _PINNED_SEED).tolist())
    if found != _PINNED:
        raise DataError(
            "this numpy shuffles differently, so no run's order can be rebuilt",
            where=f"numpy {np.__version__}",
            got=f"{found} where {_PINNED} was pinned",
            do="install the numpy of constraints.txt",
        )
