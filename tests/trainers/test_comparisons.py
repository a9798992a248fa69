from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from trainers.comparisons import (
    Hypothesis,
    compare_all,
    hedges_g,
    kind_of_test,
    permutation_p,
    runs_needed,
    secondary_hypotheses,
    welch_interval,
)

counts = st.lists(st.integers(0, 4).map(float), min_size=2, max_size=5).map(np.array)


@settings(deadline=None)
@given(counts, counts)
def test_exact_p_is_the_share_of_splits(x: np.ndarray, y: np.ndarray) -> None:
    both = np.concatenate([x, y])
    sums = [sum(both[list(one)]) for one in combinations(range(len(both)), len(x))]
    assert permutation_p(x, y, "above") == pytest.approx(np.mean(np.array(sums) >= x.sum()))
    assert permutation_p(x, y, "below") == pytest.approx(np.mean(np.array(sums) <= x.sum()))


@settings(deadline=None)
@given(counts, counts, st.floats(-1e3, 1e3))
def test_a_common_shift_changes_no_p(x: np.ndarray, y: np.ndarray, shift: float) -> None:
    # Sums that cancel are where floating point would tell equal splits apart.
    assert permutation_p(x + shift, y + shift, "above") == permutation_p(x, y, "above")


def test_many_runs_are_drawn_not_enumerated() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(0.5, 1, 14), rng.normal(0, 1, 14)
    exactish = stats.ttest_ind(x, y, alternative="greater").pvalue
    drawn = permutation_p(x, y, "above")
    assert drawn == pytest.approx(exactish, abs=0.01)
    assert drawn == permutation_p(x, y, "above")


def test_kinds_of_test() -> None:
    assert [kind_of_test(*n) for n in ((1, 9), (9, 1), (2, 2), (10, 10), (10, 11))] == [
        "none",
        "none",
        "exact",
        "exact",
        "drawn",
    ]


def test_welch_interval_is_scipys() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 1, 5), rng.normal(1, 3, 7)
    expected = stats.ttest_ind(x, y, equal_var=False).confidence_interval(0.95)
    np.testing.assert_allclose(welch_interval(x, y, alpha=0.05), expected)
    assert welch_interval(np.ones(3), np.zeros(3), alpha=0.05) == (1.0, 1.0)
    assert welch_interval(np.ones(1), np.zeros(3), alpha=0.05) == (None, None)


def test_hedges_g_is_nearly_unbiased_and_smaller_than_cohens_d() -> None:
    rng = np.random.default_rng(0)
    values = [hedges_g(rng.normal(1, 1, 5), rng.normal(0, 1, 5)) for _ in range(3_000)]
    assert np.mean(values) == pytest.approx(1.0, abs=0.05)
    x, y = np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 2.0])
    # Cohen's d is 1; the factor for four degrees of freedom is 0.7979.
    assert hedges_g(x, y) == pytest.approx(0.79788, abs=1e-5)
    assert hedges_g(np.ones(3), np.zeros(3)) is None
    assert hedges_g(np.ones(1), np.zeros(1)) is None


def test_holm_by_hand() -> None:
    values = {
        ("a", "mean_soft"): np.array([5.0, 6, 7, 8, 9]),
        ("b", "mean_soft"): np.array([0.0, 1, 2, 3, 4]),
        ("c", "mean_soft"): np.array([0.5, 1.5, 2.5, 3.5, 5.5]),
    }
    family = (
        Hypothesis("mean_soft", "a", "b", "above"),
        Hypothesis("mean_soft", "a", "c", "above"),
    )
    first, second = compare_all(values, family, alpha=0.05)
    assert (first.p, second.p) == (pytest.approx(1 / 252), pytest.approx(2 / 252))
    assert (first.p_holm, second.p_holm) == (pytest.approx(2 / 252), pytest.approx(2 / 252))
    assert first.floor == second.floor == pytest.approx(1 / 252)


def test_the_registered_family() -> None:
    family = secondary_hypotheses()
    assert len(set(family)) == len(family) == 12
    above = {one for one in family if one.direction == "above"}
    assert {(one.endpoint, one.arm) for one in above} == {("mean_soft", "control-generalization")}
    assert runs_needed(0.05, 12) == 5
    assert runs_needed(0.01, 12) == 7
    assert runs_needed(0.0501, 1) == 3  # one split of twenty: 0.05, which is not below 0.05
    assert runs_needed(0.05, 1) == 4
