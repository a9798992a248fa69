"""Replication: a shared stream is found, unrelated runs are not, and slow curves deceive nobody."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.signal import lfilter

from scoring.block_bootstrap import block_shares, correlation_interval, resampled_correlations
from scoring.replication import LIMITS, less_neighbours, replication
from windows.errors import ConfigError, DataError

TASKS = ("a/one", "a/two", "b/one")
DECIDING = ("pooled", "innovation")


def noise(rng: np.random.Generator, windows: int, persistence: float = 0.0) -> np.ndarray:
    """Effects of every window and task, AR(1) along the run."""
    drawn = rng.standard_normal((windows + 50, len(TASKS)))
    return lfilter([1.0], [1.0, -persistence], drawn, axis=0)[50:]


def labels(effects: np.ndarray, tasks: tuple[str, ...] = TASKS) -> pl.DataFrame:
    """A table of labels, in no order that matters, with the pooled rows of a real one."""
    windows, width = effects.shape
    rows = pl.DataFrame(
        {
            "window": np.repeat([f"w{index}" for index in range(windows)], width + 1),
            "task": [*tasks, "pooled"] * windows,
            "innovation": np.column_stack([effects, np.full(windows, np.nan)]).ravel(),
            "delta": np.column_stack([effects - np.roll(effects, 1, 0) / 2, effects[:, 0]]).ravel(),
        }
    )
    return rows.sample(fraction=1.0, shuffle=True, seed=windows)


def pairs(windows: int) -> list[tuple[str, str]]:
    return [(f"w{index}", f"w{index}") for index in range(windows)]


def two_runs(share: float, windows: int, seed: int = 0, persistence: float = 0.0):
    """Effects of two runs of which a share of the variance is common."""
    rng = np.random.default_rng(seed)
    common, *own = (noise(rng, windows, persistence) for _ in range(3))
    return [np.sqrt(share) * common + np.sqrt(1 - share) * each for each in own]


def row(found, task: str = "pooled", effect: str = "innovation") -> dict[str, float]:
    return found.effects.row(
        by_predicate=(pl.col("task") == task) & (pl.col("effect") == effect), named=True
    )


def test_runs_that_share_half_of_their_window_effects_are_found() -> None:
    first, second = two_runs(0.5, 60)
    found = replication(labels(first), labels(second), pairs(60))
    assert found.verdict == "replicated"
    pooled = row(found)
    # Spearman's correlation of normal pairs that correlate at one half.
    true = 6 / np.pi * np.arcsin(0.25)
    assert pooled["lo"] < true < pooled["hi"] and pooled["rho"] == pytest.approx(true, abs=0.12)
    assert pooled["p"] == found.floor == 1 / (1 + found.shifts)
    assert (found.windows, found.shifts) == (60, 60 - 2 * 4 + 1)
    assert found.sentences[-2:] == LIMITS and "data from their order" in LIMITS[-1]
    assert f"{pooled['rho']:.2f}" in found.sentences[1] and "3 tasks" in found.sentences[1]


def test_unrelated_runs_are_not_replicated_where_one_would_have_been_seen() -> None:
    first, second = two_runs(0.0, 150, seed=1, persistence=0.5)
    found = replication(labels(first), labels(second), pairs(150))
    assert found.verdict == "not-replicated"
    assert row(found)["detectable"] < 0.3 and row(found)["lo"] < 0 < row(found)["hi"]
    assert "not shown to replicate" in found.sentences[0]


def test_few_windows_are_underpowered_and_say_so() -> None:
    first, second = two_runs(0.0, 12, seed=3)
    found = replication(labels(first), labels(second), pairs(12))
    assert found.verdict == "underpowered" and found.floor > 0.05
    assert row(found)["detectable"] == 1
    assert "cannot show any" in found.sentences[0]
    first, second = two_runs(0.0, 40, seed=3)
    found = replication(labels(first), labels(second), pairs(40), interest=0.1)
    assert found.verdict == "underpowered" and 0.1 < row(found)["detectable"] < 0.5


def test_an_opposite_correlation_is_no_replication() -> None:
    first, second = two_runs(0.8, 150)
    found = replication(labels(first), labels(-second), pairs(150))
    assert row(found)["rho"] < -0.5 and row(found)["p"] == found.floor
    assert found.verdict == "not-replicated"


def test_a_shared_learning_curve_is_no_effect_of_a_window() -> None:
    curve = 6 * np.exp(-np.arange(150) / 20)[:, None]
    first, second = (each + curve for each in two_runs(0.0, 150, seed=4))
    assert stats.spearmanr(first[:, 0], second[:, 0]).pvalue < 1e-3
    found = replication(labels(first), labels(second), pairs(150))
    assert found.verdict == "not-replicated" and row(found)["p"] > 0.05


def test_one_task_by_hand() -> None:
    rng = np.random.default_rng(5)
    first, second = rng.standard_normal((2, 27, 1))
    found = replication(labels(first, ("a/b",)), labels(second, ("a/b",)), pairs(27))
    own = [less_neighbours(each[:, 0]) for each in (first, second)]
    assert own[0][1] == pytest.approx(first[1, 0] - first[[0, 2, 3], 0].mean())
    assert own[0][9] == pytest.approx(first[9, 0] - first[[7, 8, 10, 11], 0].mean())
    rho = np.array([stats.spearmanr(own[0], np.roll(own[1], by)).statistic for by in range(27)])
    assert row(found)["rho"] == pytest.approx(rho[0])
    far = np.abs(rho[3:25])
    assert found.shifts == len(far)
    assert row(found)["p"] == pytest.approx((1 + np.sum(far >= abs(rho[0]))) / (1 + len(far)))
    assert row(found, "a/b") | {"task": "pooled"} == row(found)


def test_tasks_beside_are_shown_and_not_pooled() -> None:
    first, second = two_runs(0.9, 40)
    second[:, 2] = -first[:, 2]
    found = replication(labels(first), labels(second), pairs(40), beside=["b/one"])
    assert row(found, "b/one")["rho"] == pytest.approx(-1)
    mean = np.mean([row(found, task)["rho"] for task in TASKS[:2]])
    assert row(found)["rho"] == pytest.approx(mean)
    assert found.effects.filter(~pl.col("pooled"))["task"].to_list() == ["b/one", "b/one"]
    assert all(found.effects["q"] >= found.effects["p"] - 1e-12)
    # Tasks of one run alone are left out.
    fewer = labels(second[:, :2], TASKS[:2])
    alone = replication(labels(first), fewer, pairs(40))
    assert row(alone) == row(found)


@settings(max_examples=5)
@given(st.integers(0, 2**16), st.permutations(range(20)))
def test_only_ranks_of_paired_windows_matter(seed: int, names: list[int]) -> None:
    first, second = np.random.default_rng(seed).integers(-9, 9, (2, 20, 3)).astype(float)
    base = replication(labels(first), labels(second), pairs(20), seed=seed)
    moved = labels(3 * second + 1).with_columns(
        window=pl.col("window").replace_strict({f"w{i}": f"x{names[i]}" for i in range(20)})
    )
    same = replication(
        labels(first), moved, [(f"w{i}", f"x{names[i]}") for i in range(20)], seed=seed
    )
    back = replication(labels(second), labels(first), pairs(20), seed=seed)
    for other in (same, back):
        for name in ("rho", "p", "lo", "hi", "detectable"):
            assert other.effects[name].to_numpy() == pytest.approx(base.effects[name].to_numpy())


def test_still_effects_correlate_with_nothing() -> None:
    still = np.full((30, 3), 0.1)
    found = replication(labels(still), labels(still), pairs(30))
    assert (row(found)["rho"], row(found)["p"], row(found)["detectable"]) == (0, 1, 1)
    assert found.verdict == "underpowered"


def test_faults() -> None:
    first, second = (labels(each) for each in two_runs(0.5, 30))
    with pytest.raises(DataError, match=r"at least 8 windows .* got 7"):
        replication(first, second, pairs(7))
    with pytest.raises(DataError, match="missing, doubled"):
        replication(first, second.filter(pl.col("window") != "w3"), pairs(30))
    with pytest.raises(DataError, match="missing, doubled"):
        replication(pl.concat([first, first]), second, pairs(30))
    with pytest.raises(DataError, match="no task in common"):
        replication(first, second, pairs(30), beside=TASKS)
    for options in ({"interest": 0.0}, {"alpha": 1.0}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            replication(first, second, pairs(30), **options)


def test_resamples_are_of_neighbours_and_their_moments_right() -> None:
    shares = block_shares(20, 5, 300, seed=1)
    assert shares.shape == (300, 20)
    assert shares.sum(axis=1) == pytest.approx(1) and shares.mean(axis=0).std() < 0.006
    # Four blocks of five on a circle: no more than four runs of checkpoints that are there.
    there = shares > 0
    assert (there & ~np.roll(there, 1, axis=1)).sum(axis=1).max() <= 4
    x, y = np.random.default_rng(2).standard_normal((2, 20))
    repeated = np.repeat(np.arange(20), np.rint(20 * shares[7]).astype(int))
    expected = np.corrcoef(x[repeated], y[repeated])[0, 1]
    assert resampled_correlations(x, y, shares)[7] == pytest.approx(expected)
    assert not resampled_correlations(x, np.full(20, 0.3), shares).any()
    lo, hi = correlation_interval(1.0, np.array([0.9, 1.0, 0.95]), 3, 0.05)
    assert lo < 1 and hi == pytest.approx(1)
