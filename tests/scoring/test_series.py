import numpy as np
import polars as pl
import pytest

from scoring.series import ClusterSeries, pooled, seed_series
from windows.errors import DataError


def items_of(right: np.ndarray, parrot: np.ndarray, *, task: str = "addition") -> pl.DataFrame:
    """Rows of the items schema from float arrays of shape (steps, seeds, wordings, items)."""
    grid = np.indices(right.shape).reshape(4, -1)
    return pl.DataFrame(
        {
            "run": ["tiny"] * right.size,
            "stage": ["stage1"] * right.size,
            "family": ["successive"] * right.size,
            "task": [task] * right.size,
            "wording": [f"plain{w}" for w in grid[2]],
            "item_id": [f"item{i}" for i in grid[3]],
            "step": pl.Series(340 + 16 * grid[0], dtype=pl.Int64),
            "demo_seed": pl.Series(grid[1], dtype=pl.Int16),
            "lp_right": pl.Series(right.ravel(), dtype=pl.Float32),
            "lp_parrot": pl.Series(parrot.ravel(), dtype=pl.Float32),
        }
    )


@pytest.fixture
def scores() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    shape = (4, 3, 2, 5)
    return -rng.exponential(2, shape).astype("f4"), -rng.exponential(2, shape).astype("f4")


def test_metrics_by_hand(scores: tuple[np.ndarray, np.ndarray]) -> None:
    items = items_of(*scores)
    right, parrot = (one.astype("f8") for one in scores)
    expected = {
        "soft": np.exp(right) - np.exp(parrot),
        "hard": (right > parrot).astype(float),
        "margin": right - parrot,
    }
    for metric, values in expected.items():
        series = seed_series(items, "successive/addition", metric=metric)  # type: ignore[arg-type]
        np.testing.assert_allclose(series.values, values.mean(axis=(2, 3)))
    assert series.steps.tolist() == [340, 356, 372, 388]
    assert series.clusters.tolist() == [0, 1, 2]
    assert series.steps.dtype == series.clusters.dtype == np.int64
    np.testing.assert_allclose(series.level, series.values.mean(axis=1))


def test_a_tie_goes_to_the_parrot() -> None:
    tie = np.full((2, 1, 1, 1), -1.0)
    assert seed_series(items_of(tie, tie), "successive/addition", metric="hard").values.max() == 0


def test_order_of_rows_does_not_matter(scores: tuple[np.ndarray, np.ndarray]) -> None:
    items = pl.concat([items_of(*scores), items_of(*scores, task="other")])
    shuffled = items.sample(fraction=1.0, shuffle=True, seed=1)
    plain, mixed = (seed_series(frame, "successive/addition") for frame in (items, shuffled))
    np.testing.assert_array_equal(plain.values, mixed.values)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda items: items.slice(1),
        lambda items: items.filter((pl.col("step") != 356) | (pl.col("demo_seed") != 2)),
        lambda items: pl.concat([items, items.slice(0, 1)]),
        lambda items: items.with_columns(
            item_id=pl.when(pl.col("step") == 340).then(pl.lit("other")).otherwise("item_id")
        ),
    ],
    ids=["item missing", "seed missing at one step", "row doubled", "other items at one step"],
)
def test_unequal_items_are_refused(scores, spoil) -> None:
    with pytest.raises(DataError, match="same items"):
        seed_series(spoil(items_of(*scores)), "successive/addition")


def test_unknown_task_is_refused_and_the_known_ones_are_named(scores) -> None:
    with pytest.raises(DataError, match="successive/addition"):
        seed_series(items_of(*scores), "repetitive/addition")


@pytest.mark.parametrize("column", ["run", "stage"])
def test_two_runs_are_no_series(scores, column: str) -> None:
    items = items_of(*scores)
    both = pl.concat([items, items.with_columns(pl.lit("other").alias(column))])
    with pytest.raises(DataError, match=f"one {column}"):
        seed_series(both, "successive/addition")


def test_a_score_that_is_no_number_is_refused_with_its_step(scores) -> None:
    scores[0][2, 1, 0, 0] = np.nan
    with pytest.raises(DataError, match="step 372"):
        seed_series(items_of(*scores), "successive/addition")


def test_pooling_averages_tasks_within_seeds(scores) -> None:
    one = seed_series(items_of(*scores), "successive/addition")
    other = ClusterSeries("repetitive/addition", one.steps, one.clusters, one.values + 0.2)
    both = pooled([one, other])
    assert both.task == "pooled"
    np.testing.assert_allclose(both.values, one.values + 0.1)
    with pytest.raises(DataError, match="seeds"):
        pooled([one, ClusterSeries("other/task", one.steps, one.clusters + 1, one.values)])
    with pytest.raises(DataError, match="no task"):
        pooled([])
