"""Tables of item scores reduced one at a time, by worker processes: for runs of any length.

A long run has tens of millions of rows, and what follows needs one number per checkpoint, task and
cluster. A table holds one checkpoint's rows of one task, so every function of rows that keeps
checkpoints and tasks apart can be applied table by table. Memory is that of one table and of what
is kept of all. Series are those of the whole, to the bit, whatever the number of workers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from scoring.clusters import cluster_series
from scoring.items import ANSWERS_FOLDER, ITEMS, PERSONA_FOLDER, read_tables
from scoring.series import ClusterSeries, Metric, Unit, checked_rows
from windows.errors import DataError
from windows.progress import Reporter
from windows.workers import WorkerPool

R = TypeVar("R")

TABLES_A_JOB = 500
"""Fewer than these are reduced here: starting a worker takes longer."""

_OF = ["run", "stage", "step", "family", "task"]
_CELL = ["demo_seed", "wording", "item_id"]


def item_tables(folder: Path) -> list[Path]:
    """List the tables of item scores below a folder, sorted; those that `read_items` reads."""
    generated = (PERSONA_FOLDER, ANSWERS_FOLDER)
    return sorted(
        path
        for path in folder.rglob("*.parquet")
        if path.relative_to(folder).parent.name not in generated
    )


def map_tables(
    folder: Path, function: Callable[[pl.DataFrame], R], pool: WorkerPool, reporter: Reporter
) -> list[R]:
    """Return what a function makes of every table of item scores, in the order of their paths.

    Parameters
    ----------
    function
        Of a module, so that it can be sent to a worker by name.

    Raises
    ------
    DataError
        If there are none, or one is not a table of schema `ITEMS`.
    """
    paths = item_tables(folder)
    if not paths:
        raise DataError("no item scores", where=str(folder), do="run the sweep first")
    jobs = [
        _Job(function, tuple(paths[start : start + TABLES_A_JOB]))
        for start in range(0, len(paths), TABLES_A_JOB)
    ]
    if len(jobs) == 1:
        return _reduce(jobs[0])
    with reporter.task("reducing scores", len(paths)) as advance:
        parts = pool.map(_reduce, jobs, on_done=lambda index, part: advance(len(part)))
    return [one for part in parts for one in part]


@dataclass(frozen=True)
class _Job(Generic[R]):
    function: Callable[[pl.DataFrame], R]
    paths: tuple[Path, ...]


def _reduce(job: _Job[R]) -> list[R]:
    """Reduce some tables; a worker's entry."""
    return [
        job.function(read_tables([path], ITEMS, "item scores", path.parent)) for path in job.paths
    ]


def concatenated(
    folder: Path,
    function: Callable[[pl.DataFrame], pl.DataFrame],
    pool: WorkerPool,
    reporter: Reporter,
) -> pl.DataFrame:
    """Return a function of rows that keeps checkpoints and tasks apart, of all rows below a folder.

    Such are `scoring.metrics.metrics` and `authors_metrics`, equal to the bit, and
    `scoring.extraction.answer_mass`, whose mean is summed in no fixed order and so equal to
    rounding. The result is sorted by the first columns, as theirs is.
    """
    parts = map_tables(folder, function, pool, reporter)
    keys = [name for name in parts[0].columns if name in (*_OF, *_CELL)]
    return pl.concat(parts).sort(keys)


@dataclass(frozen=True)
class _Table:
    """What is kept of a table: whose it is, a digest of its items, its clusters and their means."""

    of: tuple[str, str, int, str, str]
    digest: str
    clusters: NDArray[Any]
    values: Mapping[Metric, NDArray[np.float64]]
    unit: Unit


def all_series(
    folder: Path,
    pool: WorkerPool,
    reporter: Reporter,
    *,
    metrics: Sequence[Metric] = ("soft", "hard"),
    groups: pl.DataFrame | None = None,
) -> dict[Metric, dict[str, ClusterSeries]]:
    """Return every task's series, as `scoring.clusters.cluster_series` makes them of all rows.

    Parameters
    ----------
    folder
        Item scores of one run and one stage.
    metrics
        Which; see `scoring.series.seed_series`.
    groups
        As of `cluster_series`.

    Returns
    -------
    dict
        By metric, then by task ``"family/name"``, sorted by family and name.

    Raises
    ------
    DataError
        As in `cluster_series`, or if a table holds the rows of several checkpoints or tasks.
    """
    function = partial(_kept, metrics=tuple(metrics), groups=groups)
    paths = item_tables(folder)
    tables = map_tables(folder, function, pool, reporter)
    found = sorted(zip(tables, paths, strict=True), key=lambda pair: (pair[0].of[3:], pair[0].of))
    series: dict[Metric, dict[str, ClusterSeries]] = {metric: {} for metric in metrics}
    for (family, name), part in groupby(found, key=lambda pair: pair[0].of[3:]):
        task, rows = f"{family}/{name}", list(part)
        _refuse_unlike(task, rows)
        for metric in metrics:
            series[metric][task] = _series(task, [table for table, _ in rows], metric)
    return series


def _kept(
    rows: pl.DataFrame, *, metrics: tuple[Metric, ...], groups: pl.DataFrame | None
) -> _Table:
    owners = rows.select(_OF).unique()
    if owners.height != 1:
        raise DataError(
            "a table of item scores is of one checkpoint and one task",
            where=_named(owners),
            got=f"{owners.height} of them",
            do="run the sweep again, which writes one table for each",
        )
    of = owners.row(0)
    task = f"{of[3]}/{of[4]}"
    found = {one: cluster_series(rows, task, metric=one, groups=groups) for one in metrics}
    first = found[metrics[0]]
    values = {metric: series.values[0] for metric, series in found.items()}
    cells = rows.select(_CELL).sort(_CELL).write_csv()
    return _Table(of, sha256(cells.encode()).hexdigest(), first.clusters, values, first.unit)


def _named(owners: pl.DataFrame) -> str:
    if owners.is_empty():
        return "a table without rows"
    run, stage, step, family, name = owners.sort(_OF).row(0)
    return f"the table with {family}/{name} of {run}, {stage}-step{step}"


def _refuse_unlike(task: str, found: Sequence[tuple[_Table, Path]]) -> None:
    """Let `checked_rows` say what is wrong with the first table that is not like the first one."""
    first, path = found[0]
    earlier = {first.of[2]}
    for table, other in found[1:]:
        like = (table.of[:2], table.digest) == (first.of[:2], first.digest)
        if not like or table.of[2] in earlier:
            checked_rows(read_tables([path, other], ITEMS, "item scores", path.parent), task)
            raise DataError(
                "a checkpoint has two tables of one task",
                where=f"items of {task}, step {table.of[2]}",
                got=str(other),
                do="remove one of them",
            )
        earlier.add(table.of[2])


def _series(task: str, tables: Sequence[_Table], metric: Metric) -> ClusterSeries:
    steps = np.array([table.of[2] for table in tables], dtype=np.int64)
    values = np.stack([table.values[metric] for table in tables])
    return ClusterSeries(task, steps, tables[0].clusters, values, tables[0].unit)
