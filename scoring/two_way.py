"""Two-way clusters: errors of a change over demo seeds and items at once.

Errors by demo seed say nothing of other items: all seeds ask the same ones. Where items, too, stand
for others like them, both count, and the variance of a mean is that over seeds plus that over items
less that over single cells (Cameron, Gelbach and Miller 2011, Journal of Business & Economic
Statistics 29(2), 238-249). It stands beside the verdict by demo seed and does not replace it: with
the smaller number of clusters less one as its degrees of freedom, unmoderated, it asks for more.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from scoring.deltas import two_sided_p
from scoring.series import Metric, checked_rows, refuse_unfinished, score
from windows.errors import DataError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ItemSeries:
    """One task's score at every checkpoint, cell by cell.

    Attributes
    ----------
    task
        ``"family/name"``.
    steps
        int64 of shape (T,), strictly increasing.
    values
        float64 of shape (T, N): the metric of every (demo seed, wording, item).
    seeds, items
        int64 of shape (N,), counted from 0: which demo seed and which item a cell is of.
    """

    task: str
    steps: NDArray[np.int64]
    values: Array
    seeds: NDArray[np.int64]
    items: NDArray[np.int64]


def item_series(items: pl.DataFrame, task: str, *, metric: Metric = "soft") -> ItemSeries:
    """Arrange the items of one task by checkpoint and cell; arguments as of `seed_series`.

    Raises
    ------
    DataError
        As in :func:`scoring.series.seed_series`.
    """
    rows = checked_rows(items, task).sort("step", "demo_seed", "wording", "item_id")
    steps = rows["step"].unique().sort().to_numpy().astype(np.int64)
    values = rows.select(score(metric)).to_series().to_numpy().reshape(len(steps), -1)
    refuse_unfinished(values, steps, task, metric)
    first = rows.head(values.shape[1])
    seeds, names = (
        first[column].rank("dense").cast(pl.Int64).to_numpy() - 1
        for column in ("demo_seed", "item_id")
    )
    return ItemSeries(task, steps, values, seeds, names)


def two_way_table(series: ItemSeries) -> pl.DataFrame:
    """Test every delta by two-way clusters.

    Columns `first_step`, `end_step` i64; `delta`, `se`, `df`, `p` f64. The delta is that of
    :func:`scoring.deltas.delta_table`: every demo seed weighs the same. The variance is never below
    that by demo seed alone, which the sum of three estimates can fall under by chance. Where no
    item is asked behind two seeds, items add nothing and it is the one by demo seed.

    Raises
    ------
    DataError
        If there are fewer than two demo seeds or items.
    """
    counts = [int(index.max()) + 1 for index in (series.seeds, series.items)]
    if min(counts) < 2:
        raise DataError(
            "two-way clusters need at least two demo seeds and two items",
            where=f"items of {series.task}",
            got=f"{counts[0]} demo seeds, {counts[1]} items",
            do="raise suite.demo_seeds, or cluster by items alone",
        )
    changes = np.diff(series.values, axis=0)
    weights = 1 / np.bincount(series.seeds)[series.seeds] / counts[0]
    delta = changes @ weights
    shares = (changes - delta[:, None]) * weights
    by_seed, by_item = (_variance(shares, index) for index in (series.seeds, series.items))
    cells = shares.shape[1]
    by_cell = (shares**2).sum(axis=1) * cells / (cells - 1)
    se = np.sqrt(np.maximum(by_seed + by_item - by_cell, by_seed))
    df = float(min(counts) - 1)
    return pl.DataFrame(
        {
            "first_step": series.steps[:-1],
            "end_step": series.steps[1:],
            "delta": delta,
            "se": se,
            "df": np.full(len(delta), df),
            "p": two_sided_p(delta, se, df),
        }
    )


def _variance(shares: Array, index: NDArray[np.int64]) -> Array:
    order = np.argsort(index, kind="stable")
    starts = np.flatnonzero(np.diff(index[order], prepend=-1))
    sums = np.add.reduceat(shares[:, order], starts, axis=1)
    variance: Array = (sums**2).sum(axis=1) * len(starts) / (len(starts) - 1)
    return variance
