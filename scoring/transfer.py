"""Transfer: whether training on a window's data again, shuffled, does what its label says.

In-run labels can be right about the checkpoints and say nothing about the data: where windows are
i.i.d., the level still hops, and hops again when the same batches are replayed in the same order.
So every window is replayed from one fixed checkpoint in several shuffled orders, and the label's
strength is compared with the mean effect over the orders.

The decision is on a lower bound, not on "above zero": sampling noise in the composition of i.i.d.
windows carries a little real effect.

====================  =============================================================================
``transferable``      the one-sided lower bound of rho exceeds the threshold
``underpowered``      it does not, and with so few windows not even rho = 0.65 would have
``not-transferable``  it does not, and rho = 0.65 would have
====================  =============================================================================
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from windows.errors import DataError

Verdict = Literal["transferable", "not-transferable", "underpowered"]

EXPECTED_RHO = 0.65
"""The rank correlation a planted run was seen to reach; what a fair check must be able to show."""

_PERMUTATIONS = 9_999


@dataclass(frozen=True)
class TransferVerdict:
    """What shuffled replay says about labels.

    Attributes
    ----------
    verdict
        See the table in the module's docstring.
    rho
        Spearman's correlation of label strength with the mean effect over shuffles; 0 where one of
        them is constant.
    lo
        One-sided lower bound of rho.
    hi
        Upper end of the two-sided interval of the same confidence.
    p
        One-sided permutation p value of rho > 0.
    windows, shuffles
        How many windows in how many orders.
    reliability
        Spearman's correlation between the effects of two orders, mean over pairs of orders; None
        with a single order, 0 where an order's effects are constant.
    sentence
        The verdict in words.
    """

    verdict: Verdict
    rho: float
    lo: float
    hi: float
    p: float
    windows: int
    shuffles: int
    reliability: float | None
    sentence: str


def transfer_verdict(
    strength: NDArray[np.float64],
    effects: NDArray[np.float64],
    *,
    threshold: float = 0.3,
    confidence: float = 0.95,
    seed: int,
) -> TransferVerdict:
    """Compare label strength with the effect of shuffled replays.

    Parameters
    ----------
    strength
        float64 of shape (W,).
    effects
        float64 of shape (W, K): change of the same score when window w's data are trained on in
        shuffled order k.
    threshold
        What the lower bound must exceed.
    confidence
        Of the one-sided bound and of the two-sided interval.
    seed
        Of the permutation test.

    Raises
    ------
    DataError
        If the shapes do not fit or a value is not finite.
    """
    strength, effects = _checked(strength, effects)
    windows, shuffles = effects.shape
    mean = effects.mean(axis=1)
    rho = spearman(strength, mean)
    defined = windows > 3 and min(np.ptp(strength), np.ptp(mean)) > 0
    lo, _ = rank_interval(rho, windows, 2 * confidence - 1) if defined else (-1.0, 1.0)
    _, hi = rank_interval(rho, windows, confidence) if defined else (-1.0, 1.0)
    needed = windows_needed(EXPECTED_RHO, threshold, confidence)
    verdict: Verdict = "not-transferable"
    if lo > threshold:
        verdict = "transferable"
    elif windows < needed:
        verdict = "underpowered"
    reliability = _reliability(effects)
    facts = _facts(rho, lo, windows, shuffles, confidence)
    judgement = _judgement(verdict, threshold, needed, hi) if defined else _NOTHING_TO_RANK
    return TransferVerdict(
        verdict=verdict,
        rho=rho,
        lo=lo,
        hi=hi,
        p=_permutation_p(strength, mean, seed) if defined else 1.0,
        windows=windows,
        shuffles=shuffles,
        reliability=reliability,
        sentence=f"{judgement} {facts}",
    )


def spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Spearman's rank correlation with average ranks for ties; 0 where one side is constant."""
    a, b = _centred_ranks(x), _centred_ranks(y)
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(np.clip(a @ b / scale, -1.0, 1.0)) if scale > 0 else 0.0


