"""Everything a report shows, as values. The renderers compute nothing but layout from it.

A number that was not measured is ``None``. NaN and infinity are taken for ``None`` by every
renderer, so that neither a page nor a summary ever shows one. Texts are plain, never markup.

All values are named here; those of the run and of the checks are defined in ``run_data`` and
``check_data``.
"""

from collections import Counter
from dataclasses import dataclass

from curate.report.check_data import (
    ArmCurve,
    Arms,
    ArmSummary,
    Endpoint,
    Transfer,
    TransferPoint,
    Verdict,
)
from curate.report.run_data import Label, Loss, Rule, Series, Study, Window
from curate.report.values import (
    CLAIMS,
    LABELS,
    TRANSFER_VERDICTS,
    VERDICTS,
    Number,
    finite,
    one_of,
    same_length,
)

__all__ = [
    "CLAIMS",
    "LABELS",
    "TRANSFER_VERDICTS",
    "VERDICTS",
    "ArmCurve",
    "ArmSummary",
    "Arms",
    "Endpoint",
    "Label",
    "Loss",
    "Mixture",
    "Mixtures",
    "Number",
    "Provenance",
    "ReportData",
    "Rule",
    "Series",
    "Study",
    "Transfer",
    "TransferPoint",
    "Truth",
    "TruthPoint",
    "Verdict",
    "Window",
    "finite",
]


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """One exported mixture of one arm seed, with what decontamination met while it was filled.

    ``windows`` are those that gave at least one instance. ``repeats`` is the largest number of
    times one instance occurs. ``decontaminated_*`` count what was removed until the budget was
    full, not the pool. ``balance`` holds (name, value) pairs such as ("mean document length",
    31.2) or ("share of web", 0.4), the same names in the same order for every mixture.
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
        one_of(self.label, LABELS, "truth point's label")


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
        When a verdict claims an effect although the labels did not pass the transfer check, or a
        window's counts are not by the report's sources.
    """

    study: Study
    primary_task: str
    series: tuple[Series, ...]
    windows: tuple[Window, ...]
    rule: Rule
    loss: Loss | None = None
    sources: tuple[str, ...] = ()
    transfer: Transfer | None = None
    arms: Arms | None = None
    verdict: Verdict | None = None
    mixtures: Mixtures | None = None
    truth: Truth | None = None
    provenance: tuple[Provenance, ...] = ()
    wall_seconds: Number = None

    def __post_init__(self) -> None:
        for window in self.windows:
            same_length(f"window {window.name}", sources=self.sources, held=window.held)
        if self.verdict and self.verdict.name in CLAIMS and self.transfers is False:
            raise ValueError(
                f"verdict {self.verdict.name!r} claims an effect of curated data, "
                "but the labels did not pass the transfer check"
            )

    @property
    def transfers(self) -> bool | None:
        """Whether the labels passed the transfer check; None where that was not done."""
        return None if self.transfer is None else self.transfer.verdict == "transferable"

    @property
    def tasks(self) -> list[str]:
        """The labelled tasks, the primary one first, the others as they come."""
        named = dict.fromkeys(label.task for window in self.windows for label in window.labels)
        return sorted(named, key=lambda task: task != self.primary_task)

    def is_control(self, task: str) -> bool:
        """Whether a task is a normal control, whose labels name no mode."""
        return any(series.control for series in self.series if series.task == task)

    def label_counts(self, task: str) -> dict[str, int]:
        """Return how many windows carry each label on a task, every label named."""
        counts = Counter(label.label for window in self.windows if (label := window.on(task)))
        return {name: counts[name] for name in LABELS}
