"""Steps against an oracle, and training that was cut short against training that was not."""

import copy
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import torch
from transformers import PreTrainedTokenizerFast

import trainers.loop
from scoring.monitor import Monitor, monitor_blocks
from trainers.loop import Training, read_log, take_step, token_loss, train
from trainers.schedule import Schedule
from trainers.settings import Phase
from trainers.state import TrainingState, load_state, new_state
from windows.errors import ConfigError, DataError
from windows.files import remove

ROOT = Path(trainers.loop.__file__).parents[1]
LR, CLIP, STEPS = 1e-3, 0.05, 3


def fresh(tiny: Any) -> TrainingState:
    return new_state(
        tiny.pretraining.model, tiny.pretraining.optimizer, tiny.run.tokenizer, seed=tiny.seed
    )


def batch_of(tiny: Any, index: int) -> npt.NDArray[np.uint32]:
    return tiny.files.instances(tiny.order, tiny.order.instances(index, index + 1))


def loss_of(model: Any, tokens: npt.NDArray[np.uint32]) -> torch.Tensor:
    """Mean loss per predicted token, written out from the logits."""
    ids = torch.from_numpy(tokens.astype(np.int64))
    logits = model(input_ids=ids).logits[:, :-1]
    chosen = logits.gather(-1, ids[:, 1:, None])[..., 0]
    return (torch.logsumexp(logits, -1) - chosen).mean()


def adamw_by_hand(model: Any, batches: list[Any], clip: float) -> tuple[list[float], list[float]]:
    """Three steps of AdamW (Loshchilov and Hutter, algorithm 2) in float64; losses and norms."""
    beta1, beta2, decay, eps = 0.9, 0.95, 0.01, 1e-8
    weights = list(model.parameters())
    first = [torch.zeros_like(w) for w in weights]
    second = [torch.zeros_like(w) for w in weights]
    losses, norms = [], []
    for step, tokens in enumerate(batches, start=1):
        loss = loss_of(model, tokens)
        gradients = torch.autograd.grad(loss, weights)
        norm = float(sum((g**2).sum() for g in gradients)) ** 0.5
        losses.append(float(loss.detach()))
        norms.append(norm)
        scale = min(1.0, clip / (norm + 1e-6))
        with torch.no_grad():
            for w, g, m, v in zip(weights, gradients, first, second, strict=True):
                m += (1 - beta1) * (scale * g - m)
                v += (1 - beta2) * ((scale * g) ** 2 - v)
                w *= 1 - LR * decay
                w -= LR * (m / (1 - beta1**step)) / ((v / (1 - beta2**step)).sqrt() + eps)
    return losses, norms


@pytest.mark.parametrize("clip", [CLIP, 1e6])
def test_three_steps_are_adamw_with_clipping(tiny: Any, clip: float):
    state = fresh(tiny)
    oracle = copy.deepcopy(state.model).double()
    before = copy.deepcopy(oracle)
    batches = [batch_of(tiny, index) for index in range(STEPS)]
    expected, norms = adamw_by_hand(oracle, batches, clip)
    assert all((norm > clip) == (clip == CLIP) for norm in norms), "clipping was needed, or not"
    losses = [take_step(state, tokens, lr=LR, clip=clip) for tokens in batches]
    assert losses == pytest.approx(expected, rel=1e-5)
    assert (state.step, state.next_batch) == (STEPS, STEPS)
    pairs = zip(state.model.parameters(), oracle.parameters(), before.parameters(), strict=True)
    for ours, theirs, start in pairs:
        # Float32 against float64: a thousandth of what one step can change.
        assert (theirs - start).abs().max() > LR
        assert (ours.double() - theirs).abs().max() < 1e-3 * LR


def test_token_loss_is_the_negative_log_probability(tiny: Any):
    model = load_state(tiny.checkpoint(9), tiny.optimizer).model.eval()
    ids = torch.from_numpy(tiny.heldout.astype(np.int64))
    with torch.inference_mode():
        logits = model(input_ids=ids).logits.double().numpy()
        found = token_loss(model, ids).numpy()
    assert found.shape == (8, 31) and found.dtype == np.float32
    exponents = np.exp(logits - logits.max(-1, keepdims=True))
    probabilities = exponents / exponents.sum(-1, keepdims=True)
    rows, columns = np.indices((8, 31))
    chosen = probabilities[rows, columns, tiny.heldout[:, 1:].astype(np.int64)]
    np.testing.assert_allclose(found, -np.log(chosen), rtol=1e-5, atol=1e-6)


def test_the_log_tells_every_step(tiny: Any):
    log = read_log(tiny.folder)
    assert log["step"].to_list() == log["batch"].to_list() == list(range(9))
    assert log["lr"].to_list() == pytest.approx([2e-3, 4e-3, 4e-3] + [1e-3] * 6)
    names = sorted(path.name for path in (tiny.folder / "log").iterdir())
    assert names == [f"stage1-step{step}.parquet" for step in tiny.steps]
    last = pl.read_parquet(tiny.folder / "log" / "stage1-step5.parquet")
    assert last["step"].to_list() == [3, 4]
    state = fresh(tiny)
    assert log["loss"][0] == float(loss_of(state.model, batch_of(tiny, 0)).detach())
    assert log["loss"][-1] < log["loss"][0]


def test_a_log_is_read_wherever_it_lies(tiny: Any, tmp_path: Path):
    copied = shutil.copytree(tiny.folder / "log", tmp_path / "run[1]*" / "log").parent
    assert read_log(copied).equals(read_log(tiny.folder))


