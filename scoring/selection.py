"""Which checkpoints generalize: a ranking by the suite, with what the demo seeds can say of it.

A checkpoint's score is the mean over tasks of the mean over demo seeds. Checkpoints are compared
seed by seed, so that what a seed does to all of them cancels. Inference is over other draws of
demonstrations; checkpoints, tasks and items are taken as they are, and a score speaks of no other
training run.

====================  ==========================================================================
exchangeable          i is exchangeable with the best where not even the checkpoint that beats it
with the best         most beats it by more than chance: multiple comparisons with the best (Hsu
                      1984). The set holds the true best with the confidence that is asked for
ranks                 interval of a checkpoint's rank: those that beat it by more than chance are
                      above, those that it beats so are below (marginal sets of Mogstad, Romano,
                      Shaikh and Wilhelm 2024)
comparisons           between candidates that the same data chose, and what stands beside them:
                      intervals hold for all pairs of checkpoints at once, so for chosen ones too
====================  ==========================================================================

What chance does is computed by flipping signs (:mod:`scoring.sign_flips`): tasks that have the same
demo seeds are averaged, and a seed is flipped with all its tasks at all checkpoints. With S seeds
in all no p falls below 2^-S: four of them can never tell anything apart at 0.05. Measured
where no checkpoint differs, 12 of them, 2,000 simulations: with 8, 16 and 24 seeds the set fails to
hold the first in 5.4, 4.6 and 5.2 %, and any of all pairs is told apart in 5.0, 5.4 and 4.4 %. With
36 checkpoints whose scores spread by as much as a seed's noise (0.1; 300 simulations), 34, 23 and
10 % of them remain exchangeable with the best, the set always holds it, and high and low are told
apart in 81, 100 and 100 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from scoring.sign_flips import AgainstOne, Cluster, against, critical, draw_signs, flip_p
from windows.errors import ConfigError, DataError

Array = NDArray[np.float64]
Scale = Literal["raw", "sd"]

_SPLITS = 200


@dataclass(frozen=True)
class Selection:
    """Checkpoints ranked, and two candidates for post-training.

    Attributes
    ----------
    checkpoints
        One row a checkpoint, by `step`: `score`, `lo`, `hi` (Student's t over demo seeds, not
        adjusted); `rank` from 1, the best; `rank_lo`, `rank_hi`; `gap` to the best other
        checkpoint, positive for the best, with one-sided bounds `gap_lo` and `gap_hi`, adjusted for
        all others; `p_best`, `exchangeable_best`, `p_worst`, `exchangeable_worst`;
        `mean_percentile` and `lowest_percentile`, mean and least over tasks of its place among the
        checkpoints by the task's level, from 0 for the lowest to 1.
    comparisons
        One row for each candidate (`high`, `low`) and what stands beside it (`previous`, `next`,
        `final`, `loss-selected`, and the other candidate): `step`, `other`, `other_step`,
        `difference` (candidate less other), `lo`, `hi`, `p`, adjusted for all pairs.
    high, low
        Steps of the candidates: the best and the worst score. The earlier of equals.
    distinct
        Whether the two differ, adjusted for all pairs.
    held_out
        Score of the best less score of the worst where both are chosen by a random half of the demo
        seeds and scored by the other, mean over splits: the difference without what choosing adds
        to it. Half the seeds choose less well, so that it is rather too small.
    floor
        The smallest p that there can be.
    sentences
        In words.
    """

    checkpoints: pl.DataFrame
    comparisons: pl.DataFrame
    high: int
    low: int
    distinct: bool
    held_out: float
    floor: float
    sentences: tuple[str, ...]


def select_checkpoints(
    scores: pl.DataFrame,
    *,
    loss: pl.DataFrame | None = None,
    scale: Scale = "raw",
    alpha: float = 0.05,
    seed: int = 0,
) -> Selection:
    """Rank checkpoints by a suite and pick the high and the low candidate.

    Parameters
    ----------
    scores
        `task`, `step`, `demo_seed`, `value`: one row a cell, of one run and stage. Tasks may have
        different demo seeds; all have the same checkpoints.
    loss
        `step`, `loss`: one row for every checkpoint, to name the one that the loss would choose.
    scale
        What a task counts: ``raw``, its values as they are; ``sd``, divided by the standard
        deviation of its level over checkpoints, so that a task that hardly moves counts as much as
        one that hops. The scores are then in such units.
    alpha
        1 - confidence, and the level of every test.
    seed
        Of the flips and splits that are drawn.

    Raises
    ------
    DataError
        If a cell is missing, doubled or not finite, there are fewer than two checkpoints, a task
        has fewer than two demo seeds, or a checkpoint has no loss.
    ConfigError
        If alpha lies outside (0, 0.5).
    """
    if not 0 < alpha < 0.5:
        raise ConfigError("not a level of a test", where="alpha", got=str(alpha), do="use 0.05")
    steps, tasks = _tasks(scores, scale)
    clusters = _clusters(tasks)
    by_loss = None if loss is None else _lowest_loss(loss, steps)
    signs = draw_signs([cluster.values.shape[1] for cluster in clusters], seed)
    found = [against(clusters, signs, control) for control in range(len(steps))]
    score = _score(clusters)
    table = pl.DataFrame(
        {
            "step": steps,
            "score": score,
            **_intervals(clusters, score, alpha),
            **_ranks(score, found, alpha),
            **_gaps(score, found, alpha),
            **_percentiles(tasks),
        }
    )
    high, low = int(np.argmax(score)), int(np.argmin(score))
    everywhere = np.max([np.maximum(one.above, one.below) for one in found], axis=0)
    comparisons = _comparisons(
        steps, found, everywhere, _named(len(steps), high, low, by_loss), alpha
    )
    p = float(flip_p(abs(found[low].t[high]), everywhere))
    picked = Selection(
        table,
        comparisons,
        steps[high],
        steps[low],
        p <= alpha,
        _held_out(clusters, seed),
        1 / len(signs[0]),
        (),
    )
    return replace(picked, sentences=_sentences(picked, alpha))


def _tasks(scores: pl.DataFrame, scale: Scale) -> tuple[list[int], list[tuple[list[int], Array]]]:
    """Return the steps, and for each task its demo seeds and float64[T, S]."""
    steps = scores["step"].unique().sort().to_list()
    if len(steps) < 2:
        raise DataError("there is nothing to select from", got=f"{len(steps)} checkpoints")
    found = []
    for part in scores.sort("task", "step", "demo_seed").partition_by("task", maintain_order=True):
        seeds = part["demo_seed"].unique().sort().to_list()
        values = part["value"].cast(pl.Float64).to_numpy()
        whole = part.select("step", "demo_seed").n_unique() == part.height
        if not whole or part.height != len(steps) * len(seeds) or not np.isfinite(values).all():
            raise DataError(
                "a task's scores are not one finite value for every checkpoint and demo seed",
                where=str(part["task"][0]),
                got=f"{part.height} rows for {len(steps)} checkpoints and {len(seeds)} demo seeds",
                do="score the missing checkpoints, or leave the task out",
            )
        if len(seeds) < 2:
            raise DataError(
                "an error by demo seed needs at least two of them",
                where=str(part["task"][0]),
                got=f"{len(seeds)} demo seed",
                do="raise suite.demo_seeds, or give a task without demonstrations its templates "
                "or wordings in their place",
            )
        found.append((seeds, _scaled(values.reshape(len(steps), -1), scale)))
    return steps, found


def _scaled(values: Array, scale: Scale) -> Array:
    spread = float(values.mean(axis=1).std(ddof=1))
    return values / spread if scale == "sd" and spread > 0 else values


def _clusters(tasks: Sequence[tuple[list[int], Array]]) -> list[Cluster]:
    groups: dict[tuple[int, ...], list[Array]] = {}
    for seeds, values in tasks:
        groups.setdefault(tuple(seeds), []).append(values)
    return [Cluster(len(own) / len(tasks), np.mean(own, axis=0)) for own in groups.values()]


def _score(clusters: Sequence[Cluster]) -> Array:
    parts = [cluster.weight * cluster.values.mean(axis=1) for cluster in clusters]
    total: Array = np.sum(parts, axis=0)
    return total


def _intervals(clusters: Sequence[Cluster], score: Array, alpha: float) -> dict[str, Array]:
    """Student's t with Satterthwaite's degrees of freedom over clusters."""
    parts = [
        (c.weight**2 * c.values.var(axis=1, ddof=1) / c.values.shape[1], c.values.shape[1] - 1)
        for c in clusters
    ]
    variance = np.sum([own for own, _ in parts], axis=0)
    spent = np.sum([own**2 / df for own, df in parts], axis=0)
    df = np.divide(variance**2, spent, out=np.ones_like(variance), where=spent > 0)
    half = stats.t.isf(alpha / 2, df) * np.sqrt(variance)
    return {"lo": score - half, "hi": score + half}


def _ranks(score: Array, found: Sequence[AgainstOne], alpha: float) -> dict[str, NDArray[np.int64]]:
    bounds = []
    for one in found:
        edge = critical(np.maximum(one.above, one.below), alpha)
        bounds.append((1 + (one.t > edge).sum(), len(score) - (one.t < -edge).sum()))
    lo, hi = np.array(bounds, dtype=np.int64).T
    return {
        "rank": stats.rankdata(-score, method="min").astype(np.int64),
        "rank_lo": lo,
        "rank_hi": hi,
    }


def _gaps(
    score: Array, found: Sequence[AgainstOne], alpha: float
) -> dict[str, list[float] | list[bool]]:
    p_best = [float(flip_p(one.above[0], one.above)) for one in found]
    p_worst = [float(flip_p(one.below[0], one.below)) for one in found]
    bounds = [_gap(one, control, alpha) for control, one in enumerate(found)]
    return {
        "gap": [gap for gap, _, _ in bounds],
        "gap_lo": [lo for _, lo, _ in bounds],
        "gap_hi": [hi for _, _, hi in bounds],
        "p_best": p_best,
        "exchangeable_best": [p > alpha for p in p_best],
        "p_worst": p_worst,
        "exchangeable_worst": [p > alpha for p in p_worst],
    }


def _gap(one: AgainstOne, control: int, alpha: float) -> tuple[float, float, float]:
    own, se = np.delete(-one.difference, control), np.delete(one.se, control)
    lo = own - critical(one.below, alpha) * se
    hi = own + critical(one.above, alpha) * se
    return float(own.min()), float(lo.min()), float(hi.min())


def _percentiles(tasks: Sequence[tuple[list[int], Array]]) -> dict[str, Array]:
    levels = np.stack([values.mean(axis=1) for _, values in tasks])
    shares = (stats.rankdata(levels, axis=1) - 1) / (levels.shape[1] - 1)
    return {"mean_percentile": shares.mean(axis=0), "lowest_percentile": shares.min(axis=0)}


def _named(count: int, high: int, low: int, by_loss: int | None) -> list[tuple[str, int, str, int]]:
    """Return candidate, its index, what stands beside it, and that one's index."""
    found = []
    for name, at, rival, other in (("high", high, "low", low), ("low", low, "high", high)):
        beside = {rival: other, "previous": at - 1, "next": at + 1, "final": count - 1}
        if by_loss is not None:
            beside["loss-selected"] = by_loss
        found += [(name, at, what, to) for what, to in beside.items() if 0 <= to < count]
    return found


