"""Persistent window effects against one-checkpoint wobble: a state-space decomposition.

A series of levels is taken as

    level[t] = mean + drift * t + state[t] + wobble[t] + error[t]
    state[t + 1] = persistence * state[t] + effect of window t

The error's size at every checkpoint, and how much of it the next one shares, is measured from the
clusters (:func:`checkpoint_errors`) and not fitted; effects and wobble are Gaussian. A drift that
all windows share is no window's effect: with none in the model, a run whose level just falls as it
is trained would count as one of persistent effects. A window's effect is *persistent* if half of it
outlives one window or more: the persistence lies between 1/2 and 1, the random walk. Below that an
effect cannot be told from wobble, and counts as such.

The *share* is that of persistent effects in the variance of deltas beyond their error. At 0 every
delta is a checkpoint's own and gone at the next: nothing that a window's data did is left to label.

The likelihood is the restricted one, with a diffuse mean and drift: it has a limit as the
persistence goes to 1. It is evaluated here, for thousands of parameters at once, because a profile
over the share needs the highest likelihood at each; statsmodels filters one set of parameters at a
time, and is the tests' oracle. The smoothing is statsmodels'. Intervals hold the shares whose
profile lies within half a chi-square quantile (one degree of freedom) of its top; at the ends, 0
and 1, they are wider than they need to be.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats
from scipy.interpolate import Akima1DInterpolator
from statsmodels.tsa.statespace.initialization import Initialization
from statsmodels.tsa.statespace.kalman_smoother import KalmanSmoother

from scoring.deltas import MIN_WINDOWS, variance_without_offsets
from scoring.moderation import moderate
from scoring.series import ClusterSeries
from windows.errors import DataError

Array = NDArray[np.float64]

_ANGLES = np.linspace(0, np.pi / 2, 21)
_SHARES = np.sin(_ANGLES) ** 2
_RANDOM_WALK = 8.0
"""Persistence is 1 - exp(-x) / 2; at this x it is 0.9998."""
_GRID = (np.linspace(0, _RANDOM_WALK, 7), np.linspace(-7.5, 1.5, 9))
"""Where the search starts: x, and the log variance of deltas less that of the observed ones."""
_STENCILS = ((0.7, 0.6), (0.35, 0.25), (0.15, 0.1))
"""Half widths in x and in the log variance, from which Newton's steps are taken."""


def refuse_short(series: ClusterSeries) -> None:
    """Raise a DataError if there are fewer than six windows or fewer than two clusters."""
    steps, clusters = series.values.shape
    if steps <= MIN_WINDOWS or clusters < 2:
        raise DataError(
            f"measured errors need at least {MIN_WINDOWS} windows and two clusters",
            where=f"series of {series.task}",
            got=f"{steps - 1} windows, {clusters} {series.unit}s",
            do="score more checkpoints, with more demo seeds",
        )


@dataclass(frozen=True)
class Decomposition:
    """What a series of levels is made of, in the metric's units.

    Attributes
    ----------
    share
        Of persistent effects in the variance of deltas beyond their error; 0 if nothing moves.
    lo, hi
        Its interval.
    confidence
        Of the interval.
    p
        Of no persistent effects: below 1 - confidence exactly where `lo` is above 0.
    persistence
        Of the state, in [1/2, 1).
    window_sd, wobble_sd
        Standard deviations of window effects and of wobble.
    error_sd, error_persistence
        Root mean square of the levels' measured errors, and the correlation of neighbouring ones.
    """

    share: float
    lo: float
    hi: float
    confidence: float
    p: float
    persistence: float
    window_sd: float
    wobble_sd: float
    error_sd: float
    error_persistence: float


def checkpoint_errors(series: ClusterSeries) -> tuple[Array, float]:
    """Measure the error of every level, and the correlation of neighbouring checkpoints' errors.

    Each cluster's own mean over time is no error of a change and is removed first. Variances are
    moderated over checkpoints. The correlation is that of the clusters' deviations from the level,
    pooled over clusters and corrected for the mean that was removed (Kendall 1954, Biometrika 41,
    403-404: about (1 + 4 rho) / T too low), not below 0 and not above 0.95.

    Returns
    -------
    errors
        float64 of shape (T,).
    correlation
        Of neighbouring errors.

    Raises
    ------
    DataError
        If there are fewer than six windows or fewer than two clusters.
    """
    refuse_short(series)
    steps, clusters = series.values.shape
    variances = moderate(variance_without_offsets(series.values), clusters - 1).variances
    rest = series.values - series.values.mean(axis=0)
    rest = rest - rest.mean(axis=1, keepdims=True)
    total = float((rest**2).sum())
    lagged = float((rest[1:] * rest[:-1]).sum()) / total if total > 0 else 0.0
    correlation = (lagged + 1 / steps) / (1 - 4 / steps) if total > 0 else 0.0
    return np.sqrt(variances / clusters), float(np.clip(correlation, 0, 0.95))


