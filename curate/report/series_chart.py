"""The run at a glance: each task's series with its labels and hops, control and loss beneath.

All panels share the x axis, optimizer steps, so that a hop can be held against the control and
the loss by eye.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from curate.report.charts import Chart, Size, both
from curate.report.data import Label, ReportData, Series, Window
from curate.report.svg import (
    Panel,
    Point,
    Scale,
    extent,
    line,
    number,
    path,
    runs,
    tag,
    text,
    title,
)
from curate.report.words import (
    CONTROL_LETTERS,
    LETTERS,
    control_word,
    count,
    decimal,
    interval,
    on_scale,
    short_count,
)

STRIP = 15.0
HEAD = 22.0
GAP = 20.0
FOOT = 40.0


@dataclass(frozen=True)
class Frame:
    """What every panel needs: the data, the common x scale, the drawing's size."""

    data: ReportData
    x: Scale
    size: Size


def series_chart(data: ReportData) -> Chart:
    """Return the figure of all series, the control and the loss, wide and narrow."""
    tasks = ", ".join(series.task for series in data.series)
    hops = sum(label.hop for window in data.windows for label in window.labels)
    description = (
        f"Scores of {len(data.series[0].steps)} checkpoints on {tasks}, by optimizer step. Every "
        "window is shaded and lettered by its label, of a normal control by whether it moved; "
        f"{hops} hops over all tasks are drawn as arrows. The table of windows holds the same "
        "values."
    )
    return both(
        "series",
        f"Scores of {data.study.run} over its checkpoints",
        description,
        lambda size: _draw(data, size),
    )


def _draw(data: ReportData, size: Size) -> tuple[str, float]:
    steps = [step for series in data.series for step in series.steps]
    steps += [edge for window in data.windows for edge in (window.first_step, window.end_step)]
    x = Scale(min(steps), max(steps), size.left, size.width - size.right)
    frame = Frame(data, x, size)
    drawn: list[str] = []
    top = 4.0 if data.arms is None else 20.0  # the base checkpoint's line has its name on top
    panel = Panel(x, Scale(0, 1, top, top))
    for series in _in_order(data):
        markup, panel = _series_panel(frame, series, top)
        drawn.append(markup)
        top = panel.y.start + GAP
    if data.loss is not None:
        markup, panel = _loss_panel(frame, top)
        drawn.append(markup)
    drawn.append(_x_axis(frame, panel))
    return "".join([_base_line(frame, panel), *drawn]), panel.y.start + FOOT


def _in_order(data: ReportData) -> list[Series]:
    """Return the primary task first, controls last, otherwise as given."""
    return sorted(data.series, key=lambda s: (s.control, s.task != data.primary_task))


def _series_panel(frame: Frame, series: Series, top: float) -> tuple[str, Panel]:
    labels = [(window, window.on(series.task)) for window in frame.data.windows]
    labelled = [(window, label) for window, label in labels if label is not None]
    head = HEAD + (STRIP + 4 if labelled else 0)
    height = frame.size.pick(90.0 if series.control else 190.0, 80.0 if series.control else 160.0)
    panel = Panel(frame.x, _y_scale(series, top + head + height, top + head))
    drawn = [
        _shading(frame, panel, series, top + HEAD),
        panel.y_axis(4 if series.control else 6),
        _curve(panel, series),
        _hops(panel, series, labelled),
        _points(panel, series),
        _heading(frame, top, series.task, _unit(series)),
    ]
    return tag("g", *drawn, class_=_kind(frame, series)), panel


def _kind(frame: Frame, series: Series) -> str:
    """Return the classes of a panel; "dense" where dots and arrows would cover one another."""
    spacing = (frame.x.end - frame.x.start) / max(len(series.steps), 1)
    kind = "control" if series.control else "mode"
    return f"{kind} dense" if spacing < 5 else kind


def _unit(series: Series) -> str:
    what = "hard score" if series.measure == "hard" else "soft score"
    return f"{what}, normal control" if series.control else what


def _heading(frame: Frame, top: float, name: str, unit: str) -> str:
    label = tag("tspan", escape(name), class_="strong")
    label += tag("tspan", escape(f"  {unit}"), class_="quiet")
    return tag("text", label, x=frame.size.left, y=top + 12, class_="heading")


def _y_scale(series: Series, bottom: float, top: float) -> Scale:
    if series.measure == "hard":
        return Scale(0.0, 1.0, bottom, top)
    lo, hi = extent((*series.mean, *series.lo, *series.hi), include=(0.0,))
    return Scale(max(lo, -1.0), min(hi, 1.0), bottom, top)


def _shading(frame: Frame, panel: Panel, series: Series, strip_top: float) -> str:
    drawn = []
    for window in frame.data.windows:
        label = window.on(series.task)
        if label is None:
            continue
        word = _word(series, label)
        left, right = frame.x(window.first_step), frame.x(window.end_step)
        width = right - left
        box = {"x": left, "width": width}
        inset = {"x": left + 0.5, "width": max(width - 1, 0.5)}
        letter = ""
        if width >= 7:
            letter = text(
                (left + right) / 2,
                strip_top + 11,
                {**LETTERS, **CONTROL_LETTERS}[word],
                class_=f"letter on-{word}" + ("" if width >= 11 else " small"),
            )
        drawn.append(
            tag(
                "g",
                title(_about(window, label, word)),
                tag("rect", y=panel.y.end, height=panel.y.start - panel.y.end, **box),
                tag("rect", y=strip_top, height=STRIP, rx=2, class_="slot", **inset),
                letter,
                class_=f"window {word}",
            )
        )
    return "".join(drawn)


