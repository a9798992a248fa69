"""The byte ranges that instances are read from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]


class Piece(NamedTuple):
    """Bytes ``[offset, offset + length)`` of a file, which belong at byte `start` of a row."""

    row: int
    start: int
    file: int
    offset: int
    length: int


@dataclass(frozen=True, eq=False)
class Pieces:
    """Many pieces, in columns.

    Attributes
    ----------
    rows, starts, files, offsets, lengths
        As in `Piece`, int64[n] each.
    """

    rows: Int64s
    starts: Int64s
    files: Int64s
    offsets: Int64s
    lengths: Int64s

    @classmethod
    def of_instances(
        cls,
        rows: Int64s,
        files: Int64s,
        offsets: Int64s,
        *,
        length: int,
        file_bytes: Sequence[int],
    ) -> Self:
        """Cut instances where one file ends and the next begins.

        Parameters
        ----------
        rows
            Where each instance belongs, int64[n].
        files, offsets
            Where each begins, int64[n] each; in ascending order for fast disk reads.
        length
            Bytes of an instance.
        file_bytes
            Size of every file; an instance that goes beyond the end of one goes on in the next.
        """
        sizes = np.asarray(file_bytes, dtype=np.int64)
        starts = np.zeros(len(rows), dtype=np.int64)
        found = []
        while len(rows):
            lengths = np.minimum(length - starts, sizes[files] - offsets)
            found.append(np.stack([rows, starts, files, offsets, lengths]))
            starts = starts + lengths
            more = starts < length
            rows, starts, files = rows[more], starts[more], files[more] + 1
            offsets = np.zeros(len(rows), dtype=np.int64)
        columns = np.concatenate(found, axis=1) if found else np.empty((5, 0), dtype=np.int64)
        columns = columns[:, columns[4] > 0]
        by_place = np.lexsort((columns[3], columns[2]))
        return cls(*columns[:, by_place])

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Piece]:
        columns = (self.rows, self.starts, self.files, self.offsets, self.lengths)
        return map(Piece._make, zip(*(column.tolist() for column in columns), strict=True))

    def take(self, which: slice | npt.NDArray[np.bool_]) -> "Pieces":
        """Return some of the pieces, in the same order."""
        return Pieces(
            self.rows[which],
            self.starts[which],
            self.files[which],
            self.offsets[which],
            self.lengths[which],
        )
