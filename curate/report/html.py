"""The report as one self-contained HTML page: no network, no fonts, one script of its own.

The same data give the same bytes. Everything the page says about numbers comes from
``curate.report.words``; everything it draws, from the charts. All of it can be read without the
script, which adds zoom, hover and a window's dialog, and is the only one that the page lets run.
"""

import shlex
from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from curate.report import words
from curate.report.charts import (
    Chart,
    arm_class,
    arms_chart,
    control_chart,
    forest,
    transfer_chart,
    truth_chart,
)
from curate.report.data import LABELS, Endpoint, ReportData, Series
from curate.report.page_data import page_data
from curate.report.sentences import quotable
from curate.report.series_chart import family_chart, series_chart
from curate.report.strip_chart import families, strip_chart
from curate.report.values import MANY_TASKS

HERE = Path(__file__).parent


def render(data: ReportData) -> str:
    """Return the page, UTF-8 text ending in a line feed; parts that were not done are absent."""
    page = _environment().get_template("page.html.j2")
    # Our own files.
    style, script = (
        Markup((HERE / name).read_text(encoding="utf-8")) for name in ("style.css", "page.js")
    )
    main, rest = _shown_first(data)
    return page.render(
        data=data,
        style=style,
        script=script,
        script_hash=b64encode(sha256(f"\n{script}\n".encode()).digest()).decode(),
        numbers=Markup(page_data(data)),
        quotable=quotable(data),
        headline=words.headline(data),
        basis=words.basis(data),
        caveats=words.caveats(data),
        charts=_charts(data, main),
        families=_families(data, rest),
        tests=_tests(data),
        tasks=_tabled(data),
        held=_held(data),
        claims=data.transfers is not False,
        arms_caution=words.arms_caution(data),
        controls=[task for task in data.tasks if data.is_control(task)],
        counts=data.label_counts(data.primary_task),
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        decimal=words.decimal,
        probability=words.probability,
        count=words.count,
        rounded=words.rounded,
        share=words.share,
        as_sentence=words.as_sentence,
        arm_class=arm_class,
    )
    environment.globals.update(
        interval=words.interval,
        letters={**words.LETTERS, **words.CONTROL_LETTERS},
        label_word=words.label_word,
        labels=LABELS,
        missing=words.MISSING,
    )
    return environment


def _shown_first(data: ReportData) -> tuple[list[Series], list[Series]]:
    """Split the series: all where they are few; else the primary task and the controls beside it.

    Both parts have the primary task first and controls last, and otherwise the order of the data.
    """
    series = [one for one in data.series if one.steps]
    series = sorted(series, key=lambda s: (s.control, s.task != data.primary_task))
    if len(series) <= MANY_TASKS:
        return series, []
    name = data.primary_task.partition("/")[2]
    controls = [one for one in series if one.control]
    beside = [one for one in controls if one.task.partition("/")[2] == name] or controls[:1]
    first = [one for one in series if one.task == data.primary_task] or series[:1]
    chosen = [*first, *(one for one in beside if one not in first)]
    return chosen, [one for one in series if one not in chosen]


def _charts(data: ReportData, main: list[Series]) -> dict[str, Markup]:
    """Return the figures there are data for; their texts are escaped where they are written."""
    drawn: dict[str, Chart] = {}
    strip = strip_chart(data) if main else None
    if strip is not None:
        drawn["strip"] = strip
    if main:
        drawn["series"] = series_chart(data, main)
    if data.transfer is not None and data.transfer.points:
        drawn["transfer"] = transfer_chart(data.transfer)
    if data.arms is not None and data.arms.curves:
        drawn["arms"] = arms_chart(data.arms)
        drawn["control"] = control_chart(data.arms)
    if data.truth is not None and data.truth.points:
        drawn["truth"] = truth_chart(data.truth)
    return {name: _markup(chart) for name, chart in drawn.items()}


def _markup(chart: Chart) -> Markup:
    return Markup(chart.wide + chart.narrow)


@dataclass(frozen=True)
class _Family:
    """A family's series beyond those that are shown first, and how many labels they have.

    Those of a normal control say that it moved.
    """

    name: str
    tasks: list[str]
    labelled: int
    control: bool
    chart: Markup


def _families(data: ReportData, rest: list[Series]) -> list[_Family]:
    by_task = {series.task: series for series in rest}
    found = []
    for index, (name, tasks) in enumerate(families(list(by_task)).items()):
        chart = family_chart(data, [by_task[task] for task in tasks], f"family{index}")
        counts = [data.label_counts(task) for task in tasks]
        labelled = sum(each["pattern"] + each["generalization"] for each in counts)
        control = by_task[tasks[0]].control
        found.append(_Family(name, tasks, labelled, control, _markup(chart)))
    return found


def _tabled(data: ReportData) -> list[str]:
    """Return the tasks that the table of windows has columns for."""
    tasks = data.tasks
    return tasks if len(tasks) <= MANY_TASKS else [*tasks[:1], *({"pooled"} & set(tasks[1:]))]


@dataclass(frozen=True)
class _Held:
    """What a window held: the command that tells, "" for none, and shares by source."""

    command: str
    shares: tuple[float | None, ...]


def _held(data: ReportData) -> list[_Held]:
    file = shlex.quote(data.study.file)
    return [
        _Held(
            f"modehop what {file} --steps {window.first_step}:{window.end_step}"
            if data.study.file
            else "",
            tuple(part / sum(window.held) if any(window.held) else None for part in window.held),
        )
        for window in data.windows
    ]


def _tests(data: ReportData) -> list[dict[str, Any]]:
    """Return the rows of the endpoint table, the primary one first, each with its drawing."""
    if data.verdict is None:
        return []
    primary = [data.verdict.primary] if data.verdict.primary else []
    rows: list[Endpoint] = [*primary, *data.verdict.secondary]
    return [
        {"row": row, "primary": row in primary, "drawing": Markup(drawing)}
        for row, drawing in zip(rows, forest(rows), strict=True)
    ]
