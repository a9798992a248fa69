"""What a report shows of the run itself: its series, its windows and their labels."""

from dataclasses import dataclass
from functools import cached_property

from curate.report.values import LABELS, Number, one_of, same_length


@dataclass(frozen=True, kw_only=True)
class Study:
    """Which study this is: names, seed, and (package, version) pairs in the order to show.

    ``file`` is what a user calls the study on the command line; "" where what a window held cannot
    be asked, since the run's order is not known.
    """

    name: str
    run: str
    seed: int
    versions: tuple[tuple[str, str], ...] = ()
    file: str = ""


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
        one_of(self.measure, ("soft", "hard"), "series measure")
        same_length(
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
        same_length("loss", steps=self.steps, loss=self.loss)


@dataclass(frozen=True, kw_only=True)
class Label:
    """A window's label on one task (or "pooled"), columns as in the labels schema, and the hop.

    All but ``p`` and ``q`` are in soft score. ``strength`` is the rule's effect; ``se``, ``lo``,
    ``hi``, ``p`` and ``q`` are of it. ``hop`` says that the plain delta passed the tests.
    ``q_study`` controls false discoveries over all pairs of window and task at once.
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
    q_study: Number = None

    def __post_init__(self) -> None:
        one_of(self.label, LABELS, "label")
        if not isinstance(self.hop, bool):  # a direction such as "none" would count as true
            raise ValueError(f"hop: got {self.hop!r}, must be True or False")


@dataclass(frozen=True, kw_only=True)
class Window:
    """Steps and batches ``[first, end)`` between two checkpoints, and its labels by task.

    ``held`` counts the instances that it read from each of ``ReportData.sources``; empty where that
    is not known.
    """

    name: str
    first_step: int
    end_step: int
    first_batch: int
    end_batch: int
    tokens: int
    labels: tuple[Label, ...]
    held: tuple[int, ...] = ()

    def on(self, task: str) -> Label | None:
        """Return the label on a task, None where the task has none here."""
        return self._by_task.get(task)

    @cached_property
    def _by_task(self) -> dict[str, Label]:
        return {label.task: label for label in self.labels}


@dataclass(frozen=True, kw_only=True)
class Rule:
    """The label rule: its name and version, in words, its false-discovery level and minimum.

    ``minimum`` is the smallest size of an effect (soft score) that is called anything.
    ``may_label`` says whether effects that last, or transfer, give labels a ground to stand on, and
    ``ground`` says so in a sentence; None and "" where that was not asked.
    """

    name: str
    words: str
    alpha: float
    minimum: float
    version: int
    may_label: bool | None = None
    ground: str = ""
