"""From item-level log-probabilities to one number per checkpoint and cluster.

The demo seed is the cluster of inference: items answered behind the same demonstrations move
together, so whatever follows (:mod:`scoring.deltas`, :mod:`scoring.labels`) sees one value per
seed and never the items themselves. What takes its place where demonstrations are drawn once is
:mod:`scoring.clusters`' to say.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from windows.errors import DataError

Metric = Literal["soft", "hard", "margin"]

Unit = Literal["demo seed", "item group", "item"]
"""What a cluster is."""

POOLED = "pooled"

_CELL = ["demo_seed", "wording", "item_id"]


@dataclass(frozen=True)
class ClusterSeries:
    """One task's score at every checkpoint, cluster by cluster.

    Attributes
    ----------
    task
        ``"family/name"``, or ``"pooled"``.
    steps
        int64 of shape (T,), strictly increasing.
    clusters
        Shape (S,), strictly increasing: int64 demo seeds, or names of item groups or items.
    values
        float64 of shape (T, S): the metric averaged over a cluster's items and wordings.
    unit
        What a cluster is.
    """

    task: str
    steps: NDArray[np.int64]
    clusters: NDArray[Any]
    values: NDArray[np.float64]
    unit: Unit = "demo seed"

    @property
    def level(self) -> NDArray[np.float64]:
        """Mean over clusters at every checkpoint, float64 of shape (T,)."""
        mean: NDArray[np.float64] = self.values.mean(axis=1)
        return mean


def seed_series(items: pl.DataFrame, task: str, *, metric: Metric = "soft") -> ClusterSeries:
    """Average the items of one task within every (checkpoint, demo seed).

    Parameters
    ----------
    items
        Rows of the `items` schema, of one run and one stage.
    task
        ``"family/name"``; rows of other tasks are ignored.
    metric
        ``soft`` is P(right) - P(parrot), ``hard`` is 1 where log P(right) > log P(parrot) (a tie
        goes to the parrot), ``margin`` is log P(right) - log P(parrot) in nats.

    Returns
    -------
    ClusterSeries
        Deterministic to the bit, whatever the order of the rows.

    Raises
    ------
    DataError
        If the task has no rows, the rows come from several runs or stages, a checkpoint lacks or
        repeats an item or a demo seed that another has, or a score is not finite.
    """
    return averaged(checked_rows(items, task), task, metric, by="demo_seed", unit="demo seed")


def averaged(
    rows: pl.DataFrame, task: str, metric: Metric, *, by: str, unit: Unit
) -> ClusterSeries:
    """Average rows that :func:`checked_rows` returned within every (checkpoint, value of `by`).

    Raises
    ------
    DataError
        If a score is not finite.
    """
    steps = rows["step"].unique().sort().to_numpy().astype(np.int64)
    clusters = rows[by].unique().sort()
    # Sorted and reshaped rather than grouped: the order of summation is then fixed.
    order = dict.fromkeys((by, "step", "wording", "demo_seed", "item_id"))
    rows = rows.sort(*order).with_columns(score=score(metric))
    columns = [
        part["score"].to_numpy().reshape(len(steps), -1).mean(axis=1)
        for part in rows.partition_by(by, maintain_order=True)
    ]
    values = np.stack(columns, axis=1)
    refuse_unfinished(values, steps, task, metric)
    numbers = clusters.dtype.is_integer()
    names = clusters.to_numpy().astype(np.int64) if numbers else np.array(clusters.to_list())
    return ClusterSeries(task, steps, names, values, unit)


def refuse_unfinished(
    values: NDArray[np.float64], steps: NDArray[np.int64], task: str, metric: Metric
) -> None:
    """Raise a DataError that names the first checkpoint with a score that is not finite."""
    if np.isfinite(values).all():
        return
    step = int(steps[np.flatnonzero(~np.isfinite(values).all(axis=1))[0]])
    raise DataError(
        "a score is not a finite number",
        where=f"items of {task}",
        got=f"{metric} at step {step}",
        do="score that checkpoint again",
    )


def pooled(series: Sequence[ClusterSeries]) -> ClusterSeries:
    """Average several tasks, demo seed by demo seed, every task weighing the same.

    Raises
    ------
    DataError
        If there is none, their checkpoints or demo seeds differ, or a task has other clusters:
        :mod:`scoring.pooling` needs none in common.
    """
    if not series:
        raise DataError("there is no task to pool", do="name at least one task")
    first = series[0]
    for other in series:
        _refuse_unlike(first, other)
    values = np.stack([one.values for one in series]).mean(axis=0)
    return ClusterSeries(POOLED, first.steps, first.clusters, values)


def _refuse_unlike(first: ClusterSeries, other: ClusterSeries) -> None:
    if not first.unit == other.unit == "demo seed":
        differing, got = "clusters", f"clusters by {first.unit} and by {other.unit}"
    elif not np.array_equal(first.steps, other.steps):
        differing, got = "steps", f"{len(first.steps)} and {len(other.steps)}"
    elif not np.array_equal(first.clusters, other.clusters):
        differing, got = "seeds", f"{len(first.clusters)} and {len(other.clusters)}"
    else:
        return
    raise DataError(
        f"tasks with different {differing} cannot be pooled",
        where=f"{first.task}, {other.task}",
        got=got,
        do="score all tasks at the same checkpoints with the same demo seeds",
    )


def checked_rows(items: pl.DataFrame, task: str) -> pl.DataFrame:
    """Return the rows of one task: of one run and stage, the same ones at every checkpoint.

    Raises
    ------
    DataError
        As in :func:`seed_series`.
    """
    rows = _task_rows(items, task)
    _refuse_unequal_cells(rows, task)
    return rows


def _task_rows(items: pl.DataFrame, task: str) -> pl.DataFrame:
    family, _, name = task.partition("/")
    rows = items.filter((pl.col("family") == family) & (pl.col("task") == name))
    if rows.is_empty():
        known = items.select(pl.concat_str("family", "task", separator="/").unique().sort())
        raise DataError(
            "this task was not scored",
            where=task,
            got=", ".join(known.to_series().to_list()) or "no rows at all",
            do="score it, or name one of these",
        )
    for column in ("run", "stage"):
        found = rows[column].unique().sort().to_list()
        if len(found) > 1:
            raise DataError(
                f"a series is of one {column}",
                where=f"items of {task}",
                got=", ".join(found),
                do=f"filter the rows to one {column} first",
            )
    return rows


def _refuse_unequal_cells(rows: pl.DataFrame, task: str) -> None:
    steps = rows["step"].n_unique()
    uneven = (
        rows.group_by(_CELL)
        .agg(rows=pl.len(), checkpoints=pl.col("step").n_unique())
        .filter((pl.col("rows") != steps) | (pl.col("checkpoints") != steps))
        .sort(_CELL)
    )
    if uneven.is_empty():
        return
    row = uneven.row(0, named=True)
    raise DataError(
        "the checkpoints were not scored on the same items",
        where=f"items of {task}, demo seed {row['demo_seed']}, wording {row['wording']}",
        got=f"item {row['item_id']}: {row['rows']} rows at {row['checkpoints']} of {steps} "
        f"checkpoints ({uneven.height} such items)",
        do="score the missing checkpoints, or remove the doubled rows",
    )


def score(metric: Metric) -> pl.Expr:
    """Return the metric of a row, float64; see :func:`seed_series`."""
    right, parrot = (pl.col(name).cast(pl.Float64) for name in ("lp_right", "lp_parrot"))
    if metric == "hard":
        return (right > parrot).cast(pl.Float64)
    return right - parrot if metric == "margin" else right.exp() - parrot.exp()
