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

from trainers.schedule import Schedule
from trainers.settings import OptimizerSection
from trainers.state import TrainingState, learning_rate, load_state, save_state
from windows.checkpoints.folder import catalog
from windows.errors import ConfigError, DataError
from windows.files import atomic_path

CHECKPOINTS, LOG = "checkpoints", "log"


class Batches(Protocol):
    """Batches by index; what trains on them cannot tell a run's own order from a shard's."""

    def batch(self, index: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Return the ids uint32[k] of a batch's instances, and their tokens uint32[k, L]."""


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
        Steps after which a checkpoint is written, ascending; the last of them ends the training. If
        `first_step` is one of them, the start is a checkpoint too.
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

    Raises
    ------
    DataError
        The batch has a token id that the model does not know.
    ConfigError
        The loss is no number any more.
    """
    known = state.model.get_input_embeddings().num_embeddings
    if tokens.max() >= known:
        raise DataError(
            f"the data hold a token id that the model, which knows {known}, does not",
            where=f"batch {state.next_batch}",
            got=str(tokens.max()),
            do="check the token files, token_bytes and the tokenizer",
        )
    loss = token_loss(state.model, torch.from_numpy(tokens.astype(np.int64))).mean()
    if not torch.isfinite(loss):
        raise ConfigError(
            "training diverged: the loss is no number any more",
            where=f"step {state.step}",
            got=f"loss {float(loss.detach())} at learning rate {lr:g}",
            do="lower the learning rate",
        )
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


def train(
    job: Training,
    folder: Path,
    *,
    advance: Callable[[int], None] = lambda n: None,
    after_step: Callable[[int, torch.nn.Module, float], object] = lambda step, model, loss: None,
) -> None:
    """Train to the last step of `job.save_at`, from the last checkpoint in `folder` if any.

    Writes `folder/checkpoints/<stage>-step<S>/` and, for the steps that led there,
    `folder/log/<stage>-step<S>.parquet` (step, batch, loss in nats per predicted token, lr,
    instances). After a kill the same call goes on from the last checkpoint, to the same bytes.

    Parameters
    ----------
    advance
        Told the number of steps done, for a progress bar; the steps of an earlier attempt at once.
    after_step
        Called with step, model and loss after every step, such as `scoring.monitor.Monitor.step`.
        It must leave the model and the random state as they are.

    Raises
    ------
    ModehopError
        As `take_step`, `trainers.state.load_state` and the batches do.
    """
    torch.set_num_threads(1)
    state = _resume(job, folder)
    advance(state.step - job.first_step)
    rows: list[dict[str, object]] = []
    while state.step < job.save_at[-1]:
        rows.append(_logged_step(job, state))
        advance(1)
        after_step(state.step, state.model, float(str(rows[-1]["loss"])))
        if state.step in job.save_at:
            _write_checkpoint(job, state, rows, folder)
            rows = []


def _logged_step(job: Training, state: TrainingState) -> dict[str, object]:
    step, batch = state.step, state.next_batch
    lr = job.schedule.lr(step)
    instances, tokens = job.batches.batch(batch)
    loss = take_step(state, tokens, lr=lr, clip=job.optimizer.clip)
    return {"step": step, "batch": batch, "loss": loss, "lr": lr, "instances": instances.tolist()}


def _resume(job: Training, folder: Path) -> TrainingState:
    (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    if done := catalog(folder / CHECKPOINTS, run=""):
        return load_state(done[-1].path, job.optimizer)
    state = job.start()
    if state.step in job.save_at:
        _write_checkpoint(job, state, [], folder)
    return state


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
    # Polars would take a bracket in the folder's own name for a pattern.
    paths = sorted((folder / LOG).glob("*.parquet"))
    return pl.concat([pl.read_parquet(path, glob=False) for path in paths]).sort("step")