def decompose(series: ClusterSeries, *, confidence: float = 0.95) -> Decomposition:
    """Estimate the share of persistent window effects, with its profile-likelihood interval.

    Better on margins than on probabilities, which are squeezed at 0 and 1.

    Raises
    ------
    DataError
        As in :func:`checkpoint_errors`.
    """
    errors, correlation = checkpoint_errors(series)
    error_sd = float(np.sqrt(np.mean(errors**2)))
    level = series.level
    if _is_a_line(level):
        return Decomposition(0, 0, 1, confidence, 1, 0.5, 0, 0, error_sd, correlation)
    top, x, log_variance = _profile(level, errors, correlation)
    fine = np.linspace(0, np.pi / 2, 2001)
    drop = Akima1DInterpolator(_ANGLES, 2 * (top.max() - top), method="makima")(fine)
    drop -= drop.min()
    shares = np.sin(fine) ** 2
    inside = shares[drop <= stats.chi2.isf(1 - confidence, 1)]
    best = drop.argmin()
    at_x, at_v = (np.interp(fine[best], _ANGLES, along) for along in (x, log_variance))
    parts = _parts(shares[best], _persistence(at_x), np.exp(at_v))
    return Decomposition(
        share=float(shares[best]),
        lo=float(inside.min()),
        hi=float(inside.max()),
        confidence=confidence,
        p=float(stats.chi2.sf(drop[0], 1)),
        persistence=float(parts.persistence),
        window_sd=float(np.sqrt(parts.effects)),
        wobble_sd=float(np.sqrt(parts.wobble)),
        error_sd=error_sd,
        error_persistence=correlation,
    )


def innovation_table(series: ClusterSeries) -> pl.DataFrame:
    """Smooth the persistent effect of every window out of a series.

    Columns `first_step`, `end_step` i64; `effect`, `se` f64: mean and standard deviation of the
    effect given the whole series, averaged over the shares of the profile by their likelihood, so
    that not knowing the share is in the error. An effect that the series does not support is drawn
    towards 0.

    Raises
    ------
    DataError
        As in :func:`checkpoint_errors`.
    """
    errors, correlation = checkpoint_errors(series)
    level, windows = series.level, len(series.steps) - 1
    means, variances = np.zeros((2, len(_SHARES), windows))
    weights = np.full(len(_SHARES), 1 / len(_SHARES))
    if not _is_a_line(level):
        top, x, log_variance = _profile(level, errors, correlation)
        weights = np.exp(top - top.max())
        weights /= weights.sum()
        for row in np.flatnonzero(weights * _SHARES > 1e-6):
            part = _parts(_SHARES[row], _persistence(x[row]), np.exp(log_variance[row]))
            smoothed = _smoother(level, errors, correlation, part).smooth()
            means[row] = smoothed.smoothed_state_disturbance[0, :-1]
            variances[row] = smoothed.smoothed_state_disturbance_cov[0, 0, :-1]
    effect = weights @ means
    return pl.DataFrame(
        {
            "first_step": series.steps[:-1],
            "end_step": series.steps[1:],
            "effect": effect,
            "se": np.sqrt(weights @ (np.maximum(variances, 0) + (means - effect) ** 2)),
        }
    )


class _Parts(NamedTuple):
    """Persistence, and the variances of window effects and of wobble."""

    persistence: Array
    effects: Array
    wobble: Array


def _parts(share: Array, persistence: Array, variance: Array) -> _Parts:
    """Split the variance of deltas beyond their error."""
    effects = share * variance * (1 + persistence) / 2
    return _Parts(*np.broadcast_arrays(persistence, effects, (1 - share) * variance / 2))


def _is_a_line(level: Array) -> bool:
    return bool(np.ptp(np.diff(level)) <= 1e-9 * np.abs(level).max())


def _persistence(x: Array) -> Array:
    return 1 - np.exp(-x) / 2


def _profile(level: Array, errors: Array, correlation: float) -> tuple[Array, Array, Array]:
    """Return for every share the highest log likelihood, and at which x and log variance."""
    rows = np.arange(len(_SHARES))

    def likelihood(x: Array, log_variance: Array) -> Array:
        parts = _parts(_SHARES[:, None, None], _persistence(x), np.exp(log_variance))
        return log_likelihood(level, errors, correlation, *parts)

    grid_x, grid_v = np.meshgrid(*_GRID, indexing="ij")
    grid_v = grid_v + np.log(np.var(np.diff(level)))
    best = likelihood(grid_x, grid_v).reshape(len(rows), -1).argmax(axis=1)
    x, variance = grid_x.ravel()[best], grid_v.ravel()[best]
    top = np.full(len(rows), -np.inf)
    for half_x, half_v in _STENCILS:
        around_x = x[:, None, None] + half_x * np.array([[-1, -1, -1], [0, 0, 0], [1, 1, 1]])
        around_x = np.clip(around_x, 0, _RANDOM_WALK)
        around_v = variance[:, None, None] + half_v * np.array([[-1, 0, 1]] * 3)
        found = likelihood(around_x, around_v)
        step = _newton(found)
        next_x = np.clip(x + half_x * step[:, 0], 0, _RANDOM_WALK)
        next_v = variance + half_v * step[:, 1]
        top = likelihood(next_x[:, None, None], next_v[:, None, None])[:, 0, 0]
        best = found.reshape(len(rows), -1).argmax(axis=1)
        held, held_x, held_v = (
            grid.reshape(len(rows), -1)[rows, best] for grid in (found, around_x, around_v)
        )
        x, variance = np.where(top < held, (held_x, held_v), (next_x, next_v))
        top = np.maximum(top, held)
    return top, x, variance