def _word(series: Series, label: Label) -> str:
    return control_word(label.label) if series.control else label.label


def _about(window: Window, label: Label, word: str) -> str:
    return (
        f"{window.name}: {word}{', hop' if label.hop else ''}; "
        f"delta {decimal(label.delta, signed=True)}, strength "
        f"{on_scale(label.strength, label.lo, label.hi)}"
    )


def _curve(panel: Panel, series: Series) -> str:
    highs = panel.points(series.steps, series.hi)
    lows = panel.points(series.steps, series.lo)
    whole = [(high, low) if high and low else None for high, low in zip(highs, lows, strict=True)]
    band = "".join(path(outline, "band", close=True) for outline in _outlines(whole))
    zero = panel.level(0.0, "zero") if panel.y.lo < 0 < panel.y.hi else ""
    return band + zero + panel.curve(series.steps, series.mean, "curve")


def _outlines(edges: Sequence[tuple[Point, Point] | None]) -> list[list[Point]]:
    """Return the closed outlines of a band, one for each stretch without a missing value."""
    upper = runs([edge[0] if edge else None for edge in edges])
    lower = runs([edge[1] if edge else None for edge in edges])
    return [[*top, *reversed(bottom)] for top, bottom in zip(upper, lower, strict=True)]


def _hops(panel: Panel, series: Series, labelled: Sequence[tuple[Window, Label]]) -> str:
    level = dict(zip(series.steps, series.mean, strict=True))
    drawn = []
    for window, label in labelled:
        start = panel.at(window.first_step, level.get(window.first_step))
        end = panel.at(window.end_step, level.get(window.end_step))
        if label.hop and start and end:
            about = _about(window, label, _word(series, label))
            drawn.append(_arrow(start, end, about))
    return "".join(drawn)


def _arrow(start: Point, end: Point, tooltip: str) -> str:
    """Return a thick segment with a head at its end; up and down differ in colour as well."""
    angle = math.degrees(math.atan2(end[1] - start[1], end[0] - start[0]))
    head = tag(
        "path",
        d="M1 0L-7 4.2L-7 -4.2Z",
        transform=f"translate({number(end[0])} {number(end[1])}) rotate({number(angle)})",
    )
    way = "rise" if end[1] < start[1] else "fall"
    return tag("g", title(tooltip), line(start, end, "shaft"), head, class_=f"hop {way}")


def _points(panel: Panel, series: Series) -> str:
    drawn = []
    for index, step in enumerate(series.steps):
        place = panel.at(step, series.mean[index])
        if place is None:
            continue
        tooltip = (
            f"step {count(step)}, {short_count(series.tokens[index])} tokens: {series.measure} "
            f"{decimal(series.mean[index])} {interval(series.lo[index], series.hi[index])}, "
            f"hard {decimal(series.hard[index])}"
        )
        drawn.append(tag("circle", title(tooltip), cx=place[0], cy=place[1], r=2.2, class_="point"))
    return "".join(drawn)


def _loss_panel(frame: Frame, top: float) -> tuple[str, Panel]:
    loss = frame.data.loss
    assert loss is not None, "drawn only where there is one"
    shown = [
        (step, value)
        for step, value in zip(loss.steps, loss.loss, strict=True)
        if frame.x.lo <= step <= frame.x.hi
    ]
    lo, hi = extent([value for _, value in shown])
    height = frame.size.pick(90.0, 80.0)
    panel = Panel(frame.x, Scale(lo, hi, top + HEAD + height, top + HEAD))
    smoothing = f"nats per token{', ' + loss.smoothing if loss.smoothing else ''}"
    drawn = [
        panel.y_axis(4),
        panel.curve([step for step, _ in shown], [value for _, value in shown], "curve thin"),
        _heading(frame, top, "training loss", smoothing),
    ]
    return tag("g", *drawn, class_="loss"), panel


def _base_line(frame: Frame, last: Panel) -> str:
    arms = frame.data.arms
    if arms is None or not frame.x.lo <= arms.base_step <= frame.x.hi:
        return ""
    x = frame.x(arms.base_step)
    side = "end" if x > frame.size.width * 0.6 else "start"
    caption = text(x + (-5 if side == "end" else 5), 14, "arms start here", class_=f"note {side}")
    return tag("g", line((x, 3), (x, last.y.start), "base"), caption)


def _x_axis(frame: Frame, last: Panel) -> str:
    ticks = frame.size.pick(10, 4)
    drawn = [last.x_axis(ticks)]
    steps, tokens = _token_axis(frame.data)
    for tick in frame.x.ticks(ticks):
        shown = _interpolate(tick, steps, tokens)
        if shown is not None:
            drawn.append(
                text(frame.x(tick), last.y.start + 31, short_count(shown), class_="tick2 middle")
            )
    drawn.append(text(0, last.y.start + 16, "step", class_="tick2"))
    drawn.append(text(0, last.y.start + 31, "tokens", class_="tick2"))
    return "".join(drawn)


def _token_axis(data: ReportData) -> tuple[list[int], list[int]]:
    known = {
        s: t for series in data.series for s, t in zip(series.steps, series.tokens, strict=True)
    }
    steps = sorted(known)
    return steps, [known[step] for step in steps]


def _interpolate(step: float, steps: Sequence[int], tokens: Sequence[int]) -> float | None:
    """Return the tokens at a step between two checkpoints, None outside them."""
    for left, right, low, high in zip(steps, steps[1:], tokens, tokens[1:], strict=False):
        if left <= step <= right:
            return low + (high - low) * (step - left) / (right - left)
    return None
