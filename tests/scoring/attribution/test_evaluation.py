import numpy as np
import pytest
from scipy import stats

from scoring.attribution.evaluation import (
    against,
    control_effect,
    linear_datamodeling_score,
    type_auroc,
    unspecific,
    window_means,
)
from windows.errors import DataError

TYPES = np.array(["succ", "break", "arith", "break", "succ"])


def test_auroc_counts_pairs():
    scores = np.array([0.1, 0.9, 0.5, 0.2, 0.2])
    assert type_auroc(scores, TYPES, up={"break"}, down={"succ"}) == pytest.approx(3.5 / 4)
    assert type_auroc(scores, TYPES, up={"break"}) == pytest.approx((3 + 1.5) / 6)
    assert type_auroc(-scores, TYPES, up={"break"}, down={"succ"}) == pytest.approx(0.5 / 4)
    with pytest.raises(DataError, match="no documents of a type"):
        type_auroc(scores, TYPES, up={"rep"})


def test_window_means_weigh_tokens_and_leave_fresh_documents_out(world):
    held = world.evidence.documents
    scores = (world.types == "up").astype(float)
    found = window_means(held, scores, len(world.evidence.windows))
    for window in (0, 39):
        own = held.window == window
        assert found[window] == pytest.approx(np.average(scores[own], weights=held.lengths[own]))
    assert np.corrcoef(found, world.share)[0, 1] > 0.9


def test_leakage_is_nothing_for_the_truth_and_something_for_a_delta():
    rng = np.random.default_rng(0)
    truth = rng.standard_normal(400)
    for t in range(1, 400):
        truth[t] = 0.5 * truth[t - 1] + truth[t]
    noisy = truth + 0.3 * rng.standard_normal(400)
    level = np.convolve(truth, [1, 0.6, 0.36], "full")[:400]
    assert abs(against(noisy, truth).leakage) < 0.1
    assert against(level, truth).leakage > 0.15
    assert against(np.diff(level, prepend=0), truth).leakage < -0.15
    assert against(truth, truth).rho == pytest.approx(1)


def test_what_two_truths_share_is_not_held_against_a_score():
    rng = np.random.default_rng(3)
    truth = rng.standard_normal(400)
    other = truth + rng.standard_normal(400)
    assert abs(unspecific(truth + rng.standard_normal(400), truth, other)) < 0.1
    assert unspecific(other, truth, other) > 0.4


def test_lds_is_perfect_for_linear_outcomes_and_none_for_noise():
    rng = np.random.default_rng(1)
    scores = rng.standard_normal(200)
    subsets = rng.random((60, 200)) < 0.5
    sums = subsets @ scores
    outcomes = np.stack([np.exp(sums), 3 * sums, -sums], axis=1)
    assert linear_datamodeling_score(scores, subsets, outcomes[:, :2]) == pytest.approx(1)
    assert linear_datamodeling_score(scores, subsets, outcomes) == pytest.approx(1 / 3)
    own = np.stack([scores, scores, -scores])
    assert linear_datamodeling_score(own, subsets, outcomes) == pytest.approx(1)
    noise = rng.standard_normal((60, 40))
    assert abs(linear_datamodeling_score(scores, subsets, noise)) < 0.1


def test_lds_is_the_mean_of_scipys_spearman():
    rng = np.random.default_rng(2)
    scores, subsets = rng.standard_normal((3, 30)), rng.random((12, 30)) < 0.5
    outcomes = rng.standard_normal((12, 3))
    oracle = [
        stats.spearmanr([s[one].sum() for one in subsets], outcomes[:, q]).statistic
        for q, s in enumerate(scores)
    ]
    assert linear_datamodeling_score(scores, subsets, outcomes) == pytest.approx(np.mean(oracle))


def test_control_effect_is_welchs():
    up, down = np.array([0.5, 0.6, 0.4]), np.array([-0.2, 0.1, 0.0, -0.3])
    found = control_effect(up, down)
    oracle = stats.ttest_ind(up, down, equal_var=False).confidence_interval(0.95)
    assert (found.lo, found.hi) == pytest.approx((oracle.low, oracle.high))
    assert found.effect == pytest.approx(up.mean() - down.mean())


def test_single_runs_have_no_interval():
    found = control_effect(np.array([0.5]), np.array([0.1]))
    assert found.effect == pytest.approx(0.4)
    assert (found.lo, found.hi) == (-np.inf, np.inf)
