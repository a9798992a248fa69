"""Every null catches the artefact that is planted for it, and passes the hop that is real."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from scoring.items import ITEMS
from scoring.nulls import (
    NULLS,
    OF_TABLES,
    Criteria,
    Finding,
    Hop,
    boundary_null,
    cluster_changes,
    hop_verdict,
    identity_null,
    instruction_null,
    metric_null,
    noise_null,
    rescored_null,
    wording_null,
)
from scoring.series import score
from windows.errors import DataError

TASK, CONTROL = "successive_answer/arithmetic", "normal_control"
HOP, CRITERIA = Hop(TASK, 10, 20, 0.4), Criteria()
Margin = Callable[[int, np.random.Generator, pl.DataFrame], np.ndarray]


def table(
    before: float,
    after: float,
    *,
    task: str = TASK,
    seed: int = 0,
    seeds: int = 8,
    tau: float = 0.2,
) -> pl.DataFrame:
    """Two checkpoints, three wordings, 20 items: margins of a mean, seeds that wander by tau."""
    rng = np.random.default_rng(seed)
    family, name = task.split("/")
    rows = []
    base = rng.normal(0, 0.5, (3, seeds, 20))
    for step, level in ((10, before), (20, after)):
        moved = base + level + rng.normal(0, tau, (1, seeds, 1)) + rng.normal(0, 0.3, base.shape)
        for (wording, demo, item), margin in np.ndenumerate(moved):
            right = -np.log1p(np.exp(-margin)) - 0.1
            rows.append(
                {
                    "run": "r",
                    "stage": "stage1",
                    "family": family,
                    "task": name,
                    "wording": f"w{wording}",
                    "item_id": f"w{wording}i{item}",
                    "step": step,
                    "demo_seed": demo,
                    "lp_right": right,
                    "lp_parrot": right - margin,
                    "mean_p_right": 0.5,
                    "mean_p_parrot": 0.5,
                    "n_right": 2,
                    "n_parrot": 2,
                    "boundary": "joined",
                }
            )
    return pl.DataFrame(rows, schema=pl.from_arrow(ITEMS.empty_table()).schema)


REAL = table(-1.0, 1.0)
STILL = table(0.0, 0.0)
CALM = table(2.0, 2.0, task=f"{CONTROL}/words", seed=1)


def at(items: pl.DataFrame, where: pl.Expr, other: pl.DataFrame) -> pl.DataFrame:
    """Take the scores of another table where `where` holds."""
    scores = ["lp_right", "lp_parrot"]
    key = ["wording", "item_id", "step", "demo_seed"]
    joined = items.join(other.select(*key, *scores), on=key, suffix="_other")
    chosen = [pl.when(where).then(f"{name}_other").otherwise(name).alias(name) for name in scores]
    return joined.with_columns(chosen).select(items.columns)


def test_a_real_hop_survives_every_null() -> None:
    items = pl.concat([REAL, CALM])
    found = [null(items, HOP, CRITERIA) for null in OF_TABLES.values()]
    found.append(noise_null(items, HOP, CRITERIA, control=CONTROL))
    found.append(rescored_null("numerics", {"bfloat16": REAL}, HOP, CRITERIA))
    found.append(identity_null({0: "a", 10: "b", 20: "c"}, HOP))
    assert [(each.null, each.says) for each in found] == [(each.null, "survives") for each in found]
    assert hop_verdict(found) == "confirmed"


@pytest.mark.parametrize(
    ("null", "finding"),
    [
        (
            "wording",
            lambda: wording_null(at(REAL, pl.col("wording") == "w1", STILL), HOP, CRITERIA),
        ),
        ("numerics", lambda: rescored_null("numerics", {"bfloat16": STILL}, HOP, CRITERIA)),
        ("averaging", lambda: rescored_null("averaging", {"5": STILL}, HOP, CRITERIA)),
        (
            "noise",
            lambda: noise_null(
                pl.concat([REAL, table(-1.0, 1.0, task=f"{CONTROL}/words")]),
                HOP,
                CRITERIA,
                control=CONTROL,
            ),
        ),
        ("identity", lambda: identity_null({10: "a", 20: "b", 70: "b"}, HOP)),
    ],
)
def test_the_planted_artefact_is_caught(null: str, finding: Callable[[], Finding]) -> None:
    found = finding()
    assert (found.null, found.says) == (null, "explains")
    assert hop_verdict([found, metric_null(REAL, HOP, CRITERIA)]) == null


def test_a_hop_of_separate_boundaries_alone_is_caught() -> None:
    separate = pl.col("item_id").str.ends_with("9") | pl.col("item_id").str.ends_with("8")
    items = at(STILL, separate, table(-4.0, 4.0)).with_columns(
        boundary=pl.when(separate).then(pl.lit("separate")).otherwise(pl.lit("joined"))
    )
    assert cluster_changes(items, HOP, score("soft")).mean() > CRITERIA.minimum
    assert boundary_null(items, HOP, CRITERIA).says == "explains"


def test_a_drop_of_both_answers_together_is_one_of_instruction_following() -> None:
    # Soft falls from 0.46 to 0.05 with a margin that stays: the model stopped answering.
    calm = table(1.0, 1.0, tau=0.05)
    gone = pl.when(pl.col("step") == 20).then(2.3).otherwise(0.0)
    items = calm.with_columns(pl.col("lp_right") - gone, pl.col("lp_parrot") - gone)
    hop = Hop(TASK, 10, 20, -0.4)
    assert cluster_changes(items, hop, score("soft")).mean() < -0.3
    assert instruction_null(items, hop, CRITERIA).says == "explains"


def test_a_hop_of_few_extreme_items_is_one_of_the_metric() -> None:
    # Two items of twenty leap; the margins of all others fall.
    few = pl.col("item_id").str.ends_with("19") | pl.col("item_id").str.ends_with("i1")
    items = at(table(0.6, -0.2, tau=0.05), few, table(-9.0, 9.0))
    assert cluster_changes(items, HOP, score("soft")).mean() > -0.4
    falls = Hop(TASK, 10, 20, 0.1)
    found = metric_null(items, falls, CRITERIA)
    assert {each.name: each.says for each in found.replicates}["hard"] == "contradicted"
    assert found.says == "explains"


def test_few_noisy_seeds_are_underpowered() -> None:
    noisy = table(-0.3, 0.3, seeds=3, tau=1.0)
    found = wording_null(noisy, Hop(TASK, 10, 20, 0.1), CRITERIA)
    assert found.says == "undecided"
    assert hop_verdict([found]) == "underpowered"


def test_what_cannot_be_told_is_untested() -> None:
    one = REAL.filter(pl.col("wording") == "w0")
    assert wording_null(one, HOP, CRITERIA).says == "untested"
    assert noise_null(REAL, HOP, CRITERIA, control=CONTROL).says == "untested"
    assert rescored_null("numerics", {}, HOP, CRITERIA).says == "untested"
    assert identity_null({10: "a"}, HOP).says == "untested"
    assert hop_verdict([wording_null(one, HOP, CRITERIA)]) == "untested"
    with pytest.raises(DataError, match="was not scored"):
        cluster_changes(REAL, Hop(TASK, 10, 30, 1.0), score("soft"))


def test_the_first_null_in_order_names_the_hop() -> None:
    found = [Finding(null, "explains", "") for null in reversed(NULLS)]
    assert hop_verdict(found) == NULLS[0] == "identity"


def test_a_hop_just_above_the_least_effect_is_rarely_explained_away() -> None:
    """Of real hops about as large as what is looked for, each null explains at most one in ten."""
    explained = {null: 0 for null in OF_TABLES}
    for seed in range(60):
        items = table(-0.25, 0.25, seed=seed)
        for null, ask in OF_TABLES.items():
            explained[null] += ask(items, HOP, CRITERIA).says == "explains"
    assert max(explained.values()) <= 6, explained
