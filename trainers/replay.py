"""Shuffled replay: what a window's data does when only its order inside the window is taken away.

From one fixed checkpoint with its optimizer state, a window's instances are trained in a shuffled
order, and the suite is scored before and after. Replaying in the run's own order is no check: the
last steps' noise alone reproduces a hop then.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoTokenizer

from scoring.sweep import SweepRequest, Where, score_model, write_items
from trainers.batches import shuffled_window
from trainers.loop import take_step
from trainers.settings import OptimizerSection
from trainers.state import TrainingState, load_state
from windows.order import DataOrder
from windows.run import RunConfig, Window
from windows.tokens import TokenFiles

BASE = "replay-base"
"""Name of the run that the base checkpoint is, in the tables of a replay."""


@dataclass(frozen=True)
class ReplayJob:
    """One window in one shuffled order, from the checkpoint in `base`; no window: the base alone.

    Attributes
    ----------
    files
        The run's token files, in order.
    dose
        The share of the window's batches that is trained, in (0, 1]: the first of the shuffled
        order, so a random sample of its instances.
    out
        The folder that item scores go to.
    """

    base: Path
    run: RunConfig
    files: tuple[Path, ...]
    window: Window | None
    shuffle: int
    seed: int
    lr: float
    optimizer: OptimizerSection
    request: SweepRequest
    out: Path
    dose: float = 1.0

    @property
    def path(self) -> Path:
        """Where the job's item scores lie."""
        return self.out / f"{self.name}.parquet"

    @property
    def name(self) -> str:
        """The name of the run that this replay is."""
        return replay_name(self.window, self.shuffle) if self.window else BASE


def replay_name(window: Window, shuffle: int) -> str:
    """Name the run that a replay is, in tables."""
    return f"replay-{window.first_step}-{window.end_step}-shuffle{shuffle}"


def dosed(window: Window, dose: float) -> int:
    """Return how many batches a dose of a window is, at least one."""
    return max(1, round(dose * (window.end_batch - window.first_batch)))


def replay(job: ReplayJob) -> None:
    """Train the job's window from the base checkpoint and write the items' scores after it.

    Does nothing where the scores are there already.

    Raises
    ------
    DataError
        The base is no whole checkpoint with its optimizer state.
    """
    if job.path.exists():
        return
    torch.set_num_threads(1)
    state = load_state(job.base, job.optimizer)
    if job.window:
        _train(state, job, job.window)
    state.model.eval()
    tokenizer = AutoTokenizer.from_pretrained(
        job.base, local_files_only=True, trust_remote_code=False
    )
    where = Where(job.name, job.run.stage, state.step)
    write_items(score_model(state.model, tokenizer, job.request, where), job.path)


def _train(state: TrainingState, job: ReplayJob, window: Window) -> None:
    files = TokenFiles(
        job.files, sequence_length=job.run.sequence_length, token_bytes=job.run.token_bytes
    )
    batches = shuffled_window(
        files,
        _order(job.run, files.sizes),
        (window.first_batch, window.end_batch),
        seed=(job.seed, window.first_batch, job.shuffle),
    )
    for index in range(dosed(window, job.dose)):
        _, tokens = batches.batch(index)
        take_step(state, tokens, lr=job.lr, clip=job.optimizer.clip)


@functools.lru_cache(maxsize=2)
def _order(run: RunConfig, sizes: tuple[int, ...]) -> DataOrder:
    return run.order(sizes)
