"""Whether a series of levels has two modes: two normal components against one.

The gain in the Bayesian information criterion says which fits better, and not how often one mode
looks like two: it takes checkpoints for independent, and a level that wanders slowly lingers here
and there. So it is compared with its gains on Gaussian series of the same drift, persistence,
wobble and error (:func:`scoring.state_space.decompose`), which have one mode by construction.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import detrend
from sklearn.mixture import GaussianMixture  # type: ignore[import-untyped]

from scoring.series import ClusterSeries
from scoring.state_space import checkpoint_errors, decompose

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Modality:
    """Two modes against one.

    Attributes
    ----------
    gain
        BIC of one component less that of two: positive where two fit better.
    p
        Share of one-mode series that gain as much, this one counted among them; 1 without a gain.
    means, weights
        Of the two components, the lower first.
    """

    gain: float
    p: float
    means: tuple[float, float]
    weights: tuple[float, float]


def modality(series: ClusterSeries, *, seed: int, resamples: int = 199) -> Modality:
    """Test a series of levels for two modes by parametric bootstrap.

    Raises
    ------
    DataError
        As in :func:`scoring.state_space.decompose`.
    """
    level = series.level
    if np.ptp(level) == 0:
        return Modality(0.0, 1.0, (float(level[0]),) * 2, (0.5, 0.5))
    gain, two = bic_gain(level)
    as_much = resamples
    if gain > 0:
        nulls = one_mode_series(series, resamples, np.random.default_rng(seed))
        as_much = sum(bic_gain(one)[0] >= gain for one in nulls)
    order = np.argsort(two.means_[:, 0])
    low, high = two.means_[order, 0] * level.std() + level.mean()
    small, large = two.weights_[order]
    p = (1 + as_much) / (1 + resamples)
    return Modality(gain, p, (float(low), float(high)), (float(small), float(large)))


def bic_gain(level: Array) -> tuple[float, GaussianMixture]:
    """Return how much two components gain over one, and the two, of the standardised level."""
    values = ((level - level.mean()) / level.std())[:, None]
    one, two = (_mixture(number).fit(values) for number in (1, 2))
    return float(one.bic(values) - two.bic(values)), two


def _mixture(number: int) -> GaussianMixture:
    # Two start a standard deviation either side of the mean. The ridge keeps a component from
    # shrinking onto ties: no mode is narrower than a tenth of the level's spread.
    start = np.linspace(-1, 1, number)[:, None] if number > 1 else np.zeros((1, 1))
    return GaussianMixture(
        number,
        means_init=start,
        weights_init=np.full(number, 1 / number),
        precisions_init=np.full((number, 1, 1), 2.0),
        reg_covar=1e-2,
        max_iter=1000,
    )


def one_mode_series(series: ClusterSeries, count: int, rng: np.random.Generator) -> Array:
    """Draw Gaussian series that a series' decomposition and straight line stand for: [count, T]."""
    found, errors = decompose(series), checkpoint_errors(series)[0]
    drawn = rng.standard_normal((3, len(errors), count))
    state = drawn[0, 0] * found.window_sd / np.sqrt(1 - found.persistence**2)
    error = drawn[1, 0]
    rest = np.sqrt(1 - found.error_persistence**2)
    levels = np.empty((len(errors), count))
    for step, scale in enumerate(errors):
        levels[step] = state + found.wobble_sd * drawn[2, step] + scale * error
        if step + 1 < len(errors):
            state = found.persistence * state + found.window_sd * drawn[0, step + 1]
            error = found.error_persistence * error + rest * drawn[1, step + 1]
    line: Array = series.level - detrend(series.level)
    return levels.T + line
