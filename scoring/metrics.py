"""Item scores -> how right a checkpoint is: hard, soft, margin, AUC, and the authors' figures.

All are means over items with a fixed order of summation, so that equal tables give equal bits in
whatever order their rows come.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from windows.errors import DataError

TASK = ["run", "stage", "step", "family", "task", "wording"]
"""One task in one wording under one checkpoint."""

KEY = [*TASK, "demo_seed"]
"""One cell of `metrics`."""

_SCORES = ["lp_right", "lp_parrot", "mean_p_right", "mean_p_parrot"]


def metrics(items: pl.DataFrame) -> pl.DataFrame:
    """Summarise the items of every checkpoint, task, wording and demo seed.

    Parameters
    ----------
    items
        Rows of the `items` schema (`scoring.items.ITEMS`), in any order.

    Returns
    -------
    polars.DataFrame
        The columns of `KEY`, by which it is sorted, and

        - ``n_items`` int64;
        - ``hard``: the share with log P(right) > log P(parrot); a tie goes to the parrot;
        - ``soft``: the mean of P(right) - P(parrot), of the whole answers;
        - ``margin``: the mean of log P(right) - log P(parrot), nats;
        - ``auc``: the probability that the right answer of a random item is likelier than the
          parrot's answer of a random item, the same or another; a tie counts half. A bias towards
          one of a few labels pulls it towards 3/4 even where items are told apart without fault;
          where lengths differ between items it sees that too, and `hard`, which compares within an
          item, does not;
        - ``mean_p_hard``, ``mean_p_soft``: as `hard` and `soft`, of the mean probability of an
          answer's tokens, its terminator left out. See `authors_metrics`.

        All float64.

    Raises
    ------
    DataError
        If a column is missing, or a score is not finite.
    """
    return _means(items, KEY)


def authors_metrics(items: pl.DataFrame) -> pl.DataFrame:
    """Compute what the authors' code reports of a task, for comparison with published figures.

    Of the mean probability of an answer's tokens, over all items of all demo seeds: ``hard`` is the
    share where the right answer's is higher, ties to the parrot; ``soft`` is the mean difference.
    Source: GDsuite, ``run_eval.py`` and the fork's plots. They are the authors' numbers if the
    items were put as they put them (`released_tasks` with ``halves=False, authors=True``); in
    other items a space that a tokenizer keeps apart from the answer counts among its tokens.

    Parameters
    ----------
    items
        Rows of the `items` schema, in any order.

    Returns
    -------
    polars.DataFrame
        The columns of `TASK`, by which it is sorted; ``n_items`` int64; ``hard``, ``soft`` float64.

    Raises
    ------
    DataError
        If a column is missing, or a score is not finite.
    """
    found = _means(items, TASK)
    return found.select(*TASK, "n_items", hard="mean_p_hard", soft="mean_p_soft")


def _means(items: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    # Sorted to the last score: what is summed, and in which order, depends on the rows alone.
    rows = _checked(items).sort(*key, "demo_seed", "item_id", *_SCORES)
    cells = rows.select(*key, index=pl.int_range(pl.len())).group_by(key, maintain_order=True)
    groups = cells.agg(start=pl.col("index").min(), n_items=pl.len().cast(pl.Int64))
    ranks = _rank_sums(rows, groups.height, groups["n_items"])
    count = pl.col("n_items").cast(pl.Float64)
    wins = (pl.Series(ranks) - count * (count + 1) / 2) / count**2
    scores = {
        "hard": (pl.col("lp_right") > pl.col("lp_parrot")).cast(pl.Float64),
        "soft": pl.col("lp_right").exp() - pl.col("lp_parrot").exp(),
        "margin": pl.col("lp_right") - pl.col("lp_parrot"),
        "mean_p_hard": (pl.col("mean_p_right") > pl.col("mean_p_parrot")).cast(pl.Float64),
        "mean_p_soft": pl.col("mean_p_right") - pl.col("mean_p_parrot"),
    }
    each = rows.select(**scores)
    starts = groups["start"].to_numpy()
    means = {
        # How reduceat sums a segment depends on its length alone; a grouped mean may be split.
        name: np.add.reduceat(each[name].to_numpy(), starts) if len(starts) else np.zeros(0)
        for name in scores
    }
    found = groups.with_columns(
        *(pl.Series(name, total) / count for name, total in means.items()), auc=wins
    )
    return found.select(*key, "n_items", "hard", "soft", "margin", "auc", *list(scores)[3:])


def _rank_sums(rows: pl.DataFrame, groups: int, sizes: pl.Series) -> NDArray[np.float64]:
    """Return the sum of the right answers' ranks among all answers of a cell, float64[groups]."""
    cell = np.repeat(np.arange(groups), sizes.to_numpy())
    both = pl.DataFrame(
        {
            "cell": np.concatenate([cell, cell]),
            "right": np.repeat([True, False], len(cell)),
            "score": pl.concat([rows["lp_right"], rows["lp_parrot"]]),
        }
    )
    ranked = both.select("cell", "right", rank=pl.col("score").rank("average").over("cell"))
    own = ranked.filter("right")
    # Ranks are multiples of one half: their sums are exact in any order.
    cells, ranks = own["cell"].to_numpy(), own["rank"].to_numpy()
    return np.asarray(np.bincount(cells, weights=ranks, minlength=groups), dtype=np.float64)


def _checked(items: pl.DataFrame) -> pl.DataFrame:
    wanted = [*KEY, "item_id", *_SCORES]
    if missing := [name for name in wanted if name not in items.columns]:
        raise DataError("not a table of item scores", got=f"no column {', '.join(missing)}")
    rows = items.select(*KEY, "item_id", pl.col(*_SCORES).cast(pl.Float64))
    unsound = rows.filter(~pl.all_horizontal(pl.col(*_SCORES).is_finite().fill_null(False)))
    if not unsound.is_empty():
        row = unsound.sort(*KEY, "item_id").row(0, named=True)
        raise DataError(
            "a score is not a finite number",
            where=f"items of {row['family']}/{row['task']}",
            got=f"item {row['item_id']} of {row['run']} at step {row['step']} "
            f"({unsound.height} such items)",
            do="score that checkpoint again",
        )
    return rows
