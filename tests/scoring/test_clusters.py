import numpy as np
import polars as pl
import pytest

from scoring.clusters import cluster_series, sentence, smallest_p
from scoring.series import pooled, seed_series
from windows.errors import DataError

TASK = "repetitive/algebra"


def one_draw(margins: np.ndarray, *, seeds: int = 1) -> pl.DataFrame:
    """Rows of items from float[steps, groups, wordings, items]; an item's id holds its wording."""
    grid = np.indices((seeds, *margins.shape)).reshape(5, -1)
    values = np.tile(margins.ravel(), seeds)
    ids = [f"g{g}w{w}i{i}" for g, w, i in zip(*grid[2:], strict=True)]
    return pl.DataFrame(
        {
            "run": "tiny",
            "stage": "stage1",
            "family": "repetitive",
            "task": "algebra",
            "wording": [f"plain{w}" for w in grid[3]],
            "item_id": ids,
            "step": pl.Series(16 * grid[1], dtype=pl.Int64),
            "demo_seed": pl.Series(grid[0], dtype=pl.Int16),
            "lp_right": pl.Series(values, dtype=pl.Float64),
            "lp_parrot": 0.0,
        }
    )


@pytest.fixture
def margins() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(5, 3, 2, 4))


def groups_of(items: pl.DataFrame) -> pl.DataFrame:
    return items.select("item_id", group=pl.col("item_id").str.slice(0, 2)).unique()


def test_demo_seeds_are_the_clusters_where_there_are_several(margins: np.ndarray) -> None:
    items = one_draw(margins, seeds=3)
    found = cluster_series(items, TASK, metric="margin", groups=groups_of(items))
    assert found.unit == "demo seed"
    expected = seed_series(items, TASK, metric="margin")
    np.testing.assert_array_equal(found.values, expected.values)
    np.testing.assert_array_equal(found.clusters, [0, 1, 2])


def test_groups_hold_all_their_wordings(margins: np.ndarray) -> None:
    items = one_draw(margins)
    found = cluster_series(items, TASK, metric="margin", groups=groups_of(items))
    assert (found.unit, found.clusters.tolist()) == ("item group", ["g0", "g1", "g2"])
    np.testing.assert_allclose(found.values, margins.mean(axis=(2, 3)))


def test_without_groups_every_worded_item_is_a_cluster(margins: np.ndarray) -> None:
    items = one_draw(margins)
    shuffled = items.sample(fraction=1.0, shuffle=True, seed=1)
    found = cluster_series(shuffled, TASK, metric="margin")
    assert (found.unit, found.values.shape) == ("item", (5, 24))
    np.testing.assert_array_equal(found.values, cluster_series(items, TASK, metric="margin").values)
    np.testing.assert_allclose(found.level, margins.mean(axis=(1, 2, 3)))


@pytest.mark.parametrize("spoil", [lambda g: g.slice(1), lambda g: pl.concat([g, other(g)])])
def test_an_item_belongs_to_one_group(margins: np.ndarray, spoil) -> None:
    items = one_draw(margins)
    with pytest.raises(DataError, match="one group"):
        cluster_series(items, TASK, groups=spoil(groups_of(items).sort("item_id")))


def other(groups: pl.DataFrame) -> pl.DataFrame:
    return groups.head(1).with_columns(group=pl.lit("another"))


def test_other_clusters_than_seeds_are_not_pooled_seed_by_seed(margins: np.ndarray) -> None:
    one = cluster_series(one_draw(margins), TASK)
    with pytest.raises(DataError, match="different clusters"):
        pooled([one, one])


def test_the_floor_is_that_of_all_sign_flips() -> None:
    signs = np.array(np.meshgrid(*[[-1, 1]] * 5)).reshape(5, -1)
    sums = np.abs(np.arange(1, 6) @ signs)
    assert smallest_p(5) == np.mean(sums >= sums.max())
    assert smallest_p(1) == 1.0


def test_the_sentence_says_what_the_clusters_are(margins: np.ndarray) -> None:
    items = one_draw(margins, seeds=4)
    said = sentence(cluster_series(items, TASK), df=20.0)
    assert "4 demo seeds" in said and "0.12" in said and "17 borrowed" in said
    assert "drawn once" not in said
    assert "drawn once" in sentence(cluster_series(one_draw(margins), TASK), df=30.0)
