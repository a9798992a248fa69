"""Checkpoint contrast: documents that checkpoints in the high mode predict better than others.

A document scores its mean loss under the checkpoints of the lowest level minus that under those of
the highest. A high checkpoint may have trained on such documents lately, or they may have made it
what it is: the contrast says what goes with the mode, and not why.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scoring.attribution.crossfit import (
    Features,
    Fold,
    attribute,
    folds,
    fresh_fold,
    window_average,
)
from scoring.attribution.evidence import Array, Attribution, Evidence
from scoring.attribution.null import rolled
from scoring.loading import load_model
from trainers.attribution.checkpoints import allowed
from trainers.attribution.losses import ROWS, document_losses
from windows.errors import DataError


@dataclass(frozen=True, eq=False)
class CheckpointContrast:
    """Scores a document by its loss under low checkpoints minus that under high ones.

    Attributes
    ----------
    levels
        float64[W + 1]: the score of the checkpoint at every edge of the windows.
    checkpoints
        Folders by edge, in [0, W]; those that may be chosen from. All of them make the strongest
        null; :meth:`needed` are enough for the scores.
    count
        How many low ones, and how many high ones.
    rows
        Instances of a forward pass.
    """

    levels: Array
    checkpoints: Mapping[int, Path]
    count: int = 4
    rows: int = ROWS

    @property
    def method(self) -> str:
        """Its name."""
        return "checkpoint-contrast"

    def needed(self, evidence: Evidence) -> tuple[int, ...]:
        """Return the edges whose checkpoints the scores of some fold rest on.

        Raises
        ------
        DataError
            There is not one level an edge, or there are too few checkpoints to choose from.
        """
        if self.levels.shape != (len(evidence.windows) + 1,):
            raise DataError(
                "a contrast needs the level at every edge of the windows",
                got=f"{self.levels.shape} for {len(evidence.windows)} windows",
                do="score every checkpoint at a window's edge",
            )
        edges = sorted(self.checkpoints)
        parts = [*folds(len(evidence.windows), evidence.folds), fresh_fold(len(evidence.windows))]
        used = [self._weights(part, edges, np.zeros(1, dtype=np.int64)) for part in parts]
        return tuple(edges[at] for at in np.flatnonzero(np.abs(used).sum(axis=(0, 2))))

    def attribute(self, evidence: Evidence) -> Attribution:
        """Score every document; see :class:`scoring.attribution.evidence.Scorer`.

        Raises
        ------
        DataError
            As :meth:`needed`, or a checkpoint cannot be loaded.
        """
        self.needed(evidence)  # refuses before anything is read
        return self.compared(evidence, self.losses(evidence))

    def losses(self, evidence: Evidence) -> Array:
        """Return float64[D, C]: the documents' losses under all checkpoints, by edge."""
        found = []
        for edge in sorted(self.checkpoints):
            model, _ = load_model(self.checkpoints[edge])
            found.append(document_losses(model, evidence.documents, rows=self.rows))
        return np.stack(found, axis=1)

    def compared(self, evidence: Evidence, losses: Array) -> Attribution:
        """Score documents by their `losses`; see :meth:`attribute`."""
        edges = sorted(self.checkpoints)

        def fit(fold: Fold, shifts: NDArray[np.int64]) -> Array:
            return self._weights(fold, edges, shifts)

        features = Features(losses, window_average(evidence, losses))
        return attribute(evidence, self.method, features, fit)

    def _weights(self, fold: Fold, edges: list[int], shifts: NDArray[np.int64]) -> Array:
        """Return float64[C, K]: 1 / count for low checkpoints, -1 / count for high ones."""
        at = allowed(fold, edges)
        if len(at) < 2 * self.count:
            raise DataError(
                f"{self.count} low and {self.count} high checkpoints need others than those that"
                " have just trained on the documents",
                got=f"{len(at)} to choose from for windows {fold.first}:{fold.end}",
                do="give more checkpoints, or lower count",
            )
        order = np.argsort(rolled(self.levels, shifts)[edges][at], axis=0, kind="stable")
        weights = np.zeros((len(edges), len(shifts)))
        columns = np.arange(len(shifts))
        weights[at[order[: self.count]], columns] = 1 / self.count
        weights[at[order[-self.count :]], columns] = -1 / self.count
        return weights
