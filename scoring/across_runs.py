"""Universality across runs: the same task in two runs, and whether larger models are more alike.

Runs meet on an axis: tokens that they had consumed, or floating-point operations that had gone into
them, 6 for each parameter and token. Where their checkpoints do not lie at the same places, the run
with more of them is read off between its neighbours, cluster by cluster; reading off averages
noise, so that its reliability, and nothing else, looks better than it is.

Models of one data order see the same windows at the same tokens and not at the same FLOPs: hops
that line up in tokens speak for the stream, those that line up in FLOPs for the stage of learning.
A learning curve that both follow lines up in either; :class:`scoring.attenuation.Options` can
remove a trend or compare changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from scoring.attenuation import CORRELATIONS, Options, check_values, compared
from scoring.series import ClusterSeries
from scoring.universality import Universality, WordedSeries, universality
from windows.errors import DataError

Array = NDArray[np.float64]
Axis = Literal["tokens", "flops"]

FLOPS_PER_PARAMETER = 6
"""Of training, for each parameter and token: forward 2, backward 4, what attention adds left out.
Source: Kaplan et al., "Scaling Laws for Neural Language Models" (2020), section 2.1."""


def training_flops(parameters: int, tokens: float) -> float:
    """Estimate the floating-point operations of training: 6 a parameter and token.

    Parameters
    ----------
    parameters
        Those of embeddings left out.
    """
    return float(FLOPS_PER_PARAMETER) * parameters * tokens


@dataclass(frozen=True, eq=False)
class RunSeries:
    """The series of one run.

    Attributes
    ----------
    name
        The run's.
    parameters
        Of its model, embeddings left out.
    tokens
        int64 of shape (T,), strictly increasing: consumed at every checkpoint.
    series
        At those checkpoints.
    """

    name: str
    parameters: int
    tokens: NDArray[np.int64]
    series: tuple[WordedSeries, ...]

    def axis(self, against: Axis) -> Array:
        """Return tokens, or FLOPs, at every checkpoint, float64[T]."""
        tokens: Array = self.tokens.astype(np.float64)
        return tokens if against == "tokens" else training_flops(self.parameters, 1.0) * tokens


@dataclass(frozen=True, eq=False)
class BySize:
    """Whether series are more alike in larger models.

    Attributes
    ----------
    sizes
        One row a run and relation, by size: `run`, `parameters`, and what
        `Universality.relations` has of the whole relation.
    trends
        One row a relation: `sizes`, how many different ones; `slope`, of the mean correlation for
        ten times the parameters, with `lo`, `hi`. The interval speaks of other demonstrations and
        other stretches of these very runs: of other models it can say nothing.
    sentences
        In words.
    """

    sizes: pl.DataFrame
    trends: pl.DataFrame
    sentences: tuple[str, ...]


def series_table(runs: Sequence[RunSeries]) -> pl.DataFrame:
    """Lay series out against tokens and against FLOPs.

    Returns
    -------
    polars.DataFrame
        `run`, `parameters`, `task`, `wording`, `step`, `tokens`, `flops`, `level` (the mean over
        clusters), by run, task, wording and step as they come.

    Raises
    ------
    DataError
        If a run's tokens are not one ascending number a checkpoint.
    """
    parts = []
    for run in runs:
        _check_run(run)
        for each in run.series:
            columns = {
                "run": [run.name] * len(run.tokens),
                "parameters": [run.parameters] * len(run.tokens),
                "task": [each.series.task] * len(run.tokens),
                "wording": [each.wording] * len(run.tokens),
                "step": each.series.steps,
                "tokens": run.tokens,
                "flops": run.axis("flops"),
                "level": each.series.level,
            }
            parts.append(pl.DataFrame(columns))
    return pl.concat(parts)


def same_tasks(
    first: RunSeries, second: RunSeries, against: Axis = "tokens", options: Options | None = None
) -> pl.DataFrame:
    """Correlate every task's series in one run with the same task's in another.

    Returns
    -------
    polars.DataFrame
        One row for each task and wording that both have, `task`, `wording`, and one, last, of their
        mean, whose task is ``mean``: `r`, `lo`, `hi`, `corrected`, `corrected_lo`, `corrected_hi`
        as of `Universality`; `checkpoints`, how many were compared.

    Raises
    ------
    DataError
        If the runs have no task in common, or fewer than eight checkpoints on the same stretch of
        the axis.
    ConfigError
        If `options` leave nothing to correlate.
    """
    options = options or Options()
    keys = _common([first, second])
    left, right = _aligned(first, second, keys, against)
    check_values([*left, *right])
    index = np.array([(at, len(keys) + at) for at in range(len(keys))])
    found = compared([*left, *right], index, options)
    names = list(CORRELATIONS)
    rows = found.table(options.alpha).select(names)
    mean = found.mean(range(len(keys))).row(options.alpha)
    last = pl.DataFrame([{name: mean[name] for name in names}], schema=rows.schema)
    return pl.concat([rows, last]).select(
        pl.Series("task", [*(task for task, _ in keys), "mean"]),
        pl.Series("wording", [*(wording for _, wording in keys), ""]),
        *names,
        checkpoints=pl.lit(len(left[0].steps), pl.Int64),
    )


def by_size(runs: Sequence[RunSeries], options: Options | None = None) -> BySize:
    """Compare how alike the series of each run are, and follow that over the runs' sizes.

    Raises
    ------
    DataError
        If there are fewer than two sizes, the runs do not have the same tasks and wordings, or as
        :func:`scoring.universality.universality`.
    """
    options = options or Options()
    ordered = sorted(runs, key=lambda run: run.parameters)
    _check_sizes(ordered)
    found = [
        # Resamples of different runs have nothing to do with each other.
        universality(run.series, replace(options, seed=options.seed + number))
        for number, run in enumerate(ordered)
    ]
    rows = [
        each.relations.filter(pl.col("first_family").is_null())
        .drop("first_family", "second_family")
        .select(
            pl.lit(run.name).alias("run"),
            pl.lit(run.parameters, pl.Int64).alias("parameters"),
            pl.all(),
        )
        for run, each in zip(ordered, found, strict=True)
    ]
    sizes = pl.concat(rows)
    trends = [_trend(relation, ordered, found, options.alpha) for relation in found[0].resampled]
    return BySize(sizes, pl.DataFrame(trends), tuple(map(_sentence, trends)))


def _trend(
    relation: str, runs: Sequence[RunSeries], found: Sequence[Universality], alpha: float
) -> dict[str, str | int | float]:
    size = np.log10([run.parameters for run in runs])
    slope_of = (size - size.mean()) / ((size - size.mean()) ** 2).sum()
    whole = pl.col("first_family").is_null() & (pl.col("relation") == relation)
    actual = np.array([each.relations.filter(whole)["r"][0] for each in found])
    resampled = np.stack([each.resampled[relation] for each in found]).T @ slope_of
    slope = float(slope_of @ actual)
    half = float(stats.norm.isf(alpha / 2) * resampled.std(ddof=1))
    sizes = len(set(size.tolist()))
    return {
        "relation": relation,
        "sizes": sizes,
        "slope": slope,
        "lo": slope - half,
        "hi": slope + half,
    }


def _sentence(trend: dict[str, str | int | float]) -> str:
    between = {
        "wording": "wordings of one task",
        "family": "tasks of one family",
        "between": "tasks of different families",
    }[str(trend["relation"])]
    told = "no trend with size is shown"
    if float(trend["lo"]) > 0:
        told = "they are more alike in larger models"
    elif float(trend["hi"]) < 0:
        told = "they are less alike in larger models"
    return (
        f"Series of {between}: {told} ({trend['slope']:+.2f} in correlation for ten times the "
        f"parameters, interval [{trend['lo']:+.2f}, {trend['hi']:+.2f}], {trend['sizes']} sizes, "
        "of these very runs)."
    )


def _aligned(
    first: RunSeries, second: RunSeries, keys: Sequence[tuple[str, str]], against: Axis
) -> tuple[list[ClusterSeries], list[ClusterSeries]]:
    """Return both runs' series at the points of the one that has fewer on the common stretch."""
    axes = [run.axis(against) for run in (first, second)]
    low, high = max(axis[0] for axis in axes), min(axis[-1] for axis in axes)
    inside = [axis[(axis >= low) & (axis <= high)] for axis in axes]
    points = min(inside, key=len)
    sides = []
    for run, axis in zip((first, second), axes, strict=True):
        by_key = {each.key: each.series for each in run.series}
        sides.append([_read_off(by_key[key], axis, points) for key in keys])
    return sides[0], sides[1]


