"""What a reader must know beside the verdict: why a significant arm may not mean what it seems."""

from collections.abc import Mapping, Sequence
from math import comb

from trainers.comparisons import (
    CONTROLLED,
    GENERALIZATION,
    PATTERN,
    REFERENCES,
    UNCONTROLLED,
    ArmSummary,
    TestRow,
    Values,
    welch_interval,
)

CONTROL_FLOOR = 0.85
"""Normal-control accuracy below which an arm has lost capability, not changed its mode."""

CONTROL_SPREAD = 0.1
"""Largest difference between two arms' normal control that still counts as alike."""

LOSS_OF_INTEREST = 0.01
"""Smallest difference in held-out loss, nats per token, that is said to be one: 1 % of perplexity.

Runs of one arm can lie so close together that any difference, however idle, is significant."""


def caveats(
    arms: Mapping[str, ArmSummary],
    values: Mapping[tuple[str, str], Values],
    secondary: Sequence[TestRow],
    *,
    alpha: float,
) -> list[str]:
    """Collect the caveats that apply, a sentence or two each; the last one always does."""
    return [
        *_levels(secondary, alpha),
        *_side(arms),
        *_stability(secondary, alpha),
        *_ties(secondary, arms),
        *_capability(arms),
        *_losses(values, alpha),
        _SEEDS,
    ]


_SEEDS = (
    "All runs continue one checkpoint of one pre-training run: the intervals speak of other seeds, "
    "not of other pre-training runs. A mixture selected by label takes the same windows for every "
    "seed, so that the seeds of a controlled arm differ in order and in which instances repeat; "
    "only uncontrolled and placebo draw windows anew. Spreads between runs do not compare across "
    "the two kinds."
)


def _levels(secondary: Sequence[TestRow], alpha: float) -> list[str]:
    return [
        f"Not shown to lie {row.direction} {row.reference} in mean_soft: {row.arm} "
        f"({row.difference:+.2f}, Holm-adjusted p = {row.p_holm:.3f})."
        for row in secondary
        if row.endpoint == "mean_soft" and not row.p_holm < alpha
    ]


def _side(arms: Mapping[str, ArmSummary]) -> list[str]:
    wrong = {GENERALIZATION: -1, PATTERN: 1}
    return [
        f"On average {arm} stays on the other side of zero (mean_soft {arms[arm].mean_soft:+.2f})."
        for arm, sign in wrong.items()
        if sign * arms[arm].mean_soft > 0
    ]


def _stability(secondary: Sequence[TestRow], alpha: float) -> list[str]:
    sentences = []
    for reference in REFERENCES:
        failed = [
            f"{row.endpoint} of {row.arm}"
            for row in secondary
            if row.endpoint != "mean_soft" and row.reference == reference and not row.p_holm < alpha
        ]
        if failed:
            sentences.append(f"Not shown to be below {reference}: {', '.join(failed)}.")
    return sentences


def _ties(secondary: Sequence[TestRow], arms: Mapping[str, ArmSummary]) -> list[str]:
    tied = [
        row
        for row in secondary
        if row.endpoint == "switches"
        and row.kind == "exact"
        and row.floor * comb(arms[row.arm].runs + arms[row.reference].runs, arms[row.arm].runs)
        > 1.5
    ]
    if not tied:
        return []
    worst = max(tied, key=lambda row: row.floor)
    return [
        f"Switches are counts with ties: {worst.arm} against {worst.reference} could not have "
        f"given an exact p below {worst.floor:.3f}, however the runs were split."
    ]


def _capability(arms: Mapping[str, ArmSummary]) -> list[str]:
    sentences = [
        f"Normal control of {arm} is {one.control:.2f}, below {CONTROL_FLOOR}: "
        "not a pure mode change."
        for arm, one in arms.items()
        if one.control < CONTROL_FLOOR
    ]
    low = min(arms, key=lambda arm: arms[arm].control)
    high = max(arms, key=lambda arm: arms[arm].control)
    gap = arms[high].control - arms[low].control
    if gap > CONTROL_SPREAD:
        sentences.append(
            f"Normal control of {low} and {high} is {gap:.2f} apart: not a pure mode change."
        )
    return sentences


def _losses(values: Mapping[tuple[str, str], Values], alpha: float) -> list[str]:
    sentences = []
    for arm in CONTROLLED:
        x, y = values[arm, "loss"], values[UNCONTROLLED, "loss"]
        lo, hi = welch_interval(x, y, alpha=alpha)
        gap = float(x.mean() - y.mean())
        if lo is None or hi is None or abs(gap) < LOSS_OF_INTEREST:
            continue
        if not lo <= 0 <= hi:
            sentences.append(
                f"Held-out loss of {arm} differs from {UNCONTROLLED} by {gap:+.3f} "
                f"[{lo:+.3f}, {hi:+.3f}]: the arms did not learn the same."
            )
    return sentences
