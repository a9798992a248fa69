"""Temporal sampling against enumeration of all draws, and against drawing at random."""

from itertools import combinations, product
from math import comb

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.extraction import PERSONA
from scoring.temporal_sampling import (
    drawn_answers,
    drawn_counts,
    pass_at_k,
    pass_table,
    persona_counts,
    round_robin,
    vote_table,
)
from windows.errors import ConfigError, DataError

NAMES = ("run/s-step30", "run/s-step20", "run/s-step10")


def test_round_robin_starts_with_the_first():
    assert round_robin(7, 3) == (3, 2, 2)
    assert round_robin(2, 3) == (1, 1, 0)
    assert round_robin(4, 1) == (4,)


def test_pass_at_k_is_the_known_estimator():
    samples, matches = np.array([[10], [10], [10], [4]]), np.array([[3], [0], [10], [2]])
    expected = [1 - comb(10 - 3, 4) / comb(10, 4), 0, 1, 1]
    np.testing.assert_allclose(pass_at_k(samples, matches, (4,)), expected, atol=1e-12)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=3), st.data())
def test_pass_at_k_by_enumeration(answers: list[tuple[int, int]], data: st.DataObject):
    pools = [[True] * right + [False] * wrong for right, wrong in answers]
    drawn = [data.draw(st.integers(0, len(pool))) for pool in pools]
    draws = list(product(*(combinations(p, k) for p, k in zip(pools, drawn, strict=True))))
    expected = np.mean([any(any(part) for part in draw) for draw in draws])
    samples = np.array([[len(pool) for pool in pools]])
    matches = np.array([[sum(pool) for pool in pools]])
    assert pass_at_k(samples, matches, drawn)[0] == pytest.approx(expected, abs=1e-9)


def drawn_table(
    answers: list[list[str]], *, right: str = "a", item: str = "i", seed: int = 0
) -> pl.DataFrame:
    """Answers to one item: a list for each of the named checkpoints; an empty one is none."""
    rows = [
        {
            "task": "f/t",
            "item": item,
            "demo_seed": seed,
            "checkpoint": name,
            "answer": one or None,
            "right": one == right,
        }
        for name, own in zip(NAMES, answers, strict=False)
        for one in own
    ]
    return pl.DataFrame(rows)


def value(found: pl.DataFrame, **where: object) -> float:
    (one,) = found.filter(**where)["value"].to_list()
    return float(one)


def test_votes_by_hand():
    drawn = drawn_table([["a", "b", "b"], ["a", "a", ""], ["c", "", ""]])
    found = vote_table(drawn, NAMES, [1, 3, 6], draws=4000)
    assert value(found, k=3, checkpoints=1) == 0  # b has it
    assert value(found, k=6, checkpoints=2) == 1  # three a, two b
    assert value(found, k=1, checkpoints=1) == pytest.approx(1 / 3, abs=0.03)
    # One of each. An a and an a or nothing: 1/3. An a and b: 2/3 * 2/3 a tie with b, and with c in
    # a third of the draws; b, no answer: never.
    third = [
        (first, second, last)
        for first in "abb"
        for second in ("a", "a", "")
        for last in ("c", "", "")
    ]
    assert value(found, k=3, checkpoints=3) == pytest.approx(
        np.mean([credit(t) for t in third]), abs=0.03
    )
    assert (6, 1) not in set(found.select("k", "checkpoints").rows()), "of three answers no six"
    assert found.filter(k=6)["gain"].null_count() == found.filter(k=6).height


def credit(votes: tuple[str, ...]) -> float:
    given_ = [vote for vote in votes if vote]
    most = [a for a in set(given_) if given_.count(a) == max(map(given_.count, given_))]
    return ("a" in most) / len(most) if most else 0.0


def test_nobody_answers():
    found = vote_table(drawn_table([["", ""], [""]]), NAMES[:2], [2])
    assert found["value"].to_list() == [0, 0]


def test_best_of_n_takes_the_highest_score():
    drawn = drawn_table([["a", "b"], ["b", "a"]])
    scored = drawn.with_columns(score=pl.Series([0.1, 0.9, 0.2, 0.95]))
    found = vote_table(scored, NAMES[:2], [2, 4], draws=2000).filter(method="best-of-n")
    assert value(found, k=2, checkpoints=1) == 0
    assert value(found, k=4, checkpoints=2) == 1
    # One of each checkpoint: (.1 .2) wrong, (.1 .95) right, (.9 .2) wrong, (.9 .95) right.
    assert value(found, k=2, checkpoints=2) == pytest.approx(0.5, abs=0.04)
    ties = scored.with_columns(score=pl.lit(1.0))
    assert value(
        vote_table(ties, NAMES[:2], [4]).filter(method="best-of-n"), checkpoints=2
    ) == pytest.approx(0.5)
    with pytest.raises(DataError, match="finite"):
        vote_table(scored.with_columns(score=pl.lit(float("nan"))), NAMES[:2], [2])


def counts(matches: np.ndarray, samples: int, *, seeds: int = 4) -> pl.DataFrame:
    """Matches int64[items, checkpoints], of equally many samples each."""
    rows = [
        {
            "task": "f/t",
            "item": f"i{item}",
            "demo_seed": item % seeds,
            "checkpoint": NAMES[at],
            "samples": samples,
            "matches": int(count),
        }
        for (item, at), count in np.ndenumerate(matches)
    ]
    return pl.DataFrame(rows)


