"""Series whose truth is known, for counting false alarms: item scores, levels, modes."""

from collections.abc import Iterator

import numpy as np
from scipy.signal import lfilter

from scoring.series import ClusterSeries
from scoring.two_way import ItemSeries

ITEMS = 50


def wobble(rng: np.random.Generator, steps: int, width: int, correlation: float) -> np.ndarray:
    """AR(1) series with variance 1, float64[steps, width]; white where nothing is correlated."""
    drawn = rng.standard_normal((steps, width))
    drawn[1:] *= np.sqrt(1 - correlation**2)
    return lfilter([1.0], [1.0, -correlation], drawn, axis=0)


def scores(
    rng: np.random.Generator, steps: int, seeds: int, tau: float, correlation: float
) -> np.ndarray:
    """Soft scores of every checkpoint, demo seed and item, without any window's effect."""
    noise = 0.3 * rng.standard_normal(seeds) + tau * wobble(rng, steps, seeds, correlation)
    items = rng.standard_normal((steps, seeds, ITEMS), dtype=np.float32)
    return np.tanh((noise[:, :, None] + items) / 2)


def by_seed(values: np.ndarray) -> ClusterSeries:
    """A series by cluster of float64[steps, clusters]."""
    steps, seeds = values.shape
    return ClusterSeries("bench/task", np.arange(steps), np.arange(seeds), values)


def cells(values: np.ndarray) -> ItemSeries:
    """A series by cell of float64[steps, seeds, items]."""
    steps, seeds, items = values.shape
    seed, item = np.indices((seeds, items)).reshape(2, -1)
    return ItemSeries("bench/task", np.arange(steps), values.reshape(steps, -1), seed, item)


def planted(
    rng: np.random.Generator, steps: int, share: float, seeds: int, correlation: float
) -> tuple[ClusterSeries, np.ndarray]:
    """A series whose deltas have variance 1 beyond their error, and its window effects.

    The state has persistence 0.9, the level a drift of 4 in all and an error of 0.3.
    """
    effects = np.sqrt(share * 0.95) * rng.standard_normal(steps)
    first = effects[0] / np.sqrt(1 - 0.81)
    level = lfilter([1.0], [1.0, -0.9], np.concatenate([[first], effects[1:]]))
    level = level + np.sqrt((1 - share) / 2) * rng.standard_normal(steps)
    noise = 0.3 * np.sqrt(seeds) * wobble(rng, steps, seeds, correlation)
    drift = np.linspace(-2, 2, steps)
    return by_seed((level + drift)[:, None] + rng.standard_normal(seeds) + noise), effects[1:]


def hopping(rng: np.random.Generator, steps: int) -> ClusterSeries:
    """Two modes five standard deviations apart, left with probability 0.2 at every checkpoint."""
    mode = np.cumsum(rng.random(steps) < 0.2) % 2
    return by_seed(
        (5 * mode + rng.standard_normal(steps))[:, None] + rng.standard_normal((steps, 16))
    )


def rows_differ(values: np.ndarray) -> np.ndarray:
    """What is not used: a z test of every delta over all rows."""
    change = np.diff(values, axis=0).reshape(len(values) - 1, -1)
    z = change.mean(axis=1) / change.std(axis=1) * np.sqrt(change.shape[1])
    return np.abs(z) > 1.96


def worlds() -> Iterator[tuple[int, int, float, float]]:
    """Checkpoints, demo seeds, tau, correlation over checkpoints."""
    for steps, seeds, taus in ((40, (4, 8, 16, 24), (0.0, 0.2, 0.4)), (150, (4, 16), (0.0, 0.4))):
        for seed in seeds:
            yield from (
                (steps, seed, tau, rho) for tau in taus for rho in (0.0, 0.5) if tau or not rho
            )
    yield from ((680, seeds, 0.4, 0.5) for seeds in (4, 16))
