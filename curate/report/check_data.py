"""What a report shows of the checks: the labels' transfer, the arms and their tests."""

from dataclasses import dataclass

from curate.report.values import (
    LABELS,
    TRANSFER_VERDICTS,
    VERDICTS,
    Number,
    finite,
    one_of,
    same_length,
)


@dataclass(frozen=True, kw_only=True)
class TransferPoint:
    """One window in the transfer check; effects (soft score) on ``ReportData.primary_task``."""

    window: str
    label: str
    strength: Number
    effect: Number
    per_shuffle: tuple[Number, ...]

    def __post_init__(self) -> None:
        one_of(self.label, LABELS, "transfer point's label")


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Whether windows rank alike by label and by training on their data in shuffled order.

    ``rho`` is the Spearman correlation of strength with mean effect, ``lower_bound`` its one-sided
    95 % bound, ``threshold`` what that must exceed, ``lo`` .. ``hi`` the two-sided 95 % interval,
    ``reliability`` how far two shuffles agree. ``mean_effect`` (soft score) is the mean over
    windows, ``sign_agreement`` the share of windows whose effect, less that mean, has the sign of
    the strength. ``sentence`` is the outcome in words.
    """

    verdict: str
    rho: Number
    lo: Number
    hi: Number
    p: Number
    windows: int
    shuffles: int
    reliability: Number
    sentence: str
    points: tuple[TransferPoint, ...]
    threshold: float = 0.3
    checkpoint: str = ""
    lower_bound: Number = None
    mean_effect: Number = None
    sign_agreement: Number = None

    def __post_init__(self) -> None:
        one_of(self.verdict, TRANSFER_VERDICTS, "transfer verdict")

    @property
    def excluded(self) -> bool:
        """Whether the interval lies below the threshold; otherwise a failure shows nothing."""
        hi = finite(self.hi)
        return hi is not None and hi <= self.threshold


@dataclass(frozen=True, kw_only=True)
class ArmCurve:
    """One continued-pretraining run: scores at its checkpoints, the base checkpoint first.

    ``steps`` count from the base checkpoint (0); ``soft`` is on the verdict's task, ``control``
    is the normal control's score in [0, 1].
    """

    arm: str
    seed: int
    steps: tuple[int, ...]
    soft: tuple[Number, ...]
    control: tuple[Number, ...]

    def __post_init__(self) -> None:
        same_length(
            f"curve {self.arm}/{self.seed}",
            steps=self.steps,
            soft=self.soft,
            control=self.control,
        )


@dataclass(frozen=True, kw_only=True)
class ArmSummary:
    """An arm over its runs: mean soft with interval, spread and switches per run, controls.

    ``within_sd`` is the mean within-run standard deviation of soft, ``switches`` the mean number
    per run, ``control`` the normal control's mean, ``loss`` the held-out loss (nats per token).
    """

    arm: str
    runs: int
    mean_soft: Number
    lo: Number
    hi: Number
    within_sd: Number
    switches: Number
    control: Number
    loss: Number


@dataclass(frozen=True, kw_only=True)
class Arms:
    """All arms' runs from one base checkpoint; ``base_*`` are that checkpoint's own scores."""

    base: str
    base_step: int
    task: str
    base_soft: Number
    base_control: Number
    base_loss: Number
    curves: tuple[ArmCurve, ...]
    summaries: tuple[ArmSummary, ...]

    def __post_init__(self) -> None:
        named = {summary.arm for summary in self.summaries}
        stray = sorted({curve.arm for curve in self.curves} - named)
        if stray:
            raise ValueError(f"arms with curves but no summary: {', '.join(stray)}")


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One test of an arm against a reference over runs.

    ``direction`` is where the arm was expected, "above" or "below"; ``p`` is one-sided in that
    direction. ``p_holm`` is None where nothing was adjusted, as for the primary test.
    """

    endpoint: str
    arm: str
    reference: str
    difference: Number
    lo: Number
    hi: Number
    effect_size: Number
    p: Number
    p_holm: Number = None
    direction: str = "against"

    def __post_init__(self) -> None:
        one_of(self.direction, ("above", "below", "against"), "endpoint's direction")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the arms showed, in ``sentences``: the verdict, the primary test, then every caveat."""

    name: str
    sentences: tuple[str, ...]
    primary: Endpoint | None
    secondary: tuple[Endpoint, ...]
    alpha: float

    def __post_init__(self) -> None:
        one_of(self.name, VERDICTS, "verdict")
        if not self.sentences:
            raise ValueError("verdict: got no sentences, the first one is the page's headline")
