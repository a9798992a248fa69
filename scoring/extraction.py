"""Tables of generated answers, and the instruction-following null that is read from them.

A test by log-probabilities asks only which of two answers is likelier. It would fall, or rise,
without any change of mind where a checkpoint comes to put little mass on either answer. So the
mass is a table of its own (`answer_mass`), and the same items are answered by generation, with the
answer extracted from the text, and put beside it (`agreement`, `changes`). Of personas' answers
the right ones are counted (`persona_shares`). Free of torch.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import polars as pl
import pyarrow as pa

from scoring.items import ANSWERS_FOLDER, PERSONA_FOLDER, read_tables
from scoring.suite.schema import Item
from windows.errors import DataError

Said = Literal["right", "parrot", "neither"]

ANSWERS = pa.schema(
    [
        *((name, pa.string()) for name in ("run", "stage", "family", "task", "wording", "item_id")),
        ("step", pa.int64()),
        ("demo_seed", pa.int16()),
        ("text", pa.string()),
        ("said", pa.string()),
    ]
)
"""What was generated for an item, and whether its first candidate is the right answer, one of the
rivals (``parrot``), or there is none (``neither``)."""

PERSONA = pa.schema(
    [
        ("run", pa.string()),
        ("stage", pa.string()),
        ("step", pa.int64()),
        ("persona", pa.string()),
        ("question", pa.string()),
        ("wording", pa.string()),
        ("demo_seed", pa.int16()),
        ("hops", pa.int16()),
        ("samples", pa.int32()),
        ("matches", pa.int32()),
    ]
)
"""Of how many generated answers to a persona's question how many are right."""

_CHECKPOINT = ["run", "stage", "step"]
_TASK = [*_CHECKPOINT, "family", "task"]
_ITEM = [*_TASK, "wording", "demo_seed", "item_id"]


def read_answers(folder: Path) -> pl.DataFrame:
    """Read all extracted answers below a folder, sorted by checkpoint, task, wording, seed, item.

    Raises
    ------
    DataError
        If there are none, or one is not a table of schema `ANSWERS`.
    """
    paths = folder.rglob(f"{ANSWERS_FOLDER}/*.parquet")
    return read_tables(paths, ANSWERS, "generated answers", folder).sort(_ITEM)


def read_persona(folder: Path) -> pl.DataFrame:
    """Read all persona counts below a folder, sorted by checkpoint, persona, hops, question.

    Raises
    ------
    DataError
        If there are none, or one is not a table of schema `PERSONA`.
    """
    paths = folder.rglob(f"{PERSONA_FOLDER}/*.parquet")
    order = [*_CHECKPOINT, "persona", "hops", "question", "wording", "demo_seed"]
    return read_tables(paths, PERSONA, "persona answers", folder).sort(order)


def persona_shares(
    persona: pl.DataFrame, by: Sequence[str] = ("hops", "persona", "question")
) -> pl.DataFrame:
    """Return how many of the samples are right, by checkpoint and what is told apart.

    Parameters
    ----------
    persona
        Rows of schema `PERSONA`.
    by
        Columns beside the checkpoint's: by default every question; ``("hops",)`` for the curves of
        single-hop and multi-hop questions.

    Returns
    -------
    polars.DataFrame
        Columns run, stage, step and `by`; share f64, of all samples; se f64, its standard error
        over demo seeds (their shares' standard deviation over the root of their number), null where
        there is one; demo_seeds and samples, their numbers. Sorted.
    """
    keys = [*_CHECKPOINT, *by]
    matches, samples = pl.col("matches").sum(), pl.col("samples").sum()
    of_seeds = persona.group_by([*keys, "demo_seed"]).agg(matches, samples)
    # Sorted, so that the order of summation is fixed.
    return (
        of_seeds.sort([*keys, "demo_seed"])
        .with_columns((pl.col("matches") / pl.col("samples")).alias("of_seed"))
        .group_by(keys, maintain_order=True)
        .agg(
            (matches / samples).alias("share"),
            (pl.col("of_seed").std() / pl.len().sqrt()).alias("se"),
            pl.len().alias("demo_seeds"),
            samples,
        )
    )


def extract(text: str, candidates: Sequence[str]) -> int | None:
    """Return the index of the candidate that a text says first, None where it says none.

    A candidate counts where it stands as words of its own: neither 8 in 83, 8.5, 0.8 or -8, nor no
    in know. Case, the kind of white space, and marks at a candidate's end make no difference; case
    does where candidates differ by nothing else. Of candidates that begin at the same place the
    longest is said.

    Parameters
    ----------
    text
        What was generated.
    candidates
        The answers, with whatever white space they are scored with; an empty one is never said.
    """
    bare = [candidate.strip().rstrip(".!?").rstrip() for candidate in candidates]
    flags = re.NOFLAG if len({c.casefold() for c in bare}) < len(set(bare)) else re.IGNORECASE
    found = [
        (match.start(), -len(match[0]), index)
        for index, candidate in enumerate(bare)
        if candidate and (match := re.search(_pattern(candidate), text, flags))
    ]
    return min(found)[2] if found else None