def rank_interval(rho: float, n: int, confidence: float) -> tuple[float, float]:
    """Two-sided interval of a Spearman correlation of n > 3 pairs.

    Fisher's z with the variance (1 + rho^2 / 2) / (n - 3) of Bonett and Wright (2000),
    Psychometrika 65(1), 23-28.
    """
    if abs(rho) >= 1:
        return rho, rho
    half = stats.norm.isf((1 - confidence) / 2) * np.sqrt((1 + rho**2 / 2) / (n - 3))
    z = np.arctanh(rho)
    return float(np.tanh(z - half)), float(np.tanh(z + half))


def windows_needed(rho: float, threshold: float, confidence: float) -> int:
    """Smallest number of windows at which an observed `rho` puts its lower bound above `threshold`.

    Raises
    ------
    DataError
        If `rho` does not exceed `threshold`: no number would do.
    """
    if rho <= threshold:
        raise DataError(
            "no number of windows can show this correlation to exceed the threshold",
            where="transfer.threshold",
            got=f"{threshold} for an expected correlation of {rho}",
            do="lower the threshold",
        )
    distance = np.arctanh(rho) - np.arctanh(threshold)
    n = 3 + (1 + rho**2 / 2) * (stats.norm.isf(1 - confidence) / distance) ** 2
    return int(np.floor(n)) + 1


_NOTHING_TO_RANK = (
    "The labels' strengths or the replays' effects cannot be ranked: "
    "all are equal, or there are fewer than four windows."
)


def _checked(
    strength: NDArray[np.float64], effects: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    strength = np.asarray(strength, dtype=np.float64)
    effects = np.asarray(effects, dtype=np.float64)
    if strength.ndim != 1 or effects.ndim != 2 or effects.shape[0] != len(strength):
        raise DataError(
            "transfer needs one strength and one row of effects a window",
            got=f"shapes {strength.shape} and {effects.shape}",
            do="replay every labelled window in every order",
        )
    if not effects.size or not np.isfinite(strength).all() or not np.isfinite(effects).all():
        raise DataError(
            "a strength or a replay's effect is missing or not finite",
            got=f"shapes {strength.shape} and {effects.shape}",
            do="score the replays again",
        )
    return strength, effects


def _centred_ranks(x: NDArray[np.float64]) -> NDArray[np.float64]:
    ranks: NDArray[np.float64] = stats.rankdata(x) - (len(x) + 1) / 2
    return ranks


def _reliability(effects: NDArray[np.float64]) -> float | None:
    pairs = [spearman(a, b) for a, b in combinations(effects.T, 2)]
    return float(np.mean(pairs)) if pairs else None


def _permutation_p(x: NDArray[np.float64], y: NDArray[np.float64], seed: int) -> float:
    right = _centred_ranks(y)

    def covariance(ranks: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        total: NDArray[np.float64] = (ranks * right).sum(axis=axis)
        return total

    result = stats.permutation_test(
        (_centred_ranks(x),),
        covariance,
        permutation_type="pairings",
        alternative="greater",
        n_resamples=_PERMUTATIONS,
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def _judgement(verdict: Verdict, threshold: float, needed: int, hi: float) -> str:
    if verdict == "transferable":
        return (
            "The labels transfer: training on a window's data in shuffled order does what its "
            "label says."
        )
    if verdict == "underpowered":
        return (
            f"Too few windows to say whether the labels transfer: a correlation of {EXPECTED_RHO} "
            f"would need at least {needed} to put its lower bound above {threshold}."
        )
    doubt = "" if hi <= threshold else " A larger correlation is not excluded."
    return f"The labels do not transfer: the lower bound stays below {threshold}.{doubt}"


def _facts(rho: float, lo: float, windows: int, shuffles: int, confidence: float) -> str:
    return (
        f"Rank correlation of label strength with the mean effect of shuffled replay: {rho:.2f}, "
        f"one-sided {confidence:.0%} lower bound {lo:.2f} ({windows} windows, {shuffles} "
        f"{'order' if shuffles == 1 else 'orders'})."
    )
