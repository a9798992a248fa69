"""Pieces of remote files: from the cache where it has them, else fetched, many at once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from windows.reading.cache import DIGEST_BYTES, RangeCache, RangeKey
from windows.reading.limits import ReadCost, ReadLimits
from windows.reading.pieces import Piece, Pieces
from windows.reading.places import Place
from windows.reading.remote import Remote
from windows.reading.threads import in_threads

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Fetcher:
    """Reads pieces of remote files.

    Attributes
    ----------
    places, sizes
        Address and bytes of every file of a run.
    cache
        What was fetched before; None keeps nothing.
    limits
        How much may be asked for.
    """

    places: Sequence[Place]
    sizes: Sequence[int]
    cache: RangeCache | None
    limits: ReadLimits

    def cost(self, pieces: Pieces) -> ReadCost:
        """Return what reading pieces would cost, by what the cache holds now."""
        return _cost(pieces, self._held(pieces))

    def read(
        self, pieces: Pieces, into: npt.NDArray[np.uint8], done: Callable[[Piece], object]
    ) -> None:
        """Read pieces of remote files.

        Parameters
        ----------
        pieces
            What to read.
        into
            Where to, ``[rows, bytes of a row]``.
        done
            Called with every piece that was read.

        Raises
        ------
        ConfigError
            More would be fetched than the limits allow; nothing was asked for.
        DataError
            A piece cannot be had, or its entry in the cache was damaged.
        OSError
            The cache cannot be written.
        """
        held = self._held(pieces)
        _cost(pieces, held).check(self.limits)
        kept = self._kept(pieces, held)
        threads = max(1, min(self.limits.connections, len(pieces)))
        with Remote(self.limits) as remote:

            def read(job: tuple[Piece, bool]) -> Piece:
                piece, keep = job
                data = self._bytes(remote, piece, keep)
                end = piece.start + piece.length
                into[piece.row, piece.start : end] = np.frombuffer(data, dtype=np.uint8)
                return piece

            jobs = zip(pieces, kept.tolist(), strict=True)
            in_threads(read, jobs, threads, done=done, halt=remote.halt)

    def _bytes(self, remote: Remote, piece: Piece, keep: bool) -> bytes:
        key = self._key(piece)
        data = self.cache.get(key) if self.cache is not None else None
        if data is None:
            data = remote.read(key.url, key.offset, key.length, key.size)
            if self.cache is not None and keep:
                self.cache.put(key, data)
        return data

    def _kept(self, pieces: Pieces, held: Bools) -> Bools:
        """Tell which pieces are to be kept once they are fetched, and make room for them."""
        if self.cache is None:
            return np.zeros(len(pieces), dtype=np.bool_)
        sizes = np.where(held, 0, pieces.lengths + DIGEST_BYTES)
        needed = {key.name for key in self._keys(pieces)}
        room = self.cache.make_room(int(sizes.sum()), needed)
        return np.cumsum(sizes) <= room

    def _held(self, pieces: Pieces) -> Bools:
        if self.cache is None:
            return np.zeros(len(pieces), dtype=np.bool_)
        held = map(self.cache.holds, self._keys(pieces))
        return np.fromiter(held, dtype=np.bool_, count=len(pieces))

    def _keys(self, pieces: Pieces) -> Iterator[RangeKey]:
        return map(self._key, pieces)

    def _key(self, piece: Piece) -> RangeKey:
        url = str(self.places[piece.file])
        return RangeKey(url, self.sizes[piece.file], piece.offset, piece.length)


def _cost(pieces: Pieces, held: Bools) -> ReadCost:
    lengths = pieces.lengths[~held]
    return ReadCost(len(lengths), int(lengths.sum()), int(held.sum()))
