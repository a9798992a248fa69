"""Comparisons between arms, the run being the unit: exact tests, Holm, intervals, effect sizes.

All tests are one-sided in a direction registered before the runs, and permute whole runs between
two arms. The null is that the arm's data make no difference to a run. Where all runs of an arm read
the same windows, what is found holds for those windows, not for others labelled alike.

With n runs in both arms an exact p cannot fall below 1 / C(2n, n): 1/70 for four, 1/252 for five,
1/924 for six. Twelve secondary tests under Holm at 0.05 thus need at least five runs (12/252 =
0.048), and with exactly five they need complete separation in nearly every test that is to hold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import comb, inf
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import gammaln
from statsmodels.stats.multitest import multipletests

from trainers.settings import CONTROLLED as CONTROLLED
from trainers.settings import GENERALIZATION as GENERALIZATION
from trainers.settings import PATTERN as PATTERN
from trainers.settings import PLACEBO as PLACEBO
from trainers.settings import REFERENCES as REFERENCES
from trainers.settings import UNCONTROLLED as UNCONTROLLED

Values = NDArray[np.float64]
Endpoint = Literal["mean_soft", "within_sd", "switches"]
Direction = Literal["above", "below"]
TestKind = Literal["exact", "drawn", "none"]

STABILITY: tuple[Endpoint, ...] = ("within_sd", "switches")

EXACT_SPLITS = 200_000
"""Up to here every split is enumerated (ten against ten has 184,756); above, splits are drawn."""

DRAWN_SPLITS = 99_999
"""How many splits are drawn where they are too many to enumerate."""


@dataclass(frozen=True)
class Hypothesis:
    """That `endpoint` lies `direction` in `arm` relative to `reference`."""

    endpoint: Endpoint
    arm: str
    reference: str
    direction: Direction


@dataclass(frozen=True)
class TestRow:
    """One comparison of two arms.

    Attributes
    ----------
    endpoint, arm, reference, direction
        The hypothesis; `direction` is where the arm should lie relative to the reference.
    difference
        Mean over the arm's runs minus mean over the reference's.
    lo, hi
        Welch's two-sided t interval of the difference; None where an arm has a single run.
    effect_size
        Hedges' g; None where the runs do not vary at all, or are too few.
    p
        One-sided permutation p value.
    kind
        What p comes from: "exact" over all splits, "drawn" at random from them, or "none", where
        an arm has a single run and p is 1 for want of a test.
    p_holm
        Adjusted over the secondary tests; the primary test's is its p.
    floor
        The smallest p these values could have given, had they been split most favourably. Ties,
        which counts of switches have, raise it above 1 / C(n + m, n).
    """

    __test__ = False  # the name is no test class's

    endpoint: Endpoint
    arm: str
    reference: str
    direction: Direction
    difference: float
    lo: float | None
    hi: float | None
    effect_size: float | None
    p: float
    p_holm: float
    floor: float
    kind: TestKind


@dataclass(frozen=True)
class ArmSummary:
    """An arm's runs together: means over `runs`, and Student's t interval of the mean level.

    `lo` and `hi` are None for a single run. `switches` is per run; `control` is accuracy on the
    normal control; `loss` is held-out, nats per token.
    """

    runs: int
    mean_soft: float
    lo: float | None
    hi: float | None
    within_sd: float
    switches: float
    control: float
    loss: float


def secondary_hypotheses() -> tuple[Hypothesis, ...]:
    """Return the twelve registered secondary hypotheses.

    Against uncontrolled and against placebo each: generalization's level above, pattern's below;
    within-run spread and switches of both below.
    """
    level: dict[str, Direction] = {GENERALIZATION: "above", PATTERN: "below"}
    return tuple(
        Hypothesis(endpoint, arm, reference, level[arm] if endpoint == "mean_soft" else "below")
        for endpoint in ("mean_soft", *STABILITY)
        for arm in CONTROLLED
        for reference in REFERENCES
    )


def compare(x: Values, y: Values, hypothesis: Hypothesis, *, alpha: float) -> TestRow:
    """Compare the runs of an arm with those of its reference.

    Parameters
    ----------
    x, y
        float64 of shapes (n,) and (m,): the endpoint of every run of the arm and of the reference.
    hypothesis
        What they are tested for.
    alpha
        1 - confidence of the interval.
    """
    lo, hi = welch_interval(x, y, alpha=alpha)
    p = permutation_p(x, y, hypothesis.direction)
    ordered = np.sort(np.concatenate([x, y]))
    if hypothesis.direction == "above":
        ordered = ordered[::-1]
    return TestRow(
        endpoint=hypothesis.endpoint,
        arm=hypothesis.arm,
        reference=hypothesis.reference,
        direction=hypothesis.direction,
        difference=float(x.mean() - y.mean()),
        lo=lo,
        hi=hi,
        effect_size=hedges_g(x, y),
        p=p,
        p_holm=p,
        floor=permutation_p(ordered[: len(x)], ordered[len(x) :], hypothesis.direction),
        kind=kind_of_test(len(x), len(y)),
    )


def compare_all(
    values: Mapping[tuple[str, str], Values], hypotheses: Sequence[Hypothesis], *, alpha: float
) -> tuple[TestRow, ...]:
    """Compare arms by every hypothesis and adjust the p values by Holm's step-down method.

    Parameters
    ----------
    values
        By (arm, endpoint): float64, one a run.
    hypotheses
        The family that is adjusted together.
    alpha
        1 - confidence of the intervals, which are not adjusted.
    """
    rows = [
        compare(
            values[one.arm, one.endpoint], values[one.reference, one.endpoint], one, alpha=alpha
        )
        for one in hypotheses
    ]
    adjusted = multipletests([row.p for row in rows], method="holm")[1]
    return tuple(replace(row, p_holm=float(p)) for row, p in zip(rows, adjusted, strict=True))


def kind_of_test(n: int, m: int) -> TestKind:
    """Return how runs are permuted between an arm with n of them and one with m."""
    if min(n, m) < 2:
        return "none"
    return "exact" if comb(n + m, n) <= EXACT_SPLITS else "drawn"


def permutation_p(x: Values, y: Values, direction: Direction) -> float:
    """Test by permuting runs whether the mean of x lies above (below) the mean of y.

    Exact, over all splits of the pooled values, up to :data:`EXACT_SPLITS`; beyond, over 99,999
    random splits from a fixed seed. Ties count against the hypothesis. A single run on one side
    supports no test: 1.
    """
    kind = kind_of_test(len(x), len(y))
    if kind == "none":
        return 1.0
    both = np.concatenate([x, y])
    spread = np.ptp(both)
    # Rescaled into [1, 2]: the sum then never cancels, and equal splits are recognised as equal.
    scaled = 1 + (both - both.min()) / spread if spread > 0 else np.ones_like(both)
    result = stats.permutation_test(
        (scaled[: len(x)], scaled[len(x) :]),
        _first_sum,
        alternative="greater" if direction == "above" else "less",
        n_resamples=inf if kind == "exact" else DRAWN_SPLITS,
        vectorized=True,
        batch=20_000,
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)


def _first_sum(x: Values, y: Values, axis: int) -> Values:
    # The pooled values are fixed, so the sum of one side orders the splits as the difference does.
    total: Values = x.sum(axis=axis)
    return total


def welch_interval(
    x: Values, y: Values, *, alpha: float
) -> tuple[float, float] | tuple[None, None]:
    """Two-sided interval of mean(x) - mean(y) with Welch's degrees of freedom.

    (None, None) where a side has one value; of width 0 where neither side varies.
    """
    if min(len(x), len(y)) < 2:
        return None, None
    difference = float(x.mean() - y.mean())
    a, b = x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)
    if a + b == 0:
        return difference, difference
    share = a / (a + b)
    df = 1 / (share**2 / (len(x) - 1) + (1 - share) ** 2 / (len(y) - 1))
    half = float(stats.t.isf(alpha / 2, df) * np.sqrt(a + b))
    return difference - half, difference + half


def hedges_g(x: Values, y: Values) -> float | None:
    """Difference of means in pooled standard deviations, with Hedges' exact small-sample factor.

    Hedges (1981), Journal of Educational Statistics 6(2). None where it is undefined.
    """
    df = len(x) + len(y) - 2
    if df < 2:
        return None
    pooled = (((x - x.mean()) ** 2).sum() + ((y - y.mean()) ** 2).sum()) / df
    if pooled == 0:
        return None
    factor = np.exp(gammaln(df / 2) - gammaln((df - 1) / 2)) / np.sqrt(df / 2)
    return float(factor * (x.mean() - y.mean()) / np.sqrt(pooled))


def runs_needed(alpha: float, tests: int) -> int:
    """Smallest number of runs per arm at which `tests` exact tests can pass Holm at `alpha`."""
    runs = 2
    while tests / comb(2 * runs, runs) >= alpha:
        runs += 1
    return runs
