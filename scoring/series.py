"""From item-level log-probabilities to one number per checkpoint and demo seed.

The demo seed is the cluster of all inference: items answered behind the same demonstrations move
together, so whatever follows (:mod:`scoring.deltas`, :mod:`scoring.labels`) sees one value per
seed and never the items themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from windows.errors import DataError

Metric = Literal["soft", "hard", "margin"]

POOLED = "pooled"

_CELL = ["demo_seed", "wording", "item_id"]


@dataclass(frozen=True)
class SeedSeries:
    """One task's score at every checkpoint, demo seed by demo seed.

    Attributes
    ----------
    task
        ``"family/name"``, or ``"pooled"``.
    steps
        int64 of shape (T,), strictly increasing.
    seeds
        int64 of shape (S,), strictly increasing.
    values
        float64 of shape (T, S): the metric averaged over items and wordings.
    """

    task: str
    steps: NDArray[np.int64]
    seeds: NDArray[np.int64]
    values: NDArray[np.float64]

    @property
    def level(self) -> NDArray[np.float64]:
        """Mean over demo seeds at every checkpoint, float64 of shape (T,)."""
        mean: NDArray[np.float64] = self.values.mean(axis=1)
        return mean


def seed_series(items: pl.DataFrame, task: str, *, metric: Metric = "soft") -> SeedSeries:
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
    SeedSeries
        Deterministic to the bit, whatever the order of the rows.

    Raises
    ------
    DataError
        If the task has no rows, the rows come from several runs or stages, a checkpoint lacks or
        repeats an item or a demo seed that another has, or a score is not finite.
    """
    rows = _task_rows(items, task)
    _refuse_unequal_cells(rows, task)
    steps = rows["step"].unique().sort().to_numpy().astype(np.int64)
    seeds = rows["demo_seed"].unique().sort().to_numpy().astype(np.int64)
    # Sorted and reshaped rather than grouped: the order of summation is then fixed.
    rows = rows.sort("demo_seed", "step", "wording", "item_id").with_columns(score=_score(metric))
    columns = [
        part["score"].to_numpy().reshape(len(steps), -1).mean(axis=1)
        for part in rows.partition_by("demo_seed", maintain_order=True)
    ]
    values = np.stack(columns, axis=1)
    if not np.isfinite(values).all():
        step = int(steps[np.flatnonzero(~np.isfinite(values).all(axis=1))[0]])
        raise DataError(
            "a score is not a finite number",
            where=f"items of {task}",
            got=f"{metric} at step {step}",
            do="score that checkpoint again",
        )
    return SeedSeries(task, steps, seeds, values)


def pooled(series: Sequence[SeedSeries]) -> SeedSeries:
    """Average several tasks, seed by seed, every task weighing the same.

    Raises
    ------
    DataError
        If there is none, or their checkpoints or demo seeds differ.
    """
    if not series:
        raise DataError("there is no task to pool", do="name at least one task")
    first = series[0]
    for other in series[1:]:
        for name in ("steps", "seeds"):
            if not np.array_equal(getattr(first, name), getattr(other, name)):
                raise DataError(
                    f"tasks with different {name} cannot be pooled",
                    where=f"{first.task}, {other.task}",
                    got=f"{len(getattr(first, name))} and {len(getattr(other, name))}",
                    do="score all tasks at the same checkpoints with the same demo seeds",
                )
    values = np.stack([one.values for one in series]).mean(axis=0)
    return SeedSeries(POOLED, first.steps, first.seeds, values)


def _task_rows(items: pl.DataFrame, task: str) -> pl.DataFrame:
    rows = items.filter(pl.concat_str("family", "task", separator="/") == task)
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


def _score(metric: Metric) -> pl.Expr:
    right, parrot = (pl.col(name).cast(pl.Float64) for name in ("lp_right", "lp_parrot"))
    if metric == "hard":
        return (right > parrot).cast(pl.Float64)
    return right - parrot if metric == "margin" else right.exp() - parrot.exp()