def _read_off(series: ClusterSeries, axis: Array, points: Array) -> ClusterSeries:
    columns = [np.interp(points, axis, column) for column in series.values.T]
    values = np.stack(columns, axis=1)
    return replace(series, steps=np.arange(len(points), dtype=np.int64), values=values)


def _common(runs: Sequence[RunSeries]) -> list[tuple[str, str]]:
    for run in runs:
        _check_run(run)
    keys = set.intersection(*({each.key for each in run.series} for run in runs))
    if not keys:
        raise DataError(
            "the runs have no task and wording in common",
            where=", ".join(run.name for run in runs),
            do="score the same suite on both",
        )
    return sorted(keys)


def _check_sizes(runs: Sequence[RunSeries]) -> None:
    sizes = {run.parameters for run in runs}
    if len(sizes) < 2:
        raise DataError(
            "a trend with size needs models of two sizes or more",
            got=", ".join(run.name for run in runs) or "no run",
            do="add a run of another size",
        )
    common = _common(runs)
    for run in runs:
        if len(run.series) != len(common):
            raise DataError(
                "runs of different suites cannot be compared by size",
                where=run.name,
                got=f"{len(run.series)} series, {len(common)} common to all runs",
                do="keep the tasks and wordings that all runs were scored on",
            )


def _check_run(run: RunSeries) -> None:
    ascending = run.tokens.ndim == 1 and bool(np.all(np.diff(run.tokens) > 0))
    fits = all(len(each.series.steps) == len(run.tokens) for each in run.series)
    if not (ascending and fits and run.series and run.parameters > 0):
        raise DataError(
            "a run's series need one ascending number of tokens for every checkpoint",
            where=run.name,
            got=f"{len(run.tokens)} numbers, {len(run.series)} series, "
            f"{run.parameters:,} parameters",
            do="give the tokens consumed at the series' own checkpoints",
        )
