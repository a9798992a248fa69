"""Which changes are real: false-discovery control, a smallest effect of interest, equivalence.

====================  ==========================================================================
``up``, ``down``      q < alpha (Benjamini-Hochberg over the series) and the estimate lies beyond
                      the smallest effect of interest, in that direction
``none``              two one-sided tests put the effect inside +-minimum, each at alpha
``undecided``         neither: the seeds cannot say
====================  ==========================================================================

The first row needs the estimate beyond `minimum`, not its interval: a hop is "not zero, and large
enough to matter as estimated". No row can be both, since equivalence needs an estimate inside.
Adjacent tests share a checkpoint, which makes them negatively dependent; Benjamini-Hochberg is
then no longer guaranteed, so Benjamini-Yekutieli's q, valid under any dependence, stands beside it.
"""

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests

from scoring.series import POOLED

Array = NDArray[np.float64]


def hop_table(deltas: pl.DataFrame, *, alpha: float, minimum: float) -> pl.DataFrame:
    """Add `q` (Benjamini-Hochberg), `q_by` (Benjamini-Yekutieli) and `hop` to a delta table.

    Parameters
    ----------
    deltas
        From :func:`scoring.deltas.delta_table`; the tests are those of the plain delta.
    alpha
        False-discovery rate of ``up`` and ``down``, and level of the equivalence test.
    minimum
        Smallest effect of interest, in the metric's units.

    Returns
    -------
    polars.DataFrame
        `hop` is one of ``up, down, none, undecided``, by the table above.
    """
    p = deltas["p_delta"].to_numpy()
    q = false_discovery(p)
    delta, se, df = (deltas[name].to_numpy() for name in ("delta", "delta_se", "delta_df"))
    hop = directions(delta, q, equivalence_p(delta, se, df, minimum), alpha=alpha, minimum=minimum)
    return deltas.with_columns(
        q=pl.Series(q),
        q_by=pl.Series(false_discovery(p, method="fdr_by")),
        hop=pl.Series(hop, dtype=pl.String),
    )


def false_discovery(p: Array, *, method: str = "fdr_bh") -> Array:
    """Adjust p values to q values, of the same shape; `method` as statsmodels names it."""
    q: Array = multipletests(p, method=method)[1]
    return q


def with_study_q(tables: Mapping[str, pl.DataFrame], *, p: str = "p") -> dict[str, pl.DataFrame]:
    """Add `q_study` and `q_study_by`: discoveries controlled over every (task, window) of a study.

    The q values within a series control false discoveries task by task; of 52 tasks and 679 windows
    together they promise nothing. A pooled series is made of the others, so it is no further test
    and keeps to itself.

    Parameters
    ----------
    tables
        By task: of deltas, hops or labels.
    p
        Their column of p values.

    Returns
    -------
    dict
        The tables in the same order, with Benjamini-Hochberg's and Benjamini-Yekutieli's q.
    """
    found: dict[str, pl.DataFrame] = {}
    derived = {task for task in tables if task == POOLED}
    for family in (tables.keys() - derived, derived):
        named = [task for task in tables if task in family]
        if not named:
            continue
        values = np.concatenate([tables[task][p].to_numpy() for task in named])
        ends = np.cumsum([tables[task].height for task in named])[:-1]
        for name, method in (("q_study", "fdr_bh"), ("q_study_by", "fdr_by")):
            parts = np.split(false_discovery(values, method=method), ends)
            for task, part in zip(named, parts, strict=True):
                found[task] = found.get(task, tables[task]).with_columns(pl.Series(name, part))
    return {task: found[task] for task in tables}


def equivalence_p(effect: Array, se: Array, df: Array, minimum: float) -> Array:
    """Test by two one-sided t tests whether the effect lies inside (-minimum, minimum).

    Returns the larger p of the two, as in Schuirmann (1987): below `alpha` exactly where the
    interval of confidence 1 - 2 alpha lies inside.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        room = (minimum - np.abs(effect)) / se
    # 0/0: no error, and an effect on the very edge, which is not inside.
    p: Array = stats.t.sf(np.nan_to_num(room, nan=-np.inf, posinf=np.inf, neginf=-np.inf), df)
    return p


def directions(
    effect: Array, q: Array, p_equivalence: Array, *, alpha: float, minimum: float
) -> list[str]:
    """Apply the table in the module's docstring, element by element."""
    real = (q < alpha) & (np.abs(effect) > minimum)
    choices = [real & (effect > 0), real & (effect < 0), p_equivalence < alpha]
    named: list[str] = np.select(choices, ["up", "down", "none"], default="undecided").tolist()
    return named
