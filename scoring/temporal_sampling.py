"""Temporal sampling: answers drawn round-robin from several checkpoints, and what they come to.

Of k answers the first comes from the first checkpoint that is named, usually the last of the run,
the next from the second, and so on around. Three ways to make one number of them, each a mean over
items:

``pass``       the probability that at least one of the k is right, estimated without bias from all
               answers of each checkpoint: 1 - prod_j C(n_j - c_j, k_j) / C(n_j, k_j), for c_j right
               ones of n_j and k_j drawn (Chen et al. 2021; for several checkpoints Li et al. 2025,
               "Temporal sampling for forgotten reasoning in LLMs")
``majority``   the probability that the answer most of the k give is right; of answers that are
               given equally often one is taken at random, and who does not answer does not vote
``best-of-n``  the probability that the answer with the highest score is right, one of equals at
               random

The last two are means over random draws without replacement. Checkpoints are named by strings, so
that fine-tuned ones and LoRA adapters (:mod:`scoring.lora`) stand beside those of a run.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats
from scipy.special import gammaln

from scoring.voting import Answers, best_of, draw, majority
from windows.errors import ConfigError, DataError

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Cluster = Literal["demo_seed", "item"]

_ITEM = ["task", "item", "demo_seed"]
_CHECKPOINT = pl.format("{}/{}-step{}", "run", "stage", "step")


def drawn_answers(answers: pl.DataFrame) -> pl.DataFrame:
    """Read answers as votes; rows that repeat are samples.

    Parameters
    ----------
    answers
        Rows of schema `scoring.extraction.ANSWERS`, of several checkpoints; a column `score` f64 is
        kept.

    Returns
    -------
    polars.DataFrame
        `task` (``family/task``), `item` (wording and item id), `demo_seed`, `checkpoint`
        (``<run>/<stage>-step<step>``), `answer` (``right``, ``parrot``, or null where there is
        none: rivals are not told apart), `right` bool, and `score` if there is one.
    """
    return answers.select(
        pl.concat_str("family", "task", separator="/").alias("task"),
        pl.concat_str("wording", "item_id", separator="/").alias("item"),
        "demo_seed",
        _CHECKPOINT.alias("checkpoint"),
        pl.col("said").replace("neither", None).alias("answer"),
        (pl.col("said") == "right").alias("right"),
        *(name for name in ("score",) if name in answers.columns),
    )


def drawn_counts(drawn: pl.DataFrame) -> pl.DataFrame:
    """Count answers and right ones: `samples` and `matches` i64 by item and checkpoint."""
    counted = drawn.group_by(*_ITEM, "checkpoint").agg(
        pl.len().cast(pl.Int64).alias("samples"),
        pl.col("right").sum().cast(pl.Int64).alias("matches"),
    )
    return counted.sort(*_ITEM, "checkpoint")


def persona_counts(persona: pl.DataFrame) -> pl.DataFrame:
    """Bring rows of schema `scoring.extraction.PERSONA` into the form of `drawn_counts`."""
    return persona.select(
        pl.format("persona/{}", "persona").alias("task"),
        pl.concat_str("wording", "question", separator="/").alias("item"),
        "demo_seed",
        _CHECKPOINT.alias("checkpoint"),
        pl.col("samples", "matches").cast(pl.Int64),
    ).sort(*_ITEM, "checkpoint")


def round_robin(k: int, checkpoints: int) -> tuple[int, ...]:
    """Return how many of k answers each checkpoint gives, the first ones the odd ones."""
    return tuple(k // checkpoints + (at < k % checkpoints) for at in range(checkpoints))


def pass_at_k(samples: Ints, matches: Ints, drawn: Sequence[int]) -> Array:
    """Estimate without bias the probability that at least one drawn answer is right.

    Parameters
    ----------
    samples, matches
        int64 of shape (items, checkpoints): answers, and right ones.
    drawn
        How many are drawn of each checkpoint, at most its samples.

    Returns
    -------
    float64 of shape (items,)
    """
    wrong, k = samples - matches, np.asarray(drawn)
    with np.errstate(invalid="ignore"):
        logs = _log_choose(wrong, k) - _log_choose(samples, k)
    none = np.where((wrong < k) & (k > 0), -np.inf, np.where(k > 0, logs, 0.0)).sum(axis=1)
    estimate: Array = -np.expm1(none)
    return estimate


def pass_table(
    counts: pl.DataFrame,
    checkpoints: Sequence[str],
    ks: Sequence[int],
    *,
    cluster: Cluster = "demo_seed",
    alpha: float = 0.05,
) -> pl.DataFrame:
    """Estimate pass@k of answers drawn round-robin from the first 1, 2, ... checkpoints.

    Parameters
    ----------
    counts
        From `drawn_counts` or `persona_counts`; other checkpoints are left out.
    checkpoints
        In the order in which they are drawn from; the first is what the others are held against.
    ks
        How many answers are drawn.
    cluster
        What the interval of the gain is over: demo seeds, or items where there are none.
    alpha
        1 - confidence.

    Returns
    -------
    polars.DataFrame
        By `task`, `method`, `k` and `checkpoints`, from how many of them the answers are drawn, as
        far as every item has enough: `value`; `gain` over as many answers of the first checkpoint
        alone, null where it has too few, with `lo`, `hi` (Student's t over clusters; null where
        there is one); `items`.

    Raises
    ------
    DataError
        If an item lacks a checkpoint, or there are too few answers for one of `ks`.
    ConfigError
        If `ks` or `checkpoints` is empty, unknown, doubled or not positive.
    """
    _check_asked(counts, checkpoints, ks)
    parts = []
    for keys, samples, matches in _matrices(counts, checkpoints):
        for k, drawn in _plans(ks, samples.min(axis=0), keys["task"][0]):
            value = pass_at_k(samples, matches, drawn)
            parts.append(
                keys.with_columns(
                    method=pl.lit("pass"),
                    k=pl.lit(k, pl.Int64),
                    checkpoints=pl.lit(np.count_nonzero(drawn), pl.Int64),
                    value=pl.Series(value),
                )
            )
    return _summary(pl.concat(parts), cluster, alpha)


def vote_table(
    drawn: pl.DataFrame,
    checkpoints: Sequence[str],
    ks: Sequence[int],
    *,
    draws: int = 200,
    cluster: Cluster = "demo_seed",
    alpha: float = 0.05,
    seed: int = 0,
) -> pl.DataFrame:
    """Estimate majority votes, and best-of-n where answers have a score.

    Parameters
    ----------
    drawn
        From `drawn_answers`, or made alike: `task`, `item`, `demo_seed`, `checkpoint`, `answer`,
        `right`, and `score` for best-of-n.
    checkpoints, ks, cluster, alpha
        As of `pass_table`.
    draws
        How often k answers are drawn of every item.
    seed
        Of these.

    Returns
    -------
    polars.DataFrame
        As of `pass_table`.

    Raises
    ------
    DataError
        As of `pass_table`, or if equal answers to an item are right and wrong, or a score is not a
        number.
    ConfigError
        As of `pass_table`.
    """
    _check_asked(drawn, checkpoints, ks)
    _refuse_unsound(drawn)
    drawn = drawn.with_columns(pl.col("demo_seed").cast(pl.Int64))
    methods = {"majority": majority} | ({"best-of-n": best_of} if "score" in drawn.columns else {})
    rng = np.random.default_rng(seed)
    rows = []
    for keys, samples, _ in _matrices(drawn_counts(drawn), checkpoints):
        plans = _plans(ks, samples.min(axis=0), keys["task"][0])
        for key, pools in _pools(drawn.join(keys, on=_ITEM, how="semi"), checkpoints):
            for k, plan in plans:
                taken = draw(pools, plan, draws, rng)
                for method, of in methods.items():
                    rows.append((*key, method, k, sum(map(bool, plan)), of(taken)))
    return _summary(pl.DataFrame(rows, schema=_VALUES, orient="row"), cluster, alpha)


_VALUES = {
    **dict.fromkeys(("task", "item"), pl.String),
    "demo_seed": pl.Int64,
    "method": pl.String,
    **dict.fromkeys(("k", "checkpoints"), pl.Int64),
    "value": pl.Float64,
}


def _log_choose(n: Ints, k: Ints) -> Array:
    choices: Array = gammaln(n + 1) - gammaln(k + 1) - gammaln(np.maximum(n - k, 0) + 1)
    return choices


def _plans(ks: Sequence[int], least: Ints, task: str) -> list[tuple[int, tuple[int, ...]]]:
    """Return k with how many answers each checkpoint gives, for all that every item has."""
    plans = []
    for k in ks:
        rounds = [round_robin(k, pool) for pool in range(1, min(k, len(least)) + 1)]
        whole = [(*plan, *([0] * (len(least) - len(plan)))) for plan in rounds]
        possible = [plan for plan in whole if (np.array(plan) <= least).all()]
        if not possible:
            raise DataError(
                f"there are too few answers to draw {k} of them",
                where=task,
                got=f"at least {', '.join(map(str, least))} of each checkpoint for every item",
                do="generate more samples, or draw fewer",
            )
        plans += [(k, plan) for plan in possible]
    return plans


def _matrices(
    counts: pl.DataFrame, checkpoints: Sequence[str]
) -> Iterator[tuple[pl.DataFrame, Ints, Ints]]:
    """Yield a task's items, and samples and matches, int64[items, checkpoints], in that order."""
    order = pl.DataFrame({"checkpoint": checkpoints, "at": range(len(checkpoints))})
    ordered = counts.join(order, on="checkpoint").sort(*_ITEM, "at")
    for part in ordered.partition_by("task", maintain_order=True):
        keys = part.select("task", "item", pl.col("demo_seed").cast(pl.Int64)).unique(
            maintain_order=True
        )
        pairs = part.select(*_ITEM, "checkpoint").n_unique()
        if part.height != pairs or pairs != keys.height * len(checkpoints):
            raise DataError(
                "every item needs its answers once from every checkpoint",
                where=str(part["task"][0]),
                got=f"{part.height} rows for {keys.height} items of {len(checkpoints)} checkpoints",
                do="generate answers to the same items under all of them",
            )
        samples, matches = (
            part[name].to_numpy().astype(np.int64).reshape(-1, len(checkpoints))
            for name in ("samples", "matches")
        )
        if (matches > samples).any() or (matches < 0).any():
            raise DataError("more answers are right than there are", where=str(part["task"][0]))
        yield keys, samples, matches


