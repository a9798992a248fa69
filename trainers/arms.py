"""Continued pre-training of one arm with one seed."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from scoring.sweep import load_model
from trainers.batches import shard_batches
from trainers.loop import CHECKPOINTS, Training, token_loss, train
from trainers.plan import TrainingPlan, write_plan
from trainers.schedule import Schedule
from trainers.state import TrainingState, load_state
from windows.files import write_atomic

HELDOUT = "heldout.json"
_HELDOUT_ROWS = 64


@dataclass(frozen=True)
class ArmJob:
    """An arm to train.

    Attributes
    ----------
    base
        Folder of the base checkpoint.
    shards
        Folder of the arm's curated shards.
    heldout
        uint32[n, L] tokens that no run has trained on.
    """

    plan: TrainingPlan
    base: Path
    shards: Path
    heldout: NDArray[np.uint32]


def train_arm(
    job: ArmJob, folder: Path, *, advance: Callable[[int], None] = lambda n: None
) -> None:
    """Train the arm, or resume it; then write its held-out loss.

    Leaves `plan.json` (first), `checkpoints/`, `log/` and `heldout.json` {`loss` in nats per
    predicted token, `tokens` predicted} in `folder`.

    Raises
    ------
    DataError
        The shards end before the plan does (nothing is written then), the base is no whole
        checkpoint, or `folder` holds another plan.
    """
    plan = job.plan
    batches = shard_batches(job.shards, batch=plan.batch, steps=plan.steps)
    write_plan(plan, folder)

    def start() -> TrainingState:
        state = load_state(
            job.base, plan.optimizer, with_optimizer=plan.init == "weights+optimizer"
        )
        # The arm's data begin at its own first batch, whatever the run had read.
        state.step, state.next_batch = plan.base_step, 0
        # Where a model drops out, the arm's seed decides what, not the run or this process.
        torch.manual_seed(plan.seed)
        return state

    training = Training(
        start=start,
        first_step=plan.base_step,
        batches=batches,
        schedule=Schedule(plan.phases),
        optimizer=plan.optimizer,
        save_at=plan.save_at,
        stage=plan.stage,
        tokenizer=job.base,
    )
    train(training, folder, advance=advance)
    _write_heldout_loss(job, folder)


def _write_heldout_loss(job: ArmJob, folder: Path) -> None:
    last = folder / CHECKPOINTS / f"{job.plan.stage}-step{job.plan.save_at[-1]}"
    loss = heldout_loss_of(last, job.heldout)
    record = {"loss": loss, "tokens": job.heldout[:, 1:].size}
    write_atomic(folder / HELDOUT, json.dumps(record, indent=2) + "\n")


def heldout_loss_of(checkpoint: Path, tokens: NDArray[np.uint32]) -> float:
    """Return the held-out loss of a checkpoint folder's model; see `heldout_loss`."""
    torch.set_num_threads(1)
    return heldout_loss(load_model(checkpoint)[0], tokens)


def heldout_loss(model: torch.nn.Module, tokens: NDArray[np.uint32]) -> float:
    """Return the mean loss in nats per predicted token over uint32[n, L] `tokens`."""
    total, count = 0.0, 0
    with torch.inference_mode():
        for first in range(0, len(tokens), _HELDOUT_ROWS):
            rows = torch.from_numpy(tokens[first : first + _HELDOUT_ROWS].astype(np.int64))
            losses = token_loss(model, rows).double()
            total, count = total + float(losses.sum()), count + losses.numel()
    return total / count


def read_heldout_loss(folder: Path) -> float:
    """Return the held-out loss that `train_arm` wrote, in nats per predicted token."""
    return float(json.loads((folder / HELDOUT).read_text(encoding="utf-8"))["loss"])
