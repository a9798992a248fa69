"""Everything a report shows, as values. The renderers compute nothing but layout from it.

A number that was not measured is ``None``. NaN and infinity are taken for ``None`` by every
renderer, so that neither a page nor a summary ever shows one. Texts are plain, never markup.
"""

import math
from collections import Counter
from dataclasses import dataclass

LABELS = ("pattern", "generalization", "neutral", "undecided")
TRANSFER_VERDICTS = ("transferable", "not-transferable", "underpowered")
VERDICTS = (
    "controlled",
    "shifted",
    "stabilized-only",
    "no-effect",
    "underpowered",
    "labels-do-not-transfer",
)
# Verdicts which say that training on curated data did something to the mode.
CLAIMS = frozenset({"controlled", "shifted", "stabilized-only"})

Number = float | None


def finite(value: Number) -> Number:
    """Return the value as a float, or None where it is missing, NaN or infinite."""
    return float(value) if value is not None and math.isfinite(value) else None


def _one_of(value: str, allowed: tuple[str, ...], what: str) -> None:
    if value not in allowed:
        raise ValueError(f"{what}: got {value!r}, must be one of {', '.join(allowed)}")


def _same_length(what: str, **columns: tuple[object, ...]) -> None:
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{what}: columns differ in length, got {lengths}")


