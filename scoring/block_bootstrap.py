"""Resampling a run's checkpoints or windows in blocks, since neighbours are alike.

A circular block bootstrap (Politis and Romano 1992): blocks start anywhere on the circle of
checkpoints. A resample is kept as the share that each checkpoint has in it, so that whatever is a
function of moments is computed for all resamples at once.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]

# A correlation of 1 has no place on Fisher's scale.
_NEARLY = 1 - 1e-6
_ROUNDING = 1e-12


def block_length(count: int) -> int:
    """Return how many of `count` neighbours a block holds: the cube root, rounded."""
    return max(1, round(float(np.cbrt(count))))


def block_shares(count: int, block: int, resamples: int, seed: int) -> Array:
    """Return float64[R, T]: what share every one of T = `count` checkpoints has in a resample."""
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, count, (resamples, -(-count // block)))
    drawn = (starts[:, :, None] + np.arange(block)).reshape(resamples, -1)[:, :count] % count
    flat = drawn + count * np.arange(resamples)[:, None]
    counts = np.bincount(flat.ravel(), minlength=resamples * count)
    shares: Array = counts.reshape(resamples, count) / count
    return shares


def resampled_correlations(x: Array, y: Array, shares: Array) -> Array:
    """Return float64[R]: Pearson's correlation of float64[T] and float64[T] in every resample.

    A resample in which one side is constant says nothing: 0.
    """
    moments = shares @ np.stack([x, y, x * x, y * y, x * y], axis=1)
    mean_x, mean_y, square_x, square_y, product = moments.T
    spread_x, spread_y = square_x - mean_x**2, square_y - mean_y**2
    # Rounding is no spread.
    moving = (spread_x > _ROUNDING * square_x) & (spread_y > _ROUNDING * square_y)
    scale = np.sqrt(np.where(moving, spread_x * spread_y, 1.0))
    rho: Array = np.where(moving, product - mean_x * mean_y, 0.0) / scale
    return rho


def fisher(correlations: Array | float) -> Array:
    """Return correlations on Fisher's scale, where their error hardly depends on them."""
    z: Array = np.arctanh(np.clip(correlations, -_NEARLY, _NEARLY))
    return z


def correlation_interval(
    rho: float, resampled: Array, degrees: float, alpha: float
) -> tuple[float, float]:
    """Return the interval of a correlation whose error on Fisher's scale is that of resamples.

    Parameters
    ----------
    degrees
        Of Student's t: the number of blocks, less one.
    alpha
        1 - confidence.
    """
    half = float(stats.t.isf(alpha / 2, degrees)) * float(fisher(resampled).std(ddof=1))
    z = float(fisher(rho))
    return float(np.tanh(z - half)), float(np.tanh(z + half))
