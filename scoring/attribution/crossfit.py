"""Cross-fitting over windows: no document is scored by a fit that saw its window.

Windows are cut into contiguous folds. What a fold's documents are scored by is fitted on the other
windows less one on either side, which autocorrelated data would let in by the back door. All
methods are alike from there on: a document has features, a window has their average, a fit has one
coefficient a feature, and a score is the product, in standard deviations of the documents that the
fit saw, about their mean. So folds are comparable, and a fold's own intercept is no score.

Fresh documents, which no window holds, are scored by a fit on all windows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from scoring.attribution.evidence import (
    NO_WINDOW,
    Array,
    Attribution,
    Evidence,
    score_table,
)
from scoring.attribution.null import chosen_shifts, judged, max_t, rolled
from windows.errors import ConfigError

GAP = 1
"""Windows on either side of a fold that its fit does not see."""


@dataclass(frozen=True, eq=False)
class Fold:
    """Windows `[first, end)` to be scored, and the windows that a fit for them may see."""

    first: int
    end: int
    training: NDArray[np.int64]


Fit = Callable[[Fold, NDArray[np.int64]], Array]
"""Coefficients float64[F, K] of a fold, one column for every circular shift of the strengths."""


@dataclass(frozen=True, eq=False)
class Features:
    """What documents and windows are described by.

    Attributes
    ----------
    documents
        float64[D, F], sparse or not.
    windows
        float64[W, F].
    names
        Of the features that are tested one by one; empty where they have no meaning apart.
    """

    documents: Any
    windows: Array
    names: tuple[str, ...] = ()


def folds(windows: int, count: int) -> tuple[Fold, ...]:
    """Cut windows into contiguous folds of sizes that differ by at most one.

    Raises
    ------
    ConfigError
        There are fewer than two folds, or one would have nothing to be fitted on.
    """
    if count < 2 or windows < 2 * (1 + GAP) or windows < count:
        raise ConfigError(
            f"{windows} windows cannot be cross-fitted in {count} folds",
            where="folds",
            got=str(count),
            do=f"use 2 folds or more, and at least {max(2 * (1 + GAP), count)} windows",
        )
    edges = np.linspace(0, windows, count + 1).round().astype(int).tolist()
    every = np.arange(windows)
    made = []
    for first, end in pairwise(edges):
        seen = (every < first - GAP) | (every >= end + GAP)
        made.append(Fold(first, end, every[seen]))
    return tuple(made)


def fresh_fold(windows: int) -> Fold:
    """Return the fold of documents that no window holds."""
    return Fold(NO_WINDOW, NO_WINDOW + 1, np.arange(windows))


def attribute(evidence: Evidence, method: str, features: Features, fit: Fit) -> Attribution:
    """Score documents and windows fold by fold, and compare with what shifts of strength give."""
    shifts = chosen_shifts(len(evidence.windows), evidence.shifts, evidence.seed)
    window_scores = np.zeros((len(evidence.windows), len(shifts)))
    scores = np.zeros(len(evidence.documents.row))
    for fold in folds(len(evidence.windows), evidence.folds):
        coefficients = fit(fold, shifts)
        found = standardised(features.windows @ coefficients, fold.training)
        window_scores[fold.first : fold.end] = found[fold.first : fold.end]
        _score_fold(evidence, features, fold, coefficients[:, 0], scores)
    if (evidence.documents.windows == NO_WINDOW).any():
        whole = fresh_fold(len(evidence.windows))
        _score_fold(evidence, features, whole, fit(whole, shifts[:1])[:, 0], scores)
    strengths = rolled(evidence.strength, shifts)
    tested = max_t(features.windows, strengths, features.names) if features.names else None
    return Attribution(
        method,
        score_table(evidence, method, scores),
        window_scores[:, 0],
        judged(window_scores, strengths, tested),
    )


def _score_fold(
    evidence: Evidence, features: Features, fold: Fold, coefficients: Array, into: Array
) -> None:
    """Write the scores of a fold's documents."""
    window = evidence.documents.window
    own = (window >= fold.first) & (window < fold.end)
    values = np.asarray(features.documents @ coefficients, dtype=np.float64)
    seen = np.flatnonzero(np.isin(window, fold.training))
    into[own] = standardised(values[:, None], seen)[own, 0]


def standardised(values: Array, reference: NDArray[np.int64]) -> Array:
    """Return columns of float64[n, K] less their mean over some rows, in standard deviations there.

    Where those rows are all equal, there is nothing to score by: 0.
    """
    seen = values[reference]
    mean, spread = seen.mean(axis=0), seen.std(axis=0)
    equal = spread <= 1e-9 * np.abs(seen).max(axis=0, initial=0.0)
    scaled: Array = np.where(equal, 0.0, values - mean) / np.where(equal, 1.0, spread)
    return scaled


def window_average(evidence: Evidence, features: Any, half_life: float | None = None) -> Array:
    """Average features float64[D, F] over every window's tokens, float64[W, F].

    Parameters
    ----------
    half_life
        In batches; see `Evidence.recency`.
    """
    held = evidence.documents
    window, batch = held.window, held.batch
    weights = held.lengths.astype(np.float64)
    rows = []
    for index in range(len(evidence.windows)):
        own = np.flatnonzero(window == index)
        weight = weights[own] * evidence.recency(half_life, batch[own], index)
        rows.append(sparse.csr_array((weight / weight.sum(), own, [0, len(own)]), (1, len(window))))
    averaged = sparse.vstack(rows, format="csr") @ features
    return np.asarray(averaged.todense() if sparse.issparse(averaged) else averaged, dtype=float)
