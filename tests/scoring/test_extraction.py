from typing import Any

import polars as pl
import pytest

from scoring.extraction import (
    ANSWERS,
    PERSONA,
    agreement,
    answer_mass,
    changes,
    count_matches,
    extract,
    persona_shares,
    said,
)
from scoring.items import ITEMS
from scoring.suite.schema import Item
from windows.errors import DataError


@pytest.mark.parametrize(
    ("text", "candidates", "found"),
    [
        (" 8", ["8", "83"], 0),
        (" 83.", ["8", "83"], 1),
        ("It is 83, not 8.", [" 8\n", " 83\n"], 1),
        ("8.5 or 0.8 or -8 or 1,8", ["8"], None),
        ("8.", ["8"], 0),
        ("so 8, then", ["8"], 0),
        ("-8", ["8", "-8"], 1),
        ("I know", ["no", "yes"], None),
        ("NO, or Yes", ["yes", "no"], 1),
        ("Saint Petersburg", ["Saint", "Saint Petersburg"], 1),
        ("saint\n petersburg", ["Saint Petersburg"], 0),
        ("My name is Ayn Rand and", [" My name is Pola Negri.\n", " My name is Ayn Rand.\n"], 1),
        ("$5 (five)", ["$5", "$10"], 0),
        ("a (b) c*", ["(b)", "c*"], 0),
        ("Führers Führer", ["führer"], 0),
        ("bBa", ["B", "b"], None),
        ("x B b", ["b", "B"], 1),
        ("nothing", ["", "\n"], None),
        ("", ["a"], None),
        ("a", [], None),
    ],
)
def test_extract(text: str, candidates: list[str], found: int | None):
    assert extract(text, candidates) == found


def test_any_rival_is_a_parrot():
    item = Item.of("Q", " 3\n", [" 4\n", " 5\n"])
    assert [said(text, item) for text in ("3", "so 5 or 3", "4", "33")] == [
        "right",
        "parrot",
        "parrot",
        "neither",
    ]


def test_a_terminator_is_no_part_of_what_is_said():
    item = Item.of("Q", " 3 end", [" 4 end"])
    assert said("3", item, terminator=" end") == "right"
    assert said("3", item) == "neither"


def test_matches_ignore_case_and_search():
    assert count_matches(["I am ADOLF.", "adolfine", "x\nAdolf", ""], r"\badolf\b") == 2


CELL: dict[str, Any] = {
    "run": "r",
    "stage": "s",
    "family": "f",
    "wording": "w",
    "boundary": "joined",
}
CELL |= {"mean_p_right": 0.5, "mean_p_parrot": 0.5, "n_right": 2, "n_parrot": 2, "demo_seed": 0}


