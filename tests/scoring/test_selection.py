"""Selection of checkpoints: planted bests, brute force over sign flips, what must not matter."""

from itertools import product

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from scoring.selection import Selection, select_checkpoints
from scoring.sign_flips import Cluster, against, critical, draw_signs, flip_p
from windows.errors import ConfigError, DataError


def table(values: np.ndarray, task: str = "f/t") -> pl.DataFrame:
    """Rows of values float64[T, S] of one task."""
    steps, seeds = values.shape
    return pl.DataFrame(
        {
            "task": [task] * values.size,
            "step": np.repeat(100 * np.arange(1, steps + 1), seeds),
            "demo_seed": np.tile(np.arange(seeds), steps),
            "value": values.ravel(),
        }
    )


def planted(
    levels: list[float], *, seeds: int = 12, noise: float = 0.1, seed: int = 0
) -> np.ndarray:
    """Levels, an offset of every seed (which cancels), and noise."""
    rng = np.random.default_rng(seed)
    offsets = rng.normal(0, 1, seeds)
    return np.array(levels)[:, None] + offsets + rng.normal(0, noise, (len(levels), seeds))


LEVELS = [0.0, 0.3, 0.9, 0.1, 0.9, 0.2, -0.8, 0.4]


def test_the_best_and_those_exchangeable_with_it_are_found():
    found = select_checkpoints(table(planted(LEVELS)))
    alike = found.checkpoints.filter(pl.col("exchangeable_best"))
    assert set(alike["step"]) == {300, 500} and found.high in (300, 500)
    assert found.checkpoints.filter(pl.col("exchangeable_worst"))["step"].to_list() == [700]
    assert (found.low, found.distinct) == (700, True)
    assert found.held_out == pytest.approx(1.7, abs=0.15)
    own = found.checkpoints.filter(step=700)
    assert own.select("rank", "rank_lo", "rank_hi").row(0) == (8, 8, 8)
    best = found.checkpoints.filter(step=found.high).row(0, named=True)
    assert (best["rank"], best["rank_lo"], best["rank_hi"]) == (1, 1, 2)
    assert best["gap"] > 0 > best["gap_lo"] and best["p_best"] == 1
    # Not significantly worse than the best, and a bound on the gap that reaches zero: one decision.
    assert ((found.checkpoints["gap_hi"] >= 0) == found.checkpoints["exchangeable_best"]).all()
    assert "Of 8 checkpoints 2 are exchangeable with the best" in found.sentences[0]
    assert "The two differ" in found.sentences[1]


def test_all_flips_of_few_seeds_by_brute_force():
    values = planted([0.0, 0.2, 0.1], seeds=5, seed=2)
    one = against([Cluster(1.0, values)], draw_signs([5], 0), 1)
    expected = [
        [
            stats.ttest_1samp(signs * (values[j] - values[1]), 0).statistic if j != 1 else 0.0
            for j in range(3)
        ]
        for signs in map(np.array, product([1.0, -1.0], repeat=5))
    ]
    np.testing.assert_allclose(np.sort(one.above), np.sort(np.max(expected, axis=1)), rtol=1e-9)
    np.testing.assert_allclose(one.t, expected[0])
    assert float(flip_p(one.t.max(), one.above)) == pytest.approx(
        np.mean(np.max(expected, axis=1) >= one.t.max() - 1e-9)
    )


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.floats(0.01, 0.49))
def test_the_critical_value_and_p_decide_alike(flipped: list[int], alpha: float):
    values = np.array(flipped, dtype=float)
    edge = critical(values, alpha)
    for one in np.unique(values):
        assert (one > edge) == (float(flip_p(one, values)) <= alpha)


def test_the_candidates_are_compared_with_what_stands_beside_them():
    losses = pl.DataFrame(
        {"step": 100 * np.arange(1, 9), "loss": [3.0, 2.9, 2.8, 2.7, 2.0, 2.5, 2.4, 2.3]}
    )
    values = planted([0.0, 0.3, 0.9, 0.1, 0.4, 0.2, -0.8, 0.4])
    found = select_checkpoints(table(values), loss=losses)
    own = {
        (candidate, other): (step, to)
        for candidate, step, other, to in found.comparisons.select(
            "candidate", "step", "other", "other_step"
        ).iter_rows()
    }
    assert own == {
        ("high", "low"): (300, 700),
        ("high", "previous"): (300, 200),
        ("high", "next"): (300, 400),
        ("high", "final"): (300, 800),
        ("high", "loss-selected"): (300, 500),
        ("low", "high"): (700, 300),
        ("low", "previous"): (700, 600),
        ("low", "next"): (700, 800),
        ("low", "final"): (700, 800),
        ("low", "loss-selected"): (700, 500),
    }
    row = found.comparisons.filter(candidate="high", other="final").row(0, named=True)
    assert row["difference"] == pytest.approx((values[2] - values[7]).mean())
    assert row["lo"] < row["difference"] < row["hi"] and row["p"] <= 0.05
    assert any("loss-selected checkpoint, step 500" in told for told in found.sentences)
    mirrored = found.comparisons.filter(candidate="low", other="high").row(0, named=True)
    straight = found.comparisons.filter(candidate="high", other="low").row(0, named=True)
    assert mirrored["lo"] == pytest.approx(-straight["hi"])
    assert mirrored["p"] == straight["p"]