def test_what_the_last_checkpoint_forgot_is_a_gain():
    rng = np.random.default_rng(0)
    matches = np.stack([rng.integers(0, 3, 40), rng.integers(5, 9, 40)], axis=1)
    found = pass_table(counts(matches, 8), NAMES[:2], [2, 8])
    assert found["checkpoints"].to_list() == [1, 2, 1, 2]
    for k in (2, 8):
        alone, both = (found.filter(k=k, checkpoints=t).row(0, named=True) for t in (1, 2))
        assert (alone["gain"], alone["items"]) == (0, 40)
        assert both["gain"] == pytest.approx(both["value"] - alone["value"])
        assert both["lo"] > 0 and both["lo"] < both["gain"] < both["hi"]
    single = [1 - comb(8 - m, 2) / comb(8, 2) for m in matches[:, 0]]
    assert value(found, k=2, checkpoints=1) == pytest.approx(np.mean(single))
    by_item = pass_table(counts(matches, 8), NAMES[:2], [2], cluster="item")
    assert by_item["value"].to_list() == pytest.approx(found.filter(k=2)["value"].to_list())
    assert by_item["lo"][1] != found["lo"][1]
    one_seed = pass_table(counts(matches, 8, seeds=1), NAMES[:2], [2])
    assert one_seed["lo"].null_count() == 2


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 99))
def test_the_interval_of_the_gain_over_equal_clusters_is_students(seed: int):
    matches = np.random.default_rng(seed).integers(0, 7, (12, 2))
    found = pass_table(counts(matches, 6), NAMES[:2], [2]).row(1, named=True)
    both = pass_at_k(np.full((12, 2), 6), matches, (1, 1))
    alone = pass_at_k(np.full((12, 2), 6), matches, (2, 0))
    seeds = (both - alone).reshape(3, 4).mean(axis=0)
    half = 3.182446305284263 * seeds.std(ddof=1) / 2  # t of 3 degrees, 97.5 %
    assert found["gain"] == pytest.approx(seeds.mean())
    assert found["hi"] - found["gain"] == pytest.approx(half, abs=1e-12)
    shuffled = counts(matches, 6).sample(fraction=1, shuffle=True, seed=seed)
    assert pass_table(shuffled, NAMES[:2], [2]).row(1, named=True) == found


def test_generated_tables_are_read():
    keys = {"run": "run", "stage": "s", "family": "f", "task": "t", "wording": "w", "item_id": "i"}
    rows = [
        keys | {"step": step, "demo_seed": 0, "text": "", "said": said}
        for step, said in ((30, "right"), (30, "parrot"), (30, "neither"), (20, "right"))
    ]
    schema = {"demo_seed": pl.Int16}
    drawn = drawn_answers(pl.DataFrame(rows, schema_overrides=schema))
    assert drawn["answer"].to_list() == ["right", "parrot", None, "right"]
    assert drawn_counts(drawn).select("checkpoint", "samples", "matches").rows() == [
        (NAMES[1], 1, 1),
        (NAMES[0], 3, 1),
    ]
    votes = vote_table(drawn, NAMES[:2], [1, 2])
    assert value(votes, k=2, checkpoints=2) > value(votes, k=2, checkpoints=1)
    persona = pl.DataFrame(
        [
            {
                "run": "run",
                "stage": "s",
                "step": step,
                "persona": "p",
                "question": "q",
                "wording": "w",
                "demo_seed": 0,
                "hops": 2,
                "samples": 100,
                "matches": matches,
            }
            for step, matches in ((30, 0), (20, 100))
        ]
    )
    assert set(persona.columns) == set(PERSONA.names)
    found = pass_table(persona_counts(persona), NAMES[:2], [2])
    assert found["value"].to_list() == [0, 1] and set(found["task"]) == {"persona/p"}


def test_votes_are_the_same_whatever_the_order_of_rows():
    rng = np.random.default_rng(5)
    drawn = pl.concat(
        drawn_table([list(rng.choice(list("abc"), 4)) for _ in NAMES], item=f"i{k}", seed=k % 2)
        for k in range(6)
    )
    mixed = drawn.sample(fraction=1, shuffle=True, seed=1)
    assert vote_table(mixed, NAMES, [3], seed=2).equals(vote_table(drawn, NAMES, [3], seed=2))
    assert not vote_table(drawn, NAMES, [3], seed=3).equals(vote_table(drawn, NAMES, [3], seed=2))


def test_what_cannot_be_drawn_is_refused():
    drawn = drawn_table([["a", "b"], ["a"]])
    with pytest.raises(DataError, match="too few answers to draw 5"):
        vote_table(drawn, NAMES[:2], [5])
    with pytest.raises(DataError, match="from every checkpoint"):
        other = drawn_table([["a"]], item="j")
        vote_table(pl.concat([drawn, other]), NAMES[:2], [1])
    with pytest.raises(DataError, match="right and wrong"):
        vote_table(pl.concat([drawn, drawn.with_columns(right=pl.lit(False))]), NAMES[:2], [1])
    with pytest.raises(DataError, match="more answers are right"):
        pass_table(counts(np.array([[3, 1]]), 2), NAMES[:2], [1])
    for names, ks in ((("x",), [1]), ((), [1]), (NAMES[:1] * 2, [1]), (NAMES[:1], [0])):
        with pytest.raises(ConfigError, match="not a way to draw"):
            vote_table(drawn, names, ks)
