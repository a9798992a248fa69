"""Did the arms stabilize the mode? The unit is the run, not the checkpoint.

Every run gives one number per endpoint: its mean level (`mean_soft`), its standard deviation over
its own checkpoints (`within_sd`) and how often it changed sides (`switches`). One primary test is
named by the study. The twelve secondary ones (:mod:`trainers.comparisons`) are adjusted together by
Holm's method. "Holds" below means p < alpha for the primary, adjusted p < alpha for the others.
*Levels*: generalization above and pattern below the reference. *Stability*: for one of `within_sd`
and `switches`, both controlled arms below uncontrolled.

==============  =======  ===================  ==============  =========  ========================
transfer check  primary  levels against       levels against  stability  verdict
                         uncontrolled         placebo
==============  =======  ===================  ==============  =========  ========================
not-transf.     any      any                  any             any        labels-do-not-transfer
underpowered    any      any                  any             any        underpowered
transferable    runs too few for any secondary test to hold              underpowered
transferable    holds    both hold            both hold       holds      controlled
transferable    holds    both hold            otherwise, in one of them  shifted
transferable    otherwise                     any             holds      stabilized-only
transferable    holds    not both             any             fails      underpowered
transferable    fails    any                  any             fails      no-effect
==============  =======  ===================  ==============  =========  ========================

The last but one: if the two controlled arms differ, at least one of them differs from uncontrolled;
where the tests cannot say that both do, the runs were too few or the effect is one arm's alone.
Neither is control, and the sentences name what is missing.

How often ``controlled`` is reached where control is real, in 60 simulated studies each, for the
weakest of three embedded runs and for one like the other two: five runs an arm 12 and 47 %, six 43
and 75 %, eight 72 and 100 %; most others are ``shifted``. Arms' means and spreads within a run were
taken as measured there; ten checkpoints a run with autocorrelation 0.5, no variance between runs
beyond that, and placebo like uncontrolled are assumptions.

All runs continue one checkpoint of one pre-training run. The tests speak of other seeds, not of
other pre-training runs; a seed draws windows anew for uncontrolled and placebo only, for the
controlled arms it changes the order of the same windows and which of their instances repeat.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Literal, get_args

import numpy as np
import polars as pl
from scipy import stats

from scoring.transfer import TransferVerdict
from trainers.caveats import caveats
from trainers.comparisons import (
    CONTROLLED,
    DRAWN_SPLITS,
    GENERALIZATION,
    PATTERN,
    PLACEBO,
    REFERENCES,
    STABILITY,
    UNCONTROLLED,
    ArmSummary,
    Direction,
    Endpoint,
    Hypothesis,
    TestRow,
    Values,
    compare,
    compare_all,
    runs_needed,
    secondary_hypotheses,
)
from windows.errors import ConfigError, DataError

Verdict = Literal[
    "controlled",
    "shifted",
    "stabilized-only",
    "no-effect",
    "underpowered",
    "labels-do-not-transfer",
]

_NUMBERS = ("mean_soft", "within_sd", "switches", "control", "loss")


@dataclass(frozen=True)
class Stabilization:
    """The verdict on the arms.

    Attributes
    ----------
    verdict
        See the table in the module's docstring.
    sentences
        The verdict in words, the primary test, then every caveat.
    primary
        The test the study registered.
    secondary
        The twelve others, adjusted together.
    arms
        By name, in the order of the arms' names.
    """

    verdict: Verdict
    sentences: tuple[str, ...]
    primary: TestRow
    secondary: tuple[TestRow, ...]
    arms: Mapping[str, ArmSummary]


def switches(values: Sequence[float] | Values, threshold: float) -> int:
    """Count mode switches with hysteresis.

    A series is in a mode once it lies beyond `threshold` on that side of zero, and stays in it
    until it lies beyond `threshold` on the other. Entering the first mode is no switch.
    """
    points = np.asarray(values, dtype=np.float64)
    sides = np.sign(points[np.abs(points) > threshold])
    return int(np.count_nonzero(np.diff(sides)))


def summarize_runs(
    scores: pl.DataFrame, loss: pl.DataFrame, *, threshold: float = 0.2
) -> pl.DataFrame:
    """Reduce every run to its endpoints.

    Parameters
    ----------
    scores
        One row per checkpoint of a run: `arm`, `seed`, `step`, `soft` (mean over the verifying
        split) and `control` (accuracy on the normal control). The base checkpoint, which all runs
        share, does not belong here.
    loss
        One row per run: `arm`, `seed`, `loss` (held-out, nats per token).
    threshold
        Hysteresis of a mode switch.

    Returns
    -------
    polars.DataFrame
        `arm`, `seed`, `mean_soft`, `within_sd` (n - 1), `switches`, `control` (mean), `loss`; by
        arm and seed.

    Raises
    ------
    DataError
        If the runs were not all scored at the same two or more steps, a loss is missing or doubled,
        or a number is not finite.
    """
    _refuse_uneven_runs(scores, loss)
    rows = []
    ordered = scores.sort("arm", "seed", "step")
    for part in ordered.partition_by("arm", "seed", maintain_order=True):
        soft = part["soft"].to_numpy().astype(np.float64)
        rows.append(
            {
                "arm": part["arm"][0],
                "seed": part["seed"][0],
                "mean_soft": float(soft.mean()),
                "within_sd": float(soft.std(ddof=1)),
                "switches": switches(soft, threshold),
                "control": float(part["control"].to_numpy().mean()),
            }
        )
    joined = pl.DataFrame(rows).join(loss.select("arm", "seed", "loss"), on=["arm", "seed"])
    return joined.sort("arm", "seed")


def stabilization(
    runs: pl.DataFrame,
    transfer: TransferVerdict,
    *,
    endpoint: Endpoint = "mean_soft",
    contrast: tuple[str, str] = (GENERALIZATION, PATTERN),
    alpha: float = 0.05,
) -> Stabilization:
    """Judge the arms by the table in the module's docstring.

    Parameters
    ----------
    runs
        From :func:`summarize_runs`, with the arms ``control-generalization, control-pattern,
        uncontrolled, placebo``; further arms are summarised and not tested.
    transfer
        The labels' transfer check.
    endpoint
        The primary endpoint.
    contrast
        The primary test's arms. It is one-sided: the first lies above the second in `mean_soft`,
        and below it in `within_sd` and `switches`.
    alpha
        Level of the primary test and of the secondary family; 1 - confidence of the intervals.

    Raises
    ------
    ConfigError
        If the endpoint or an arm of the contrast is unknown, or its two arms are the same.
    DataError
        If one of the four arms has no run.
    """
    values = _values_by_arm(runs)
    _refuse_unknown(values, endpoint, contrast)
    direction: Direction = "above" if endpoint == "mean_soft" else "below"
    registered = Hypothesis(endpoint, contrast[0], contrast[1], direction)
    first, second = (values[arm, endpoint] for arm in contrast)
    primary = compare(first, second, registered, alpha=alpha)
    secondary = compare_all(values, secondary_hypotheses(), alpha=alpha)
    enough = _enough_runs(values, len(secondary), alpha)
    verdict = _verdict(transfer, primary, secondary, enough=enough, alpha=alpha)
    arms = {arm: _summary(values, arm, alpha) for arm in sorted({arm for arm, _ in values})}
    sentences = [_claim(verdict, transfer, enough, alpha, len(secondary)), _primary_words(primary)]
    sentences += caveats(arms, values, secondary, alpha=alpha)
    return Stabilization(verdict, tuple(sentences), primary, secondary, arms)


def _refuse_uneven_runs(scores: pl.DataFrame, loss: pl.DataFrame) -> None:
    runs = scores.group_by("arm", "seed").agg(pl.col("step").sort()).sort("arm", "seed")
    steps = runs["step"].to_list()
    if not steps or any(one != steps[0] for one in steps) or len(set(steps[0])) != len(steps[0]):
        counts = sorted({len(one) for one in steps})
        raise DataError(
            "the runs of the arms were not all scored at the same steps",
            where="arms' scores",
            got=f"{len(steps)} runs with {', '.join(map(str, counts)) or 'no'} checkpoints",
            do="finish and score every run at every step",
        )
    if len(steps[0]) < 2:
        raise DataError(
            "spread within a run needs at least two scored checkpoints",
            where="arms' scores",
            got=f"{len(steps[0])} checkpoint a run",
            do="save checkpoints more often",
        )
    known = set(runs.select("arm", "seed").rows())
    given = loss.select("arm", "seed").rows()
    if set(given) != known or len(given) != len(known):
        raise DataError(
            "every run needs one held-out loss",
            where="arms' losses",
            got=f"{len(given)} losses for {len(known)} runs",
            do="evaluate every run once",
        )
    for frame, columns in ((scores, ("soft", "control")), (loss, ("loss",))):
        for column in columns:
            if not np.isfinite(frame[column].cast(pl.Float64).to_numpy()).all():
                raise DataError(
                    "a number is missing or not finite",
                    where=f"arms' {column}",
                    do="look at that run's log, and score it again",
                )


def _values_by_arm(runs: pl.DataFrame) -> dict[tuple[str, str], Values]:
    return {
        (str(part["arm"][0]), name): part[name].cast(pl.Float64).to_numpy()
        for part in runs.sort("arm", "seed").partition_by("arm", maintain_order=True)
        for name in _NUMBERS
    }


def _refuse_unknown(
    values: Mapping[tuple[str, str], Values], endpoint: str, contrast: tuple[str, str]
) -> None:
    arms = {arm for arm, _ in values}
    missing = [arm for arm in (*CONTROLLED, *REFERENCES) if arm not in arms]
    if missing:
        raise DataError(
            "the verdict needs all four arms",
            where="arms",
            got=f"no run of {', '.join(missing)}",
            do="train it",
        )
    if endpoint not in get_args(Endpoint):
        raise ConfigError(
            "this is no endpoint",
            where="verdict.endpoint",
            got=str(endpoint),
            do=f"name one of {', '.join(get_args(Endpoint))}",
        )
    if contrast[0] == contrast[1] or not arms.issuperset(contrast):
        raise ConfigError(
            "the contrast must name two different arms",
            where="verdict.contrast",
            got=", ".join(contrast),
            do=f"choose from {', '.join(sorted(arms))}",
        )


def _enough_runs(values: Mapping[tuple[str, str], Values], tests: int, alpha: float) -> bool:
    counts = {arm: len(numbers) for (arm, _), numbers in values.items()}
    splits = [comb(counts[a] + counts[b], counts[a]) for a in CONTROLLED for b in REFERENCES]
    return tests / min(splits) < alpha


def _verdict(
    transfer: TransferVerdict,
    primary: TestRow,
    secondary: Sequence[TestRow],
    *,
    enough: bool,
    alpha: float,
) -> Verdict:
    if transfer.verdict == "not-transferable":
        return "labels-do-not-transfer"
    if transfer.verdict == "underpowered" or not enough:
        return "underpowered"
    holds = {(row.endpoint, row.arm, row.reference): row.p_holm < alpha for row in secondary}

    def both(endpoint: Endpoint, reference: str) -> bool:
        return all(holds[endpoint, arm, reference] for arm in CONTROLLED)

    moved = primary.p < alpha and both("mean_soft", UNCONTROLLED)
    stable = any(both(endpoint, UNCONTROLLED) for endpoint in STABILITY)
    if moved:
        return "controlled" if stable and both("mean_soft", PLACEBO) else "shifted"
    if stable:
        return "stabilized-only"
    return "underpowered" if primary.p < alpha else "no-effect"


def _summary(values: Mapping[tuple[str, str], Values], arm: str, alpha: float) -> ArmSummary:
    soft = values[arm, "mean_soft"]
    mean = float(soft.mean())
    half = None
    if len(soft) > 1:
        half = float(stats.t.isf(alpha / 2, len(soft) - 1) * soft.std(ddof=1) / np.sqrt(len(soft)))
    return ArmSummary(
        runs=len(soft),
        mean_soft=mean,
        lo=None if half is None else mean - half,
        hi=None if half is None else mean + half,
        within_sd=float(values[arm, "within_sd"].mean()),
        switches=float(values[arm, "switches"].mean()),
        control=float(values[arm, "control"].mean()),
        loss=float(values[arm, "loss"].mean()),
    )


def _claim(
    verdict: Verdict, transfer: TransferVerdict, enough: bool, alpha: float, tests: int
) -> str:
    if verdict != "underpowered":
        return _CLAIMS[verdict]
    if transfer.verdict == "underpowered":
        return "Underpowered: the transfer check has too few windows, so no control is claimed."
    if not enough:
        return (
            f"Underpowered: with so few runs no secondary test can pass Holm at {alpha}; "
            f"{runs_needed(alpha, tests)} runs in every arm could."
        )
    return (
        "Underpowered: the contrast holds, but the runs do not show that both controlled arms "
        "left the uncontrolled level. No control is claimed."
    )


_CLAIMS = {
    "controlled": (
        "Controlled: the labelled data held the mode on its side. Levels moved as labelled against "
        "uncontrolled and against placebo data, and the runs are steadier than uncontrolled ones."
    ),
    "shifted": (
        "Shifted: both controlled arms moved as labelled against uncontrolled data; what else "
        "control asks for did not hold."
    ),
    "stabilized-only": (
        "Stabilized only: the controlled arms are steadier than uncontrolled ones, but not shown "
        "to lie where their labels say."
    ),
    "no-effect": "No effect: the registered contrast did not hold.",
    "labels-do-not-transfer": (
        "The labels did not pass the transfer check, so no control is claimed, whatever the arms "
        "show."
    ),
}


def _primary_words(row: TestRow) -> str:
    interval = "" if row.lo is None else f" [{row.lo:+.2f}, {row.hi:+.2f}]"
    return (
        f"Primary: {row.endpoint} of {row.arm} minus {row.reference} is "
        f"{row.difference:+.2f}{interval}, {_p_words(row)}."
    )


def _p_words(row: TestRow) -> str:
    if row.kind == "none":
        return "not tested: an arm has a single run"
    if row.kind == "drawn":
        return f"one-sided p = {row.p:.4f} over {DRAWN_SPLITS:,} splits drawn at random"
    return f"one-sided exact p = {row.p:.4f}"
