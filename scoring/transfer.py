"""Transfer: whether windows rank alike by label and by what their data do again, shuffled.

In-run labels can be right about the checkpoints and say nothing about the data: where windows are
i.i.d., the level still hops, and hops again when the same batches are replayed in the same order.
So every window is replayed from one fixed checkpoint in several shuffled orders, and the label's
strength is compared with the mean effect over the orders. Compared are ranks: labels may transfer
and yet all effects have one sign, or be far smaller than the labels; the mean effect and the share
of windows whose sign agrees are reported beside the correlation and decide nothing.

The decision is on a lower bound, not on "above zero": sampling noise in the composition of i.i.d.
windows carries a little real effect.

The bound is a BCa bootstrap over windows. It was chosen by simulation (40 windows, 6,000 replicates
a cell, 999 resamples; simulation error 0.003) over Fisher's z with the variance of Bonett and
Wright (2000) or of Fieller et al. (1957). Share of one-sided 95 % lower bounds below the true rank
correlation, for normal pairs and for pairs from a bivariate t with three degrees of freedom:

===========  ==========================  ==========================
             normal pairs, rho =         heavy-tailed pairs, rho =
             0.10   0.30   0.50   0.65   0.09   0.29   0.48   0.63
===========  ==========================  ==========================
BCa          0.955  0.956  0.950  0.948  0.954  0.954  0.937  0.930
Bonett-W.    0.956  0.957  0.963  0.965  0.935  0.944  0.929  0.929
Fieller      0.955  0.951  0.949  0.947  0.935  0.938  0.915  0.908
===========  ==========================  ==========================

With a true value of 0.65 (0.63) its bound exceeds 0.3 in 83 % (67 %) of the samples. It covers as
well with 12 and 20 windows (0.94-0.95 at 0.3). The windows are taken as exchangeable: where both
strength and effect drift from window to window (AR(1), 0.5 in both) it covers 91 %, and exceeds 0.3
in 8.5 % of samples whose true value is 0.3, in 0.25 % where it is 0 (2,000 replicates).

====================  =============================================================================
``transferable``      the one-sided lower bound of rho exceeds the threshold
``underpowered``      it does not, and with so few windows not even rho = 0.65 would have
``not-transferable``  it does not, and rho = 0.65 would have
====================  =============================================================================
"""

import warnings
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

_RESAMPLES = 9_999


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
    lower_bound
        One-sided lower bound of rho, which is what the threshold is compared with.
    lo, hi
        Two-sided interval of rho, of the same confidence; `lo` lies below the one-sided bound.
    p
        One-sided permutation p value of rho > 0.
    mean_effect
        Mean effect of shuffled replay over windows and orders, in the score's unit: what training
        on from the check's checkpoint does whatever the window.
    sign_agreement
        Share of windows whose effect, less the mean effect over windows, has the sign of the
        strength. An effect is the window's mean over orders; zero has no sign and agrees with none.
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
    lower_bound: float
    lo: float
    hi: float
    p: float
    mean_effect: float
    sign_agreement: float
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
        Of the bootstrap and of the permutation test.

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
    bounds = _bounds(strength, mean, confidence, seed) if defined else _NO_BOUNDS
    needed = windows_needed(EXPECTED_RHO, threshold, confidence)
    verdict: Verdict = "not-transferable"
    if bounds.lower > threshold:
        verdict = "transferable"
    elif windows < needed:
        verdict = "underpowered"
    judgement = _judgement(verdict, threshold, needed, bounds.hi) if defined else _NOTHING_TO_RANK
    agreement = _sign_agreement(strength, mean)
    facts = _facts(rho, bounds, confidence, f"{windows} windows, {_orders(shuffles)}")
    return TransferVerdict(
        verdict=verdict,
        rho=rho,
        lower_bound=bounds.lower,
        lo=bounds.lo,
        hi=bounds.hi,
        p=_permutation_p(strength, mean, seed) if defined else 1.0,
        mean_effect=float(mean.mean()),
        sign_agreement=agreement,
        windows=windows,
        shuffles=shuffles,
        reliability=_reliability(effects),
        sentence=f"{judgement} {facts} The mean effect is {mean.mean():+.3f}; less it, the effects "
        f"of {agreement:.0%} of the windows have the sign of their label's strength.",
    )


def spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Spearman's rank correlation with average ranks for ties; 0 where one side is constant."""
    return float(_rank_correlation(x, y))


