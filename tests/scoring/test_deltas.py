import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.tools import add_constant

from scoring.deltas import delta_table, level_regression, two_sided_p
from scoring.hops import false_discovery
from scoring.series import ClusterSeries
from windows.errors import DataError


def series_of(values: np.ndarray) -> ClusterSeries:
    steps, seeds = values.shape
    return ClusterSeries(
        "successive/addition", 340 + 16 * np.arange(steps), np.arange(seeds), values.astype(float)
    )


def planted(
    effects: np.ndarray, *, persistence: float, seeds: int = 16, noise: float = 0.1, seed: int = 0
) -> ClusterSeries:
    """An AR(1) level moved by known window effects, plus noise of every (checkpoint, demo seed)."""
    rng = np.random.default_rng(seed)
    level = np.zeros(len(effects) + 1)
    for window, effect in enumerate(effects):
        level[window + 1] = persistence * level[window] + effect
    offsets = rng.normal(0, 0.3, seeds)
    return series_of(level[:, None] + offsets + rng.normal(0, noise, (len(level), seeds)))


def test_delta_and_its_error_by_hand() -> None:
    values = np.tile([[0.0, 0.2]], (8, 1))
    values[3:] += [0.5, 0.3]
    table = delta_table(series_of(values))
    row = table.row(2, named=True)
    assert (row["first_step"], row["end_step"]) == (372, 388)
    assert row["level_before"] == pytest.approx(0.1)
    assert row["delta"] == pytest.approx(0.4)
    # One window varies, six do not: the prior's weight is visible, and no window has error 0.
    assert 0 < row["delta_se"] < np.std([0.5, 0.3], ddof=1) / np.sqrt(2)


def test_innovation_is_the_residual_of_the_regression_on_the_level_before() -> None:
    series = planted(np.random.default_rng(1).normal(0, 0.2, 40), persistence=0.6)
    level = series.level
    fit = OLS(level[1:], add_constant(level[:-1])).fit()
    table = delta_table(series)
    found = level_regression(series)
    np.testing.assert_allclose([found.intercept, found.persistence], fit.params)
    np.testing.assert_allclose(table["innovation"].to_numpy(), fit.resid, atol=1e-12)
    np.testing.assert_allclose(table["delta"].to_numpy(), np.diff(level), atol=1e-12)


def test_the_innovations_error_adds_the_regressions() -> None:
    series = planted(np.random.default_rng(1).normal(0, 0.2, 40), persistence=0.6)
    level = series.level
    prediction = OLS(level[1:], add_constant(level[:-1])).fit().get_prediction()
    noiseless = delta_table(series_of(np.repeat(level[:, None], 3, axis=1)))
    # Without any spread between seeds only the error of the fitted line is left.
    np.testing.assert_allclose(noiseless["se"].to_numpy(), prediction.se_mean)
    np.testing.assert_allclose(noiseless["df"].to_numpy(), 38)
    both = delta_table(series)
    assert (both["se"].to_numpy() > prediction.se_mean).all()
    assert both["df"].min() > 38


def test_seed_offsets_are_no_error_of_a_window() -> None:
    values = planted(np.random.default_rng(2).normal(0, 0.2, 20), persistence=0.5).values
    offsets = np.linspace(-2, 2, values.shape[1])
    plain, moved = delta_table(series_of(values)), delta_table(series_of(values + offsets))
    for column in ("delta", "delta_se", "innovation", "se", "p"):
        np.testing.assert_allclose(plain[column], moved[column], rtol=1e-9, atol=1e-12)


@settings(deadline=None)
@given(scale=st.floats(0.1, 10), shift=st.floats(-2, 2), seed=st.integers(0, 50))
def test_tests_do_not_depend_on_units(scale: float, shift: float, seed: int) -> None:
    values = planted(np.full(12, 0.1), persistence=0.3, seeds=4, seed=seed).values
    plain, moved = delta_table(series_of(values)), delta_table(series_of(scale * values + shift))
    for column in ("p", "p_delta"):
        np.testing.assert_allclose(plain[column], moved[column], rtol=1e-6)
    np.testing.assert_allclose(scale * plain["se"].to_numpy(), moved["se"], rtol=1e-6)


def test_too_little_is_refused() -> None:
    with pytest.raises(DataError, match="at least 6 windows"):
        delta_table(series_of(np.zeros((6, 4))))
    with pytest.raises(DataError, match="at least two"):
        delta_table(series_of(np.zeros((9, 1))))


def test_a_flat_series_has_no_effect_and_no_warning() -> None:
    table = delta_table(series_of(np.full((8, 3), 0.25)))
    assert table["p"].to_list() == [1.0] * 7
    assert table["innovation"].abs().max() == 0.0


def test_p_of_effects_without_error() -> None:
    p = two_sided_p(np.array([0.0, 1.0, 2.0]), np.array([0.0, 0.0, 1.0]), 5)
    np.testing.assert_allclose(p, [1.0, 0.0, 2 * stats.t.sf(2, 5)])


def test_type_one_error_is_kept_where_an_item_bootstrap_does_not_keep_it() -> None:
    """No window does anything; every (checkpoint, demo seed) has noise of its own."""
    rng = np.random.default_rng(0)
    replicates, windows, seeds, items = 40, 8, 16, 50
    seed_noise = rng.normal(0, 0.2, (replicates, windows + 1, seeds, 1))
    scores = seed_noise + rng.normal(0, 0.5, (replicates, windows + 1, seeds, items))
    clustered = np.concatenate(
        [delta_table(series_of(one.mean(axis=2)))["p_delta"].to_numpy() for one in scores]
    )
    rows = np.diff(scores, axis=1).reshape(replicates * windows, seeds * items)
    drawn = rng.multinomial(seeds * items, np.full(seeds * items, 1 / (seeds * items)), size=400)
    lo, hi = np.quantile(drawn @ rows.T / (seeds * items), [0.025, 0.975], axis=0)
    assert np.mean((lo > 0) | (hi < 0)) > 0.25
    assert 0.02 < np.mean(clustered < 0.05) < 0.09


@pytest.mark.parametrize("persistence", [0.4, 0.7])
def test_innovations_do_not_blame_a_window_for_its_predecessor(persistence: float) -> None:
    rng = np.random.default_rng(0)
    leaks: dict[str, list[float]] = {"innovation": [], "delta": []}
    for seed in range(100):
        effects = rng.normal(0, 0.25, 40)
        table = delta_table(planted(effects, persistence=persistence, seed=seed))
        for column, found in leaks.items():
            found.append(np.corrcoef(table[column].to_numpy()[1:], effects[:-1])[0, 1])
    assert abs(np.mean(leaks["innovation"])) < 0.08
    assert np.mean(leaks["delta"]) < -0.2


@pytest.mark.parametrize("moved", [0, 8, 20])
def test_false_discoveries_stay_near_their_rate(moved: int) -> None:
    rng = np.random.default_rng(1)
    shares, errors, found = [], [], []
    for seed in range(150):
        effects = np.zeros(40)
        at = rng.choice(40, moved, replace=False)
        effects[at] = 0.4 * rng.choice([-1, 1], moved)
        p = delta_table(planted(effects, persistence=0.6, seed=seed))["p"].to_numpy()
        discovered = false_discovery(p) < 0.05
        quiet = effects == 0
        shares.append(np.sum(discovered & quiet) / max(discovered.sum(), 1))
        errors.append(np.mean(p[quiet] < 0.05))
        found.append(np.mean(discovered[~quiet]) if moved else 1.0)
    assert np.mean(shares) < 0.08
    assert np.mean(errors) < 0.08
    assert np.mean(found) > 0.9