def test_checkpoints_that_do_not_differ_are_all_exchangeable():
    found = select_checkpoints(table(planted([0.5] * 10, seeds=8, seed=1)))
    assert found.checkpoints["exchangeable_best"].all() and not found.distinct
    assert found.checkpoints["rank_lo"].to_list() == [1] * 10
    assert found.checkpoints["rank_hi"].to_list() == [10] * 10
    assert "not shown to differ" in found.sentences[1]


def test_what_choosing_among_noise_seems_to_gain_is_gone_on_other_seeds():
    chosen = [select_checkpoints(table(planted([0.5] * 10, seed=seed))) for seed in range(10)]
    gains = [one.checkpoints["score"].max() - one.checkpoints["score"].min() for one in chosen]
    assert np.mean(gains) > 0.07
    assert abs(np.mean([one.held_out for one in chosen])) < 0.02


def test_four_seeds_cannot_tell_anything_apart_and_say_so():
    found = select_checkpoints(table(planted(LEVELS, seeds=4, noise=0.001)))
    assert found.floor == pytest.approx(1 / 16)
    assert found.checkpoints["exchangeable_best"].all()
    assert any("nothing can be told apart" in told for told in found.sentences)
    assert not any(
        "nothing can be told apart" in told
        for told in select_checkpoints(table(planted(LEVELS))).sentences
    )


def test_tasks_weigh_the_same_whatever_their_seeds():
    one, two, three = planted(LEVELS), planted(LEVELS, seed=1), planted(LEVELS, seeds=6, seed=2)
    frames = [table(one, "a/a"), table(two, "b/b"), table(three, "c/c")]
    found = select_checkpoints(pl.concat(frames))
    expected = (one.mean(axis=1) + two.mean(axis=1) + three.mean(axis=1)) / 3
    np.testing.assert_allclose(found.checkpoints["score"], expected)
    variance = ((one + two) / 3).var(axis=1, ddof=1) / 12 + (three / 3).var(axis=1, ddof=1) / 6
    half = (found.checkpoints["hi"] - found.checkpoints["lo"]).to_numpy() / 2
    assert np.all(half > 1.95 * np.sqrt(variance)) and np.all(half < 2.7 * np.sqrt(variance))
    assert found.low == 700 and found.distinct


def test_a_scaled_task_counts_as_much_as_one_that_hops():
    hops, quiet = planted([0, 1, 0, 1, 0, 1, 0, 0.9]), planted(LEVELS, noise=0.01)
    both = pl.concat([table(100 * hops, "a/a"), table(quiet, "b/b")])
    assert select_checkpoints(both).high in (200, 400, 600, 800)
    scaled = select_checkpoints(both, scale="sd")
    again = select_checkpoints(pl.concat([table(hops, "a/a"), table(7 * quiet, "b/b")]), scale="sd")
    np.testing.assert_allclose(scaled.checkpoints["score"], again.checkpoints["score"])


def test_consistency_over_tasks():
    up, down = planted([0, 1, 2, 3, 4], noise=0), planted([4, 3, 2, 1, 0], noise=0)
    found = select_checkpoints(pl.concat([table(up, "a/a"), table(down, "b/b")])).checkpoints
    np.testing.assert_allclose(found["mean_percentile"], 0.5)
    np.testing.assert_allclose(found["lowest_percentile"], [0, 0.25, 0.5, 0.25, 0])


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 99), st.floats(0.1, 50), st.floats(-9, 9))
def test_units_offsets_and_the_order_of_rows_change_no_decision(
    seed: int, scale: float, shift: float
):
    values = planted(LEVELS[:5], seeds=8, noise=0.4, seed=seed)
    plain = select_checkpoints(table(values))
    offsets = np.random.default_rng(seed).normal(0, 5, 8)
    other = table(scale * (values + offsets) + shift).sample(fraction=1, shuffle=True, seed=seed)
    assert decisions(select_checkpoints(other)) == decisions(plain)
    turned = select_checkpoints(table(-values))
    assert (turned.high, turned.low) == (plain.low, plain.high)
    assert turned.checkpoints["p_best"].equals(plain.checkpoints["p_worst"].alias("p_best"))


def decisions(found: Selection) -> object:
    names = ["step", "rank", "rank_lo", "rank_hi", "p_best", "p_worst"]
    return found.checkpoints.select(names).rows(), found.high, found.low, found.distinct


def test_unsound_scores_are_refused():
    whole = table(planted(LEVELS))
    for scores, told in (
        (whole[1:], "95 rows for 8 checkpoints and 12 demo seeds"),
        (pl.concat([whole, whole[:1]]), "97 rows"),
        (whole.with_columns(value=pl.lit(float("inf"))), "one finite value"),
        (whole.filter(demo_seed=0), "at least two"),
        (whole.filter(step=100), "1 checkpoints"),
    ):
        with pytest.raises(DataError, match=told):
            select_checkpoints(scores)
    with pytest.raises(DataError, match="7 for 8 checkpoints"):
        loss = pl.DataFrame({"step": 100 * np.arange(1, 8), "loss": np.ones(7)})
        select_checkpoints(whole, loss=loss)
    with pytest.raises(ConfigError, match="alpha"):
        select_checkpoints(whole, alpha=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("levels", [[0.0] * 20, [0.2, 0.19] + [0.0] * 18])
def test_the_set_holds_the_true_best(levels: list[float]):
    runs = 400
    held = 0
    for seed in range(runs):
        found = select_checkpoints(table(planted(levels, seed=seed)), seed=seed)
        held += found.checkpoints["exchangeable_best"][0]
    assert held / runs >= 0.93