def _pools(
    drawn: pl.DataFrame, checkpoints: Sequence[str]
) -> Iterator[tuple[tuple[object, ...], list[Answers]]]:
    """Yield item by item its key and the answers of each checkpoint."""
    scores = pl.col("score") if "score" in drawn.columns else pl.lit(0.0)
    ordered = drawn.with_columns(
        scores.cast(pl.Float64).alias("score"),
        pl.col("answer").rank("dense").over(_ITEM).fill_null(0).cast(pl.Int64).alias("code") - 1,
    ).sort(*_ITEM, "code", "right", "score")
    for part in ordered.partition_by(_ITEM, maintain_order=True):
        of = part.partition_by("checkpoint", as_dict=True)
        yield part.select(_ITEM).row(0), [_answers(of[name,]) for name in checkpoints]


def _answers(rows: pl.DataFrame) -> Answers:
    return Answers(*(rows[name].to_numpy() for name in ("code", "right", "score")))


def _summary(values: pl.DataFrame, cluster: Cluster, alpha: float) -> pl.DataFrame:
    """Average items, and their gains over the first checkpoint alone by cluster."""
    key = ["task", "method", "k"]
    own = "demo_seed" if cluster == "demo_seed" else "item"
    alone = values.filter(pl.col("checkpoints") == 1).select(
        *_ITEM, "method", "k", pl.col("value").alias("alone")
    )
    both = values.join(alone, on=[*_ITEM, "method", "k"], how="left").with_columns(
        gain=pl.col("value") - pl.col("alone")
    )
    by = [*key, "checkpoints"]
    # Sorted first, so that the order of summation is fixed.
    clusters = (
        both.sort(*by, *_ITEM)
        .group_by([*by, own], maintain_order=True)
        .agg(
            pl.col("value").sum(),
            pl.col("gain").sum(),
            pl.col("gain").null_count().alias("no"),
            rows=pl.len(),
        )
        .with_columns(gain=pl.when(pl.col("no") == 0).then(pl.col("gain")))
    )
    rows = [
        _gained(dict(zip(by, group, strict=True)), part, alpha)
        for group, part in clusters.partition_by(by, as_dict=True, maintain_order=True).items()
    ]
    return pl.DataFrame(rows, schema=_SUMMARY)


