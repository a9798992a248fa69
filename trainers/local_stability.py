"""Local stability: how far one optimizer step on random documents moves the mode.

From a checkpoint with its own Adam state, one step is taken on a random batch of the run's data, at
several learning rates, and the suite is scored after it. N such steps that pull this way and that
add up to about sqrt(N) of one: a hop that is no larger than that diffusion needs no cause in its
window's data.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer

from scoring.sweep import SweepRequest, Where, score_model, write_items
from trainers.loop import take_step
from trainers.settings import OptimizerSection
from trainers.state import load_state
from windows.run import RunConfig
from windows.tokens import TokenFiles


@dataclass(frozen=True)
class StabilityJob:
    """One step from one checkpoint at one learning rate, on one random batch.

    Attributes
    ----------
    base
        The checkpoint's folder, with its optimizer state.
    files
        The run's token files, in order.
    step
        The checkpoint's step; the batch has the size of the one that is read next.
    draw, seed
        Which random batch. One draw is the same batch at every learning rate.
    out
        The folder that item scores go to.
    """

    base: Path
    run: RunConfig
    files: tuple[Path, ...]
    step: int
    lr: float
    draw: int
    seed: int
    optimizer: OptimizerSection
    request: SweepRequest
    out: Path

    @property
    def name(self) -> str:
        """The name of the run that this is, in the table: checkpoint, learning rate, draw."""
        return f"step{self.step}-lr{self.lr:g}-draw{self.draw}"

    @property
    def path(self) -> Path:
        """Where the job's item scores lie."""
        return self.out / f"{self.name}.parquet"


def perturb(job: StabilityJob) -> None:
    """Take the step and write the items' scores after it; nothing where they are there already.

    A learning rate of 0 scores the checkpoint as it is.

    Raises
    ------
    DataError
        The checkpoint is not whole, or has no optimizer state.
    """
    if job.path.exists():
        return
    torch.set_num_threads(1)
    state = load_state(job.base, job.optimizer)
    if job.lr > 0:
        take_step(state, _random_batch(job), lr=job.lr, clip=job.optimizer.clip)
    state.model.eval()
    tokenizer = AutoTokenizer.from_pretrained(
        job.base, local_files_only=True, trust_remote_code=False
    )
    where = Where(job.name, job.run.stage, job.step)
    write_items(score_model(state.model, tokenizer, job.request, where), job.path)


def _random_batch(job: StabilityJob) -> np.ndarray[tuple[int, int], np.dtype[np.uint32]]:
    files = TokenFiles(
        job.files, sequence_length=job.run.sequence_length, token_bytes=job.run.token_bytes
    )
    order = job.run.order(files.sizes)
    rng = np.random.default_rng((job.seed, job.step, job.draw))
    count = job.run.instances_per_batch(job.step)
    drawn = rng.choice(order.num_instances, size=count, replace=False)
    return files.instances(order, drawn.astype(np.uint32))
