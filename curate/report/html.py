"""The report as one self-contained HTML page: no script, no network, no fonts of its own.

The same data give the same bytes. Everything the page says about numbers comes from
``curate.report.words``; everything it draws, from the charts.
"""

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
from curate.report.data import LABELS, Endpoint, ReportData
from curate.report.series_chart import series_chart

HERE = Path(__file__).parent


def render(data: ReportData) -> str:
    """Return the page, UTF-8 text ending in a line feed; parts that were not done are absent."""
    page = _environment().get_template("page.html.j2")
    return page.render(
        data=data,
        style=Markup((HERE / "style.css").read_text(encoding="utf-8")),  # our own file
        headline=words.headline(data),
        basis=words.basis(data),
        caveats=words.caveats(data),
        charts=_charts(data),
        tests=_tests(data),
        tasks=_tasks(data),
        claims=data.transfers is not False,
        arms_caution=words.arms_caution(data),
        controls=[task for task in _tasks(data) if data.is_control(task)],
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


def _charts(data: ReportData) -> dict[str, Markup]:
    """Return the figures there are data for; their texts are escaped where they are written."""
    drawn: dict[str, Chart] = {}
    if any(series.steps for series in data.series):
        drawn["series"] = series_chart(data)
    if data.transfer is not None and data.transfer.points:
        drawn["transfer"] = transfer_chart(data.transfer)
    if data.arms is not None and data.arms.curves:
        drawn["arms"] = arms_chart(data.arms)
        drawn["control"] = control_chart(data.arms)
    if data.truth is not None and data.truth.points:
        drawn["truth"] = truth_chart(data.truth)
    return {name: Markup(chart.wide + chart.narrow) for name, chart in drawn.items()}


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


def _tasks(data: ReportData) -> list[str]:
    """Return the labelled tasks, the primary one first, the others as they come."""
    named = [label.task for window in data.windows for label in window.labels]
    return sorted(dict.fromkeys(named), key=lambda task: task != data.primary_task)
