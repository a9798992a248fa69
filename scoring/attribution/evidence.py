"""What a scorer of documents may see, and what it says: one interface for all of them.

A scorer is told how strongly every window moved the mode, and what some of its documents are. It
returns one number a document: the larger, the more the document promotes generalization. Numbers of
one method are standard deviations (see :mod:`scoring.attribution.crossfit`); those of different
methods are comparable by rank only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from scoring.attribution.null import Null
from windows.errors import ConfigError, DataError
from windows.order import DataOrder
from windows.run import Window
from windows.sampling import uniform
from windows.tokens import TokenFiles, documents

Array = NDArray[np.float64]

NO_WINDOW = -1
"""The window of fresh documents, which no window holds: what is scored by a fit on all windows."""

SCORES = {
    "instance": pl.Int64,
    "start": pl.Int32,
    "end": pl.Int32,
    "method": pl.String,
    "score": pl.Float32,
}
"""The table of document scores; start and end are token positions in the instance, half-open."""


@dataclass(frozen=True, eq=False)
class Documents:
    """Documents, or the parts of them that lie in some instances.

    Attributes
    ----------
    tokens
        uint32[I, L]: the instances.
    instances, batches, windows
        int64[I]: the id of every instance, its batch, and the index of its window or `NO_WINDOW`.
    row
        int64[D]: which instance, of those I, a document lies in.
    start, end
        int32[D]: its token positions there, half-open.
    """

    tokens: NDArray[np.uint32]
    instances: NDArray[np.int64]
    batches: NDArray[np.int64]
    windows: NDArray[np.int64]
    row: NDArray[np.int64]
    start: NDArray[np.int32]
    end: NDArray[np.int32]

    @property
    def window(self) -> NDArray[np.int64]:
        """The window of every document, int64[D]."""
        return self.windows[self.row]

    @property
    def batch(self) -> NDArray[np.int64]:
        """The batch of every document, int64[D]."""
        return self.batches[self.row]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of every document, int64[D]."""
        return (self.end - self.start).astype(np.int64)

    def body(self, document: int) -> NDArray[np.uint32]:
        """Return the tokens of one document."""
        return self.tokens[self.row[document], self.start[document] : self.end[document]]

    def owner(self) -> NDArray[np.int64]:
        """Return int64[I, L]: which document every token belongs to, -1 for none."""
        owner = np.full(self.tokens.shape, -1, dtype=np.int64)
        lengths = self.lengths
        ends = np.cumsum(lengths)
        within = np.arange(lengths.sum()) - np.repeat(ends - lengths, lengths)
        first = self.row * self.tokens.shape[1] + self.start
        owner.ravel()[np.repeat(first, lengths) + within] = np.repeat(
            np.arange(len(lengths)), lengths
        )
        return owner


def sample_documents(
    files: TokenFiles,
    order: DataOrder,
    windows: Sequence[Window],
    *,
    eos_id: int,
    count: int,
    seed: int,
    fresh: tuple[int, int] | None = None,
) -> Documents:
    """Read documents of every window, found by EOS.

    Parameters
    ----------
    count
        Instances that are drawn from every window, uniformly; all where it holds fewer.
    fresh
        Batches ``[first, end)`` of no window, whose documents come along as `NO_WINDOW`.

    Raises
    ------
    ModehopError
        As `windows.tokens.TokenFiles.instances` and `windows.sampling.uniform` do.
    """
    drawn = [
        uniform(order.instances(each.first_batch, each.end_batch), count, seed).ids
        for each in windows
    ]
    held = order.instances(*fresh) if fresh else np.empty(0, dtype=np.uint32)
    ids = np.concatenate([*drawn, held])
    sizes = [*map(len, drawn), len(held)]
    tokens = files.instances(order, ids)
    spans = [
        (row, span.start, span.end)
        for row, instance in enumerate(tokens)
        for span in documents(instance, eos_id)
    ]
    row, start, end = np.array(spans, dtype=np.int64).reshape(-1, 3).T
    return Documents(
        tokens=tokens,
        instances=ids.astype(np.int64),
        batches=order.batch_of(ids),
        windows=np.repeat([*range(len(windows)), NO_WINDOW], sizes),
        row=row,
        start=start.astype(np.int32),
        end=end.astype(np.int32),
    )


@dataclass(frozen=True, eq=False)
class Evidence:
    """What every scorer may see; a scorer's own fields hold what it needs beyond that.

    Attributes
    ----------
    documents
        Documents of the windows.
    windows
        The windows, W of them, in the run's order.
    strength
        float64[W]: the strength of every window's label, larger for generalization.
    folds
        Contiguous parts that the windows are cut into; see :mod:`scoring.attribution.crossfit`.
    shifts
        At most so many circular shifts make the null; all of them where there are fewer.
    seed
        Of what is drawn.
    """

    documents: Documents
    windows: tuple[Window, ...]
    strength: Array
    folds: int = 5
    shifts: int = 199
    seed: int = 0

    def __post_init__(self) -> None:
        count = len(self.windows)
        if self.strength.shape != (count,) or not np.isfinite(self.strength).all():
            raise DataError(
                "attribution needs one finite strength a window",
                got=f"{self.strength.shape} for {count} windows",
                do="label every window of the study",
            )
        held = np.unique(self.documents.window)
        if absent := sorted(set(range(count)) - set(held.tolist())):
            raise DataError(
                "a window has no document",
                where=self.windows[absent[0]].name,
                do="draw instances from every window",
            )
        if self.shifts < 1:
            raise ConfigError("the null needs a shift", where="shifts", got=str(self.shifts))

    def recency(self, half_life: float | None, batch: NDArray[np.int64], window: int) -> Array:
        """Weigh batches of a window: half as much for every `half_life` batches before its end.

        Without a half-life all weigh 1.
        """
        if half_life is None:
            return np.ones(len(batch))
        before: Array = (self.windows[window].end_batch - 1 - batch) / half_life
        return np.asarray(0.5**before, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Attribution:
    """What a scorer says.

    Attributes
    ----------
    method
        The scorer's name.
    scores
        One row a document, in the order of the evidence; columns `SCORES`.
    windows
        float64[W]: the same by window, as the null sees it.
    null
        How window scores go with strength, and would by chance.
    """

    method: str
    scores: pl.DataFrame
    windows: Array
    null: Null


class Scorer(Protocol):
    """Scores documents."""

    @property
    def method(self) -> str:
        """Its name in the table."""

    def attribute(self, evidence: Evidence) -> Attribution:
        """Score every document of the evidence, none by a fit that saw its window."""


def score_table(evidence: Evidence, method: str, scores: Array) -> pl.DataFrame:
    """Lay float64[D] out as the table of document scores."""
    held = evidence.documents
    columns = {
        "instance": held.instances[held.row],
        "start": held.start,
        "end": held.end,
        "method": [method] * len(scores),
        "score": scores.astype(np.float32),
    }
    return pl.DataFrame(columns, schema=SCORES)
