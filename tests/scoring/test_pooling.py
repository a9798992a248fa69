import numpy as np
import polars as pl
import pytest
from scipy import stats

from scoring.pooling import Pooled, pooled_effects
from windows.errors import DataError


def tables(effects: np.ndarray, errors: np.ndarray) -> dict[str, pl.DataFrame]:
    """Delta tables from float[windows, tasks] effects and float[tasks] errors."""
    windows = len(effects)
    return {
        f"family/task{task}": pl.DataFrame(
            {
                "first_step": np.arange(windows),
                "end_step": np.arange(1, windows + 1),
                "innovation": effects[:, task],
                "se": np.full(windows, errors[task]),
            }
        )
        for task in range(len(errors))
    }


def simulated(between: float, *, tasks: int = 8, windows: int = 60) -> tuple[np.ndarray, Pooled]:
    """True effects of every window and task, and what is made of noisy ones."""
    rng = np.random.default_rng(0)
    truth = 0.1 * rng.standard_normal((windows, 1)) + between * rng.standard_normal(
        (windows, tasks)
    )
    errors = np.array([0.02, 0.1])[np.arange(tasks) % 2]
    return truth, pooled_effects(tables(truth + errors * rng.standard_normal(truth.shape), errors))


def test_with_variances_alike_it_is_a_t_test_over_tasks() -> None:
    effects = np.array([[0.1, 0.3], [0.3, 0.1], [-0.1, -0.3]])
    found = pooled_effects(tables(effects, np.array([0.01, 0.01]))).windows
    np.testing.assert_allclose(found["effect"], [0.2, 0.2, -0.2])
    np.testing.assert_allclose(found["se"], 0.1)  # equal variances of 0.02 over two tasks
    np.testing.assert_allclose(found["p"], 2 * stats.t.sf(2, found["df"][0]))
    half = stats.t.isf(0.025, found["df"][0]) * 0.1
    np.testing.assert_allclose(found["hi"] - found["effect"], half)
    np.testing.assert_allclose(found["between_sd"], np.sqrt(0.02 - 0.01**2))


@pytest.mark.parametrize("between", [0.0, 0.05, 0.2])
def test_the_spread_between_tasks_is_recovered_and_estimates_improve(between: float) -> None:
    truth, found = simulated(between)
    spread = np.sqrt((found.windows["between_sd"].to_numpy() ** 2).mean())
    assert spread == pytest.approx(between, abs=0.03)
    own, shrunk = (
        found.tasks[name].to_numpy().reshape(8, -1).T - truth for name in ("effect", "shrunk")
    )
    assert np.mean(shrunk**2) < np.mean(own**2)
    inside = found.tasks.with_columns(truth=pl.Series(truth.T.ravel())).select(
        pl.col("truth").is_between("shrunk_lo", "shrunk_hi").mean()
    )
    assert 0.9 < inside.item() <= 1.0


def test_sure_tasks_stay_where_they_are() -> None:
    _, found = simulated(0.1)
    weight = found.tasks.group_by("se").agg(pl.col("weight").mean()).sort("se")["weight"].to_list()
    assert weight[0] > 0.9 > 0.7 > weight[1]
    for row in found.tasks.head(60).join(found.windows, on="first_step").iter_rows(named=True):
        low, high = sorted((row["effect"], row["effect_right"]))
        assert low - 1e-12 <= row["shrunk"] <= high + 1e-12


def test_other_columns_can_be_pooled_and_windows_must_agree() -> None:
    made = tables(np.random.default_rng(0).normal(size=(9, 3)), np.full(3, 0.1))
    renamed = {
        task: table.rename({"innovation": "delta", "se": "delta_se"})
        for task, table in made.items()
    }
    plain = pooled_effects(made)
    assert pooled_effects(renamed, effect="delta", se="delta_se").windows.equals(plain.windows)
    with pytest.raises(DataError, match="same windows"):
        pooled_effects({**made, "family/short": made["family/task0"].head(5)})
    with pytest.raises(DataError, match="two tasks"):
        pooled_effects({"family/task0": made["family/task0"]})
