"""Majority votes and best-of-n over answers that are drawn from several checkpoints' own."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Answers:
    """Answers to one item, in arrays of one shape.

    Attributes
    ----------
    codes
        int64: equal for equal answers, -1 where there is none.
    right
        bool; the same for equal answers.
    scores
        float64.
    """

    codes: NDArray[np.int64]
    right: NDArray[np.bool_]
    scores: NDArray[np.float64]


def draw(
    pools: Sequence[Answers], plan: Sequence[int], draws: int, rng: np.random.Generator
) -> Answers:
    """Draw without replacement so many of each pool's answers, as often as asked.

    Returns
    -------
    Answers
        Arrays of shape (draws, sum of the plan).
    """
    parts = []
    for pool, count in zip(pools, plan, strict=True):
        order = np.argsort(rng.random((draws, len(pool.codes))), axis=1)[:, :count]
        parts.append((pool.codes[order], pool.right[order], pool.scores[order]))
    return Answers(*(np.concatenate(own, axis=1) for own in zip(*parts, strict=True)))


def majority(taken: Answers) -> float:
    """Return the mean over draws of how likely one of the most frequent answers is right.

    What is no answer does not vote; where nothing else was drawn, nothing is right.
    """
    codes = np.unique(taken.codes[taken.codes >= 0])
    if not len(codes):
        return 0.0
    votes = np.stack([(taken.codes == code).sum(axis=1) for code in codes], axis=1)
    right = np.array([taken.right[taken.codes == code][0] for code in codes])
    most = (votes == votes.max(axis=1, keepdims=True)) & (votes > 0)
    return float(((most & right).sum(axis=1) / np.maximum(most.sum(axis=1), 1)).mean())


def best_of(taken: Answers) -> float:
    """Return the mean over draws of how likely one of the highest scores is a right answer's."""
    top = taken.scores == taken.scores.max(axis=1, keepdims=True)
    return float(((top & taken.right).sum(axis=1) / top.sum(axis=1)).mean())