def test_pre_training_is_deterministic(tiny: Any, tmp_path: Path):
    torch.rand(5)
    tiny.pretrain(tmp_path / "run")
    assert tiny.contents(tmp_path / "run") == tiny.contents(tiny.folder)


class Killed(BaseException):
    pass


def killer(after: int) -> Any:
    """An `advance` that ends the process's work when that many steps are done."""
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if done >= after:
            raise Killed

    return advance


@pytest.mark.parametrize("after", range(1, 10))
def test_a_resumed_training_ends_in_the_same_bytes(tiny: Any, tmp_path: Path, after: int):
    folder = tmp_path / "run"
    with pytest.raises(Killed):
        tiny.pretrain(folder, advance=killer(after))
    told: list[int] = []
    tiny.pretrain(folder, advance=told.append)
    # Steps since the last checkpoint are lost, those before it are told at once.
    kept = max([step for step in (0, *tiny.steps) if step < after], default=0)
    assert told == [kept, *[1] * (9 - kept)]
    assert tiny.contents(folder) == tiny.contents(tiny.folder)


@pytest.mark.parametrize("step", [3, 5, 7, 9])
def test_it_resumes_after_every_checkpoint_and_between_log_and_checkpoint(
    tiny: Any, tmp_path: Path, step: int
):
    folder = shutil.copytree(tiny.folder, tmp_path / "run")
    for later in tiny.steps:
        if later >= step:
            remove(folder / "checkpoints" / f"stage1-step{later}")
        if later > step:
            remove(folder / "log" / f"stage1-step{later}.parquet")
    tiny.pretrain(folder)
    assert tiny.contents(folder) == tiny.contents(tiny.folder)


@pytest.mark.slow
def test_a_killed_process_is_resumed(tiny: Any, tmp_path: Path):
    program = f"""
import os, signal, sys
from pathlib import Path
sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]
from conftest import TinyRun

def advance(count):
    global done
    done += count
    if done == 6:
        os.kill(os.getpid(), signal.SIGKILL)

done = 0
root = Path({str(tmp_path)!r})
made = TinyRun(root)
made.pretrain(made.folder, advance=advance)
"""
    ended = subprocess.run([sys.executable, "-c", program], env=os.environ, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()]
    tiny.pretrain(tmp_path / "run")
    assert tiny.contents(tmp_path / "run") == tiny.contents(tiny.folder)


def test_a_finished_training_takes_no_step(tiny: Any, tmp_path: Path):
    folder = shutil.copytree(tiny.folder, tmp_path / "run")
    told: list[int] = []
    tiny.pretrain(folder, advance=told.append)
    assert told == [9]
    assert tiny.contents(folder) == tiny.contents(tiny.folder)


def test_the_start_is_a_checkpoint_where_it_is_asked_for(tiny: Any, tmp_path: Path):
    job = job_of(tiny, save_at=(0, 2))
    train(job, tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == [
        "stage1-step0",
        "stage1-step2",
    ]
    start = load_state(tmp_path / "run" / "checkpoints" / "stage1-step0", tiny.optimizer)
    weights = zip(start.model.parameters(), fresh(tiny).model.parameters(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in weights)
    assert read_log(tmp_path / "run")["step"].to_list() == [0, 1]
    remove(tmp_path / "run" / "checkpoints" / "stage1-step2")
    whole = tiny.contents(tmp_path / "run")
    train(job, tmp_path / "run")
    assert whole.items() <= tiny.contents(tmp_path / "run").items()


def job_of(tiny: Any, **changes: Any) -> Training:
    class InOrder:
        def batch(self, index: int) -> Any:
            return tiny.order.instances(index, index + 1), batch_of(tiny, index)

    fields = {
        "start": lambda: fresh(tiny),
        "first_step": 0,
        "batches": InOrder(),
        "schedule": Schedule((Phase(first_step=0, lr=LR),)),
        "optimizer": tiny.optimizer,
        "save_at": (2,),
        "stage": "stage1",
        "tokenizer": tiny.data,
    }
    return Training(**(fields | changes))


def test_a_token_the_model_does_not_know_is_refused(tiny: Any):
    state = fresh(tiny)
    tokens = batch_of(tiny, 0)
    tokens[1, 3] = 127
    with pytest.raises(DataError, match=r"batch 0: .*knows 127.*got 127"):
        take_step(state, tokens, lr=LR, clip=1.0)
    assert state.step == 0


def test_a_training_that_diverges_is_refused_and_leaves_no_checkpoint(tiny: Any, tmp_path: Path):
    schedule = Schedule((Phase(first_step=0, lr=1e30),))
    with pytest.raises(ConfigError, match="lower the learning rate"):
        train(job_of(tiny, schedule=schedule, save_at=(4,)), tmp_path / "run")
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


def test_a_monitor_reads_the_running_model_and_changes_no_byte(tiny: Any, tmp_path: Path) -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(tiny.data / "tokenizer.json"))
    blocks = monitor_blocks(["successive_answer/addition"], demo_seeds=1, items=2)
    monitor = Monitor(blocks, tokenizer, every=2, out=tmp_path / "monitor.jsonl")
    for folder, after in (("plain", {}), ("watched", {"after_step": monitor.step})):
        train(job_of(tiny, save_at=(4,)), tmp_path / folder, **after)
    assert tiny.contents(tmp_path / "plain") == tiny.contents(tmp_path / "watched")
    assert [reading.step for reading in monitor.readings] == [2, 4]
    losses = read_log(tmp_path / "watched")["loss"]
    assert [reading.loss for reading in monitor.readings] == [losses[1], losses[3]]
