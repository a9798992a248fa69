"""Predictors against their null: planted layers are found, the best of many by chance is not."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from scoring.predictor_null import best_layers, expected_best
from windows.errors import ConfigError, DataError

STEPS = 36


def tables(
    values: np.ndarray, level: np.ndarray, *, task: str = "f/t", predictor: str = "rankme"
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Tables of values float64[L, T] of one predictor and the level float64[T] of one task."""
    layers, steps = values.shape
    step = 1000 * np.arange(steps, dtype=np.int64)
    predictors = pl.DataFrame(
        {
            "step": np.tile(step, layers),
            "task": [task] * values.size,
            "layer": np.repeat(np.arange(layers, dtype=np.int32), steps),
            "predictor": [predictor] * values.size,
            "value": values.ravel(),
        }
    )
    return predictors, pl.DataFrame({"task": [task] * steps, "step": step, "value": level})


def noise(layers: int, seed: int, steps: int = STEPS) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((layers, steps)), rng.standard_normal(steps)


def row(found: pl.DataFrame, sign: str, task: str = "f/t") -> dict[str, float]:
    return found.filter(task=task, sign=sign).row(0, named=True)


def test_the_papers_random_baseline_comes_out_of_the_null():
    assert expected_best(36, 64) == pytest.approx(0.40, abs=0.01)
    found = [best_layers(*tables(*noise(64, seed)), seed=seed) for seed in range(10)]
    for sign, way in (("positive", 1), ("negative", -1)):
        rows = [row(one, sign) for one in found]
        assert np.mean([one["rho"] for one in rows]) == pytest.approx(way * 0.40, abs=0.04)
        assert np.mean([one["null"] for one in rows]) == pytest.approx(way * 0.40, abs=0.02)
        assert all(one["p"] > 1 / STEPS for one in rows if way * one["rho"] < 0.4)


def test_one_layer_has_no_best():
    assert expected_best(36, 1) == pytest.approx(0, abs=0.02)
    # Of two ranks there are two orders: the best of many layers is nearly always the right one.
    assert expected_best(2, 30) == pytest.approx(1, abs=0.01)


def test_a_planted_layer_is_found_and_beats_its_null():
    values, level = noise(64, 3)
    values[17] = level + 0.3 * values[17]
    values[40] = -level
    found = best_layers(*tables(values, level))
    up, down = row(found, "positive"), row(found, "negative")
    assert (up["layer"], down["layer"]) == (17, 40)
    assert down["rho"] == pytest.approx(-1) and up["rho"] > 0.9
    assert up["p"] == up["floor"] == pytest.approx(1 / STEPS)
    assert up["null"] < 0.5 < up["lo"] < up["rho"] < up["hi"]
    assert up["null_high"] > up["null"] and down["null_high"] < down["null"] < 0
    assert (up["layers"], up["checkpoints"]) == (64, STEPS)
    assert up["q"] == pytest.approx(1 / STEPS)
    assert up["q_by"] == pytest.approx(1.5 / STEPS)


def test_shifts_and_the_choice_among_layers_by_hand():
    values, level = noise(5, 8, steps=9)
    found = best_layers(*tables(values, level))
    rho = np.array(
        [[stats.spearmanr(v, np.roll(level, by)).statistic for by in range(9)] for v in values]
    )
    for sign, best in (("positive", rho.max(axis=0)), ("negative", rho.min(axis=0))):
        own = row(found, sign)
        assert own["rho"] == pytest.approx(best[0])
        assert own["layer"] == int(np.argmax(np.abs(rho[:, 0] - best[0]) < 1e-12))
        assert own["null"] == pytest.approx(best[1:].mean())
        good = best >= best[0] - 1e-9 if sign == "positive" else best <= best[0] + 1e-9
        assert own["p"] == pytest.approx(good.mean())


def test_autocorrelation_is_kept_by_the_null():
    # Two slow waves of equal period: any layer can be shifted into step with the series.
    time = np.arange(STEPS)
    values = np.sin(2 * np.pi * (time[None, :] / STEPS + np.arange(8)[:, None] / 8))
    level = np.sin(2 * np.pi * (time / STEPS + 0.03))
    up = row(best_layers(*tables(values, level)), "positive")
    assert up["rho"] > 0.9 and up["null"] > 0.9 and up["p"] > 0.2