def _comparisons(
    steps: Sequence[int],
    found: Sequence[AgainstOne],
    everywhere: Array,
    named: Sequence[tuple[str, int, str, int]],
    alpha: float,
) -> pl.DataFrame:
    edge = critical(everywhere, alpha)
    rows = []
    for candidate, at, other, to in named:
        difference, se = float(found[to].difference[at]), float(found[to].se[at])
        rows.append(
            {
                "candidate": candidate,
                "step": steps[at],
                "other": other,
                "other_step": steps[to],
                "difference": difference,
                "lo": difference - edge * se,
                "hi": difference + edge * se,
                "p": float(flip_p(abs(found[to].t[at]), everywhere)),
            }
        )
    return pl.DataFrame(rows)


def _held_out(clusters: Sequence[Cluster], seed: int) -> float:
    """Choose by a random half of every cluster's seeds and score by the rest; mean over splits."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(_SPLITS):
        kept, left = [], []
        for cluster in clusters:
            drawn = rng.permutation(cluster.values.shape[1])
            half = len(drawn) // 2
            kept.append(replace(cluster, values=cluster.values[:, drawn[:half]]))
            left.append(replace(cluster, values=cluster.values[:, drawn[half:]]))
        chosen, scored = _score(kept), _score(left)
        found.append(scored[np.argmax(chosen)] - scored[np.argmin(chosen)])
    return float(np.mean(found))


def _lowest_loss(loss: pl.DataFrame, steps: Sequence[int]) -> int:
    own = loss.filter(pl.col("step").is_in(steps)).sort("step")
    values = own["loss"].cast(pl.Float64).to_numpy()
    if own["step"].to_list() != list(steps) or not np.isfinite(values).all():
        raise DataError(
            "every checkpoint needs one finite loss",
            where="losses",
            got=f"{own.height} for {len(steps)} checkpoints",
            do="evaluate the loss at every scored checkpoint, or give none",
        )
    return int(np.argmin(values))


def _sentences(picked: Selection, alpha: float) -> tuple[str, ...]:
    table = picked.checkpoints
    alike = table.filter(pl.col("exchangeable_best")).height
    told = [
        f"Of {table.height} checkpoints {alike} are exchangeable with the best at {1 - alpha:.0%} "
        f"confidence; the best score is that of step {picked.high}, the worst of {picked.low}.",
        f"The two {'differ' if picked.distinct else 'are not shown to differ'}, all pairs "
        f"considered; chosen and scored by different demo seeds they are {picked.held_out:+.3f} "
        "apart.",
    ]
    for row in picked.comparisons.filter(candidate="high").iter_rows(named=True):
        if row["other"] in ("final", "loss-selected") and row["other_step"] != picked.high:
            interval = f"[{row['lo']:+.3f}, {row['hi']:+.3f}], p = {row['p']:.3f}"
            told.append(
                f"Step {picked.high} less the {row['other']} checkpoint, step {row['other_step']}: "
                f"{row['difference']:+.3f} {interval}."
            )
    if picked.floor > alpha:
        told.append(
            f"So few demo seeds allow no p below {picked.floor:.3f}: nothing can be told apart."
        )
    told.append(
        "The ranking is over other draws of demonstrations for these tasks and items, not over "
        "other training runs, and says nothing yet of what post-training makes of a checkpoint."
    )
    return tuple(told)