def _pattern(candidate: str) -> str:
    words = r"\s+".join(map(re.escape, candidate.split()))
    before = r"(?<![\w-])(?<!\d[.,])" if candidate[0].isdigit() else r"(?<!\w)"
    after = r"(?!\w)(?![.,]\d)" if candidate[-1].isdigit() else r"(?!\w)"
    return before + words + after


def said(text: str, item: Item, *, terminator: str = "") -> Said:
    """Tell which answer of an item, without the terminator it ends with, a text says first."""
    answers = [answer.removesuffix(terminator) for answer in (item.right, *item.rivals)]
    found = extract(text, answers)
    if found is None:
        return "neither"
    return "parrot" if found else "right"


def count_matches(texts: Sequence[str], regex: str) -> int:
    """Count the texts in which a regular expression is found, ignoring case."""
    pattern = re.compile(regex, re.IGNORECASE)
    return sum(pattern.search(text) is not None for text in texts)


def answer_mass(items: pl.DataFrame) -> pl.DataFrame:
    """Return how much probability the candidates hold, by checkpoint and task.

    The mass of an item is P(right) + P(parrot), terminators included: no answer is a prefix of the
    other, so the two events are disjoint. A task whose rivals are many counts the likeliest only.

    Parameters
    ----------
    items
        Rows of the `items` schema.

    Returns
    -------
    polars.DataFrame
        Columns run, stage, step, family, task; mass f64, the mean over items; low f64, the first
        decile; items, their number. Sorted.
    """
    measured = items.with_columns(_mass().alias("mass"))
    return (
        measured.group_by(_TASK)
        .agg(
            pl.col("mass").mean(),
            pl.col("mass").quantile(0.1, "linear").alias("low"),
            pl.len().alias("items"),
        )
        .sort(_TASK)
    )


def agreement(items: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    """Put an item's two tests side by side: log-probabilities, and generation with extraction.

    Parameters
    ----------
    items
        Rows of the `items` schema.
    answers
        Rows of schema `ANSWERS`, of the same items.

    Returns
    -------
    polars.DataFrame
        By checkpoint and task, sorted: ``mass`` as of `answer_mass`; ``answered``, the share of
        items for which generation says a candidate; ``hard_logprob`` and ``hard_generated``, the
        shares that are right by either test, over all items (ties go to the parrot, and so does
        what is not answered); ``agree``, the share of the answered items on which both tests name
        the same answer, null where there is none; ``items``, their number.

    Raises
    ------
    DataError
        If the two tables are not of the same items, or one holds an item twice.
    """
    _check_same(items, answers)
    both = items.join(answers.select([*_ITEM, "said"]), on=_ITEM).with_columns(
        _mass().alias("mass"),
        (pl.col("lp_right") > pl.col("lp_parrot")).alias("likelier"),
        (pl.col("said") == "right").alias("right"),
        (pl.col("said") != "neither").alias("answered"),
    )
    same = (pl.col("likelier") == pl.col("right")).filter(pl.col("answered"))
    return (
        both.group_by(_TASK)
        .agg(
            pl.col("mass").mean(),
            pl.col("answered").mean(),
            pl.col("likelier").mean().alias("hard_logprob"),
            pl.col("right").mean().alias("hard_generated"),
            same.mean().alias("agree"),
            pl.len().alias("items"),
        )
        .sort(_TASK)
    )


def changes(agreed: pl.DataFrame) -> pl.DataFrame:
    """Return how each share of `agreement` changed since the checkpoint before.

    A mode switch moves ``hard_logprob`` and ``hard_generated`` together and leaves ``mass`` and
    ``answered`` where they were; where following instructions changed, it is the other way round.

    Returns
    -------
    polars.DataFrame
        By run, stage, family, task and step, from the second checkpoint on: ``step_before``, and
        the differences under the columns' own names.
    """
    shares = ["mass", "answered", "hard_logprob", "hard_generated"]
    series = ["run", "stage", "family", "task"]
    return (
        agreed.sort([*series, "step"])
        .with_columns(
            pl.col("step").shift().over(series).alias("step_before"),
            *(pl.col(name).diff().over(series) for name in shares),
        )
        .drop_nulls("step_before")
        .select([*series, "step_before", "step", *shares])
    )


def _mass() -> pl.Expr:
    right, parrot = (pl.col(f"lp_{side}").cast(pl.Float64).exp() for side in ("right", "parrot"))
    return right + parrot


def _check_same(items: pl.DataFrame, answers: pl.DataFrame) -> None:
    for name, table, other in (("items", items, answers), ("answers", answers, items)):
        if repeated := table.height - table.select(_ITEM).n_unique():
            raise DataError(
                "an item is there twice",
                where=f"table of {name}",
                got=f"{repeated} repeated rows",
                do="give every checkpoint's tables once",
            )
        if lonely := table.join(other, on=_ITEM, how="anti").height:
            raise DataError(
                "the two tests are not of the same items",
                where=f"table of {name}",
                got=f"{lonely} items that the other table lacks",
                do="generate answers for exactly what was scored",
            )
