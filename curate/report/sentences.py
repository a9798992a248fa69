"""Five sentences that a reader can quote, each with its own limits in it."""

from collections.abc import Sequence

from curate.report.data import Label, ReportData, Transfer, finite
from curate.report.words import count, decimal, interval, outcome, probability, short_count


def quotable(data: ReportData) -> tuple[str, ...]:
    """Return five sentences: the labels, other tasks and control, transfer, arms, and what is open.

    Each stands alone, says what was not done where it was not, and claims no more than the tests.
    """
    return (_labels(data), _breadth(data), _transfer(data), _arms(data), _open(data))


def _labels(data: ReportData) -> str:
    counts, rule = data.label_counts(data.primary_task), data.rule
    pattern, generalization = counts["pattern"], counts["generalization"]
    labelled = pattern + generalization
    return (
        f"Of {_windows(len(data.windows))} of {data.study.run}{_range(data)}, {count(labelled)} "
        f"{_are(labelled)} {_called(data)} on {data.primary_task} ({count(pattern)} pattern, "
        f"{count(generalization)} generalization) by the rule {rule.name}, with effects beyond "
        f"{rule.minimum:g} in soft score at a false-discovery rate of {_percent(rule.alpha)} (the "
        "share of labels whose two checkpoints do not differ; a checkpoint's own passing wobble is "
        f"a difference, and not counted as false); {count(counts['neutral'])} "
        f"{_are(counts['neutral'])} neutral, and of {count(counts['undecided'])} the tests cannot "
        "say."
    )


def _called(data: ReportData) -> str:
    if data.rule.may_label is False:
        return "described, but for want of lasting or transferring effects not labelled,"
    return "labelled"


def _breadth(data: ReportData) -> str:
    modes = [task for task in data.tasks if task != "pooled" and not data.is_control(task)]
    pairs = [on for window in data.windows for task in modes if (on := window.on(task))]
    found = [on for on in pairs if on.label in ("pattern", "generalization")]
    said = (
        f"Over {len(modes)} tasks {count(len(found))} of {count(len(pairs))} pairs of window and "
        "task are labelled, each task's false discoveries controlled by itself"
        f"{_at_once(data, found)}"
        if len(modes) > 1
        else f"Only {data.primary_task} is labelled, so that nothing is said of other tasks"
    )
    return f"{said}; {_control(data)}."


def _at_once(data: ReportData, labelled: Sequence[Label]) -> str:
    known = [q for on in labelled if (q := finite(on.q_study)) is not None]
    if len(known) < len(labelled) or not known:
        return ""
    kept = sum(q < data.rule.alpha for q in known)
    return f" ({count(kept)} of them also where they are controlled over all pairs at once)"


def _control(data: ReportData) -> str:
    controls = [task for task in data.tasks if data.is_control(task)]
    if not controls:
        return (
            "no normal control is labelled beside it, so a change of mode cannot be told from one "
            "of capability"
        )
    moved = sum(
        any(
            (on := window.on(task)) and on.label in ("pattern", "generalization")
            for task in controls
        )
        for window in data.windows
    )
    which = controls[0] if len(controls) == 1 else f"one or more of {len(controls)} normal controls"
    return (
        f"{which} moved in {count(moved)} of {_windows(len(data.windows))}, where capability and "
        "not the mode may have changed"
    )


def _transfer(data: ReportData) -> str:
    transfer = data.transfer
    if transfer is None:
        return (
            "Whether the labels transfer was not tested: no window's data were trained on again in "
            "another order, so a label may be the order's doing and not its data's."
        )
    return f"{_TRANSFER[outcome(transfer)]} ({_evidence(transfer)}); {_SCOPE}."


def _evidence(transfer: Transfer) -> str:
    at = f" from {transfer.checkpoint}" if transfer.checkpoint else ""
    return (
        f"shuffled replay of {_windows(transfer.windows)}{at}, Spearman "
        f"{decimal(transfer.rho)}, 95 % interval {interval(transfer.lo, transfer.hi)}, one-sided "
        f"lower bound {decimal(transfer.lower_bound)} where more than "
        f"{decimal(transfer.threshold)} is needed"
    )


_TRANSFER = {
    "transferable": "The labels transfer: windows rank alike by label strength and by what their "
    "data do in shuffled order",
    "not-transferable": "The labels do not transfer: windows rank too little alike by label "
    "strength and by what their data do in shuffled order",
    "not-shown": "The labels were tested and are not shown to transfer, nor shown not to",
    "underpowered": "Whether the labels transfer was tested with too few windows to tell",
}
_SCOPE = "this speaks of one task and of one checkpoint to train from"


def _arms(data: ReportData) -> str:
    if data.arms is None and data.verdict is None:
        return (
            "No arm was trained on data selected by label, so nothing here says that such data "
            "would control the mode."
        )
    if data.transfers is False:
        return (
            "Arms were trained on selected data, but the labels did not pass the transfer check, "
            "so that nothing is claimed from them."
        )
    verdict, primary = data.verdict, data.verdict.primary if data.verdict else None
    if verdict is None:
        return "Arms were trained on data selected by label, and have not been judged yet."
    test = ""
    if primary is not None:
        test = (
            f": {primary.endpoint} of {primary.arm} differs from that of {primary.reference} by "
            f"{decimal(primary.difference, signed=True)} {interval(primary.lo, primary.hi)} "
            f"(one-sided p {_relation(primary.p)})"
        )
    return (
        f"Arms trained on data selected by label were judged {verdict.name}{test}{_runs(data)}, "
        "which all continue one checkpoint of one pre-training run."
    )


def _runs(data: ReportData) -> str:
    numbers = sorted({arm.runs for arm in data.arms.summaries}) if data.arms else []
    if not numbers:
        return ""
    few, many = numbers[0], numbers[-1]
    return f", over {few if few == many else f'{few} to {many}'} runs an arm"


def _open(data: ReportData) -> str:
    limit = (
        "beyond the transfer check it does not say what its documents would do in another run"
        if data.transfers
        else "it does not say that its documents, rather than their order or chance, did it"
    )
    return (
        f"All of this is one run read in one order, {data.study.run}: a label says what happened "
        f"while a window was read, and {limit}; intervals speak of other demonstrations, not of "
        "other runs, orders or model sizes."
    )


def _windows(number: int) -> str:
    return f"{count(number)} window{'' if number == 1 else 's'}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _percent(level: float) -> str:
    return f"{100 * level:.3g} %"


def _relation(value: float | None) -> str:
    """Return "= 0.004" or "< 0.001"."""
    shown = probability(value)
    return shown if finite(value) is None or shown.startswith("<") else f"= {shown}"


def _range(data: ReportData) -> str:
    if not data.windows:
        return ""
    first = min(window.first_step for window in data.windows)
    end = max(window.end_step for window in data.windows)
    tokens = sum(window.tokens for window in data.windows)
    return f" (steps {count(first)} to {count(end)}, {short_count(tokens)} tokens)"
