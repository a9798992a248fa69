"""Comparing many checkpoints at once by flipping the signs of demo seeds' differences.

If two checkpoints do not differ, a seed's difference between them is as likely positive as
negative. One set of flips serves all pairs, so that their dependence is kept, and the statistic is
studentized anew for every flip (max-t; Westfall and Young 1993).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FLIPS = 999
"""How many are drawn beside none at all; where there are no more than that, all are taken."""


@dataclass(frozen=True)
class Cluster:
    """Tasks with the same demo seeds, averaged.

    Attributes
    ----------
    weight
        Their share of all tasks.
    values
        float64 of shape (T, S): one value a checkpoint and seed.
    """

    weight: float
    values: Array


@dataclass(frozen=True)
class AgainstOne:
    """All T checkpoints less one of them, the control.

    Attributes
    ----------
    difference, se, t
        float64 of shape (T,): mean over seeds, its standard error, and their ratio; 0, 0 and 0 for
        the control itself.
    above, below
        float64 of shape (F,): for every flip the largest t, and the largest of -t; the actual
        signs come first.
    """

    difference: Array
    se: Array
    t: Array
    above: Array
    below: Array


def draw_signs(seeds: Sequence[int], seed: int) -> list[Array]:
    """Return for each cluster float64[F, S]: the signs of its seeds in every flip.

    The first flips nothing. All 2^S flips of the S seeds together are taken if they are at most
    `FLIPS` and one, else so many are drawn, each with its opposite's chance.
    """
    count = sum(seeds)
    if 2**count <= FLIPS + 1:
        bits = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
    else:
        bits = np.random.default_rng(seed).integers(0, 2, (FLIPS + 1, count))
        bits[0] = 0
    return np.split(1.0 - 2.0 * bits, np.cumsum(seeds)[:-1], axis=1)


def against(clusters: Sequence[Cluster], signs: Sequence[Array], control: int) -> AgainstOne:
    """Compare every checkpoint with one.

    Parameters
    ----------
    clusters
        At least one; each of at least two seeds.
    signs
        From `draw_signs`, for the same clusters.
    control
        Index of the checkpoint that the others are compared with.
    """
    shape = len(signs[0]), len(clusters[0].values)
    mean, variance = np.zeros(shape), np.zeros(shape)
    for cluster, own in zip(clusters, signs, strict=True):
        each = cluster.values - cluster.values[control]
        count = each.shape[1]
        flipped = own @ each.T / count
        square = (each**2).mean(axis=1)
        # Flipping changes the mean and not the squares. Equal differences have no spread but the
        # rounding's, which must not decide which of them has the larger t.
        spread = np.maximum(square - flipped**2, 1e-18 * square)
        mean += cluster.weight * flipped
        variance += cluster.weight**2 * spread / (count - 1)
    t = np.divide(mean, np.sqrt(variance), out=np.zeros(shape), where=variance > 0)
    # Copies: a view would keep the flips of every control.
    return AgainstOne(
        mean[0].copy(),
        np.sqrt(variance[0]),
        t[0].copy(),
        above=t.max(axis=1),
        below=-t.min(axis=1),
    )


def flip_p(observed: Array | float, flipped: Array) -> Array:
    """Share of flips, float64[F], whose statistic reaches each observed one; of its shape."""
    ordered = np.sort(flipped)
    # A statistic is compared with itself among the flips: rounding must not undo the tie.
    reached = len(ordered) - np.searchsorted(ordered, np.asarray(observed) - 1e-9)
    p: Array = np.asarray(reached / len(ordered), dtype=np.float64)
    return p


def critical(flipped: Array, alpha: float) -> float:
    """Largest statistic that is not significant: what exceeds it has `flip_p` of at most alpha."""
    return float(np.sort(flipped)[::-1][int(alpha * len(flipped))])
