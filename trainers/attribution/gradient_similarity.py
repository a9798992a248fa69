"""Gradient similarity: what one step on a document does to the eval's margin, to first order.

With m the mean margin, L a document's mean loss and P the inverse of Adam's denominator, a step of
size eta on the document changes m by -eta (grad m)' P (grad L). That is the derivative of L along
the direction d = P grad m, which a central difference gives for all documents at once, from two
forward passes over them and without a gradient of any:

    score = -(L(theta + h d) - L(theta - h d)) / (2 h)

in nats of margin per unit of learning rate, averaged over checkpoints (TracIn: Pruthi et al. 2020,
with Adam's preconditioner as in LESS: Xia et al. 2024; the document's own share in the moments is
left out). Strengths are not used.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scoring.attribution.crossfit import Features, Fold, attribute, window_average
from scoring.attribution.evidence import Array, Attribution, Documents, Evidence
from trainers.attribution.checkpoints import allowed
from trainers.attribution.losses import ROWS, document_losses
from trainers.attribution.margins import Answers, margin_gradient
from trainers.settings import OptimizerSection
from trainers.state import TrainingState, load_state
from windows.errors import DataError

STEP = 1e-3
"""Length of the step h d, as a share of the length of the parameters."""


@dataclass(frozen=True, eq=False)
class GradientSimilarity:
    """Scores a document by what training on it does to the margin of eval items.

    Attributes
    ----------
    checkpoints
        Folders by edge of the windows, in [0, W].
    items
        Whose margin is meant.
    optimizer
        The run's.
    preconditioned
        By the checkpoint's own optimizer state; else every parameter counts alike.
    rows
        Instances of a forward pass.
    """

    checkpoints: Mapping[int, Path]
    items: Sequence[Answers]
    optimizer: OptimizerSection
    preconditioned: bool = True
    rows: int = ROWS

    @property
    def method(self) -> str:
        """Its name."""
        return "gradient-similarity" if self.preconditioned else "gradient-similarity-sgd"

    def attribute(self, evidence: Evidence) -> Attribution:
        """Score every document; see :class:`scoring.attribution.evidence.Scorer`.

        Raises
        ------
        DataError
            A checkpoint lacks its optimizer state, or all have just trained on some document.
        """
        edges = sorted(self.checkpoints)
        effects = np.stack([self._effects(evidence.documents, edge) for edge in edges], axis=1)

        def fit(fold: Fold, shifts: NDArray[np.int64]) -> Array:
            at = allowed(fold, edges)
            if not len(at):
                raise DataError(
                    "all checkpoints have just trained on the documents",
                    got=f"none to choose from for windows {fold.first}:{fold.end}",
                    do="give checkpoints that lie apart",
                )
            weights = np.zeros((len(edges), len(shifts)))
            weights[at] = 1 / len(at)
            return weights

        return attribute(
            evidence, self.method, Features(effects, window_average(evidence, effects)), fit
        )

    def _effects(self, documents: Documents, edge: int) -> Array:
        # Resuming takes over torch's random state, which is not ours to change.
        with torch.random.fork_rng(devices=[]):
            state = load_state(
                self.checkpoints[edge], self.optimizer, with_optimizer=self.preconditioned
            )
        direction = margin_gradient(state.model, self.items)
        if self.preconditioned:
            direction = preconditioned(state, direction)
        return step_effects(state.model, direction, documents, rows=self.rows)


def preconditioned(state: TrainingState, gradient: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Divide a gradient by Adam's denominator, sqrt(v / (1 - beta2^t)) + eps, as it stands.

    A parameter that no step has changed has no moments and no direction.
    """
    group = state.optimizer.param_groups[0]
    found = []
    for parameter, part in zip(state.model.parameters(), gradient, strict=True):
        own = state.optimizer.state.get(parameter)
        if own is None:
            found.append(torch.zeros_like(part))
            continue
        corrected = own["exp_avg_sq"] / (1 - group["betas"][1] ** float(own["step"]))
        found.append(part / (corrected.sqrt() + group["eps"]))
    return found


def step_effects(
    model: Any, direction: Sequence[torch.Tensor], documents: Documents, *, rows: int = ROWS
) -> Array:
    """Return float64[D]: minus the derivative of every document's loss along a direction."""
    length = _norm(direction)
    if length == 0:
        return np.zeros(len(documents.row))
    step = STEP * _norm(list(model.parameters())) / length
    with moved(model, direction, step):
        ahead = document_losses(model, documents, rows=rows)
    with moved(model, direction, -step):
        behind = document_losses(model, documents, rows=rows)
    effects: Array = (behind - ahead) / (2 * step)
    return effects


@contextmanager
def moved(model: Any, direction: Sequence[torch.Tensor], step: float) -> Iterator[None]:
    """Move a model's parameters by a step along a direction, and put them back to the bit."""
    parameters = list(model.parameters())
    kept = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        torch._foreach_add_(parameters, list(direction), alpha=step)
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(parameters, kept)


def _norm(tensors: Sequence[torch.Tensor]) -> float:
    return float(sum(float(tensor.detach().double().square().sum()) for tensor in tensors) ** 0.5)
