"""The null of an attribution: the same computation with strengths shifted around the circle.

Windows follow each other, and both what they hold and how they moved the mode may be
autocorrelated; a circular shift takes strength from its window and leaves both series as they are.
Whatever was fitted to strengths is fitted anew for every shift. The actual series is one of the K
shifts, so that p cannot fall below 1 / K.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]

_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Null:
    """How strongly scores go with strength, and would by chance.

    Attributes
    ----------
    statistic
        Spearman correlation over windows of cross-fitted score and strength.
    shifted
        float64[K]: the same at every shift, the actual one first.
    p
        Share of shifts with as high a correlation; one-sided, since a score's sign is its claim.
    floor
        The smallest p there can be.
    features
        `feature` str, `rho`, `p`, most strongly correlated first: each feature's Spearman
        correlation with strength, p by the largest absolute correlation of any feature under every
        shift (max-T), which holds for all features together. None where a method has no features.
    """

    statistic: float
    shifted: Array
    p: float
    floor: float
    features: pl.DataFrame | None = None


def chosen_shifts(windows: int, most: int, seed: int) -> NDArray[np.int64]:
    """Return int64[K], ascending: shift 0 and at most `most` others in [1, windows)."""
    others = np.arange(1, windows)
    if most < len(others):
        others = np.sort(np.random.default_rng(seed).choice(others, most, replace=False))
    return np.concatenate([[0], others]).astype(np.int64)


def rolled(series: NDArray[Any], shifts: NDArray[np.int64]) -> NDArray[Any]:
    """Return [T, K]: a series of shape (T,) moved on by every shift around the circle."""
    count = len(series)
    moved: NDArray[Any] = series[(np.arange(count)[:, None] - shifts) % count]
    return moved


def correlations(x: Array, y: Array) -> Array:
    """Return float64[F, K]: Pearson correlations of columns of float64[n, F] and float64[n, K].

    A constant column correlates with nothing: 0.
    """
    left, right = _unit(x), _unit(y)
    found: Array = left.T @ right
    return found


def judged(window_scores: Array, strengths: Array, features: pl.DataFrame | None = None) -> Null:
    """Compare window scores with strengths, both float64[W, K], shift by shift."""
    ranked = _unit(stats.rankdata(window_scores, axis=0)), _unit(stats.rankdata(strengths, axis=0))
    shifted: Array = (ranked[0] * ranked[1]).sum(axis=0)
    count = len(shifted)
    as_high = int(np.count_nonzero(shifted >= shifted[0] - _ROUNDING))
    return Null(float(shifted[0]), shifted, as_high / count, 1 / count, features)


def max_t(features: Array, strengths: Array, names: Sequence[str]) -> pl.DataFrame:
    """Correlate every feature float64[W, F] with strength, adjusted for all of them together.

    Parameters
    ----------
    strengths
        float64[W, K]: the actual series first, then its shifts.
    names
        Of the features.

    Returns
    -------
    polars.DataFrame
        As `Null.features`. Source: Westfall and Young (1993), single-step max-T.
    """
    ranks = stats.rankdata(features, axis=0), stats.rankdata(strengths, axis=0)
    found = correlations(*ranks)
    largest = np.abs(found).max(axis=0)
    actual = found[:, 0]
    p = (largest[None, :] >= np.abs(actual)[:, None] - _ROUNDING).mean(axis=1)
    frame = pl.DataFrame({"feature": list(names), "rho": actual, "p": p})
    return frame.sort(pl.col("rho").abs(), descending=True, maintain_order=True)


def _unit(x: Array) -> Array:
    centred = x - x.mean(axis=0)
    length = np.sqrt((centred**2).sum(axis=0))
    # What is left of equal values is rounding.
    constant = length <= _ROUNDING * np.abs(x).max(axis=0, initial=0.0)
    scaled: Array = np.where(constant, 0.0, centred) / np.where(constant, 1.0, length)
    return scaled