_SUMMARY = {
    **dict.fromkeys(("task", "method"), pl.String),
    **dict.fromkeys(("k", "checkpoints"), pl.Int64),
    **dict.fromkeys(("value", "gain", "lo", "hi"), pl.Float64),
    "items": pl.Int64,
}


def _gained(group: dict[str, object], part: pl.DataFrame, alpha: float) -> dict[str, object]:
    """One row of the summary, from the sums of its clusters."""
    items = int(part["rows"].sum())
    row = group | {"value": part["value"].sum() / items, "items": items}
    if part["gain"].null_count():
        return row
    row["gain"] = gain = part["gain"].sum() / items
    if part.height > 1:
        # A mean over clusters of unequal size is a ratio: its error is that of the residuals.
        left = (part["gain"] - gain * part["rows"]).to_numpy() * part.height / items
        error = float(left.std(ddof=1)) / np.sqrt(part.height)
        half = float(stats.t.isf(alpha / 2, part.height - 1)) * error
        row |= {"lo": gain - half, "hi": gain + half}
    return row


def _check_asked(table: pl.DataFrame, checkpoints: Sequence[str], ks: Sequence[int]) -> None:
    known = set(table["checkpoint"])
    for where, asked, sound in (
        ("checkpoints", checkpoints, all(name in known for name in checkpoints)),
        ("ks", ks, all(k >= 1 for k in ks)),
    ):
        if not asked or not sound or len(set(asked)) != len(asked):
            raise ConfigError(
                "not a way to draw answers",
                where=where,
                got=", ".join(map(str, asked)) or "none",
                do="name each once, of what there is: " + ", ".join(sorted(known)[:5]),
            )


def _refuse_unsound(drawn: pl.DataFrame) -> None:
    torn = (
        drawn.drop_nulls("answer")
        .group_by(*_ITEM, "answer")
        .agg(pl.col("right").n_unique())
        .filter(pl.col("right") > 1)
        .sort(*_ITEM, "answer")
    )
    if not torn.is_empty():
        raise DataError(
            "equal answers to an item are right and wrong",
            where=f"{torn['task'][0]}, item {torn['item'][0]}",
            got=repr(torn["answer"][0]),
            do="extract and check all answers in the same way",
        )
    if "score" in drawn.columns and not drawn["score"].cast(pl.Float64).is_finite().all():
        raise DataError("a score is not a finite number", where="answers", do="score them again")
