from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.signal import lfilter
from statsmodels.tsa.statespace.mlemodel import MLEModel

from scoring.deltas import variance_without_offsets
from scoring.series import ClusterSeries
from scoring.state_space import checkpoint_errors, decompose, innovation_table, log_likelihood
from windows.errors import DataError


def ar1(rng: np.random.Generator, shape: tuple[int, int], correlation: float) -> np.ndarray:
    drawn = rng.standard_normal(shape)
    drawn[1:] *= np.sqrt(1 - correlation**2)
    return lfilter([1.0], [1.0, -correlation], drawn, axis=0)


def planted(
    share: float, *, steps: int = 120, persistence: float = 0.9, correlation: float = 0.0, seed: int
) -> tuple[ClusterSeries, np.ndarray]:
    """Deltas of variance 1 beyond their error, which is 0.3 a level; and the window effects."""
    rng = np.random.default_rng(seed)
    spread = np.sqrt(share * (1 + persistence) / 2 / (1 - persistence**2))
    level = spread * ar1(rng, (steps, 1), persistence)
    effects = level[1:, 0] - persistence * level[:-1, 0]
    values = level + np.sqrt((1 - share) / 2) * rng.standard_normal((steps, 1))
    values = values + rng.standard_normal(16) + 1.2 * ar1(rng, (steps, 16), correlation)
    return ClusterSeries("a/b", 16 * np.arange(steps), np.arange(16), values), effects


class Level(MLEModel):
    """The same model, told to statsmodels."""

    def __init__(self, level: np.ndarray, errors: np.ndarray) -> None:
        super().__init__(level, k_states=4, k_posdef=2, initialization=None)
        ones = np.ones_like(level)
        self["design"] = np.stack([ones, errors, ones, 7 * np.arange(len(level))])[None]
        self["selection"] = np.eye(4)[:, :2]

    def likelihood(self, persistence: float, effects: float, wobble: float, rho: float) -> float:
        self["obs_cov", 0, 0] = wobble
        self["transition"] = np.diag([persistence, rho, 1.0, 1.0])
        self["state_cov"] = np.diag([effects, 1 - rho**2])
        start = np.diag([effects / (1 - persistence**2), 1.0, 0.0, 0.0])
        self.ssm.initialize_components(Pstar=start, A=np.eye(4)[:, 2:])
        return self.ssm.loglike()


@pytest.mark.parametrize("correlation", [0.0, 0.4])
def test_the_likelihood_is_statsmodels_up_to_a_constant(correlation: float) -> None:
    rng = np.random.default_rng(0)
    level, errors = rng.normal(size=25), rng.uniform(0.1, 0.5, 25)
    other = Level(level, errors)
    parameters = np.array([[0.5, 0.3, 0.1], [0.8, 0.2, 0.0], [0.97, 0.0, 0.4], [0.9998, 0.1, 0.2]])
    ours = log_likelihood(level, errors, correlation, *parameters.T)
    theirs = [other.likelihood(*row, correlation) for row in parameters]
    np.testing.assert_allclose(ours - ours[0], np.array(theirs) - theirs[0], rtol=1e-7)


def test_errors_and_their_correlation_are_those_of_the_clusters() -> None:
    series, _ = planted(0.5, correlation=0.6, seed=1)
    errors, correlation = checkpoint_errors(series)
    assert correlation == pytest.approx(0.6, abs=0.06)
    raw = variance_without_offsets(series.values) / 16
    assert np.mean(errors**2) == pytest.approx(raw.mean(), rel=0.02)
    assert errors.std() < 0.5 * np.sqrt(raw).std()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_planted_shares_are_recovered(share: float) -> None:
    found = [decompose(planted(share, seed=seed)[0]) for seed in range(6)]
    assert np.mean([one.share for one in found]) == pytest.approx(share, abs=0.2)
    assert sum(one.lo <= share <= one.hi for one in found) >= 4
    assert np.mean([one.lo > 0 for one in found]) > 0.6


@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_wobble_alone_does_not_persist(correlation: float) -> None:
    found = [
        decompose(planted(0.0, steps=60, correlation=correlation, seed=seed)[0])
        for seed in range(12)
    ]
    assert sum(one.lo > 0 for one in found) <= 2
    assert all((one.p < 0.05) == (one.lo > 0) for one in found)


def test_a_random_walk_is_the_limit() -> None:
    rng = np.random.default_rng(3)
    walk = np.cumsum(rng.normal(0, 1, 150))[:, None] + rng.normal(0, 0.4, (150, 16))
    found = decompose(ClusterSeries("a/b", np.arange(150), np.arange(16), walk))
    assert found.persistence > 0.9
    assert found.hi == 1.0
    assert found.window_sd == pytest.approx(1, abs=0.2)


def test_the_profile_ends_where_an_optimizer_does() -> None:
    series, _ = planted(0.5, seed=5)
    errors, correlation = checkpoint_errors(series)
    found = decompose(series)

    def loss(point: np.ndarray) -> float:
        persistence = 1 - np.exp(-np.clip(point[0], 0, 8)) / 2
        effects, wobble = np.exp(point[1:])
        ours = (np.asarray(one) for one in (persistence, effects, wobble))
        return -float(log_likelihood(series.level, errors, correlation, *ours))

    start = [2.0, 2 * np.log(found.window_sd), 2 * np.log(found.wobble_sd)]
    best = minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-6})
    effects, wobble = np.exp(best.x[1:])
    persistence = 1 - np.exp(-best.x[0]) / 2
    lasting = 2 * effects / (1 + persistence)
    assert found.share == pytest.approx(lasting / (lasting + 2 * wobble), abs=0.02)
    assert found.persistence == pytest.approx(persistence, abs=0.02)


def test_units_follow_and_neither_shifts_nor_drifts_matter() -> None:
    series, _ = planted(0.5, steps=40, seed=4)
    found = decompose(series)
    line = np.linspace(-100, 50, 40)[:, None]
    moved = decompose(replace(series, values=7 * series.values + line))
    for name in ("share", "lo", "hi", "persistence", "error_persistence"):
        assert getattr(moved, name) == pytest.approx(getattr(found, name), abs=1e-6)
    for name in ("window_sd", "wobble_sd", "error_sd"):
        assert getattr(moved, name) == pytest.approx(7 * getattr(found, name), rel=1e-5)


def test_smoothed_effects_are_the_planted_ones_within_their_errors() -> None:
    inside, kept = [], []
    for seed in range(4):
        series, effects = planted(0.7, seed=seed)
        table = innovation_table(series)
        gap = np.abs(table["effect"].to_numpy() - effects)
        inside.append(np.mean(gap < 1.96 * table["se"].to_numpy()))
        kept.append(np.corrcoef(table["effect"].to_numpy(), effects)[0, 1])
    assert 0.88 < np.mean(inside) < 0.99
    assert np.mean(kept) > 0.7


def test_what_only_drifts_has_nothing_to_split() -> None:
    drift = np.linspace(0, 5, 9)[:, None]
    flat = ClusterSeries("a/b", np.arange(9), np.arange(3), drift + np.array([0.1, 0.2, 0.3]))
    found = decompose(flat)
    assert (found.share, found.lo, found.hi, found.p) == (0, 0, 1, 1)
    assert innovation_table(flat)["effect"].to_list() == [0.0] * 8


@pytest.mark.parametrize("shape", [(6, 4), (9, 1)])
def test_too_little_is_refused(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).normal(size=shape)
    with pytest.raises(DataError, match="two clusters"):
        decompose(ClusterSeries("a/b", np.arange(shape[0]), np.arange(shape[1]), values))
