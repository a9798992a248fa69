"""Series over a run, a panel each: labels and hops, and the loss beneath, on one axis of steps.

All panels of all figures share that axis, so that a hop can be held against the control and the
loss by eye. What moves with the axis lies in groups of class ``zoom``, which the page's script
scales; everything is drawn without it. Where checkpoints lie too close for letters and tooltips,
what looks alike is one element.
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
    boxes,
    dots,
    extent,
    line,
    number,
    path,
    runs,
    segments,
    tag,
    text,
    title,
)
from curate.report.timeline import step_scale, timeline, x_axis
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

Labelled = Sequence[tuple[int, Window, Label]]


@dataclass(frozen=True)
class Frame:
    """What every panel needs: the data, the common x scale, the drawing's size and name."""

    data: ReportData
    x: Scale
    size: Size
    name: str
    small: bool = False


def series_chart(data: ReportData, shown: Sequence[Series]) -> Chart:
    """Return the figure of the series that are shown first, with the loss, wide and narrow."""
    tasks = ", ".join(series.task for series in shown)
    hops = sum(label.hop for window in data.windows for label in window.labels)
    description = (
        f"Scores of {len(shown[0].steps)} checkpoints on {tasks}, by optimizer step. Every "
        "window is shaded and lettered by its label, of a normal control by whether it moved; "
        f"{hops} hops over all tasks are drawn as arrows. The table of windows holds the same "
        "values."
    )
    return both(
        "series",
        f"Scores of {data.study.run} over its checkpoints",
        description,
        lambda size: _draw(Frame(data, step_scale(data, size), size, f"series-{size.name}"), shown),
    )


def family_chart(data: ReportData, shown: Sequence[Series], name: str) -> Chart:
    """Return the figure of one family's series, smaller and without the loss."""
    tasks = ", ".join(series.task for series in shown)

    def draw(size: Size) -> tuple[str, float]:
        frame = Frame(data, step_scale(data, size), size, f"{name}-{size.name}", small=True)
        return _draw(frame, shown)

    return both(name, f"Scores on {tasks}", "By optimizer step, as in the first figure.", draw)


def _draw(frame: Frame, shown: Sequence[Series]) -> tuple[str, float]:
    drawn: list[str] = []
    # The base checkpoint's line has its name on top.
    top = 4.0 if frame.data.arms is None else 20.0
    panel = Panel(frame.x, Scale(0, 1, top, top))
    for series in shown:
        markup, panel = _series_panel(frame, series, top)
        drawn.append(markup)
        top = panel.y.start + GAP
    if frame.data.loss is not None and not frame.small:
        markup, panel = _loss_panel(frame, top)
        drawn.append(markup)
    drawn.append(x_axis(frame.data, frame.size, panel))
    whole = "".join([_base_line(frame, panel), *drawn])
    return timeline(whole, frame.x, panel.y.start, frame.name), panel.y.start + FOOT


def _series_panel(frame: Frame, series: Series, top: float) -> tuple[str, Panel]:
    labels = [(i, window, window.on(series.task)) for i, window in enumerate(frame.data.windows)]
    labelled = [(i, window, label) for i, window, label in labels if label is not None]
    head = HEAD + (STRIP + 4 if labelled else 0)
    panel = Panel(frame.x, _y_scale(series, top + head + _height(frame, series), top + head))
    dense = _dense(frame, series)
    shading, hops, points = (
        (_merged_shading, _merged_hops, _merged_points) if dense else (_shading, _hops, _points)
    )
    moving = [
        shading(panel, series, labelled, top + HEAD),
        _curve(panel, series),
        hops(panel, series, labelled),
        points(panel, series),
    ]
    drawn = [
        panel.y_axis(4 if series.control or frame.small else 6),
        _zero(panel),
        zooming(frame, *moving),
        _heading(frame, top, series.task, _unit(series)),
    ]
    kind = "control" if series.control else "mode"
    return (
        tag(
            "g",
            *drawn,
            class_=f"{kind} dense" if dense else kind,
            data_task=series.task,
            data_y=f"{number(top + HEAD)} {number(panel.y.start)}",
        ),
        panel,
    )


def zooming(frame: Frame, *moving: str) -> str:
    """Return what moves with the axis, cut off at its ends."""
    inner = tag("g", *moving, class_="zoom")
    return tag("g", inner, clip_path=f"url(#{frame.name}-clip)")


def _height(frame: Frame, series: Series) -> float:
    if frame.small:
        return frame.size.pick(84.0, 76.0)
    return frame.size.pick(90.0 if series.control else 190.0, 80.0 if series.control else 160.0)


