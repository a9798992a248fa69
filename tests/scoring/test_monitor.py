import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scoring.items import Where
from scoring.monitor import Monitor, Reading, monitor_blocks
from scoring.series import seed_series
from scoring.suite.schema import Block, Item
from scoring.sweep import score_blocks
from trainers.stabilization import switches
from windows.errors import ConfigError, DataError

KEYS = ["step", "task", "soft", "hard", "margin", "loss", "switch"]


def test_a_monitor_sized_suite_is_a_part_of_the_suite(toy: Any) -> None:
    small, more = (monitor_blocks(toy.tasks, demo_seeds=2, items=n) for n in (6, 1000))
    assert [b.key for b in small] == [key for key in toy.tasks for _ in range(2)]
    assert {len(b.items) for b in small} == {6}
    for few, all_of_it in zip(small, more, strict=True):
        assert set(few.items) < set(all_of_it.items)
        assert few.prefix == all_of_it.prefix


def test_training_is_the_same_with_and_without(toy: Any, tmp_path: Path) -> None:
    watched, alone = toy.model(), toy.model()
    torch.manual_seed(11)
    losses = toy.train(watched, range(1, 9), toy.monitor(tmp_path / "a.jsonl", every=1))
    state = torch.get_rng_state()
    torch.manual_seed(11)
    assert losses == toy.train(alone, range(1, 9))
    assert torch.equal(state, torch.get_rng_state())
    for one, other in zip(watched.parameters(), alone.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_reading_leaves_modes_gradients_and_random_numbers(toy: Any, tmp_path: Path) -> None:
    model = toy.model()
    # Draws wherever it is called, as no model should.
    model.model.norm.register_forward_hook(lambda m, i, out: out + 0 * torch.rand(()))
    model.train()
    model.model.layers[0].eval()
    model(input_ids=toy.batch(0), labels=toy.batch(0)).loss.backward()
    modes = [module.training for module in model.modules()]
    grads = [p.grad.clone() for p in model.parameters()]
    state = torch.get_rng_state()
    toy.monitor(tmp_path / "a.jsonl").step(0, model)
    assert [module.training for module in model.modules()] == modes
    assert len(set(modes)) == 2
    assert torch.equal(torch.get_rng_state(), state)
    for p, grad in zip(model.parameters(), grads, strict=True):
        assert torch.equal(p.grad, grad) and p.requires_grad
    toy.train(model, [1])


def test_a_reading_within_mixed_precision_and_other_attention(toy: Any, tmp_path: Path) -> None:
    model = toy.model(dropout=0.0)
    expected = toy.monitor(tmp_path / "a.jsonl").step(0, model)
    model.set_attn_implementation("flex_attention")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert toy.monitor(tmp_path / "b.jsonl").step(0, model) == expected
    assert model.config._attn_implementation == "flex_attention"


def test_a_compiled_wrapper_is_seen_through(toy: Any, tmp_path: Path) -> None:
    model = toy.model()
    wrapped = torch.compile(model, backend="eager")
    one, other = toy.monitor(tmp_path / "a.jsonl"), toy.monitor(tmp_path / "b.jsonl")
    assert one.step(0, wrapped) == other.step(0, model)


def test_readings_are_the_sweeps(toy: Any, tmp_path: Path) -> None:
    model, monitor = toy.model(), toy.monitor(tmp_path / "deep" / "a.jsonl", every=3)
    losses = toy.train(model, range(1, 7), monitor)
    rows = toy.lines(monitor.out)
    assert [(r["step"], r["task"]) for r in rows] == [(s, t) for s in (3, 6) for t in toy.tasks]
    assert all(list(row) == KEYS for row in rows)
    assert [row["loss"] for row in rows[::2]] == [losses[2], losses[5]]
    items = pl.DataFrame(
        pl.from_arrow(score_blocks(model.eval(), toy.tokenizer, monitor.blocks, Where("r", "s", 6)))
    )
    for row in rows[2:]:
        for metric in ("soft", "hard", "margin"):
            expected = seed_series(items, row["task"], metric=metric).level[0]
            assert row[metric] == pytest.approx(expected, abs=1e-6)
    assert rows == [json.loads(json.dumps(vars_of(r))) for r in monitor.readings]


def vars_of(reading: Reading) -> dict[str, Any]:
    return {key: getattr(reading, key) for key in KEYS}


@pytest.mark.parametrize("torn", [False, True])
def test_resuming_leaves_no_step_twice(toy: Any, tmp_path: Path, torn: bool) -> None:
    """Killed after step 7, gone on with from the checkpoint of step 5."""
    whole, out = toy.monitor(tmp_path / "whole.jsonl"), tmp_path / "a.jsonl"
    toy.train(toy.model(dropout=0.0), range(1, 11), whole)
    model = toy.model(dropout=0.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    toy.train(model, range(1, 6), toy.monitor(out), optimizer)
    saved = {key: value.clone() for key, value in model.state_dict().items()}
    moments = optimizer.state_dict()
    moments = torch.load(save(moments, tmp_path), weights_only=True)
    toy.train(model, range(6, 8), toy.monitor(out), optimizer)
    assert toy.lines(out)[-1]["step"] == 6
    if torn:
        out.write_text(out.read_text() + '{"step": 8, "ta')
    model.load_state_dict(saved)
    optimizer.load_state_dict(moments)
    again = toy.monitor(out)
    again.begin(5, model)
    assert toy.lines(out)[-1]["step"] == 4
    toy.train(model, range(6, 11), again, optimizer)
    assert out.read_bytes() == whole.out.read_bytes()


def save(value: Any, folder: Path) -> Path:
    torch.save(value, folder / "optimizer.pt")
    return folder / "optimizer.pt"


def test_a_beginning_is_read_once(toy: Any, tmp_path: Path) -> None:
    model = toy.model()
    monitor = toy.monitor(tmp_path / "a.jsonl")
    assert len(monitor.begin(0, model)) == 2
    assert monitor.begin(0, model) == ()
    assert monitor.begin(1, model) == ()
    assert toy.monitor(monitor.out).begin(0, model) == ()
    assert [row["step"] for row in toy.lines(monitor.out)] == [0, 0]


def test_a_file_of_another_kind_is_refused(toy: Any, tmp_path: Path) -> None:
    for number, text in enumerate(['{"a": 1}\n', "notes\n", "[]\n"]):
        path = tmp_path / f"{number}.txt"
        path.write_text(text)
        with pytest.raises(DataError, match=r"line 1: not a reading of the monitor"):
            toy.monitor(path)
        assert path.read_text() == text


@pytest.mark.parametrize("fault", ["every", "threshold"])
def test_what_cannot_be_is_refused(toy: Any, tmp_path: Path, fault: str) -> None:
    with pytest.raises(ConfigError, match=f"monitor.{fault}"):
        toy.monitor(tmp_path / "a.jsonl", **{fault: 0})
    with pytest.raises(ConfigError, match=r"monitor\.blocks"):
        Monitor((), toy.tokenizer, every=1, out=tmp_path / "a.jsonl")


def planted_block() -> Block:
    item = Item.of("Q 1 + 1 A", " 7", [" 3"])
    return Block("planted", "seven", "plain", "label", 0, "", (item,), "")


def say(toy: Any, model: Any, soft: float) -> None:
    """Make the model answer 7 with probability (1 + soft) / 2, and 3 else."""
    with torch.no_grad():
        model.model.norm.weight.zero_()
        bias = torch.full((len(toy.words),), -60.0)
        bias[toy.words.index("7")] = float(np.log((1 + soft) / 2))
        bias[toy.words.index("3")] = float(np.log((1 - soft) / 2))
        model.lm_head.bias = torch.nn.Parameter(bias)


def test_a_planted_switch_raises_one_alarm(
    toy: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, told = toy.model(), []
    out = tmp_path / "a.jsonl"
    course = [0.1, 0.6, 0.3, -0.1, 0.15, -0.19, -0.7, -0.3, 0.1, -0.5]

    def watch(steps: range) -> None:
        monitor = Monitor([planted_block()], toy.tokenizer, every=1, out=out, alarm=told.append)
        for step in steps:
            say(toy, model, course[step])
            monitor.step(step, model)

    with caplog.at_level(logging.WARNING, "scoring.monitor"):
        watch(range(4))
        watch(range(4, 10))
    assert [(r.step, r.switch) for r in told] == [(6, "pattern")]
    rows = toy.lines(out)
    assert [row["soft"] for row in rows] == pytest.approx(course, abs=1e-5)
    assert [row["step"] for row in rows if row["switch"]] == [6]
    assert [record.message for record in caplog.records] == [
        "step 6: planted/seven switched to pattern (soft -0.70)"
    ]
    watch(range(8, 10))
    assert len(told) == 1 and len(toy.lines(out)) == 10


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(-0.98, 0.98), max_size=8), st.sampled_from([0.1, 0.2, 0.5]))
def test_switches_are_those_of_the_stabilization(
    toy: Any, tmp_path: Path, course: list[float], threshold: float
) -> None:
    out, told = tmp_path / "a.jsonl", []
    out.unlink(missing_ok=True)
    monitor = Monitor(
        [planted_block()],
        toy.tokenizer,
        every=1,
        out=out,
        alarm=told.append,
        threshold=threshold,
    )
    model = toy.model()
    for step, soft in enumerate(course):
        say(toy, model, soft)
        monitor.step(step, model)
    read = [reading.soft for reading in monitor.readings]
    assert len(told) == switches(read, threshold)


def test_a_model_that_diverged_is_read_as_none(toy: Any, tmp_path: Path) -> None:
    model, monitor = toy.model(), toy.monitor(tmp_path / "a.jsonl")
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    monitor.step(0, model, float("nan"))
    for row in toy.lines(monitor.out):
        assert [row[key] for key in KEYS[2:]] == [None] * 5
    assert toy.monitor(monitor.out).readings == monitor.readings
