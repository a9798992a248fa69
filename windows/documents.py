"""Documents of a token file by their bounds: exact ends, names and sources, where a file has any.

Without bounds the documents of an instance are found by EOS (`windows.tokens.documents`), which
cannot tell whether the first one began where the instance does.
"""

import gzip
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from windows.errors import DataError
from windows.tokens import Span

SUFFIX = ".csv.gz"


@dataclass(frozen=True)
class NamedSpan:
    """A document, or the part of one, inside an instance, and what its file says of it.

    Attributes
    ----------
    span
        Where it lies in the instance.
    id, source
        As in the bounds file; empty where it does not tell.
    """

    span: Span
    id: str
    source: str


@dataclass(frozen=True, eq=False)
class DocumentBounds:
    """The documents of one token file.

    Attributes
    ----------
    starts, ends
        Token positions in the file, half-open, int64[d], ascending.
    ids, sources
        Text, one for each document. Not Python's own strings: a file holds millions.
    """

    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    ids: pl.Series
    sources: pl.Series

    def within(self, first: int, end: int) -> list[NamedSpan]:
        """Return the documents of the tokens ``[first, end)`` of the file, places counted from it.

        A part whose document goes on before or behind is flagged.
        """
        begin = int(np.searchsorted(self.ends, first, side="right"))
        stop = int(np.searchsorted(self.starts, end, side="left"))
        return [
            NamedSpan(
                Span(
                    max(int(self.starts[i]) - first, 0),
                    min(int(self.ends[i]), end) - first,
                    bool(self.starts[i] < first),
                    bool(self.ends[i] > end),
                ),
                self.ids[i],
                self.sources[i],
            )
            for i in range(begin, stop)
        ]

    def find(self, document: str) -> int | None:
        """Return which document is meant by an id or, where no id is that, by a place."""
        named = (self.ids == document).arg_max() if len(self.ids) else None
        if named is not None and self.ids[named] == document:
            return named
        if document.isdecimal() and int(document) < len(self.ids):
            return int(document)
        return None


def bounds_beside(path: str) -> Path | None:
    """Return the bounds file that lies beside a local token file, if there is one."""
    if "://" in path:
        return None
    beside = Path(path).with_suffix(SUFFIX)
    return beside if beside.is_file() else None


@lru_cache(maxsize=16)
def read_document_bounds(path: Path) -> DocumentBounds:
    """Read a bounds file of dolma's or OLMo-core's form: ``start,end[,id[,source[,...]]]``.

    Raises
    ------
    DataError
        The file cannot be read, or its documents do not ascend.
    """
    try:
        # polars takes a gzip file that was cut short for a shorter one.
        with gzip.open(path, "rb") as file:
            text = file.read()
        table = pl.read_csv(text, has_header=False, infer_schema=False) if text else pl.DataFrame()
        columns = [table[:, i].fill_null("") for i in range(min(4, table.width))]
        places = [each.cast(pl.Int64).to_numpy() for each in columns[:2]]
        starts, ends = places or (np.empty(0, np.int64), np.empty(0, np.int64))
    except (OSError, EOFError, ValueError, zlib.error, pl.exceptions.PolarsError) as error:
        raise DataError(
            "the bounds of documents cannot be read",
            where=str(path),
            got=" ".join(str(error).split())[:80],
            do="restore the file, or remove it: then documents are found by EOS",
        ) from error
    if (starts >= ends).any() or (starts[1:] < ends[:-1]).any():
        raise DataError(
            "the bounds of documents do not ascend",
            where=str(path),
            do="restore the file, or remove it: then documents are found by EOS",
        )
    blank = pl.Series([""], dtype=pl.String).new_from_index(0, len(starts))
    ids, sources = (columns[i] if len(columns) > i else blank for i in (2, 3))
    return DocumentBounds(starts, ends, ids, sources)