@dataclass(frozen=True, kw_only=True)
class Study:
    """Which study this is: names, seed, and (package, version) pairs in the order to show."""

    name: str
    run: str
    seed: int
    versions: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Series:
    """One task's scores over a run's checkpoints, parallel columns sorted by step.

    ``mean`` with its interval ``lo`` .. ``hi`` is in the unit ``measure`` names: "soft" (in
    [-1, 1]) or "hard" (in [0, 1]). ``hard`` is given beside it for the points' tooltips.
    ``control`` marks a normal benchmark, whose curve should stay flat.
    """

    task: str
    steps: tuple[int, ...]
    tokens: tuple[int, ...]
    mean: tuple[Number, ...]
    lo: tuple[Number, ...]
    hi: tuple[Number, ...]
    hard: tuple[Number, ...]
    measure: str = "soft"
    control: bool = False

    def __post_init__(self) -> None:
        _one_of(self.measure, ("soft", "hard"), "series measure")
        _same_length(
            f"series {self.task}",
            steps=self.steps,
            tokens=self.tokens,
            mean=self.mean,
            lo=self.lo,
            hi=self.hi,
            hard=self.hard,
        )


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Training loss (nats per token) by step, smoothed by the caller; ``smoothing`` says how."""

    steps: tuple[int, ...]
    loss: tuple[Number, ...]
    smoothing: str = ""

    def __post_init__(self) -> None:
        _same_length("loss", steps=self.steps, loss=self.loss)


@dataclass(frozen=True, kw_only=True)
class Label:
    """A window's label on one task (or "pooled"), columns as in the labels schema, and the hop.

    All but ``p`` and ``q`` are in soft score. ``strength`` is the rule's effect; ``se``, ``lo``,
    ``hi``, ``p`` and ``q`` are of it. ``hop`` says that the plain delta passed the tests.
    """

    task: str
    label: str
    delta: Number
    innovation: Number
    se: Number
    lo: Number
    hi: Number
    p: Number
    q: Number
    strength: Number
    hop: bool

    def __post_init__(self) -> None:
        _one_of(self.label, LABELS, "label")
        if not isinstance(self.hop, bool):  # a direction such as "none" would count as true
            raise ValueError(f"hop: got {self.hop!r}, must be True or False")


@dataclass(frozen=True, kw_only=True)
class Window:
    """Steps and batches ``[first, end)`` between two checkpoints, and its labels by task."""

    name: str
    first_step: int
    end_step: int
    first_batch: int
    end_batch: int
    tokens: int
    labels: tuple[Label, ...]

    def on(self, task: str) -> Label | None:
        """Return the label on a task, None where the task has none here."""
        return next((label for label in self.labels if label.task == task), None)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """The label rule: its name and version, in words, its false-discovery level and minimum.

    ``minimum`` is the smallest size of an effect (soft score) that is called anything.
    """

    name: str
    words: str
    alpha: float
    minimum: float
    version: int


@dataclass(frozen=True, kw_only=True)
class TransferPoint:
    """One window in the transfer check; effects (soft score) on ``ReportData.primary_task``."""

    window: str
    label: str
    strength: Number
    effect: Number
    per_shuffle: tuple[Number, ...]

    def __post_init__(self) -> None:
        _one_of(self.label, LABELS, "transfer point's label")


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Whether labels survive training on the windows' data in shuffled order.

    ``rho`` is the Spearman correlation of strength with mean effect, ``lo`` its one-sided 95 %
    lower bound, ``threshold`` what that must exceed, ``hi`` the upper end of the two-sided 95 %
    interval, ``reliability`` how far two shuffles agree. ``sentence`` is the outcome in words.
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

    def __post_init__(self) -> None:
        _one_of(self.verdict, TRANSFER_VERDICTS, "transfer verdict")


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
        _same_length(
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
        _one_of(self.direction, ("above", "below", "against"), "endpoint's direction")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the arms showed, in ``sentences``: the verdict, the primary test, then every caveat."""

    name: str
    sentences: tuple[str, ...]
    primary: Endpoint | None
    secondary: tuple[Endpoint, ...]
    alpha: float

    def __post_init__(self) -> None:
        _one_of(self.name, VERDICTS, "verdict")
        if not self.sentences:
            raise ValueError("verdict: got no sentences, the first one is the page's headline")


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """One exported mixture of one arm seed, with what decontamination took from its pool.

    ``repeats`` is the largest number of times one instance occurs. ``balance`` holds (name,
    value) pairs such as ("mean document length", 31.2) or ("share of web", 0.4), the same names
    in the same order for every mixture.
    """

    mixture: str
    seed: int
    windows: tuple[str, ...]
    tokens: int
    instances: int
    repeats: int
    decontaminated_documents: int
    decontaminated_instances: int
    balance: tuple[tuple[str, Number], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Mixtures:
    """The mixtures and, in words, how they were decontaminated and against what."""

    decontamination: str
    rows: tuple[Mixture, ...]


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """One artefact this page rests on: its id, its content's hash, its parents' ids."""

    kind: str
    label: str
    id: str
    content: str
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TruthPoint:
    """One window's planted composition (log-ratio of document shares) and label strength."""

    window: str
    composition: Number
    strength: Number
    label: str

    def __post_init__(self) -> None:
        _one_of(self.label, LABELS, "truth point's label")


@dataclass(frozen=True, kw_only=True)
class Truth:
    """How labels stand to a planted corpus. Spearman correlations over windows.

    ``rho`` with the window's own composition, ``rho_previous`` with the previous window's,
    ``autocorrelation`` of the composition with its own previous value. ``composition`` says what
    the log-ratio is of.
    """

    composition: str
    rho: Number
    rho_previous: Number
    autocorrelation: Number
    points: tuple[TruthPoint, ...]


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """A study's findings so far; a part that is None or empty was not done and is not shown.

    ``primary_task`` is the task whose labels the series is shaded by first and mixtures are
    selected by ("pooled" is allowed). ``wall_seconds`` goes to the summary only, so that a page
    is the same however long it took.

    Raises
    ------
    ValueError
        When a verdict claims an effect although the labels were found not to transfer.
    """

    study: Study
    primary_task: str
    series: tuple[Series, ...]
    windows: tuple[Window, ...]
    rule: Rule
    loss: Loss | None = None
    transfer: Transfer | None = None
    arms: Arms | None = None
    verdict: Verdict | None = None
    mixtures: Mixtures | None = None
    truth: Truth | None = None
    provenance: tuple[Provenance, ...] = ()
    wall_seconds: Number = None

    def __post_init__(self) -> None:
        if self.verdict and self.verdict.name in CLAIMS and self.transfers is False:
            raise ValueError(
                f"verdict {self.verdict.name!r} claims an effect of curated data, "
                "but the labels were found not to transfer"
            )

    @property
    def transfers(self) -> bool | None:
        """Whether the labels transfer; None where that was not checked."""
        return None if self.transfer is None else self.transfer.verdict == "transferable"

    def label_counts(self, task: str) -> dict[str, int]:
        """Return how many windows carry each label on a task, every label named."""
        counts = Counter(label.label for window in self.windows if (label := window.on(task)))
        return {name: counts[name] for name in LABELS}
