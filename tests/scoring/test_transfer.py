import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from scoring.transfer import rank_interval, spearman, transfer_verdict, windows_needed
from windows.errors import DataError


def replays(rho: float, *, windows: int = 40, shuffles: int = 2, seed: int = 0, noise: float = 0.1):
    """Strengths, and effects whose mean ranks correlate with them at about `rho`."""
    rng = np.random.default_rng(seed)
    strength = rng.standard_normal(windows)
    mean = rho * strength + np.sqrt(1 - rho**2) * rng.standard_normal(windows)
    return strength, mean[:, None] + noise * rng.standard_normal((windows, shuffles))


def test_planted_transfer_is_found() -> None:
    found = transfer_verdict(*replays(0.9), seed=0)
    assert found.verdict == "transferable"
    assert found.lo < found.lower_bound < found.rho < found.hi
    assert found.lower_bound > 0.3
    assert found.p == pytest.approx(1e-4)
    assert found.reliability is not None and found.reliability > 0.9
    assert (found.windows, found.shuffles) == (40, 2)
    assert "The labels transfer" in found.sentence and f"{found.rho:.2f}" in found.sentence


def test_labels_that_do_not_transfer_are_refused_even_when_above_zero() -> None:
    strength, effects = replays(0.4, seed=3)
    found = transfer_verdict(strength, effects, seed=0)
    assert found.p < 0.05
    assert found.lower_bound < 0.3 < found.hi
    assert found.verdict == "not-transferable"
    # A failure to show is not said to be an absence.
    assert "are not shown to transfer" in found.sentence
    assert "do not transfer" not in found.sentence


def test_an_interval_below_the_threshold_says_that_labels_do_not_transfer() -> None:
    strength, effects = replays(-0.6, seed=1)
    found = transfer_verdict(strength, effects, seed=0)
    assert found.hi < 0.3
    assert "The labels do not transfer" in found.sentence


def test_ranks_may_agree_where_signs_and_sizes_do_not() -> None:
    strength = np.linspace(-1, 1, 40)
    effects = (0.5 + 0.01 * strength)[:, None]  # every replay moves the same way
    found = transfer_verdict(strength, effects, seed=0)
    assert found.verdict == "transferable"
    assert "does what its label says" not in found.sentence
    assert found.mean_effect == pytest.approx(0.5)
    assert found.sign_agreement == 1.0, "the mean effect is taken off first"
    assert "+0.500" in found.sentence and "100%" in found.sentence


def test_sign_agreement_by_hand() -> None:
    strength = np.array([1.0, 2.0, -1.0, -2.0, 0.0])
    effects = np.array([[3.0, 5.0], [0.0, 0.0], [0.0, 0.0], [4.0, 4.0], [2.0, 2.0]])
    # Means 4, 0, 0, 4, 2 less 2: agree, not, agree, not, and a zero agrees with none.
    found = transfer_verdict(strength, effects, seed=0)
    assert found.mean_effect == pytest.approx(2.0)
    assert found.sign_agreement == pytest.approx(2 / 5)


def test_rho_is_scipys_with_ties() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 4, 30).astype(float), rng.integers(0, 4, 30).astype(float)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    found = transfer_verdict(x, y[:, None], seed=0)
    assert found.rho == pytest.approx(stats.spearmanr(x, y).statistic)
    assert found.reliability is None


def test_too_few_windows_are_underpowered_and_the_number_needed_is_named() -> None:
    needed = windows_needed(0.65, 0.3, 0.95)
    found = transfer_verdict(*replays(0.5, windows=needed - 1, seed=4), seed=0)
    assert found.verdict == "underpowered"
    assert f"at least {needed}" in found.sentence
    assert transfer_verdict(*replays(0.0, windows=needed), seed=0).verdict == "not-transferable"


def test_windows_needed_is_the_smallest() -> None:
    n = windows_needed(0.65, 0.3, 0.95)
    assert rank_interval(0.65, n, 0.9)[0] > 0.3
    assert rank_interval(0.65, n - 1, 0.9)[0] <= 0.3
    with pytest.raises(DataError, match="threshold"):
        windows_needed(0.65, 0.7, 0.95)


@pytest.mark.parametrize("windows", [1, 3, 40])
def test_constant_or_tiny_input_is_no_transfer(windows: int) -> None:
    found = transfer_verdict(np.ones(windows), np.ones((windows, 2)), seed=0)
    assert found.verdict == ("not-transferable" if windows == 40 else "underpowered")
    assert (found.rho, found.lo, found.hi, found.p) == (0.0, -1.0, 1.0, 1.0)
    assert (found.lower_bound, found.mean_effect, found.sign_agreement) == (-1.0, 1.0, 0.0)
    assert "cannot be ranked" in found.sentence


def test_perfect_agreement() -> None:
    strength = np.arange(40.0)
    found = transfer_verdict(strength, np.stack([strength, strength], axis=1), seed=0)
    assert found.verdict == "transferable"
    assert found.rho == found.reliability == 1.0
    assert 0.99 < found.lo < found.lower_bound < found.hi < 1.0
    assert found.sign_agreement == 0.5, "strengths that are all above zero have no second sign"


def test_four_windows_in_perfect_order_prove_nothing() -> None:
    strength = np.arange(4.0)
    assert transfer_verdict(strength, strength[:, None], seed=0).verdict == "underpowered"


def test_bad_input_is_refused() -> None:
    with pytest.raises(DataError, match="shapes"):
        transfer_verdict(np.ones(3), np.ones((4, 2)), seed=0)
    with pytest.raises(DataError, match="not finite"):
        transfer_verdict(np.ones(3), np.full((3, 2), np.nan), seed=0)


@settings(deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(0.1, 10), shift=st.floats(-3, 3))
def test_only_the_ranks_of_strength_matter(seed: int, scale: float, shift: float) -> None:
    strength, effects = replays(0.6, windows=20, seed=seed)
    mean = effects.mean(axis=1)
    plain = spearman(strength, mean)
    assert spearman(np.arctan(strength) * scale + shift, mean) == pytest.approx(plain, abs=1e-12)
    assert spearman(-strength, mean) == pytest.approx(-plain)


@pytest.mark.slow
def test_bounds_cover_and_their_order_is_kept() -> None:
    # Normal pairs with Spearman's correlation 0.3: the module's table says 0.956.
    pearson = 2 * np.sin(np.pi * 0.3 / 6)
    lows = []
    for seed in range(150):
        strength, effects = replays(pearson, shuffles=1, seed=seed, noise=0.0)
        found = transfer_verdict(strength, effects, seed=seed)
        assert found.lo < found.lower_bound < found.rho < found.hi
        lows.append(found.lower_bound)
    assert 0.9 <= np.mean(np.array(lows) <= 0.3) <= 0.99


def test_the_same_seed_gives_the_same_verdict() -> None:
    assert transfer_verdict(*replays(0.6), seed=5) == transfer_verdict(*replays(0.6), seed=5)
