"""The local engine: plain PyTorch steps over batches in a fixed order, resumable."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from trainers.settings import OptimizerSection, Phase
from trainers.state import TrainingState, learning_rate, load_state, save_state
from windows.checkpoint import catalog
from windows.files import atomic_path

CHECKPOINTS, LOG = "checkpoints", "log"


class Batches(Protocol):
    """Batches by index; what trains on them cannot tell a run's own order from a shard's."""

    def batch(self, index: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Return the ids uint32[k] of a batch's instances, and their tokens uint32[k, L]."""


@dataclass(frozen=True)
class Schedule:
    """Learning rate by phases, with a linear ramp over the first `ramp_steps` steps."""

    phases: tuple[Phase, ...]
    ramp_steps: int = 0

    def lr(self, step: int) -> float:
        """Return the learning rate of the step that follows checkpoint `step`."""
        current = [phase.lr for phase in self.phases if phase.first_step <= step][-1]
        return current * min(1.0, (step + 1) / self.ramp_steps) if self.ramp_steps else current


@dataclass(frozen=True)
class Training:
    """A stretch of training: where it starts, what it reads, where it leaves checkpoints.

    Attributes
    ----------
    start
        Makes the state before the first step, when there is no checkpoint to resume from.
    first_step
        The step of that state.
    save_at
        Steps after which a checkpoint is written; the last of them ends the training.
    tokenizer
        Folder of the tokenizer's files, which go with every checkpoint.
    """

    start: Callable[[], TrainingState]
    first_step: int
    batches: Batches
    schedule: Schedule
    optimizer: OptimizerSection
    save_at: tuple[int, ...]
    stage: str
    tokenizer: Path


def take_step(state: TrainingState, tokens: NDArray[np.uint32], *, lr: float, clip: float) -> float:
    """Take one optimizer step on a batch.

    Parameters
    ----------
    tokens
        uint32[k, L]; every token but the first of an instance is predicted.
    lr
        Learning rate of this step.
    clip
        Largest global gradient norm.

    Returns
    -------
    float
        Mean loss in nats per predicted token, before the step.
    """
    inputs = torch.from_numpy(tokens.astype(np.int64))
    loss = token_loss(state.model, inputs).mean()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(state.model.parameters(), clip)
    learning_rate(state, lr)
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    state.step += 1
    state.next_batch += 1
    return float(loss.detach())


def token_loss(model: torch.nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Return float32[k, L-1]: the loss of every predicted token, in nats."""
    logits = model(input_ids=inputs, use_cache=False).logits[:, :-1].float()
    return cross_entropy(logits.flatten(0, 1), inputs[:, 1:].flatten(), reduction="none").view(
        len(inputs), -1
    )


def train(job: Training, folder: Path, *, advance: Callable[[int], None] = lambda n: None) -> None:
    """Train to the last step of `job.save_at`, from the last checkpoint in `folder` if any.

    Writes `folder/checkpoints/<stage>-step<S>/` and, for the steps that led there,
    `folder/log/<stage>-step<S>.parquet` (step, batch, loss in nats, lr, instances).

    Parameters
    ----------
    advance
        Told the number of steps done, for a progress bar; the steps of an earlier attempt at once.
    """
    torch.set_num_threads(1)
    state = _resume(job, folder)
    advance(state.step - job.first_step)
    rows: list[dict[str, object]] = []
    for step in range(state.step, job.save_at[-1]):
        instances, tokens = job.batches.batch(state.next_batch)
        lr = job.schedule.lr(step)
        batch = state.next_batch
        loss = take_step(state, tokens, lr=lr, clip=job.optimizer.clip)
        rows.append(
            {"step": step, "batch": batch, "loss": loss, "lr": lr, "instances": instances.tolist()}
        )
        advance(1)
        if state.step in job.save_at:
            _write_checkpoint(job, state, rows, folder)
            rows = []


def _resume(job: Training, folder: Path) -> TrainingState:
    (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    (folder / LOG).mkdir(exist_ok=True)
    done = catalog(folder / CHECKPOINTS, run="")
    return load_state(done[-1].path, job.optimizer) if done else job.start()


def _write_checkpoint(
    job: Training, state: TrainingState, rows: list[dict[str, object]], folder: Path
) -> None:
    name = f"{job.stage}-step{state.step}"
    schema: dict[str, pl.DataType | type[pl.DataType]] = {
        "step": pl.Int64,
        "batch": pl.Int64,
        "loss": pl.Float64,
        "lr": pl.Float64,
        "instances": pl.List(pl.UInt32),
    }
    # The log first: a checkpoint whose log is missing could not be resumed into a whole log.
    with atomic_path(folder / LOG / f"{name}.parquet") as path:
        pl.DataFrame(rows, schema=schema).write_parquet(path)
    save_state(state, folder / CHECKPOINTS / name, tokenizer=job.tokenizer)


def read_log(folder: Path) -> pl.DataFrame:
    """Return the whole training log below `folder`, by step."""
    return pl.read_parquet(folder / LOG / "*.parquet").sort("step")
