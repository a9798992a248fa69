"""A corpus without a model: windows of two kinds of documents, whose shares moved the mode."""

from dataclasses import dataclass

import numpy as np
import pytest

from scoring.attribution.evidence import NO_WINDOW, Documents, Evidence
from windows.run import Window

LENGTH, ROWS, STEPS, WORDS = 24, 6, 4, 40
UP, DOWN = (3, 5, 7), (7, 5, 3)
"""What documents of the two kinds hold: the same tokens the other way round."""


@dataclass(frozen=True)
class World:
    """Evidence, and what is true of it: the type of every document, and every window's share."""

    evidence: Evidence
    types: np.ndarray
    share: np.ndarray
    up, down, steps = UP, DOWN, STEPS

    def shuffled(self, seed):
        """The same documents with strengths that have nothing to do with them."""
        strength = np.random.default_rng([seed, 9]).permutation(self.evidence.strength)
        return self.with_strength(strength)

    def with_strength(self, strength, **changes):
        old = self.evidence
        same = {"folds": old.folds, "shifts": old.shifts, "seed": old.seed}
        return Evidence(old.documents, old.windows, strength, **(same | changes))

    def scores(self, attribution):
        return attribution.scores["score"].to_numpy().astype(float)

    def of(self, *, fresh):
        """Which documents lie in no window, or in one."""
        return (self.evidence.documents.window == NO_WINDOW) == fresh


def make_world(windows=40, *, seed=0, noise=0.05, fresh=60):
    rng = np.random.default_rng(seed)
    share = 1 / (1 + np.exp(-1.5 * rng.standard_normal(windows)))
    per_window = ROWS * STEPS
    rows = windows * per_window + fresh
    window = np.repeat([*range(windows), NO_WINDOW], [*([per_window] * windows), fresh])
    chance = np.append(share, 0.5)[window]
    tokens = rng.integers(10, WORDS, size=(rows, LENGTH))
    # Two documents an instance; each holds its kind's three tokens twice.
    half = LENGTH // 2
    types = np.where(rng.random((rows, 2)) < chance[:, None], "up", "down")
    for document in range(2):
        for place in (1, 6):
            at = document * half + place
            kind = np.where(types[:, document, None] == "up", UP, DOWN)
            tokens[:, at : at + 3] = kind
    documents = Documents(
        tokens=tokens.astype(np.uint32),
        instances=np.arange(rows) + 1000,
        batches=np.arange(rows) // ROWS,
        windows=window,
        row=np.repeat(np.arange(rows), 2),
        start=np.tile([0, half], rows).astype(np.int32),
        end=np.tile([half, LENGTH], rows).astype(np.int32),
    )
    made = tuple(
        Window(f"w{w}", "stage1", w * STEPS, (w + 1) * STEPS, w * STEPS, (w + 1) * STEPS, 1)
        for w in range(windows)
    )
    strength = share + noise * rng.standard_normal(windows)
    return World(Evidence(documents, made, strength, seed=seed), types.ravel(), share)


@pytest.fixture(scope="session")
def world():
    return make_world()
