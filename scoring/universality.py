"""Universality: how alike series are, between wordings, within a family, and between families.

If a hop is of the model's mode and not of one test, tests that differ in everything else hop with
it. Series of one run are correlated in pairs (Pearson's, over checkpoints):

===========  ======================================================================================
``wording``  one task in two wordings
``family``   two tasks of one family
``between``  tasks of two families
===========  ======================================================================================

Each stands raw and corrected for the noise of the demo seeds, with intervals: see
:mod:`scoring.attenuation`.

A trend that all series follow, as a level follows training, makes them alike too: `trend` removes a
polynomial in the order of checkpoints, and ``of="change"`` compares the changes from checkpoint to
checkpoint. :mod:`scoring.across_runs` compares runs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from scoring.attenuation import CORRELATIONS, Options, check_values, compared
from scoring.metrics import TASK
from scoring.series import ClusterSeries, Metric
from windows.errors import DataError

Array = NDArray[np.float64]
Relation = Literal["wording", "family", "between"]


@dataclass(frozen=True)
class WordedSeries:
    """A task's series in one wording; in all of them together where the wording is empty."""

    series: ClusterSeries
    wording: str = ""

    @property
    def family(self) -> str:
        """The task's family."""
        return self.series.task.partition("/")[0]

    @property
    def key(self) -> tuple[str, str]:
        """Task and wording."""
        return self.series.task, self.wording


@dataclass(frozen=True, eq=False)
class Universality:
    """How alike the series of one run are.

    Attributes
    ----------
    pairs
        One row a pair of series: `relation`; `first`, `second` (tasks), `first_wording`,
        `second_wording`; `r`, `lo`, `hi`; `corrected`, null where a reliability is too low or
        unknown, `corrected_lo`, `corrected_hi`, null also where more than a tenth of the resamples
        leave no variance without noise; `reliability_first`, `reliability_second`, of the means
        over these demo seeds, null with a single one.
    relations
        Means over pairs: one row a `relation`, whose families are null, then one for every two
        families (`first_family`, `second_family`): `pairs`, `r`, `lo`, `hi`, `corrected`,
        `corrected_lo`, `corrected_hi`, `corrected_pairs`.
    resampled
        float64[R] by relation: its mean correlation in every resample.
    checkpoints
        How many were compared.
    """

    pairs: pl.DataFrame
    relations: pl.DataFrame
    resampled: dict[str, Array]
    checkpoints: int


def wording_series(measured: pl.DataFrame, *, metric: Metric = "soft") -> list[WordedSeries]:
    """Take the series of every task and wording from a table of metrics.

    Parameters
    ----------
    measured
        From :func:`scoring.metrics.metrics`, of one run and stage.
    metric
        Which of its columns.

    Returns
    -------
    list of WordedSeries
        By task and wording; clusters are the demo seeds.

    Raises
    ------
    DataError
        If the rows are of several runs or stages, or a demo seed lacks or repeats a checkpoint.
    """
    if measured.select(TASK[:2]).n_unique() > 1:
        raise DataError("a series is of one run and stage", do="filter the rows to one of each")
    rows = measured.sort("family", "task", "wording", "step", "demo_seed")
    return [
        WordedSeries(_series(part, metric), part["wording"][0])
        for part in rows.partition_by("family", "task", "wording", maintain_order=True)
    ]


def universality(series: Sequence[WordedSeries], options: Options | None = None) -> Universality:
    """Correlate every two series of one run, and average by relation and by families.

    Parameters
    ----------
    series
        At the same checkpoints. Give whole tasks to compare tasks, or each wording by itself to
        have wordings compared as well.

    Raises
    ------
    DataError
        If there are fewer than two series or fewer than eight checkpoints, checkpoints differ, a
        task and wording comes twice, or a value is not finite.
    ConfigError
        If `options` leave nothing to correlate.
    """
    options = options or Options()
    _check_series(series)
    index = np.array(list(combinations(range(len(series)), 2)))
    found = compared([each.series for each in series], index, options)
    pairs = pl.DataFrame([_pair_row(series[i], series[j]) for i, j in index])
    pairs = pl.concat([pairs, found.table(options.alpha)], how="horizontal")
    rows: list[dict[str, Any]] = []
    resampled = {}
    for relation, of, chosen in _groups(pairs):
        mean = found.mean(chosen)
        rows.append({"relation": relation, **of, **mean.row(options.alpha)})
        if of["first_family"] is None:
            resampled[relation] = mean.resampled
    families = dict.fromkeys(("first_family", "second_family"), pl.String())
    relations = pl.DataFrame(rows, schema_overrides={**families, **CORRELATIONS})
    kept = pairs.drop("first_family", "second_family")
    return Universality(kept, relations, resampled, len(series[0].series.steps))


def _pair_row(first: WordedSeries, second: WordedSeries) -> dict[str, str]:
    relation: Relation = "between"
    if first.series.task == second.series.task:
        relation = "wording"
    elif first.family == second.family:
        relation = "family"
    low, high = sorted((first.family, second.family))
    return {
        "relation": relation,
        "first": first.series.task,
        "second": second.series.task,
        "first_wording": first.wording,
        "second_wording": second.wording,
        "first_family": low,
        "second_family": high,
    }


def _groups(pairs: pl.DataFrame) -> Iterator[tuple[str, dict[str, str | None], list[int]]]:
    """Yield relation, families and rows: every relation as a whole, then by families."""
    numbered = pairs.with_row_index("index")
    for keys in (["relation"], ["relation", "first_family", "second_family"]):
        for key, part in numbered.sort(keys).group_by(keys, maintain_order=True):
            families = key[1:] or (None, None)
            named = dict(zip(("first_family", "second_family"), families, strict=True))
            yield str(key[0]), named, part["index"].to_list()


def _series(rows: pl.DataFrame, metric: Metric) -> ClusterSeries:
    task = f"{rows['family'][0]}/{rows['task'][0]}"
    steps, seeds = rows["step"].unique().sort(), rows["demo_seed"].unique().sort()
    cells = rows.select("step", "demo_seed").n_unique()
    if not cells == len(rows) == len(steps) * len(seeds):
        raise DataError(
            "a demo seed lacks or repeats a checkpoint",
            where=f"metrics of {task}, wording {rows['wording'][0]}",
            got=f"{len(rows)} rows for {len(steps)} checkpoints and {len(seeds)} demo seeds",
            do="score the missing checkpoints, or remove the doubled rows",
        )
    values = rows[metric].cast(pl.Float64).to_numpy().reshape(len(steps), len(seeds))
    return ClusterSeries(
        task, steps.to_numpy().astype(np.int64), seeds.to_numpy().astype(np.int64), values
    )


def _check_series(series: Sequence[WordedSeries]) -> None:
    if len(series) < 2:
        raise DataError("a correlation needs two series", got=str(len(series)), do="score more")
    if len({each.key for each in series}) < len(series):
        raise DataError("a task and wording comes twice", do="give every series once")
    steps = series[0].series.steps
    for each in series:
        if not np.array_equal(each.series.steps, steps):
            raise DataError(
                "series at different checkpoints cannot be correlated",
                where=f"{series[0].series.task}, {each.series.task}",
                got=f"{len(steps)} and {len(each.series.steps)} checkpoints",
                do="score all tasks at the same checkpoints",
            )
    check_values([each.series for each in series])
