"""Forgetting against its null: by counting, of noise, of hops, and where it is planted."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.extraction import ANSWERS
from scoring.forgetting import forgetting, right_answers, right_items
from scoring.items import ITEMS
from windows.errors import ConfigError, DataError


def table(right: np.ndarray, *, seeds: int = 4, task: str = "f/t") -> pl.DataFrame:
    """Rows of right bool[items, T]; items go round the demo seeds."""
    items, steps = right.shape
    return pl.DataFrame(
        {
            "task": [task] * right.size,
            "wording": ["w"] * right.size,
            "demo_seed": np.repeat(np.arange(items) % seeds, steps),
            "item_id": np.repeat([f"i{k}" for k in range(items)], steps),
            "step": np.tile(10 * np.arange(1, steps + 1), items),
            "right": right.ravel(),
        }
    )


def only(found: pl.DataFrame) -> dict[str, float]:
    assert found.height == 1
    return found.row(0, named=True)


def test_by_hand():
    right = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=bool)
    found = only(forgetting(table(right, seeds=2)))
    assert (found["checkpoints"], found["items"], found["final_errors"]) == (3, 6, 3)
    assert found["right"] == 0.5
    assert found["forgotten"] == pytest.approx(2 / 3)
    assert found["ever_right"] == pytest.approx(5 / 6)
    # Wrong 1, 2, 3, 1, 1 and 0 times of 3, the third never right: (1 + 2 + 1 + 1) / 8.
    assert found["null"] == pytest.approx(5 / 8)
    assert found["excess"] == pytest.approx(2 / 3 - 5 / 8)
    # Errors at 10: items 1, 2, 3, of which two are right elsewhere; at 20: items 2 and 4, one is.
    assert found["p"] == pytest.approx(2 / 3) and found["floor"] == pytest.approx(1 / 3)
    twice = only(forgetting(table(right, seeds=2), at_least=2))
    assert twice["forgotten"] == pytest.approx(1 / 3)
    assert twice["null"] == pytest.approx((1 + 1 + 1) / 8)
    earlier = only(forgetting(table(right, seeds=2), final=20))
    assert (earlier["checkpoints"], earlier["final_errors"]) == (2, 2)
    assert earlier["forgotten"] == pytest.approx(1 / 2)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 999), st.integers(2, 6), st.integers(1, 3))
def test_the_null_is_the_mean_over_which_checkpoint_is_the_last(
    seed: int, steps: int, at_least: int
):
    right = np.random.default_rng(seed).random((12, steps)) < 0.5
    right[0] = False
    shares, errors = [], []
    for last in range(steps):
        order = [*(at for at in range(steps) if at != last), last]
        wrong = ~right[:, last]
        shares.append((right[wrong][:, order[:-1]].sum(axis=1) >= at_least).sum())
        errors.append(wrong.sum())
    found = only(forgetting(table(right), at_least=at_least))
    assert found["null"] == pytest.approx(sum(shares) / sum(errors))
    assert found["forgotten"] == pytest.approx(shares[-1] / errors[-1])
    mixed = table(right).sample(fraction=1, shuffle=True, seed=seed)
    assert only(forgetting(mixed, at_least=at_least)) == found


def test_guessing_looks_like_forgetting_and_is_none():
    right = np.random.default_rng(0).random((400, 6)) < 0.3
    found = only(forgetting(table(right, seeds=8)))
    assert found["forgotten"] > 0.75
    assert found["null_lo"] <= found["forgotten"] <= found["null_hi"]
    assert found["lo"] < 0 < found["hi"] and abs(found["excess"]) < 0.05


def test_planted_forgetting_is_found_and_learning_is_none():
    rng = np.random.default_rng(1)
    guesses = rng.random((300, 25)) < 0.02
    known = np.zeros((300, 25), dtype=bool)
    known[:120] = True  # known all along ...
    forgot = (guesses | known).copy()
    forgot[:80, -1] = False  # ... and lost at the last checkpoint
    found = only(forgetting(table(forgot, seeds=8)))
    assert found["forgotten"] > found["null"] + 0.1
    assert found["p"] == found["floor"] == pytest.approx(1 / 25)
    assert found["lo"] > 0 and found["forgotten"] > found["null_hi"]
    assert found["q"] == found["p"]
    learned = guesses.copy()
    for item in range(150):
        learned[item, item // 8 :] = True
    progress = only(forgetting(table(learned, seeds=8)))
    assert progress["excess"] < -0.1 and progress["p"] > 0.8


def test_a_mode_hop_moves_many_items_and_is_not_taken_for_many_proofs():
    told = beyond = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        mode = rng.choice([0.8, 0.2], 20)
        found = only(forgetting(table(rng.random((100, 20)) < mode), at_least=10))
        told += found["p"] <= 0.05
        beyond += not found["null_lo"] <= found["forgotten"] <= found["null_hi"]
    assert told <= 6 and beyond > 3 * max(told, 2)


def test_tasks_are_told_apart_and_adjusted_together():
    rng = np.random.default_rng(3)
    frames = [table(rng.random((60, 12)) < 0.5, task=f"f/{k}") for k in "cab"]
    never = table(np.ones((5, 12), dtype=bool), task="f/done")
    found = forgetting(pl.concat([*frames, never]), at_least=6)
    assert found["task"].to_list() == ["f/a", "f/b", "f/c", "f/done"]
    alone = only(forgetting(frames[1], at_least=6))
    assert found.row(0, named=True)["forgotten"] == alone["forgotten"]
    assert (found["q"][:3] >= found["p"][:3]).all() and (found["q_by"][:3] >= found["q"][:3]).all()
    done = found.row(3, named=True)
    assert (done["final_errors"], done["right"]) == (0, 1.0)
    assert all(done[name] is None for name in ("forgotten", "null", "p", "q"))
    single = only(forgetting(table(rng.random((9, 3)) < 0.5, seeds=1)))
    assert single["lo"] is None and single["null"] is not None


def test_right_is_read_from_scores_and_from_answers():
    keys = {"run": "r", "stage": "s", "family": "f", "task": "t", "wording": "w", "item_id": "i"}
    items = pl.DataFrame(
        [
            keys | {"step": step, "demo_seed": 0, "lp_right": right, "lp_parrot": -1.0}
            for step, right in enumerate((-2.0, -1.0, -0.5))
        ]
    )
    assert set(items.columns) <= set(ITEMS.names)
    assert right_items(items)["right"].to_list() == [False, False, True]
    answers = pl.DataFrame(
        [
            keys | {"step": step, "demo_seed": 0, "text": "", "said": said}
            for step, said in enumerate(("right", "parrot", "neither"))
        ]
    )
    assert set(answers.columns) == set(ANSWERS.names)
    assert right_answers(answers)["right"].to_list() == [True, False, False]
    assert set(right_answers(answers)["task"]) == {"f/t"}
    assert only(forgetting(right_answers(answers)))["forgotten"] == 1


def test_unsound_tables_are_refused():
    whole = table(np.zeros((4, 3), dtype=bool))
    for broken in (whole[1:], pl.concat([whole, whole[:1]]), whole.filter(step=10)):
        with pytest.raises(DataError, match="every item once"):
            forgetting(broken)
    with pytest.raises(DataError, match="no item"):
        forgetting(whole[:0])
    with pytest.raises(ConfigError, match="no such checkpoint"):
        forgetting(whole, final=15)
    with pytest.raises(ConfigError, match="at_least"):
        forgetting(whole, at_least=0)