def _dense(frame: Frame, series: Series) -> bool:
    """Whether dots and arrows would cover one another."""
    return (frame.x.end - frame.x.start) / max(len(series.steps), 1) < 5


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


def _shading(panel: Panel, series: Series, labelled: Labelled, strip_top: float) -> str:
    drawn = []
    for index, window, label in labelled:
        word = _word(series, label)
        left, right = panel.x(window.first_step), panel.x(window.end_step)
        width = right - left
        inset = {"x": left + 0.5, "width": max(width - 1, 0.5)}
        letter = ""
        if width >= 7:
            letter = text(
                (left + right) / 2,
                strip_top + 11,
                {**LETTERS, **CONTROL_LETTERS}[word],
                class_=f"letter on-{word}" + ("" if width >= 11 else " small"),
            )
        shade = tag("rect", x=left, width=width, y=panel.y.end, height=panel.y.start - panel.y.end)
        slot = tag("rect", y=strip_top, height=STRIP, rx=2, class_="slot", **inset)
        drawn.append(
            tag(
                "a",
                title(_about(window, label, word)),
                tag("g", shade, slot, letter, class_=f"window {word}"),
                href=f"#w{index}",
                tabindex="-1",
            )
        )
    return "".join(drawn)


def _merged_shading(panel: Panel, series: Series, labelled: Labelled, strip_top: float) -> str:
    spans: dict[str, list[Point]] = {}
    for _, window, label in labelled:
        span = panel.x(window.first_step), panel.x(window.end_step)
        spans.setdefault(_word(series, label), []).append(span)
    return "".join(
        tag(
            "g",
            boxes(found, panel.y.end, panel.y.start - panel.y.end, "shade"),
            boxes(found, strip_top, STRIP, "slot"),
            class_=f"window {word}",
        )
        for word, found in spans.items()
    )


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
    return band + panel.curve(series.steps, series.mean, "curve")


def _zero(panel: Panel) -> str:
    return panel.level(0.0, "zero") if panel.y.lo < 0 < panel.y.hi else ""


def _outlines(edges: Sequence[tuple[Point, Point] | None]) -> list[list[Point]]:
    """Return the closed outlines of a band, one for each stretch without a missing value."""
    upper = runs([edge[0] if edge else None for edge in edges])
    lower = runs([edge[1] if edge else None for edge in edges])
    return [[*top, *reversed(bottom)] for top, bottom in zip(upper, lower, strict=True)]


def _ends(
    panel: Panel, series: Series, labelled: Labelled
) -> list[tuple[Window, Label, Point, Point]]:
    """Return the windows that hop, with the levels before and after."""
    level = dict(zip(series.steps, series.mean, strict=True))
    found = []
    for _, window, label in labelled:
        start = panel.at(window.first_step, level.get(window.first_step))
        end = panel.at(window.end_step, level.get(window.end_step))
        if label.hop and start and end:
            found.append((window, label, start, end))
    return found


def _hops(panel: Panel, series: Series, labelled: Labelled) -> str:
    return "".join(
        _arrow(start, end, _about(window, label, _word(series, label)))
        for window, label, start, end in _ends(panel, series, labelled)
    )


def _merged_hops(panel: Panel, series: Series, labelled: Labelled) -> str:
    ways: dict[str, list[tuple[Point, Point]]] = {"rise": [], "fall": []}
    for _, _, start, end in _ends(panel, series, labelled):
        ways[_way(start, end)].append((start, end))
    return "".join(
        tag("g", segments(pairs, "shaft"), class_=f"hop {way}")
        for way, pairs in ways.items()
        if pairs
    )


def _way(start: Point, end: Point) -> str:
    return "rise" if end[1] < start[1] else "fall"


def _arrow(start: Point, end: Point, tooltip: str) -> str:
    """Return a thick segment with a head at its end; up and down differ in colour as well."""
    angle = math.degrees(math.atan2(end[1] - start[1], end[0] - start[0]))
    head = tag(
        "path",
        d="M1 0L-7 4.2L-7 -4.2Z",
        transform=f"translate({number(end[0])} {number(end[1])}) rotate({number(angle)})",
    )
    drawn = [title(tooltip), line(start, end, "shaft"), tag("g", head, class_="still")]
    return tag("g", *drawn, class_=f"hop {_way(start, end)}")


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


def _merged_points(panel: Panel, series: Series) -> str:
    return dots(panel.points(series.steps, series.mean), "points")


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
    curve = panel.curve([step for step, _ in shown], [value for _, value in shown], "curve thin")
    drawn = [
        panel.y_axis(4),
        zooming(frame, curve),
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
    base = line((x, 3), (x, last.y.start), "base")
    return zooming(frame, base, tag("g", caption, class_="still"))