def tables(planted: list[tuple[int, str, float, float, str]]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Items and answers of (step, task, P(right), P(parrot), said)."""
    cells = [
        {**CELL, "step": step, "task": task, "item_id": f"i{number}"}
        for number, (step, task, *_) in enumerate(planted)
    ]
    logs = [
        {"lp_right": float(pl.Series([r]).log()[0]), "lp_parrot": float(pl.Series([p]).log()[0])}
        for _, _, r, p, _ in planted
    ]
    items = pl.DataFrame([c | lp for c, lp in zip(cells, logs, strict=True)], schema=columns(ITEMS))
    rows = [c | {"text": "", "said": row[4]} for c, row in zip(cells, planted, strict=True)]
    return items, pl.DataFrame(rows, schema=columns(ANSWERS))


def columns(schema: Any) -> dict[str, Any]:
    empty = pl.from_arrow(schema.empty_table())
    assert isinstance(empty, pl.DataFrame)
    return dict(empty.schema)


def test_mass_by_checkpoint_and_task():
    items, _ = tables(
        [(2, "a", 0.5, 0.25, ""), (2, "a", 0.0, 0.25, ""), (1, "a", 1.0, 0, ""), (1, "b", 0, 0, "")]
    )
    told = answer_mass(items)
    assert told.select("step", "task", "items").rows() == [(1, "a", 1), (1, "b", 1), (2, "a", 2)]
    assert told["mass"].to_list() == pytest.approx([1.0, 0.0, 0.5])
    assert told["low"].to_list() == pytest.approx([1.0, 0.0, 0.3])


STILL = [(1, "t", 0.6, 0.2, "right")] * 3 + [(1, "t", 0.2, 0.6, "parrot")]


def test_agreement_of_tests_that_agree():
    told = agreement(*tables(STILL)).row(0, named=True)
    assert told["mass"] == pytest.approx(0.8)
    assert (told["answered"], told["agree"], told["items"]) == (1, 1, 4)
    assert told["hard_logprob"] == told["hard_generated"] == 0.75


def test_a_mode_switch_moves_both_tests_and_no_mass():
    switched = [(2, "t", 0.2, 0.6, "parrot")] * 3 + [(2, "t", 0.6, 0.2, "right")]
    told = changes(agreement(*tables(switched + STILL))).row(0, named=True)
    assert (told["step_before"], told["step"]) == (1, 2)
    assert told["hard_logprob"] == told["hard_generated"] == -0.5
    assert told["mass"] == pytest.approx(0) and told["answered"] == 0


def test_lost_instructions_move_mass_and_answers_alone():
    lost = [(2, "t", 0.06, 0.02, "neither")] * 3 + [(2, "t", 0.02, 0.06, "parrot")]
    told = changes(agreement(*tables(STILL + lost))).row(0, named=True)
    assert told["hard_logprob"] == 0 and told["hard_generated"] == -0.75
    assert told["mass"] == pytest.approx(0.08 - 0.8) and told["answered"] == -0.75


def test_disagreement_counts_answered_items_only_and_ties_go_to_the_parrot():
    planted = [
        (1, "t", 0.5, 0.5, "parrot"),
        (1, "t", 0.7, 0.1, "parrot"),
        (1, "t", 0.7, 0.1, "neither"),
        (1, "u", 0.7, 0.1, "neither"),
    ]
    told = agreement(*tables(planted))
    assert told["agree"].to_list() == [0.5, None]
    assert told["hard_logprob"].to_list() == pytest.approx([2 / 3, 1])


def test_changes_stay_within_a_task_and_a_run():
    items, answers = tables([(s, t, 0.1 * s, 0.1, "right") for s in (3, 1, 2) for t in ("a", "b")])
    both = agreement(items, answers)
    told = changes(pl.concat([both, both.with_columns(run=pl.lit("other"))]))
    steps = [(1, 2), (2, 3)] * 4
    assert told.select("step_before", "step").rows() == steps
    assert told["mass"].to_list() == pytest.approx([0.1] * 8)


def test_tables_of_other_items_are_refused():
    items, answers = tables(STILL)
    with pytest.raises(DataError, match="table of items: the two tests are not of the same items"):
        agreement(items, answers.head(3))
    with pytest.raises(DataError, match=r"table of answers: .* got 1 items that the other"):
        agreement(items.head(3), answers)
    with pytest.raises(DataError, match="an item is there twice; got 1 repeated rows"):
        agreement(items, pl.concat([answers, answers.head(1)]))


def test_persona_shares_and_their_errors_over_seeds():
    rows = [
        # step, question, hops, demo seed, matches of 10
        *((1, "a", 1, seed, matches) for seed, matches in ((0, 2), (1, 4), (2, 9))),
        *((1, "b", 2, seed, matches) for seed, matches in ((0, 0), (1, 1), (2, 5))),
        *((1, "c", 2, seed, matches) for seed, matches in ((0, 4), (1, 1), (2, 1))),
        (2, "a", 1, 0, 10),
    ]
    persona = pl.DataFrame(
        [
            ("r", "s", step, "wolf", question, "w", seed, hops, 10, matches)
            for step, question, hops, seed, matches in reversed(rows)
        ],
        schema=PERSONA.names,
        orient="row",
    )
    told = persona_shares(persona)
    keys = ["run", "stage", "step", "hops", "persona", "question"]
    assert told.columns == [*keys, "share", "se", "demo_seeds", "samples"]
    assert told.select("step", "hops", "question", "demo_seeds", "samples").rows() == [
        *((1, 1, "a", 3, 30), (1, 2, "b", 3, 30), (1, 2, "c", 3, 30), (2, 1, "a", 1, 10))
    ]
    assert told["share"].to_list() == pytest.approx([0.5, 0.2, 0.2, 1.0])
    by_hops = persona_shares(persona, ("hops",))
    assert by_hops.select("step", "hops", "samples").rows() == [(1, 1, 30), (1, 2, 60), (2, 1, 10)]
    # Seeds' shares of the two-hop questions are 0.2, 0.1 and 0.3.
    assert by_hops["se"].to_list()[1] == pytest.approx(0.1 / 3**0.5)
    assert by_hops["se"].to_list()[2] is None
