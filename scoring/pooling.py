"""Effects of a window pooled over tasks, and every task's own drawn towards them.

The tasks are the clusters here. A window's pooled effect is the mean over tasks, and its error
comes from how much they differ, which holds each task's error and what the window truly did to one
and not to another: it speaks of other tasks like these. (The ``pooled`` series of
:func:`scoring.series.pooled` speaks of these tasks alone, and of other demo seeds.) The variances
are moderated across windows.

What is left of a window's variance between tasks once the tasks' own errors are taken off is the
between-task variance. With it every task's effect is drawn towards the pooled one in proportion to
how unsure it is (Morris 1983, Journal of the American Statistical Association 78, 47-55): tasks
that are sure stay where they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from scoring.deltas import two_sided_p
from scoring.hops import false_discovery
from scoring.moderation import moderate
from windows.errors import DataError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Pooled:
    """Windows pooled over tasks.

    Attributes
    ----------
    windows
        One row per window: `first_step`, `end_step` i64; `tasks` i64; `effect`, `se`, `df`, `lo`,
        `hi`, `p`, `q` f64; `between_sd` f64, the standard deviation of true effects over tasks.
    tasks
        One row per task and window: `task`; `first_step`, `end_step`; `effect`, `se` as they came;
        `shrunk`, `shrunk_se`, `shrunk_lo`, `shrunk_hi`; `weight`, what of it is the task's own.
    """

    windows: pl.DataFrame
    tasks: pl.DataFrame


def pooled_effects(
    tables: Mapping[str, pl.DataFrame],
    *,
    effect: str = "innovation",
    se: str = "se",
    confidence: float = 0.95,
) -> Pooled:
    """Pool the per-window effects of several tasks.

    Parameters
    ----------
    tables
        By task, from :func:`scoring.deltas.delta_table`, all of the same windows.
    effect, se
        The columns to pool.
    confidence
        Of the intervals.

    Raises
    ------
    DataError
        If there are fewer than two tasks, or their windows differ.
    """
    windows = _shared_windows(tables)
    effects, errors = (
        np.stack([table[name].to_numpy() for table in tables.values()], axis=1)
        for name in (effect, se)
    )
    count = effects.shape[1]
    moderated = moderate(effects.var(axis=1, ddof=1), count - 1)
    mean, mean_se = effects.mean(axis=1), np.sqrt(moderated.variances / count)
    between = np.maximum(moderated.variances - (errors**2).mean(axis=1), 0)
    half = stats.t.isf((1 - confidence) / 2, moderated.df) * mean_se
    p = two_sided_p(mean, mean_se, moderated.df)
    pooled = windows.with_columns(
        tasks=pl.lit(count, dtype=pl.Int64),
        effect=pl.Series(mean),
        se=pl.Series(mean_se),
        df=pl.lit(moderated.df),
        lo=pl.Series(mean - half),
        hi=pl.Series(mean + half),
        p=pl.Series(p),
        q=pl.Series(false_discovery(p)),
        between_sd=pl.Series(np.sqrt(between)),
    )
    normal = float(stats.norm.isf((1 - confidence) / 2))
    tasks = [
        _shrunk(windows, name, (effects[:, column], errors[:, column]), pooled, normal)
        for column, name in enumerate(tables)
    ]
    return Pooled(pooled, pl.concat(tasks))


def _shrunk(
    windows: pl.DataFrame,
    task: str,
    own: tuple[Array, Array],
    pooled: pl.DataFrame,
    normal: float,
) -> pl.DataFrame:
    effect, error = own
    mean, mean_se, between = (pooled[n].to_numpy() for n in ("effect", "se", "between_sd"))
    total = between**2 + error**2
    weight = np.divide(between**2, total, out=np.ones_like(total), where=total > 0)
    shrunk = mean + weight * (effect - mean)
    shrunk_se = np.sqrt(weight * error**2 + ((1 - weight) * mean_se) ** 2)
    return pl.DataFrame(
        {
            "task": [task] * len(effect),
            **windows.to_dict(),
            "effect": effect,
            "se": error,
            "shrunk": shrunk,
            "shrunk_se": shrunk_se,
            "shrunk_lo": shrunk - normal * shrunk_se,
            "shrunk_hi": shrunk + normal * shrunk_se,
            "weight": weight,
        }
    )


def _shared_windows(tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    windows = [table.select("first_step", "end_step") for table in tables.values()]
    if len(windows) < 2 or not all(one.equals(windows[0]) for one in windows):
        raise DataError(
            "pooling needs two tasks or more with the same windows",
            where=", ".join(tables) or "no task",
            got=f"{' and '.join(str(one.height) for one in windows) or 'no'} windows",
            do="score all tasks at the same checkpoints",
        )
    return windows[0]
