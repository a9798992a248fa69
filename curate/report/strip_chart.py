"""All labels at a glance: a row a task, a column a window, in the colours of the labels."""

from collections.abc import Mapping, Sequence

from curate.report.charts import Chart, Size, both
from curate.report.data import ReportData
from curate.report.svg import Panel, Point, Scale, boxes, number, tag, text, title
from curate.report.timeline import step_scale, timeline, x_axis
from curate.report.values import MANY_TASKS
from curate.report.words import control_word

FOOT = 40.0
DEGREES = (2.0, 4.0)
"""Effects beyond so many times the smallest one of interest are drawn darker."""


def families(tasks: Sequence[str]) -> dict[str, list[str]]:
    """Return the tasks by family, in the order in which they come; pooled ones are their own."""
    found: dict[str, list[str]] = {}
    for task in tasks:
        found.setdefault(task.partition("/")[0], []).append(task)
    return found


def strip_chart(data: ReportData) -> Chart | None:
    """Return the figure of all labels; None where the series already show them side by side."""
    tasks = data.tasks
    if len(tasks) <= MANY_TASKS or not data.windows:
        return None
    description = (
        f"{len(data.windows)} windows from left to right, {len(tasks)} tasks from top to bottom, "
        "each cell coloured by its label and darker for a stronger effect; undecided ones are left "
        "empty. The dialog of a window holds the same values."
    )
    title = f"Labels of {data.study.run} on {len(tasks)} tasks"
    return both("strip", title, description, lambda size: _draw(data, tasks, size))


def _draw(data: ReportData, tasks: Sequence[str], size: Size) -> tuple[str, float]:
    height = size.pick(11.0, 10.0)
    x = step_scale(data, size, left=size.pick(210.0, 118.0))
    controls = {series.task for series in data.series if series.control}
    drawn, top = [], 4.0
    for family, members in families(tasks).items():
        if len(members) > 1 or "/" in members[0]:
            drawn.append(text(0, top + height - 2, family, class_="strip-family"))
            top += height
        for task in members:
            rows = _cells(data, task, task in controls, x)
            drawn.append(_row(task, rows, (top, height), size))
            top += height
    last = Panel(x, Scale(0, 1, top + 2, top + 2))
    whole = "".join(drawn) + x_axis(data, size, last)
    return timeline(whole, x, top + 2, f"strip-{size.name}"), top + 2 + FOOT


def _cells(
    data: ReportData, task: str, control: bool, x: Scale
) -> dict[tuple[str, int], list[Point]]:
    """Return the spans of windows that look alike: by word, and by how strong the effect is."""
    least = data.rule.minimum or 0.05
    found: dict[tuple[str, int], list[Point]] = {}
    for window in data.windows:
        label = window.on(task)
        if label is None:
            continue
        word = control_word(label.label) if control else label.label
        size = abs(label.strength or 0.0) / least
        degree = sum(size >= limit for limit in DEGREES)
        found.setdefault((word, degree), []).append((x(window.first_step), x(window.end_step)))
    return found


def _row(
    task: str,
    cells: Mapping[tuple[str, int], Sequence[Point]],
    place: tuple[float, float],
    size: Size,
) -> str:
    top, height = place
    name = task.partition("/")[2] or task
    most = size.pick(38, 21)
    shown = name if len(name) <= most else f"{name[: most - 1]}…"
    spans = [
        boxes(found, top + 0.5, height - 1, f"cell {word} degree-{degree}")
        for (word, degree), found in cells.items()
        if word not in ("undecided", "still")
    ]
    return tag(
        "g",
        tag("g", title(task), text(8, top + height - 2, shown), class_="strip-task"),
        tag("g", tag("g", *spans, class_="zoom"), clip_path=f"url(#strip-{size.name}-clip)"),
        data_task=task,
        data_y=f"{number(top)} {number(top + height)}",
    )
