"""Where the level of a series shifts, single odd checkpoints included, at a calibrated price.

The segmentation is ruptures' exact one under squared error (`KernelCPD` with the linear kernel, the
cost of ``Pelt(model="l2")``). A segment may be one checkpoint long: with the usual least length of
two a dip of a single checkpoint is never found at both its edges. A change must lower the squared
error by a *penalty*, in units of a level's measured squared error, or it is not made; a dip is two
changes. Measured errors know the clusters only. What a level does beyond them without any hop is
seen on normal controls, and :func:`calibrated_penalty` raises the penalty until those change no
more often than is agreed. Whether one checkpoint differs from both its neighbours is also tested
outright, cluster by cluster.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray
from ruptures import KernelCPD  # type: ignore[import-untyped]

from scoring.deltas import two_sided_p
from scoring.hops import false_discovery
from scoring.moderation import moderate
from scoring.series import ClusterSeries
from scoring.state_space import checkpoint_errors, refuse_short
from windows.errors import DataError

Array = NDArray[np.float64]

_PENALTIES = np.geomspace(1, 1e6, 300)


@dataclass(frozen=True)
class Calibration:
    """A penalty, and what normal controls do under it.

    Attributes
    ----------
    penalty
        In units of a level's squared error.
    alarms
        Changes per 100 checkpoints of the controls.
    checkpoints
        Of all controls together.
    raised
        Whether the controls needed more than the measured errors ask for.
    """

    penalty: float
    alarms: float
    checkpoints: int
    raised: bool


def error_penalty(checkpoints: int) -> float:
    """Return the penalty under which measured error alone rarely makes a change, log T + 5.25.

    Of series of nothing but white error 4.3, 4.8, 4.4 and 4.5 % have a change at 20, 40, 150 and
    680 checkpoints (4,000 simulations each). A dip of one checkpoint by 6 errors is found at both
    edges in 96, 93, 92 and 86 % of them, by 5 errors in 80, 74, 67 and 61 % (500 each).
    """
    return float(np.log(max(checkpoints, 1)) + 5.25)


def change_points(series: ClusterSeries, penalty: float) -> list[int]:
    """Return the indices of the checkpoints with which a new segment begins, increasing.

    Raises
    ------
    DataError
        As in :func:`scoring.state_space.checkpoint_errors`, or if the penalty is not positive.
    """
    return _changes(_standardised(series), penalty)


def segment_table(series: ClusterSeries, penalty: float) -> pl.DataFrame:
    """One row per segment: `first_step`, `last_step`, `checkpoints` i64; `level`, `change` f64.

    `change` is the level less the segment's before; null in the first.
    """
    edges = [0, *change_points(series, penalty), len(series.steps)]
    pairs = list(pairwise(edges))
    levels = pl.Series([float(series.level[a:b].mean()) for a, b in pairs])
    return pl.DataFrame(
        {
            "first_step": [int(series.steps[a]) for a, _ in pairs],
            "last_step": [int(series.steps[b - 1]) for _, b in pairs],
            "checkpoints": [b - a for a, b in pairs],
            "level": levels,
            "change": levels.diff(),
        }
    )


def odd_checkpoint_table(series: ClusterSeries) -> pl.DataFrame:
    """Test every checkpoint but the first and last against the mean of its two neighbours.

    Paired by cluster: what neighbouring checkpoints share of a cluster's error cancels, while for
    the segmentation it makes the level less sure. Half of what one checkpoint does shows in either
    neighbour, with the other sign. Columns `step` i64; `excess`, `se`, `df`, `p`, `q`
    (Benjamini-Hochberg over the series) f64. Variances are moderated over checkpoints.

    Raises
    ------
    DataError
        As in :func:`scoring.state_space.checkpoint_errors`.
    """
    refuse_short(series)
    values = series.values
    excess = values[1:-1] - (values[:-2] + values[2:]) / 2
    clusters = excess.shape[1]
    moderated = moderate(excess.var(axis=1, ddof=1), clusters - 1)
    mean, se = excess.mean(axis=1), np.sqrt(moderated.variances / clusters)
    p = two_sided_p(mean, se, moderated.df)
    return pl.DataFrame(
        {
            "step": series.steps[1:-1],
            "excess": mean,
            "se": se,
            "df": np.full(len(mean), moderated.df),
            "p": p,
            "q": false_discovery(p),
        }
    )


def calibrated_penalty(controls: Sequence[ClusterSeries], *, alarms: float) -> Calibration:
    """Find the least penalty under which controls change seldom enough.

    Parameters
    ----------
    controls
        Series of tasks whose level no window should move.
    alarms
        Changes per 100 checkpoints that are put up with.

    Returns
    -------
    Calibration
        Never below :func:`error_penalty` of the longest control.

    Raises
    ------
    DataError
        If there is no control, or as in :func:`change_points`.
    """
    if not controls:
        raise DataError(
            "thresholds are calibrated on normal controls, and there is none",
            do="score a control task, or use error_penalty",
        )
    levels = [_standardised(one) for one in controls]
    checkpoints = sum(len(one) for one in levels)
    floor = error_penalty(max(len(one) for one in levels))

    def rate(penalty: float) -> float:
        return 100 * sum(len(_changes(one, penalty)) for one in levels) / checkpoints

    # Fewer changes at a higher penalty: the least one is found by halving.
    penalties = [floor, *_PENALTIES[floor < _PENALTIES]]
    first = bisect_left(penalties, True, key=lambda penalty: rate(penalty) <= alarms)
    penalty = float(penalties[min(first, len(penalties) - 1)])
    return Calibration(penalty, rate(penalty), checkpoints, raised=first > 0)


def calibrated_threshold(controls: Array, *, alarms: float) -> float:
    """Return what a statistic of one checkpoint or window must exceed to be worth an alarm.

    The order statistic that a new control's value exceeds at most `alarms` times in 100, whatever
    the distribution (Vovk, Gammerman and Shafer 2005, section 2.2), if new values are like the
    controls'. Infinite where the controls are too few to promise it: 1 in 100 needs 99 values.

    Parameters
    ----------
    controls
        Values of the statistic on normal controls, in any order: absolute deltas, say.
    alarms
        Per 100 checkpoints.
    """
    rank = int(np.ceil((controls.size + 1) * (1 - alarms / 100) - 1e-9))
    return float(np.sort(controls, axis=None)[rank - 1]) if rank <= controls.size else float("inf")


def _standardised(series: ClusterSeries) -> Array:
    errors, correlation = checkpoint_errors(series)
    # Errors that neighbours share average out more slowly: by their long-run variance.
    error = np.sqrt(np.mean(errors**2) * (1 + correlation) / (1 - correlation))
    centred: Array = series.level - series.level.mean()
    scale = max(float(error), 1e-5 * float(np.ptp(centred)))
    return centred / scale if scale > 0 else centred


def _changes(levels: Array, penalty: float) -> list[int]:
    if not penalty > 0:
        raise DataError("a penalty is positive", got=str(penalty), do="use error_penalty")
    search = KernelCPD(kernel="linear", min_size=1).fit(levels[:, None])
    return [int(edge) for edge in search.predict(pen=penalty)[:-1]]
