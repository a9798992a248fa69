"""What training on chosen data does: outcomes of subsets, tail patch, and arms by score.

These cost optimizer steps, and are what attributions are held against.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trainers.attribution.margins import Answers, item_scores
from trainers.loop import take_step, token_loss
from trainers.settings import OptimizerSection
from trainers.state import load_state
from windows.errors import ConfigError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Retraining:
    """How a checkpoint is trained on.

    Attributes
    ----------
    base
        Its folder, with its optimizer state.
    batch
        Instances a step; what is left behind the last whole batch is not read.
    lr
        Learning rate of every step.
    """

    base: Path
    optimizer: OptimizerSection
    batch: int
    lr: float


def trained(job: Retraining, tokens: NDArray[np.uint32]) -> Any:
    """Return the model after one pass over instances uint32[n, L], in their order.

    Raises
    ------
    ConfigError
        There is not one whole batch.
    """
    steps = len(tokens) // job.batch
    if not steps:
        raise ConfigError(
            "training needs a whole batch",
            got=f"{len(tokens)} instances for batches of {job.batch}",
            do="choose more instances",
        )
    with _own_random_state():
        state = load_state(job.base, job.optimizer)
        for step in range(steps):
            rows = tokens[step * job.batch : (step + 1) * job.batch]
            take_step(state, rows, lr=job.lr, clip=job.optimizer.clip)
    return state.model


def random_subsets(count: int, total: int, *, share: float = 0.5, seed: int) -> NDArray[np.bool_]:
    """Draw bool[count, total]: subsets of one size, for the linear datamodeling score."""
    rng = np.random.default_rng(seed)
    subsets = np.zeros((count, total), dtype=bool)
    for row in subsets:
        row[rng.permutation(total)[: int(share * total)]] = True
    return subsets


def subset_outcomes(
    job: Retraining,
    tokens: NDArray[np.uint32],
    subsets: NDArray[np.bool_],
    items: Sequence[Answers],
) -> Array:
    """Return float64[m, Q]: every item's margin after training on every subset of instances."""
    return np.stack([item_scores(trained(job, tokens[own]), items)[0] for own in subsets])


def tail_patch(
    base: Path,
    proponents: Sequence[NDArray[np.uint32]],
    items: Sequence[Answers],
    *,
    lr: float = 1e-3,
) -> float:
    """Return what single steps on the documents that score highest add to P(right).

    For every proponent the checkpoint takes one step on it alone, with an AdamW of its own; the
    change of P(right) is averaged over items and proponents. Defined as quanda 0.5 does (after
    Chang et al. 2024), which takes 10 proponents for each item; here a task's items share theirs.

    Parameters
    ----------
    proponents
        Token ids of documents, at least two each.
    lr
        quanda's own default.
    """
    with _own_random_state():
        model = load_state(base, OptimizerSection(), with_optimizer=False).model
        kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        before = item_scores(model, items)[1]
        changes = []
        for tokens in proponents:
            _single_step(model, tokens, lr)
            changes.append(item_scores(model, items)[1] - before)
            model.load_state_dict(kept)
    return float(np.mean(changes))


def _single_step(model: Any, tokens: NDArray[np.uint32], lr: float) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    token_loss(model, torch.from_numpy(tokens.astype(np.int64))[None]).mean().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


@contextmanager
def _own_random_state() -> Iterator[None]:
    # Resuming takes over torch's random state, which is not ours to change.
    with torch.random.fork_rng(devices=[]):
        yield