def _newton(values: Array) -> Array:
    """Return the step to the maximum of a quadric through float64[R, 3, 3], in stencil widths.

    Upward along every axis of curvature, where the surface is not concave too, and at most 2.
    """
    east, north = values[:, 2, 1] - values[:, 0, 1], values[:, 1, 2] - values[:, 1, 0]
    slope = np.stack([east, north], axis=1) / 2
    twist = values[:, 2, 2] - values[:, 2, 0] - values[:, 0, 2] + values[:, 0, 0]
    bend = np.empty((len(values), 2, 2))
    bend[:, 0, 0] = values[:, 2, 1] - 2 * values[:, 1, 1] + values[:, 0, 1]
    bend[:, 1, 1] = values[:, 1, 2] - 2 * values[:, 1, 1] + values[:, 1, 0]
    bend[:, 0, 1] = bend[:, 1, 0] = twist / 4
    curvature, axes = np.linalg.eigh(bend)
    along = np.einsum("rij,ri->rj", axes, slope) / np.maximum(np.abs(curvature), 1e-6)
    step: Array = np.clip(np.einsum("rij,rj->ri", axes, along), -2, 2)
    return step


def log_likelihood(
    level: Array,
    errors: Array,
    correlation: float,
    persistence: Array,
    effects: Array,
    wobble: Array,
) -> Array:
    """Restricted log likelihood of levels, up to a constant, for many parameters at once.

    A Kalman filter (Durbin and Koopman 2012, chapter 4) with two states, the window effects' and
    the error's; a constant and a line are filtered beside the levels, which concentrates the
    diffuse mean and drift out (ibid., section 5.7).

    Parameters
    ----------
    level, errors
        float64 of shape (T,): levels and the standard deviations of their errors.
    correlation
        Of neighbouring errors.
    persistence, effects, wobble
        Any shapes that broadcast: persistence below 1, and the two variances.
    """
    persistence, effects, wobble = np.broadcast_arrays(persistence, effects, wobble)
    spread = effects / (1 - persistence**2)
    shared, own = np.zeros_like(spread), np.ones_like(spread)
    state, error = np.zeros((2, 3, *spread.shape))
    logs, sums = np.zeros_like(spread), np.zeros((3, 3, *spread.shape))
    observed = np.stack([level, *_mean_and_drift(len(level))], axis=1)
    for row, scale in zip(observed, errors, strict=True):
        to_state, to_error = spread + scale * shared, shared + scale * own
        variance = to_state + scale * to_error + wobble
        surprise = row.reshape(3, *(1,) * spread.ndim) - state - scale * error
        precise = surprise / variance
        logs += np.log(variance)
        for one in range(3):
            sums[one, one:] += precise[one] * surprise[one:]
        state = persistence * (state + to_state * precise)
        error = correlation * (error + to_error * precise)
        spread = persistence**2 * (spread - to_state**2 / variance) + effects
        shared = persistence * correlation * (shared - to_state * to_error / variance)
        own = correlation**2 * (own - to_error**2 / variance) + 1 - correlation**2
    mean, drift, both = sums[1, 1], sums[2, 2], sums[1, 2]
    information = mean * drift - both**2
    taken = drift * sums[0, 1] ** 2 - 2 * both * sums[0, 1] * sums[0, 2] + mean * sums[0, 2] ** 2
    found: Array = -(logs + sums[0, 0] - taken / information + np.log(information)) / 2
    return found


def _mean_and_drift(checkpoints: int) -> Array:
    return np.stack([np.ones(checkpoints), np.linspace(-1, 1, checkpoints)])


def _smoother(level: Array, errors: Array, correlation: float, parts: _Parts) -> KalmanSmoother:
    """Return statsmodels' smoother; states: effects, error over its size, mean, drift."""
    model = KalmanSmoother(k_endog=1, k_states=4, k_posdef=2)
    model.bind(np.ascontiguousarray(level[None, :]))
    line = _mean_and_drift(len(level))
    model["design"] = np.stack([line[0], errors, *line])[None]
    model["obs_cov", 0, 0] = parts.wobble
    model["transition"] = np.diag([parts.persistence, correlation, 1.0, 1.0])
    model["selection"] = np.eye(4)[:, :2]
    model["state_cov"] = np.diag([parts.effects, 1 - correlation**2])
    start = Initialization(4)
    spread = parts.effects / (1 - parts.persistence**2)
    start.set((0, 2), "known", stationary_cov=np.diag([spread, 1.0]))
    start.set((2, 4), "diffuse")
    model.initialize(start)
    return model
