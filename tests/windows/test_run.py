from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from windows.errors import ConfigError
from windows.order import DataOrder
from windows.run import RunConfig, tile, window

TOKENIZER = {"vocab_size": 127, "eos_id": 1, "pad_id": 0}


def run_config(**change: Any) -> RunConfig:
    fields = {
        "name": "toy",
        "sequence_length": 4,
        "seed": 0,
        "step_map": [{"first_step": 0, "first_batch": 0, "batch_tokens": 8}],
        "tokenizer": TOKENIZER,
    }
    return RunConfig.model_validate(fields | change)


def order_of(run: RunConfig, batches: int) -> DataOrder:
    return run.order((batches * 32,))


def test_windows_are_named_after_their_steps():
    run = run_config()
    windows = tile(run, order_of(run, 356), 340, 356, 16)
    assert [w.name for w in windows] == ["stage1-340:356"]
    assert (windows[0].first_batch, windows[0].end_batch, windows[0].tokens) == (340, 356, 128)


@given(
    first=st.integers(0, 30),
    length=st.integers(1, 30),
    every=st.integers(1, 40),
    changes=st.lists(st.tuples(st.integers(1, 12), st.sampled_from([4, 8, 12])), max_size=3),
)
def test_windows_tile_a_stage_exactly(
    first: int, length: int, every: int, changes: list[tuple[int, int]]
):
    steps = [{"first_step": 0, "first_batch": 0, "batch_tokens": 8}]
    for gap, size in changes:
        batch = steps[-1]["first_batch"] + gap
        steps.append({"first_step": batch, "first_batch": batch, "batch_tokens": size})
    run = run_config(step_map=steps)
    order = run.order((4096,))
    end = first + length
    windows = tile(run, order, first, end, every)
    assert (windows[0].first_step, windows[-1].end_step) == (first, end)
    for before, after in pairwise(windows):
        assert before.end_step == after.first_step
        assert before.end_batch == after.first_batch
        assert before.end_step - before.first_step == every
    tokens = sum(4 * len(order.instances(batch, batch + 1)) for batch in range(first, end))
    assert sum(w.tokens for w in windows) == tokens


@pytest.mark.parametrize("asked", [(0, 11), (-1, 4), (4, 4), (10, 12)])
def test_a_range_outside_the_run_names_its_last_step_and_the_range(asked: tuple[int, int]):
    run = run_config()
    with pytest.raises(ConfigError) as refusal:
        tile(run, order_of(run, 10), *asked, 2)
    assert "ends at step 10" in str(refusal.value)
    assert f"got {asked[0]}:{asked[1]}" in str(refusal.value)


def test_a_window_needs_a_step():
    run = run_config()
    with pytest.raises(ConfigError, match="every"):
        tile(run, order_of(run, 10), 0, 10, 0)


def test_skipped_batches_part_steps_from_batches():
    run = run_config(
        step_map=[
            {"first_step": 100, "first_batch": 0, "batch_tokens": 8},
            {"first_step": 104, "first_batch": 6, "batch_tokens": 8},
        ]
    )
    order = order_of(run, 10)
    assert order.batch_sizes.changes == ((0, 2),)
    assert [run.batch_of_step(step) for step in (100, 103, 104, 106)] == [0, 3, 6, 8]
    assert run.last_step(order.num_batches) == 108
    assert (window(run, order, 102, 104).end_batch, window(run, order, 104, 108).first_batch) == (
        4,
        6,
    )
    assert [run.steps_of_batch(batch) for batch in (0, 3, 4, 5, 6)] == [
        (100,),
        (103,),
        (),
        (),
        (104,),
    ]
    with pytest.raises(ConfigError, match=r"skips or repeats.*got 102:106"):
        window(run, order, 102, 106)
    with pytest.raises(ConfigError, match="begins at step 100"):
        run.batch_of_step(99)


def test_repeated_batches_have_several_steps():
    run = run_config(
        step_map=[
            {"first_step": 0, "first_batch": 0, "batch_tokens": 8},
            {"first_step": 5, "first_batch": 3, "batch_tokens": 8},
        ]
    )
    assert [run.steps_of_batch(batch) for batch in (2, 3, 4, 5)] == [(2,), (3, 5), (4, 6), (7,)]


@given(st.integers(0, 40))
def test_steps_of_batch_inverts_batch_of_step(step: int):
    run = run_config(
        step_map=[
            {"first_step": start, "first_batch": batch, "batch_tokens": 8}
            for start, batch in [(0, 0), (7, 5), (19, 30)]
        ]
    )
    assert step in run.steps_of_batch(run.batch_of_step(step))


def test_a_changed_batch_size_reaches_the_order():
    run = run_config(
        step_map=[
            {"first_step": 0, "first_batch": 0, "batch_tokens": 8},
            {"first_step": 3, "first_batch": 3, "batch_tokens": 16},
        ]
    )
    assert run.order((400,)).batch_sizes.changes == ((0, 2), (3, 4))
    assert [run.instances_per_batch(step) for step in (0, 2, 3, 4)] == [2, 2, 4, 4]


def test_sizes_come_from_the_files_unless_given():
    run = run_config(files=[{"source": "web", "path": "a.npy", "bytes": 160}])
    assert run.order().file_bytes == (160,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"token_bytes": 3}, "use 1, 2 or 4"),
        ({"token_bytes": 1, "tokenizer": TOKENIZER | {"vocab_size": 257}}, "vocab_size 257 needs"),
        ({"tokenizer": TOKENIZER | {"eos_id": 127}}, "eos_id 127 is not below"),
        ({"tokenizer": TOKENIZER | {"bos_id": 200}}, "bos_id 200 is not below"),
        ({"step_map": []}, "at least 1 item"),
        ({"step_map": [{"first_step": 0, "first_batch": 1, "batch_tokens": 8}]}, "first_batch 0"),
        ({"step_map": [{"first_step": 0, "first_batch": 0, "batch_tokens": 8}] * 2}, "ascend"),
        ({"max_sequence_length": 6}, "max_sequence_length is no multiple"),
        ({"sequence_length": 3}, "batch_tokens is no multiple"),
        ({"name": "a,b"}, "should match pattern"),
        ({"sequence_lenght": 4}, "Extra inputs"),
        ({"epoch": 0}, "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_a_run_is_refused(change: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=message):
        run_config(**change)
