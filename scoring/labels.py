"""Labels of windows: what each one did to the mode, how strongly, and how sure that is.

A label is the same decision as a hop (see the table in :mod:`scoring.hops`), made on the rule's
effect: ``up`` is *generalization*, ``down`` *pattern*, ``none`` *neutral*. The rule ``innovation``
adjusts for the level the window started from and is the default; ``delta`` is the plain change.

A label says that the window's checkpoints differ. That training on its data would do the same again
is a claim of its own, which :mod:`scoring.transfer` tests.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from scoring.deltas import delta_table
from scoring.hops import directions, equivalence_p, false_discovery, hop_table
from scoring.series import ClusterSeries
from scoring.state_space import Decomposition
from scoring.transfer import Verdict
from windows.errors import DataError
from windows.run import Window

Rule = Literal["innovation", "delta"]

RULE_VERSION = 1

_LABEL = {"up": "generalization", "down": "pattern", "none": "neutral", "undecided": "undecided"}
_COLUMNS = {
    "innovation": ("innovation", "se", "df", "p"),
    "delta": ("delta", "delta_se", "delta_df", "p_delta"),
}


def label_windows(
    series: ClusterSeries, windows: Sequence[Window], *, rule: Rule, alpha: float, minimum: float
) -> pl.DataFrame:
    """Label every window of a series.

    Parameters
    ----------
    series
        In soft units, if `minimum` is.
    windows
        One per pair of adjacent checkpoints of the series, in any order.
    rule
        Which effect decides.
    alpha
        False-discovery rate over the windows, level of the equivalence test, and 1 - confidence of
        the intervals.
    minimum
        Smallest effect of interest.

    Returns
    -------
    polars.DataFrame
        The `labels` schema, in the series' order, and a column `hop` that judges the plain delta.
        `strength` is the rule's effect; `se`, `lo`, `hi`, `p` and `q` are of `strength`. The
        intervals are not adjusted for the number of windows.

    Raises
    ------
    DataError
        If the windows are not those between the series' checkpoints, or as in
        :func:`scoring.deltas.delta_table`.
    """
    table = hop_table(delta_table(series), alpha=alpha, minimum=minimum)
    named = _match(table, windows, series.task)
    effect, se, df, p = (table[name].to_numpy() for name in _COLUMNS[rule])
    q = false_discovery(p)
    inside = equivalence_p(effect, se, df, minimum)
    found = directions(effect, q, inside, alpha=alpha, minimum=minimum)
    half: NDArray[np.float64] = stats.t.isf(alpha / 2, df) * se
    return pl.DataFrame(
        {
            "window": [window.name for window in named],
            "task": [series.task] * len(named),
            "label": [_LABEL[one] for one in found],
            "first_batch": pl.Series([window.first_batch for window in named], dtype=pl.Int64),
            "end_batch": pl.Series([window.end_batch for window in named], dtype=pl.Int64),
            "delta": table["delta"],
            "innovation": table["innovation"],
            "se": se,
            "lo": effect - half,
            "hi": effect + half,
            "p": p,
            "q": q,
            "strength": effect,
            "rule_version": pl.Series([RULE_VERSION] * len(named), dtype=pl.Int32),
            "hop": table["hop"],
        }
    )


def may_label(decomposition: Decomposition, transfer: Verdict | None) -> tuple[bool, str]:
    """Tell whether windows may be labelled, or only described, and why.

    Labels need one of two grounds to stand on: effects that outlast their checkpoint, or effects
    that shuffled replay repeats. Where there is neither, a delta may be the odd checkpoint's own.
    Persistence is the weaker ground: what an optimizer's steps did lasts too, whatever the data.

    Parameters
    ----------
    decomposition
        Of the series that labels the windows.
    transfer
        What shuffled replay said; None where it was not run.

    Returns
    -------
    allowed
        Whether either ground holds.
    sentence
        In words.
    """
    found = decomposition
    interval = (
        f"{found.share:.0%} of the variance of deltas persists"
        f" ({found.confidence:.0%} interval {found.lo:.0%} to {found.hi:.0%})"
    )
    persists = found.lo > 0
    said = {
        "transferable": "shuffled replay says that labels transfer",
        "not-transferable": "shuffled replay says that labels do not transfer",
        "underpowered": "shuffled replay had too few windows to say",
        None: "no shuffled replay was run",
    }[transfer]
    allowed = persists or transfer == "transferable"
    verdict = "Windows are labelled" if allowed else "Windows are described and not labelled"
    ground = f"{interval}, {'above zero' if persists else 'not above zero'}"
    limit = " The labels are of checkpoints: what the data did is not shown."
    return allowed, f"{verdict}: {ground}; {said}." + limit * (transfer != "transferable")


def _match(table: pl.DataFrame, windows: Sequence[Window], task: str) -> list[Window]:
    pairs = list(zip(table["first_step"], table["end_step"], strict=True))
    by_steps = {(window.first_step, window.end_step): window for window in windows}
    odd = set(pairs) ^ by_steps.keys()
    if odd or len(by_steps) != len(windows):
        first = min(odd) if odd else "two windows between the same checkpoints"
        raise DataError(
            "the windows are not those between the scored checkpoints",
            where=f"labels of {task}",
            got=f"{len(windows)} windows, {len(pairs)} pairs of checkpoints, first apart: {first}",
            do="score a checkpoint at every edge of every window, and nothing between",
        )
    return [by_steps[pair] for pair in pairs]
