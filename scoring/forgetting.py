"""Temporal forgetting: how many of the final checkpoint's errors an earlier one had right.

The share alone says little: an item that is right now and then, by guessing or because its
demonstrations happen to help, is "forgotten" at any checkpoint at which it is wrong, and the more
checkpoints there are, the more items have been right once. So its null stands beside it. If an item
is right at c of T checkpoints at random times, it is wrong at the last of them with probability
(T - c) / T, and the share to be expected is::

    sum of (T - c) over items with c >= at_least  /  sum of (T - c) over all items

which is also the share at an average checkpoint, were all others looked at. Forgetting is what
exceeds it; a run that goes on learning stays below it, because its last errors are the hard items.

What is tested is whether the final checkpoint forgets more than other checkpoints would in its
place: p is the share of the T checkpoints that have as large a share. Items are not taken as
independent there, since a mode hop moves many of them at once; it cannot fall below 1 / T. Measured
with 100 items of unequal difficulty at 40 checkpoints and ``at_least=5``: p <= 0.05 in 5 % of 2,000
simulations without forgetting; where the last checkpoint lost 5, 10, 20 and 40 % of what was known,
in 11, 32, 86 and 100 % of 200. With coins for items it is 0.2 %, with items that hop together none.
With many checkpoints nearly every item has been right once, and `at_least` has to be raised.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from scoring.hops import false_discovery
from windows.errors import ConfigError, DataError

Array = NDArray[np.float64]

_ITEM = ["task", "wording", "demo_seed", "item_id"]
_DRAWS = 999


def right_items(items: pl.DataFrame) -> pl.DataFrame:
    """Tell of every row of the `items` schema whether it is right; ties go to the parrot.

    Returns
    -------
    polars.DataFrame
        `task` (``family/task``), `wording`, `demo_seed`, `item_id`, `step`, `right` bool.
    """
    return _right(items, pl.col("lp_right") > pl.col("lp_parrot"))


def right_answers(answers: pl.DataFrame) -> pl.DataFrame:
    """Tell of every row of schema `scoring.extraction.ANSWERS` whether it is right.

    Returns
    -------
    polars.DataFrame
        As of `right_items`; what is not answered is not right.
    """
    return _right(answers, pl.col("said") == "right")


def forgetting(
    right: pl.DataFrame,
    *,
    final: int | None = None,
    at_least: int = 1,
    alpha: float = 0.05,
    seed: int = 0,
) -> pl.DataFrame:
    """Compare the share of final errors that were right before with what chance makes of it.

    Parameters
    ----------
    right
        From `right_items` or `right_answers`: every item at every checkpoint, of one run and stage.
    final
        The step of the final checkpoint, the last where absent; later ones are left out.
    at_least
        At how many earlier checkpoints an item must have been right to count as forgotten.
    alpha
        1 - confidence of the intervals.
    seed
        Of the null's range.

    Returns
    -------
    polars.DataFrame
        By `task`: `checkpoints`; `items`, wordings and demo seeds counted apart; `right`, the final
        checkpoint's share; `ever_right`, the share right at any checkpoint; `final_errors`;
        `forgotten`, the share of these; `null`, with `null_lo`, `null_hi`, where it would lie were
        all items independent; `excess`, forgotten less null, with `lo`, `hi` (jackknife over demo
        seeds, Student's t; null where there is one); `p`, one-sided; `floor`, the smallest p there
        can be; `q` (Benjamini-Hochberg) and `q_by` (Benjamini-Yekutieli) over tasks. Shares, p and
        q are null where the final checkpoint has no error.

    Raises
    ------
    DataError
        If there are no rows, fewer than two checkpoints up to the final one, or an item is not
        there once at every checkpoint.
    ConfigError
        If `at_least` is not at least 1, or there is no checkpoint `final`.
    """
    if at_least < 1:
        raise ConfigError("nothing is forgotten that was never right", where="at_least", got="0")
    right = _up_to(right, final)
    tasks = right["task"].unique().sort().to_list()
    found = pl.DataFrame(
        [_task(right.filter(task=task), at_least, alpha, seed) for task in tasks], schema=_SCHEMA
    )
    known = found.filter(pl.col("p").is_not_null())
    p = known["p"].to_numpy()
    adjusted = known.select("task").with_columns(
        q=pl.Series(false_discovery(p) if len(p) else p),
        q_by=pl.Series(false_discovery(p, method="fdr_by") if len(p) else p),
    )
    return found.join(adjusted, on="task", how="left", maintain_order="left")


_SCHEMA = {
    "task": pl.String,
    **dict.fromkeys(("checkpoints", "items"), pl.Int64),
    **dict.fromkeys(("right", "ever_right"), pl.Float64),
    "final_errors": pl.Int64,
    **dict.fromkeys(("forgotten", "null", "null_lo", "null_hi", "excess", "lo", "hi"), pl.Float64),
    **dict.fromkeys(("p", "floor"), pl.Float64),
}


def _right(table: pl.DataFrame, right: pl.Expr) -> pl.DataFrame:
    task = pl.concat_str("family", "task", separator="/")
    return table.select(task.alias("task"), *_ITEM[1:], "step", right.alias("right"))


def _up_to(right: pl.DataFrame, final: int | None) -> pl.DataFrame:
    if right.is_empty():
        raise DataError("there is no item to have been forgotten", do="score the checkpoints first")
    if final is None:
        return right
    if final not in right["step"]:
        raise ConfigError("no such checkpoint", where="final", got=str(final))
    return right.filter(pl.col("step") <= final)


def _task(
    right: pl.DataFrame, at_least: int, alpha: float, seed: int
) -> dict[str, str | int | float | None]:
    task, count = str(right["task"][0]), right["step"].n_unique()
    items = right.group_by(_ITEM).agg(
        pl.len().alias("rows"),
        pl.col("step").n_unique().alias("steps"),
        pl.col("right").sum().cast(pl.Int64).alias("times"),
        pl.col("right").sort_by("step").last().alias("last"),
    )
    _refuse_uneven(items, task, count)
    told = {
        "task": task,
        "checkpoints": count,
        "items": items.height,
        "right": items.select(pl.col("last").mean()).item(),
        "ever_right": items.select((pl.col("times") > 0).mean()).item(),
        "final_errors": items.select((~pl.col("last")).sum()).item(),
        "floor": 1 / count,
    }
    if not told["final_errors"]:
        return told
    # By demo seed, in order: forgotten, errors, and the two sums of the null.
    wrong, often = ~pl.col("last"), pl.col("times") >= at_least
    room = count - pl.col("times")
    sums = items.group_by("demo_seed").agg(
        (wrong & often).sum(),
        errors=wrong.sum(),
        expected=room.filter(often).sum(),
        room=room.sum(),
    )
    parts = sums.sort("demo_seed").drop("demo_seed").to_numpy().astype(np.float64)
    shares = _shares(parts.sum(axis=0))
    lo, hi = _jackknife(parts, alpha)
    null_lo, null_hi = _chance(items["times"].to_numpy(), count, at_least, alpha, seed)
    return told | {
        "forgotten": shares[0],
        "null": shares[1],
        "null_lo": null_lo,
        "null_hi": null_hi,
        "excess": shares[0] - shares[1],
        "lo": lo,
        "hi": hi,
        "p": _placement_p(right, items, at_least),
    }


def _refuse_uneven(items: pl.DataFrame, task: str, count: int) -> None:
    uneven = items.filter((pl.col("rows") != count) | (pl.col("steps") != count))
    if count < 2 or not uneven.is_empty():
        raise DataError(
            "forgetting needs every item once at each of at least two checkpoints",
            where=task,
            got=f"{count} checkpoints, {uneven.height} of {items.height} items uneven over them",
            do="score the same items at every checkpoint, of one run and stage",
        )


def _shares(sums: Array) -> tuple[float, float]:
    """Return the forgotten share and its null from the four sums."""
    forgotten, errors, expected, room = map(float, sums)
    return forgotten / errors if errors else 0.0, expected / room if room else 0.0


def _jackknife(parts: Array, alpha: float) -> tuple[float, float] | tuple[None, None]:
    """Return the interval of the excess, leaving out one demo seed after the other."""
    count = len(parts)
    if count < 2:
        return None, None
    total = parts.sum(axis=0)
    left = np.array([np.subtract(*_shares(total - part)) for part in parts])
    error = np.sqrt((count - 1) * left.var())
    half = float(stats.t.isf(alpha / 2, count - 1) * error)
    excess = float(np.subtract(*_shares(total)))
    return excess - half, excess + half


def _chance(
    times: NDArray[np.int64], count: int, at_least: int, alpha: float, seed: int
) -> tuple[float, float]:
    """Return the range of the share if items are right at random times, each for itself."""
    having = np.bincount(times, minlength=count + 1)
    wrong = 1 - np.arange(count + 1) / count
    drawn = np.random.default_rng(seed).binomial(having, wrong, (_DRAWS, count + 1))
    errors = drawn.sum(axis=1)
    share = drawn[:, at_least:].sum(axis=1) / np.maximum(errors, 1)
    lo, hi = np.quantile(share[errors > 0], [alpha / 2, 1 - alpha / 2])
    return float(lo), float(hi)


def _placement_p(right: pl.DataFrame, items: pl.DataFrame, at_least: int) -> float:
    """Return the share of checkpoints whose errors were right at others as often as the final's."""
    wrong = right.filter(~pl.col("right")).join(items.select(*_ITEM, "times"), on=_ITEM)
    shares = (
        wrong.group_by("step").agg((pl.col("times") >= at_least).mean().alias("share")).sort("step")
    )
    own = shares["share"].to_numpy()
    # A checkpoint without an error has forgotten nothing.
    reached = np.count_nonzero(own >= own[-1] - 1e-12)
    if own[-1] <= 0:
        return 1.0
    return float(reached / right["step"].n_unique())
