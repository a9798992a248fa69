"""How good document scores are, where the truth is known: figures of the attribution benchmark.

All are functions of tables and arrays; what has to be trained for them is in
:mod:`trainers.attribution`. The linear datamodeling score is defined as quanda 0.5 defines it
(arXiv 2410.07158; Park et al. 2023, TRAK), so that figures compare.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]

from scoring.attribution.evidence import NO_WINDOW, Array, Documents
from scoring.transfer import spearman
from windows.errors import DataError


@dataclass(frozen=True)
class Against:
    """How window scores stand to a truth with a value a window; Spearman correlations.

    Attributes
    ----------
    rho
        With the window's own truth.
    rho_previous
        With the previous window's.
    leakage
        `rho_previous` less `rho` times the truth's own autocorrelation: what a score takes from its
        neighbour beyond what neighbours share.
    """

    rho: float
    rho_previous: float
    leakage: float


def type_auroc(
    scores: Array,
    types: NDArray[np.str_],
    *,
    up: Collection[str],
    down: Collection[str] | None = None,
) -> float:
    """Return the chance that a document of a type in `up` scores above one of a type in `down`.

    Parameters
    ----------
    scores, types
        float64[D] and str[D].
    down
        None for all other types.

    Raises
    ------
    DataError
        There is no document of one side.
    """
    first = np.isin(types, list(up))
    second = ~first if down is None else np.isin(types, list(down))
    if not first.any() or not second.any():
        raise DataError(
            "there are no documents of a type to tell apart",
            got=", ".join(sorted(set(types.tolist()))),
            do="read more documents, or name types that are there",
        )
    compared = first | second
    return float(roc_auc_score(first[compared], scores[compared]))


def window_means(documents: Documents, scores: Array, windows: int) -> Array:
    """Average document scores over every window's tokens, float64[W]; fresh ones are left out."""
    held = documents.window != NO_WINDOW
    weights = documents.lengths[held].astype(np.float64)
    window = documents.window[held]
    total = np.bincount(window, weights * scores[held], minlength=windows)
    averaged: Array = total / np.bincount(window, weights, minlength=windows)
    return averaged


def against(scores: Array, truth: Array) -> Against:
    """Compare window scores float64[W] with a truth float64[W], and with the previous window's."""
    rho, previous = spearman(scores, truth), spearman(scores[1:], truth[:-1])
    return Against(rho, previous, previous - rho * spearman(truth[1:], truth[:-1]))


def unspecific(scores: Array, truth: Array, other: Array) -> float:
    """Return how window scores go with another eval's truth beyond what the two truths share.

    Spearman's correlation of float64[W] with `other`, less that with `truth` times that of the two.
    0 for a score that is specific.
    """
    return spearman(scores, other) - spearman(scores, truth) * spearman(truth, other)


def linear_datamodeling_score(scores: Array, subsets: NDArray[np.bool_], outcomes: Array) -> float:
    """Return how well sums of scores predict what training on subsets gives.

    The mean over Q outputs of Spearman's correlation, over subsets, of the sum of the subset's
    scores with the output after training on it.

    Parameters
    ----------
    scores
        float64[N], of what subsets are made of, or float64[Q, N] where every output has its own.
    subsets
        bool[m, N]; quanda draws half of all at random.
    outcomes
        float64[m, Q].
    """
    own = np.broadcast_to(np.atleast_2d(scores), (outcomes.shape[1], subsets.shape[1]))
    predicted = subsets.astype(np.float64) @ own.T
    found = [spearman(predicted[:, q], outcomes[:, q]) for q in range(outcomes.shape[1])]
    return float(np.mean(found))


@dataclass(frozen=True)
class ControlEffect:
    """Difference of two arms' levels, with its two-sided interval; no interval from single runs."""

    effect: float
    lo: float
    hi: float


def control_effect(up: Array, down: Array, *, confidence: float = 0.95) -> ControlEffect:
    """Compare arms trained on what scored highest and lowest; the run is the unit.

    Parameters
    ----------
    up, down
        float64[R]: levels of the arms' runs.
    confidence
        Of the interval, by Welch's t.
    """
    effect = float(np.mean(up) - np.mean(down))
    if min(len(up), len(down)) < 2:
        return ControlEffect(effect, -np.inf, np.inf)
    if np.ptp(up) == np.ptp(down) == 0:
        return ControlEffect(effect, effect, effect)
    ends = stats.ttest_ind(up, down, equal_var=False).confidence_interval(confidence)
    return ControlEffect(effect, float(ends.low), float(ends.high))
