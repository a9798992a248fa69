"""How numbers are written and what is said about them, the same on every surface."""

from curate.report.data import LABELS, ReportData, Transfer, finite

MISSING = "–"
LETTERS = {"pattern": "P", "generalization": "G", "neutral": "N", "undecided": "U"}
CONTROL_LETTERS = {"moved": "M", "still": "S"}
SHAPES = {"pattern": "down", "generalization": "up", "neutral": "square", "undecided": "circle"}

NO_CLAIM = (
    "So these labels may be read as a record of the run, not as a property of its documents, and "
    "nothing is claimed about what training on selected windows does."
)


def control_word(label: str) -> str:
    """Return what a normal control's label comes to: it has no mode that could have moved."""
    return "moved" if label in ("pattern", "generalization") else "still"


def label_word(data: ReportData, task: str, label: str) -> str:
    """Return a label as it is shown on a task: itself, or the control's word."""
    return control_word(label) if data.is_control(task) else label


def as_sentence(text: str) -> str:
    """Return the text with a capital at its start and a full stop at its end."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?')) else '.'}"


def decimal(value: float | None, digits: int = 2, *, signed: bool = False) -> str:
    """Return a number with a real minus sign, a dash where there is none."""
    known = finite(value)
    if known is None:
        return MISSING
    shown = f"{known:+.{digits}f}" if signed else f"{known:.{digits}f}"
    if not shown.strip("+-0."):
        shown = shown.lstrip("+-")
    return shown.replace("-", "−")


def rounded(value: float | None) -> str:
    """Return a number of unknown size with about three figures: 0.520, 36.2, 1,280."""
    known = finite(value)
    if known is None:
        return MISSING
    digits = 3 if abs(known) < 10 else 1 if abs(known) < 100 else 0
    return f"{known:,.{digits}f}".replace("-", "−")


def interval(lo: float | None, hi: float | None, digits: int = 2) -> str:
    """Return "[lo, hi]", a dash where an end is missing."""
    if finite(lo) is None or finite(hi) is None:
        return MISSING
    return f"[{decimal(lo, digits)}, {decimal(hi, digits)}]"


def on_scale(value: float | None, lo: float | None, hi: float | None) -> str:
    """Return "value [lo, hi]"."""
    return f"{decimal(value, signed=True)} {interval(lo, hi)}"


def probability(value: float | None) -> str:
    """Return a p or q value to three places, never a bare zero."""
    known = finite(value)
    if known is None:
        return MISSING
    return "< 0.001" if known < 0.001 else f"{known:.3f}"


def share(value: float | None, digits: int = 0) -> str:
    """Return a share in per cent, whole ones unless digits are asked for."""
    known = finite(value)
    return MISSING if known is None else f"{100 * known:.{digits}f} %"


def count(value: int) -> str:
    """Return an integer, thousands apart."""
    return f"{value:,}"


def short_count(value: float) -> str:
    """Return a count to three figures with k, M, B or T (powers of ten)."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"


def headline(data: ReportData) -> str:
    """Return the study's outcome so far, in one sentence."""
    if data.transfer is not None and (data.verdict is None or not data.transfers):
        return _TRANSFER_HEADLINES[outcome(data.transfer)]
    if data.verdict is not None:
        return _first(data.verdict.sentences[0])[0]
    described = "; described and not labelled" if data.rule.may_label is False else ""
    said = f"{_labels_sentence(data)[:-1]}{described}"
    return f"{said}; whether the labels transfer was not checked."


def basis(data: ReportData) -> list[str]:
    """Return the sentences that say what the headline rests on.

    Where the labels do not transfer, none of them is the verdict's: no control is claimed.
    """
    said = []
    if data.verdict is not None and data.transfers is not False:
        said += [_first(data.verdict.sentences[0])[1], *data.verdict.sentences[1:2]]
        said.append("" if data.transfer else "Whether the labels transfer was not checked.")
    if data.transfer is not None:
        said += [as_sentence(data.transfer.sentence), "" if data.transfers else NO_CLAIM]
    said.append(data.rule.ground)
    return [sentence for sentence in said if sentence]


def caveats(data: ReportData) -> list[str]:
    """Return what a reader of the verdict must know beside it, nothing where none is given."""
    if data.verdict is None or data.transfers is False:
        return []
    return [as_sentence(sentence) for sentence in data.verdict.sentences[2:]]


def arms_caution(data: ReportData) -> str:
    """Return what is said above arms whose labels did not pass the check, "" where they did."""
    if data.transfer is None or data.transfers:
        return ""
    return f"Shown for the record. {_ARMS_CAUTIONS[outcome(data.transfer)]}"


def outcome(transfer: Transfer) -> str:
    """Return the check's verdict, "not-shown" where its interval reaches above the threshold."""
    if transfer.verdict == "not-transferable" and not transfer.excluded:
        return "not-shown"
    return transfer.verdict


_TRANSFER_HEADLINES = {
    "transferable": "The labels transfer: windows rank alike by label strength and by what their "
    "data do in shuffled order.",
    "not-transferable": "The labels do not transfer: windows rank too little alike by label "
    "strength and by what their data do in shuffled order.",
    "not-shown": "The labels are not shown to transfer: how far windows rank alike by label "
    "strength and by what their data do in shuffled order stays open.",
    "underpowered": "Whether the labels transfer cannot be told: the check is underpowered.",
}
_ARMS_CAUTIONS = {
    "not-transferable": "The labels do not carry over to the documents, so these arms are mixtures "
    "like any other.",
    "not-shown": "The labels are not shown to carry over to the documents, so these arms are "
    "mixtures like any other.",
    "underpowered": "The check had too few windows to tell whether the labels carry over to the "
    "documents, so nothing is read into the arms.",
}


def _first(text: str) -> tuple[str, str]:
    """Split the first sentence off."""
    head, full_stop, rest = text.partition(". ")
    return head + full_stop.rstrip(), rest


def _labels_sentence(data: ReportData) -> str:
    counts = data.label_counts(data.primary_task)
    hops = sum(1 for window in data.windows if (on := window.on(data.primary_task)) and on.hop)
    shares = ", ".join(f"{counts[name]} {name}" for name in LABELS)
    return (
        f"{len(data.windows)} windows of {data.study.run} on {data.primary_task}: "
        f"{shares}; {hops} hops."
    )
