import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from scoring.items import Where
from scoring.monitor import Monitor, Reading, monitor_blocks
from scoring.series import seed_series
from scoring.suite.schema import Block, Item
from scoring.sweep import score_blocks
from trainers.stabilization import switches
from windows.errors import ConfigError, DataError

WORDS = ["<pad>", "<eos>", "Q", "A", "\n", "+", *map(str, range(21))]
TASKS = ("successive_answer/addition", "repetitive_answer/addition")
KEYS = ["step", "task", "soft", "hard", "margin", "loss", "switch"]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def toy_tokenizer() -> Any:
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    return PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="<eos>", pad_token="<pad>", unk_token=None
    )


def toy_model(*, dropout: float = 0.2) -> Any:
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
        initializer_range=0.3,
        attention_dropout=dropout,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=1,
    )
    return LlamaForCausalLM(config)


def batch(step: int) -> torch.Tensor:
    rng = np.random.default_rng(step)
    return torch.from_numpy(rng.integers(2, len(WORDS), size=(4, 12)))


def train(
    model: Any, steps: Sequence[int], monitor: Monitor | None = None, optimizer: Any = None
) -> list[float]:
    """A loop of one's own; the random numbers of its dropout go on from step to step."""
    optimizer = optimizer or torch.optim.AdamW(model.parameters(), lr=1e-2)
    model.train()
    losses = []
    for step in steps:
        loss = model(input_ids=batch(step), labels=batch(step)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
        if monitor:
            monitor.step(step, model, losses[-1])
    return losses


def make(out: Path, *, every: int = 2, **more: Any) -> Monitor:
    small = monitor_blocks(TASKS, demo_seeds=2, items=6)
    return Monitor(small, toy_tokenizer(), every=every, out=out, **more)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_monitor_sized_suite_is_a_part_of_the_suite() -> None:
    small, more = (monitor_blocks(TASKS, demo_seeds=2, items=n) for n in (6, 1000))
    assert [b.key for b in small] == [key for key in TASKS for _ in range(2)]
    assert {len(b.items) for b in small} == {6}
    for few, all_of_it in zip(small, more, strict=True):
        assert set(few.items) < set(all_of_it.items)
        assert few.prefix == all_of_it.prefix


def test_training_is_the_same_with_and_without(tmp_path: Path) -> None:
    watched, alone = toy_model(), toy_model()
    torch.manual_seed(11)
    losses = train(watched, range(1, 9), make(tmp_path / "a.jsonl", every=1))
    state = torch.get_rng_state()
    torch.manual_seed(11)
    assert losses == train(alone, range(1, 9))
    assert torch.equal(state, torch.get_rng_state())
    for one, other in zip(watched.parameters(), alone.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_reading_leaves_modes_gradients_and_random_numbers(tmp_path: Path) -> None:
    model = toy_model()
    # Draws wherever it is called, as no model should.
    model.model.norm.register_forward_hook(lambda m, i, out: out + 0 * torch.rand(()))
    model.train()
    model.model.layers[0].eval()
    model(input_ids=batch(0), labels=batch(0)).loss.backward()
    modes = [module.training for module in model.modules()]
    grads = [p.grad.clone() for p in model.parameters()]
    state = torch.get_rng_state()
    make(tmp_path / "a.jsonl").step(0, model)
    assert [module.training for module in model.modules()] == modes
    assert len(set(modes)) == 2
    assert torch.equal(torch.get_rng_state(), state)
    for p, grad in zip(model.parameters(), grads, strict=True):
        assert torch.equal(p.grad, grad) and p.requires_grad
    train(model, [1])


def test_a_reading_within_mixed_precision_and_other_attention(tmp_path: Path) -> None:
    model = toy_model(dropout=0.0)
    expected = make(tmp_path / "a.jsonl").step(0, model)
    model.set_attn_implementation("flex_attention")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert make(tmp_path / "b.jsonl").step(0, model) == expected
    assert model.config._attn_implementation == "flex_attention"


def test_a_compiled_wrapper_is_seen_through(tmp_path: Path) -> None:
    model = toy_model()
    wrapped = torch.compile(model, backend="eager")
    one, other = make(tmp_path / "a.jsonl"), make(tmp_path / "b.jsonl")
    assert one.step(0, wrapped) == other.step(0, model)


def test_readings_are_the_sweeps(tmp_path: Path) -> None:
    model, monitor = toy_model(), make(tmp_path / "deep" / "a.jsonl", every=3)
    losses = train(model, range(1, 7), monitor)
    rows = lines(monitor.out)
    assert [(r["step"], r["task"]) for r in rows] == [(s, t) for s in (3, 6) for t in TASKS]
    assert all(list(row) == KEYS for row in rows)
    assert [row["loss"] for row in rows[::2]] == [losses[2], losses[5]]
    items = pl.DataFrame(
        pl.from_arrow(
            score_blocks(model.eval(), toy_tokenizer(), monitor.blocks, Where("r", "s", 6))
        )
    )
    for row in rows[2:]:
        for metric in ("soft", "hard", "margin"):
            expected = seed_series(items, row["task"], metric=metric).level[0]
            assert row[metric] == pytest.approx(expected, abs=1e-6)
    assert rows == [json.loads(json.dumps(vars_of(r))) for r in monitor.readings]


def vars_of(reading: Reading) -> dict[str, Any]:
    return {key: getattr(reading, key) for key in KEYS}


@pytest.mark.parametrize("torn", [False, True])
def test_resuming_leaves_no_step_twice(tmp_path: Path, torn: bool) -> None:
    """Killed after step 7, gone on with from the checkpoint of step 5."""
    whole, out = make(tmp_path / "whole.jsonl"), tmp_path / "a.jsonl"
    train(toy_model(dropout=0.0), range(1, 11), whole)
    model = toy_model(dropout=0.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    train(model, range(1, 6), make(out), optimizer)
    saved = {key: value.clone() for key, value in model.state_dict().items()}
    moments = optimizer.state_dict()
    moments = torch.load(save(moments, tmp_path), weights_only=True)
    train(model, range(6, 8), make(out), optimizer)
    assert lines(out)[-1]["step"] == 6
    if torn:
        out.write_text(out.read_text() + '{"step": 8, "ta')
    model.load_state_dict(saved)
    optimizer.load_state_dict(moments)
    again = make(out)
    again.begin(5, model)
    assert lines(out)[-1]["step"] == 4
    train(model, range(6, 11), again, optimizer)
    assert out.read_bytes() == whole.out.read_bytes()


def save(value: Any, folder: Path) -> Path:
    torch.save(value, folder / "optimizer.pt")
    return folder / "optimizer.pt"


def test_a_beginning_is_read_once(tmp_path: Path) -> None:
    model = toy_model()
    monitor = make(tmp_path / "a.jsonl")
    assert len(monitor.begin(0, model)) == 2
    assert monitor.begin(0, model) == ()
    assert monitor.begin(1, model) == ()
    assert make(monitor.out).begin(0, model) == ()
    assert [row["step"] for row in lines(monitor.out)] == [0, 0]


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    for number, text in enumerate(['{"a": 1}\n', "notes\n", "[]\n"]):
        path = tmp_path / f"{number}.txt"
        path.write_text(text)
        with pytest.raises(DataError, match=r"line 1: not a reading of the monitor"):
            make(path)
        assert path.read_text() == text


@pytest.mark.parametrize("fault", ["every", "threshold"])
def test_what_cannot_be_is_refused(tmp_path: Path, fault: str) -> None:
    with pytest.raises(ConfigError, match=f"monitor.{fault}"):
        make(tmp_path / "a.jsonl", **{fault: 0})
    with pytest.raises(ConfigError, match=r"monitor\.blocks"):
        Monitor((), toy_tokenizer(), every=1, out=tmp_path / "a.jsonl")


def planted_block() -> Block:
    item = Item.of("Q 1 + 1 A", " 7", [" 3"])
    return Block("planted", "seven", "plain", "label", 0, "", (item,), "")


def say(model: Any, soft: float) -> None:
    """Make the model answer 7 with probability (1 + soft) / 2, and 3 else."""
    with torch.no_grad():
        model.model.norm.weight.zero_()
        bias = torch.full((len(WORDS),), -60.0)
        bias[WORDS.index("7")] = float(np.log((1 + soft) / 2))
        bias[WORDS.index("3")] = float(np.log((1 - soft) / 2))
        model.lm_head.bias = torch.nn.Parameter(bias)


def test_a_planted_switch_raises_one_alarm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, told = toy_model(), []
    out = tmp_path / "a.jsonl"
    course = [0.1, 0.6, 0.3, -0.1, 0.15, -0.19, -0.7, -0.3, 0.1, -0.5]

    def watch(steps: range) -> None:
        monitor = Monitor([planted_block()], toy_tokenizer(), every=1, out=out, alarm=told.append)
        for step in steps:
            say(model, course[step])
            monitor.step(step, model)

    with caplog.at_level(logging.WARNING, "scoring.monitor"):
        watch(range(4))
        watch(range(4, 10))
    assert [(r.step, r.switch) for r in told] == [(6, "pattern")]
    rows = lines(out)
    assert [row["soft"] for row in rows] == pytest.approx(course, abs=1e-5)
    assert [row["step"] for row in rows if row["switch"]] == [6]
    assert [record.message for record in caplog.records] == [
        "step 6: planted/seven switched to pattern (soft -0.70)"
    ]
    watch(range(8, 10))
    assert len(told) == 1 and len(lines(out)) == 10


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(-0.98, 0.98), max_size=8), st.sampled_from([0.1, 0.2, 0.5]))
def test_switches_are_those_of_the_stabilization(
    tmp_path: Path, course: list[float], threshold: float
) -> None:
    out, told = tmp_path / "a.jsonl", []
    out.unlink(missing_ok=True)
    monitor = Monitor(
        [planted_block()],
        toy_tokenizer(),
        every=1,
        out=out,
        alarm=told.append,
        threshold=threshold,
    )
    model = toy_model()
    for step, soft in enumerate(course):
        say(model, soft)
        monitor.step(step, model)
    read = [reading.soft for reading in monitor.readings]
    assert len(told) == switches(read, threshold)


def test_a_model_that_diverged_is_read_as_none(tmp_path: Path) -> None:
    model, monitor = toy_model(), make(tmp_path / "a.jsonl")
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    monitor.step(0, model, float("nan"))
    for row in lines(monitor.out):
        assert [row[key] for key in KEYS[2:]] == [None] * 5
    assert make(monitor.out).readings == monitor.readings
