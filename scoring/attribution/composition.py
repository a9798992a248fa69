"""Exact source composition: sources that windows held more of than expected, against strength.

How many instances every source gave to every batch follows from ids and file sizes, without a byte
of data and without sampling error. A window's feature is, source by source, the share it gave less
the share expected, in binomial standard deviations; late batches may count for more. A source's
coefficient is the correlation of that with strength, and a document's score its source's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scoring.attribution.crossfit import Features, Fold, attribute
from scoring.attribution.evidence import Array, Attribution, Evidence
from scoring.attribution.null import correlations, rolled
from windows.composition import SourceCounter
from windows.errors import DataError
from windows.order import DataOrder
from windows.run import Window


@dataclass(frozen=True, eq=False)
class SourceCounts:
    """Instances by batch and source.

    Attributes
    ----------
    names
        The S sources.
    batches
        int64[B]: the batches of all windows.
    counts
        int64[B, S].
    documents
        int64[D]: the source of every document of the evidence.
    """

    names: tuple[str, ...]
    batches: NDArray[np.int64]
    counts: NDArray[np.int64]
    documents: NDArray[np.int64]


def count_sources(
    order: DataOrder, counter: SourceCounter, windows: Sequence[Window], evidence: Evidence
) -> SourceCounts:
    """Count what every batch of the windows held, by source."""
    batches = np.concatenate([np.arange(w.first_batch, w.end_batch) for w in windows])
    counts = [counter.counts(order.instances(b, b + 1)) for b in batches.tolist()]
    held = evidence.documents
    source = counter.source_of(held.instances.astype(np.uint32))[held.row]
    return SourceCounts(counter.names, batches, np.stack(counts), source)


@dataclass(frozen=True, eq=False)
class SourceComposition:
    """Scores a document by its source.

    Attributes
    ----------
    sources
        What the windows held.
    half_life
        Batches after which one counts half, back from the window's end; None for no such weights.
    """

    sources: SourceCounts
    half_life: float | None = None

    @property
    def method(self) -> str:
        """Its name."""
        return "composition"

    def attribute(self, evidence: Evidence) -> Attribution:
        """Score every document; see :class:`scoring.attribution.evidence.Scorer`.

        Raises
        ------
        DataError
            The counts are not of the evidence's batches and documents.
        """
        _check(self.sources, evidence)
        residual = residuals(self.sources, evidence, self.half_life)
        member = np.eye(len(self.sources.names))[self.sources.documents]

        def fit(fold: Fold, shifts: NDArray[np.int64]) -> Array:
            strengths = rolled(evidence.strength, shifts)[fold.training]
            return correlations(residual[fold.training], strengths)

        features = Features(member, residual, self.sources.names)
        return attribute(evidence, self.method, features, fit)


def residuals(sources: SourceCounts, evidence: Evidence, half_life: float | None) -> Array:
    """Return float64[W, S]: shares beyond expectation, in binomial standard deviations.

    Expected is a source's share over all windows: an order that is shuffled once gives every window
    the same. With weights v over a window's instances the variance of a weighted share p is
    p (1 - p) times the sum of v^2.
    """
    expected = sources.counts.sum(axis=0) / sources.counts.sum()
    found = []
    for index, window in enumerate(evidence.windows):
        own = (sources.batches >= window.first_batch) & (sources.batches < window.end_batch)
        counts = sources.counts[own]
        weight = evidence.recency(half_life, sources.batches[own], index)
        total = (weight * counts.sum(axis=1)).sum()
        squares = (weight**2 * counts.sum(axis=1)).sum() / total**2
        share = weight @ counts / total
        error = np.sqrt(expected * (1 - expected) * squares)
        found.append(np.divide(share - expected, error, out=np.zeros_like(error), where=error > 0))
    return np.array(found)


def _check(sources: SourceCounts, evidence: Evidence) -> None:
    wanted = {b for w in evidence.windows for b in range(w.first_batch, w.end_batch)}
    documents = len(evidence.documents.row)
    if wanted - set(sources.batches.tolist()) or len(sources.documents) != documents:
        raise DataError(
            "the counts by source are not those of the windows to be attributed",
            got=f"{len(sources.batches)} batches of {len(wanted)},"
            f" {len(sources.documents)} documents of {documents}",
            do="count the sources of the same windows and documents",
        )