def rank_interval(rho: float, n: int, confidence: float) -> tuple[float, float]:
    """Two-sided interval of a Spearman correlation of n > 3 pairs, from the correlation alone.

    Fisher's z with the variance (1 + rho^2 / 2) / (n - 3) of Bonett and Wright (2000),
    Psychometrika 65(1), 23-28: for planning, and where a bootstrap is degenerate. A perfect
    correlation, whose z is infinite, is taken as one swap of neighbouring ranks short of it.
    """
    nearest = 1 - 12 / (n * (n**2 - 1))
    rho = float(np.clip(rho, -nearest, nearest))
    half = stats.norm.isf((1 - confidence) / 2) * np.sqrt((1 + rho**2 / 2) / (n - 3))
    z = np.arctanh(rho)
    return float(np.tanh(z - half)), float(np.tanh(z + half))


def windows_needed(rho: float, threshold: float, confidence: float) -> int:
    """Smallest number of windows at which an observed `rho` puts its lower bound above `threshold`.

    By :func:`rank_interval`, which needs no data.

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


@dataclass(frozen=True)
class _Bounds:
    """One-sided lower bound, and the two ends of the two-sided interval."""

    lower: float
    lo: float
    hi: float


_NO_BOUNDS = _Bounds(-1.0, -1.0, 1.0)
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


def _centred_ranks(x: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    ranks: NDArray[np.float64] = stats.rankdata(x, axis=axis) - (x.shape[axis] + 1) / 2
    return ranks


def _rank_correlation(
    x: NDArray[np.float64], y: NDArray[np.float64], axis: int = -1
) -> NDArray[np.float64]:
    a, b = _centred_ranks(x, axis), _centred_ranks(y, axis)
    scale = np.sqrt((a * a).sum(axis=axis) * (b * b).sum(axis=axis))
    # A resample in which one side is constant says nothing: 0, not a division by zero.
    value = (a * b).sum(axis=axis) / np.where(scale > 0, scale, 1.0)
    rho: NDArray[np.float64] = np.clip(value, -1.0, 1.0)
    return rho


def _bounds(
    x: NDArray[np.float64], y: NDArray[np.float64], confidence: float, seed: int
) -> _Bounds:
    """One-sided lower bound and two-sided interval, by BCa bootstrap over windows."""
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        resampled = stats.bootstrap(
            (x, y),
            _rank_correlation,
            paired=True,
            vectorized=True,
            n_resamples=_RESAMPLES,
            confidence_level=2 * confidence - 1,
            method="BCa",
            rng=np.random.default_rng(seed),
        )
        two_sided = stats.bootstrap(
            (x, y),
            _rank_correlation,
            paired=True,
            vectorized=True,
            n_resamples=0,
            bootstrap_result=resampled,
            confidence_level=confidence,
            method="BCa",
        )
    ends = two_sided.confidence_interval
    found = _Bounds(float(resampled.confidence_interval.low), float(ends.low), float(ends.high))
    if np.isfinite([found.lower, found.lo, found.hi]).all():
        return found
    rho = spearman(x, y)
    lo, hi = rank_interval(rho, len(x), confidence)
    return _Bounds(rank_interval(rho, len(x), 2 * confidence - 1)[0], lo, hi)


def _sign_agreement(strength: NDArray[np.float64], effect: NDArray[np.float64]) -> float:
    if np.ptp(effect) == 0:
        return 0.0  # what is left of equal effects is rounding, whose sign says nothing
    agree = np.sign(effect - effect.mean()) * np.sign(strength) > 0
    return float(np.mean(agree))


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
        n_resamples=_RESAMPLES,
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def _judgement(verdict: Verdict, threshold: float, needed: int, hi: float) -> str:
    if verdict == "transferable":
        return (
            "The labels transfer: windows rank alike by label strength and by what their data do "
            "in shuffled order."
        )
    if verdict == "underpowered":
        return (
            f"Too few windows to say whether the labels transfer: a correlation of {EXPECTED_RHO} "
            f"would need at least {needed} to put its lower bound above {threshold}."
        )
    if hi <= threshold:
        return f"The labels do not transfer: the correlation's interval stays below {threshold}."
    return (
        f"The labels are not shown to transfer: the lower bound stays below {threshold}, but the "
        "interval reaches above it."
    )


def _facts(rho: float, bounds: _Bounds, confidence: float, counts: str) -> str:
    return (
        f"Rank correlation of label strength with the mean effect of shuffled replay: {rho:.2f}, "
        f"one-sided {confidence:.0%} lower bound {bounds.lower:.2f}, two-sided interval "
        f"[{bounds.lo:.2f}, {bounds.hi:.2f}] ({counts})."
    )


def _orders(shuffles: int) -> str:
    return f"{shuffles} {'order' if shuffles == 1 else 'orders'}"
