import numpy as np
import polars as pl
import pytest
from statsmodels.regression.linear_model import OLS

from scoring.deltas import delta_table
from scoring.series import ClusterSeries, seed_series
from scoring.two_way import ItemSeries, item_series, two_way_table
from windows.errors import DataError


def crossed(values: np.ndarray) -> ItemSeries:
    """A series by cell of float[steps, seeds, items]."""
    steps, seeds, items = values.shape
    seed, item = np.indices((seeds, items)).reshape(2, -1)
    return ItemSeries("a/b", np.arange(steps), values.reshape(steps, -1), seed, item)


def noisy(seed_sd: float, item_sd: float, *, steps: int = 8, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    by_seed = seed_sd * rng.standard_normal((steps, 6, 1))
    by_item = item_sd * rng.standard_normal((steps, 1, 9))
    return by_seed + by_item + 0.3 * rng.standard_normal((steps, 6, 9))


def test_the_error_is_statsmodels_two_way_clustered_one() -> None:
    series = crossed(noisy(0.5, 0.7))
    groups = np.stack([series.seeds, series.items], axis=1)
    table = two_way_table(series)
    for window, change in enumerate(np.diff(series.values, axis=0)):
        fit = OLS(change, np.ones(change.size)).fit(cov_type="cluster", cov_kwds={"groups": groups})
        assert table["delta"][window] == pytest.approx(fit.params[0])
        assert table["se"][window] == pytest.approx(fit.bse[0])
    assert table["df"].to_list() == [5.0] * 7


def test_items_of_their_own_seed_add_nothing() -> None:
    values = noisy(0.5, 0.0)
    nested = crossed(values)
    nested = ItemSeries("a/b", nested.steps, nested.values, nested.seeds, np.arange(54))
    change = np.diff(values.mean(axis=2), axis=0)
    np.testing.assert_allclose(
        two_way_table(nested)["se"], change.std(axis=1, ddof=1) / np.sqrt(6), rtol=1e-9
    )


def test_it_is_never_surer_than_seeds_alone_and_doubts_what_items_do() -> None:
    for item_sd in (0.0, 0.6):
        values = noisy(0.2, item_sd, steps=60)
        se = two_way_table(crossed(values))["se"].to_numpy()
        by_seed = np.diff(values.mean(axis=2), axis=0).std(axis=1, ddof=1) / np.sqrt(6)
        assert (se >= by_seed * (1 - 1e-9)).all()
    # Items move on their own: sure of these ones, the seeds' test errs about others.
    p = two_way_table(crossed(values))["p"].to_numpy()
    series = ClusterSeries("a/b", np.arange(60), np.arange(6), values.mean(axis=2))
    assert np.mean(delta_table(series)["p_delta"].to_numpy() < 0.05) > 0.3
    assert np.mean(p < 0.05) < 0.15


def test_rows_become_cells_and_the_delta_is_that_of_the_seeds() -> None:
    rng = np.random.default_rng(1)
    grid = np.indices((8, 3, 2, 4)).reshape(4, -1)
    items = pl.DataFrame(
        {
            "run": "tiny",
            "stage": "stage1",
            "family": "a",
            "task": "b",
            "wording": [f"plain{w}" for w in grid[2]],
            "item_id": [f"w{w}i{i}" for w, i in zip(*grid[2:], strict=True)],
            "step": pl.Series(16 * grid[0], dtype=pl.Int64),
            "demo_seed": pl.Series(grid[1], dtype=pl.Int16),
            "lp_right": pl.Series(-rng.exponential(1, grid.shape[1]), dtype=pl.Float32),
            "lp_parrot": pl.Series(-rng.exponential(1, grid.shape[1]), dtype=pl.Float32),
        }
    )
    # One seed lacks an item throughout, as where a demonstration is that item.
    items = items.filter((pl.col("demo_seed") != 2) | (pl.col("item_id") != "w1i3"))
    series = item_series(items.sample(fraction=1.0, shuffle=True, seed=2), "a/b")
    assert series.values.shape == (8, 23)
    assert np.bincount(series.seeds).tolist() == [8, 8, 7]
    assert np.bincount(series.items).tolist() == [3] * 7 + [2]
    level = seed_series(items, "a/b").level
    np.testing.assert_allclose(two_way_table(series)["delta"], np.diff(level), atol=1e-12)


def test_one_seed_is_refused() -> None:
    with pytest.raises(DataError, match="two demo seeds"):
        two_way_table(crossed(noisy(0.1, 0.1)[:, :1]))
