import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from scoring.moderation import moderate
from windows.errors import DataError


def test_known_prior_is_recovered() -> None:
    rng = np.random.default_rng(0)
    prior_df, prior_variance, df = 8.0, 0.04, 15
    truth = stats.invgamma(prior_df / 2, scale=prior_df * prior_variance / 2).rvs(
        20_000, random_state=rng
    )
    found = moderate(truth * rng.chisquare(df, truth.size) / df, df)
    assert found.prior_df == pytest.approx(prior_df, rel=0.05)
    assert found.prior_variance == pytest.approx(prior_variance, rel=0.02)
    assert found.df == pytest.approx(df + prior_df, rel=0.05)


def test_shrinking_comes_nearer_to_the_truth() -> None:
    rng = np.random.default_rng(1)
    truth = stats.invgamma(5, scale=5).rvs(200, random_state=rng)
    raw = truth * rng.chisquare(4, 200) / 4
    moderated = moderate(raw, 4).variances
    assert np.mean(np.log(moderated / truth) ** 2) < 0.5 * np.mean(np.log(raw / truth) ** 2)


def test_moderated_t_has_its_stated_distribution() -> None:
    rng = np.random.default_rng(2)
    variance = stats.invgamma(3, scale=3).rvs(20_000, random_state=rng)
    raw = variance * rng.chisquare(3, variance.size) / 3
    found = moderate(raw, 3)
    t = rng.normal(0, np.sqrt(variance)) / np.sqrt(found.variances)
    assert stats.kstest(t, stats.t(found.df).cdf).pvalue > 0.01


def test_alike_variances_are_pooled() -> None:
    raw = np.array([1.0, 1.1, 0.9, 1.0])
    found = moderate(raw, 4)
    assert np.isinf(found.prior_df)
    np.testing.assert_allclose(found.variances, raw.mean())
    assert found.df == 16  # no more than there are data


def test_wildly_different_variances_are_left_alone() -> None:
    raw = np.logspace(-20, 20, 41)
    found = moderate(raw, 50)
    assert found.prior_df < 0.2
    np.testing.assert_allclose(np.delete(found.variances, range(21)), raw[21:], rtol=0.02)


@settings(deadline=None)
@given(st.lists(st.floats(1e-6, 1e3), min_size=2, max_size=30), st.integers(1, 40))
def test_order_is_kept_and_units_follow(values: list[float], df: int) -> None:
    raw = np.array(values)
    found = moderate(raw, df)
    assert (np.diff(found.variances[np.argsort(raw)]) >= -1e-12 * raw.max()).all()
    np.testing.assert_allclose(moderate(4 * raw, df).variances, 4 * found.variances, rtol=1e-6)


@pytest.mark.parametrize("raw", [[0.0, 0.0], [0.3]])
def test_nothing_to_borrow(raw: list[float]) -> None:
    found = moderate(np.array(raw), 3)
    np.testing.assert_array_equal(found.variances, raw)
    assert (found.prior_df, found.df) == (0.0, 3.0)


def test_a_zero_variance_is_lifted() -> None:
    assert moderate(np.array([0.0, 1.0, 1.2, 0.8]), 7).variances[0] > 0


@pytest.mark.parametrize(("raw", "df"), [([], 3), ([-1.0], 3), ([np.nan], 3), ([1.0], 0)])
def test_bad_input_is_refused(raw: list[float], df: float) -> None:
    with pytest.raises(DataError, match="variances"):
        moderate(np.array(raw), df)
