import numpy as np
import pytest
from scipy.signal import lfilter
from sklearn.mixture import GaussianMixture

from scoring.modality import bic_gain, modality, one_mode_series
from scoring.series import ClusterSeries
from scoring.state_space import checkpoint_errors, decompose


def series_of(level: np.ndarray) -> ClusterSeries:
    noise = np.random.default_rng(9).normal(0, 0.2, (len(level), 8))
    return ClusterSeries("a/b", np.arange(len(level)), np.arange(8), level[:, None] + noise)


def hopping() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.cumsum(rng.random(60) < 0.2) % 2 + 0.15 * rng.standard_normal(60)


def test_two_modes_are_found_and_described() -> None:
    level = hopping()
    found = modality(series_of(level), seed=0, resamples=39)
    assert (found.p, found.gain > 20) == (1 / 40, True)
    assert found.means == pytest.approx(
        (level[level < 0.5].mean(), level[level > 0.5].mean()), abs=0.1
    )
    assert found.weights == pytest.approx((np.mean(level < 0.5), np.mean(level > 0.5)), abs=0.05)


def test_one_mode_that_wanders_is_not_two() -> None:
    walks = np.random.default_rng(0).standard_normal((20, 60))
    walks = lfilter([1.0], [1.0, -0.95], walks)
    gains = [bic_gain(walk)[0] for walk in walks]
    # Not the one in twenty that the test is allowed to miss: the median of those that look double.
    doubled = sorted((gain, row) for row, gain in enumerate(gains) if gain > 0)
    assert len(doubled) > 2
    found = modality(series_of(walks[doubled[len(doubled) // 2][1]]), seed=0, resamples=19)
    assert found.gain > 0
    assert found.p > 0.05


def test_the_gain_is_sklearns_whatever_the_unit() -> None:
    level = hopping()
    values = ((level - level.mean()) / level.std())[:, None]
    fits = [GaussianMixture(k, n_init=5, random_state=0).fit(values).bic(values) for k in (1, 2)]
    assert bic_gain(level)[0] == pytest.approx(fits[0] - fits[1], rel=0.1)
    assert bic_gain(-30 * level + 4)[0] == pytest.approx(bic_gain(level)[0], rel=1e-6)


def test_one_mode_series_have_the_moments_of_the_decomposition_and_the_line() -> None:
    walk = lfilter([1.0], [1.0, -0.5], np.random.default_rng(0).standard_normal(60))
    series = series_of(walk + np.linspace(-3, 3, 60))
    found, (errors, shared) = decompose(series), checkpoint_errors(series)
    drawn = one_mode_series(series, 30_000, np.random.default_rng(0))
    time = np.arange(60)
    line = np.polyval(np.polyfit(time, series.level, 1), time)
    assert found.share > 0.2 and found.persistence < 0.9
    spread = found.window_sd**2 / (1 - found.persistence**2)
    np.testing.assert_allclose(drawn.mean(axis=0), line, atol=0.1)
    expected = spread + found.wobble_sd**2 + errors**2
    np.testing.assert_allclose(drawn.var(axis=0), expected, rtol=0.05)
    rest = drawn - line
    lagged = found.persistence * spread + shared * errors[1:] * errors[:-1]
    np.testing.assert_allclose((rest[:, 1:] * rest[:, :-1]).mean(axis=0), lagged, rtol=0.08)


def test_a_flat_series_has_one_mode() -> None:
    flat = ClusterSeries("a/b", np.arange(9), np.arange(3), np.ones((9, 3)))
    assert modality(flat, seed=0).p == 1.0


def test_without_a_gain_there_is_nothing_to_test() -> None:
    found = modality(series_of(np.random.default_rng(1).standard_normal(60)), seed=0)
    assert found.gain < 0
    assert found.p == 1.0
