"""The report on a terminal: rich tables, the same numbers in the same words as on the page."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from curate.report import words
from curate.report.data import Arms, Endpoint, Mixtures, ReportData, Transfer
from curate.report.sentences import quotable

STYLES = {"pattern": "yellow", "generalization": "cyan", "neutral": "green", "undecided": "dim"}
STYLES |= {"moved": "bold", "still": "dim"}
LEFT = ("window", "label", "arm", "expected", "reference", "endpoint", "mixture", "task", "")


def overview(data: ReportData) -> Group:
    """Return what a finished study prints: headline, the sentences to quote, and short tables."""
    parts: list[RenderableType] = [Text(words.headline(data), style="bold")]
    parts += [Text(f"{i}. {said}") for i, said in enumerate(quotable(data), start=1)]
    parts += [Text(sentence, style="dim") for sentence in words.basis(data)]
    parts += [Text(f"- {sentence}", style="dim") for sentence in words.caveats(data)]
    tables = [label_table(data)]
    if data.transfer is not None:
        tables.append(transfer_table(data.transfer))
    if data.arms is not None:
        tables.append(arm_table(data.arms))
    if data.verdict is not None and data.transfers is not False:
        tables.append(endpoint_table(data))
    return Group(*parts, *(Padding(table, (1, 0, 0, 0)) for table in tables))


def label_table(data: ReportData) -> Table:
    """Return how many windows carry each label, a row a task; a normal control moved or not."""
    tasks = dict.fromkeys(label.task for window in data.windows for label in window.labels)
    controls = list(words.CONTROL_LETTERS) if any(map(data.is_control, tasks)) else []
    table = _table("Labels", ["task", *words.LETTERS, *controls, "hops"])
    for task in tasks:
        counts = Counter(
            words.label_word(data, task, on.label)
            for window in data.windows
            if (on := window.on(task))
        )
        own = controls if data.is_control(task) else list(words.LETTERS)
        cells = [str(counts[name]) if name in own else "" for name in (*words.LETTERS, *controls)]
        hops = sum(1 for window in data.windows if (on := window.on(task)) and on.hop)
        _row(table, [task, *cells, str(hops)])
    return table


def window_table(data: ReportData, task: str | None = None) -> Table:
    """Return all windows with their labels on a task, the primary one unless named."""
    shown = task or data.primary_task
    columns = ["window", "tokens", "label", "hop", "delta", "strength", "interval"]
    table = _table(f"Windows of {data.study.run} on {shown}", [*columns, "q"])
    for window in data.windows:
        label = window.on(shown)
        if label is None:
            continue
        _row(
            table,
            [
                window.name,
                words.count(window.tokens),
                words.label_word(data, shown, label.label),
                ("up" if (label.delta or 0) >= 0 else "down") if label.hop else "",
                words.decimal(label.delta, signed=True),
                words.decimal(label.strength, signed=True),
                words.interval(label.lo, label.hi),
                words.probability(label.q),
            ],
            style=STYLES[words.label_word(data, shown, label.label)],
        )
    return table


def transfer_table(transfer: Transfer) -> Table:
    """Return the transfer check in one row; its sentence holds the effects' mean and signs."""
    columns = ["", "rho", "lower bound", "needed", "interval", "p", "shuffles agree", "windows"]
    table = _table("Do the labels transfer", columns)
    _row(
        table,
        [
            transfer.verdict,
            words.decimal(transfer.rho),
            words.decimal(transfer.lower_bound),
            f"> {words.decimal(transfer.threshold)}",
            words.interval(transfer.lo, transfer.hi),
            words.probability(transfer.p),
            words.decimal(transfer.reliability),
            f"{transfer.windows} × {transfer.shuffles}",
        ],
    )
    return table


def arm_table(arms: Arms) -> Table:
    """Return every arm's means over its runs, the base checkpoint beneath."""
    columns = ["arm", "runs", "mean soft", "interval", "spread", "switches", "control", "loss"]
    table = _table(f"Arms on {arms.task}", columns)
    for arm in arms.summaries:
        _row(
            table,
            [
                arm.arm,
                str(arm.runs),
                words.decimal(arm.mean_soft, signed=True),
                words.interval(arm.lo, arm.hi),
                words.decimal(arm.within_sd),
                words.decimal(arm.switches, 1),
                words.decimal(arm.control, 3),
                words.decimal(arm.loss, 3),
            ],
        )
    base = [
        f"base {arms.base}",
        "",
        words.decimal(arms.base_soft, signed=True),
        "",
        "",
        "",
        words.decimal(arms.base_control, 3),
        words.decimal(arms.base_loss, 3),
    ]
    _row(table, base, style="dim")
    return table


def endpoint_table(data: ReportData) -> Table:
    """Return the verdict's tests, the primary one first."""
    columns = [
        "endpoint",
        "arm",
        "expected",
        "reference",
        "difference",
        "interval",
        "effect size",
        "p",
        "p (Holm)",
    ]
    table = _table("Endpoints", columns)
    if data.verdict is None:
        return table
    primary = [data.verdict.primary] if data.verdict.primary else []
    for row in primary:
        _row(table, _endpoint(row), style="bold")
    for row in data.verdict.secondary:
        _row(table, _endpoint(row))
    return table


def mixture_table(mixtures: Mixtures) -> Table:
    """Return what every mixture holds and what decontamination met until its budget was full."""
    columns = ["mixture", "seed", "windows", "tokens", "instances", "repeats"]
    table = _table("Mixtures", [*columns, "removed documents", "removed instances"])
    for row in mixtures.rows:
        numbers = [row.seed, len(row.windows), row.tokens, row.instances, row.repeats]
        numbers += [row.decontaminated_documents, row.decontaminated_instances]
        _row(table, [row.mixture, *(words.count(number) for number in numbers)])
    return table


def _endpoint(row: Endpoint) -> list[str]:
    return [
        row.endpoint,
        row.arm,
        row.direction,
        row.reference,
        words.decimal(row.difference, signed=True),
        words.interval(row.lo, row.hi),
        words.decimal(row.effect_size, 1, signed=True),
        words.probability(row.p),
        words.probability(row.p_holm),
    ]


def _table(title: str, columns: Sequence[str]) -> Table:
    # Text, not str: rich would read brackets in names and intervals as markup.
    table = Table(title=Text(title, style="bold"), title_justify="left", box=None, pad_edge=False)
    for name in columns:
        table.add_column(Text(name), justify="left" if name in LEFT else "right")
    return table


def _row(table: Table, cells: Sequence[str], style: str | None = None) -> None:
    table.add_row(*(Text(cell) for cell in cells), style=style)