def test_a_common_trend_is_removed_where_asked():
    values, level = noise(16, 4)
    trend = np.linspace(-3, 3, STEPS)
    frames = tables(values + trend, level + trend)
    assert row(best_layers(*frames), "positive")["rho"] > 0.8
    flat = row(best_layers(*frames, trend=1), "positive")
    same = row(best_layers(*tables(values, level), trend=1), "positive")
    assert flat["rho"] == pytest.approx(same["rho"]) and flat["rho"] < 0.6
    # A layer that is nothing but trend says nothing once it is gone.
    bare = row(best_layers(*tables(trend[None, :], level), trend=1), "positive")
    assert bare["rho"] == 0 and bare["p"] == 1


def test_pooled_averages_the_best_of_every_task():
    parts = [tables(*noise(10, seed), task=f"f/{seed}") for seed in range(6)]
    predictors, series = (pl.concat(list(own)) for own in zip(*parts, strict=True))
    found = best_layers(predictors, series.sample(fraction=1, shuffle=True, seed=1))
    own = found.filter(pl.col("task") != "pooled", sign="positive")
    pooled = row(found, "positive", task="pooled")
    assert pooled["rho"] == pytest.approx(own["rho"].mean())
    assert pooled["null"] == pytest.approx(own["null"].mean())
    assert pooled["layer"] is None and pooled["lo"] < pooled["rho"] < pooled["hi"]
    # What is noise in every task is the same noise on average: its null is narrower.
    assert pooled["null_high"] - pooled["null"] < (own["null_high"] - own["null"]).mean()


@settings(deadline=None, max_examples=6)
@given(st.integers(0, 99), st.floats(0.1, 10), st.floats(-5, 5))
def test_only_ranks_matter_and_rows_have_no_order(seed: int, scale: float, shift: float):
    values, level = noise(4, seed, steps=12)
    plain = best_layers(*tables(values, level))
    monotone = best_layers(*tables(scale * np.exp(values) + shift, np.arctan(level)))
    assert monotone.equals(plain)
    predictors, series = tables(values, level)
    mixed = best_layers(
        predictors.sample(fraction=1, shuffle=True, seed=seed),
        series.sample(fraction=1, shuffle=True, seed=seed),
    )
    assert mixed.equals(plain)
    turned = best_layers(*tables(-values, level))
    assert row(turned, "positive")["rho"] == pytest.approx(-row(plain, "negative")["rho"])


def test_unequal_tables_are_refused():
    predictors, series = tables(*noise(3, 0, steps=10))
    broken = {
        "predictors are not": (predictors[1:], series),
        "series are not": (predictors, series[:-1]),
        "some not finite": (predictors.with_columns(value=pl.lit(float("nan"))), series),
        "no series": (predictors.with_columns(task=pl.lit("a/b")), series),
        "at least 8": (predictors.filter(pl.col("step") < 7000), series),
    }
    for told, given_ in broken.items():
        with pytest.raises(DataError, match=told):
            best_layers(*given_)
    with pytest.raises(DataError, match="20 values at 10 checkpoints"):
        best_layers(pl.concat([predictors, predictors]), series)
    for options in ({"trend": 7}, {"trend": -1}, {"block": 6}, {"block": 0}):
        with pytest.raises(ConfigError, match=r"use [01] to [56]"):
            best_layers(predictors, series, **options)


@pytest.mark.slow
@pytest.mark.parametrize("persistence", [0.0, 0.5, 0.8])
def test_the_false_positive_rate_is_nominal(persistence: float):
    hits, runs = 0, 400
    for seed in range(runs):
        rng = np.random.default_rng((seed, int(10 * persistence)))
        shocks = rng.standard_normal((17, 100 + STEPS))
        for at in range(1, shocks.shape[1]):
            shocks[:, at] += persistence * shocks[:, at - 1]
        found = best_layers(*tables(shocks[:16, 100:], shocks[16, 100:]))
        hits += row(found, "positive")["p"] <= 0.05
    assert hits / runs <= 0.07
