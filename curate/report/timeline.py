"""The axis of steps that all charts of a run share, in the form that the page's script zooms."""

from collections.abc import Sequence

from curate.report.charts import Size
from curate.report.data import ReportData
from curate.report.svg import Panel, Scale, number, tag, text
from curate.report.words import short_count


def step_scale(data: ReportData, size: Size, left: float | None = None) -> Scale:
    """Return the scale of steps from the first checkpoint to the last."""
    steps = {step for series in data.series for step in (*series.steps[:1], *series.steps[-1:])}
    steps |= {edge for window in data.windows for edge in (window.first_step, window.end_step)}
    start = size.left if left is None else left
    return Scale(min(steps), max(steps), start, size.width - size.right)


def timeline(drawn: str, x: Scale, height: float, name: str) -> str:
    """Return a drawing with what the script must know of its axis, and where it is cut off."""
    cut = tag("rect", x=x.start - 3, y=0.0, width=x.end - x.start + 6, height=height)
    ends = " ".join(number(value) for value in (x.lo, x.hi, x.start, x.end))
    return tag("g", tag("clipPath", cut, id=f"{name}-clip"), drawn, class_="timeline", data_x=ends)


def x_axis(data: ReportData, size: Size, last: Panel) -> str:
    """Return the axis beneath the last panel: steps, and the tokens read by then."""
    ticks, bottom = size.pick(10, 4), last.y.start
    drawn = [last.x_axis(ticks)]
    known = tokens_by_step(data)
    steps, tokens = list(known), list(known.values())
    for tick in last.x.ticks(ticks):
        shown = _interpolate(tick, steps, tokens)
        if shown is not None:
            drawn.append(text(last.x(tick), bottom + 31, short_count(shown), class_="tick2 middle"))
    axis = tag("g", *drawn, class_="xaxis", data_bottom=bottom, data_ticks=str(ticks))
    return (
        axis
        + text(0, bottom + 16, "step", class_="tick2")
        + text(0, bottom + 31, "tokens", class_="tick2")
    )


def tokens_by_step(data: ReportData) -> dict[int, int]:
    """Return the tokens read at every checkpoint of any series, by step."""
    columns = dict.fromkeys((series.steps, series.tokens) for series in data.series)
    known = {s: t for steps, tokens in columns for s, t in zip(steps, tokens, strict=True)}
    return dict(sorted(known.items()))


def _interpolate(step: float, steps: Sequence[int], tokens: Sequence[int]) -> float | None:
    """Return the tokens at a step between two checkpoints, None outside them."""
    for left, right, low, high in zip(steps, steps[1:], tokens, tokens[1:], strict=False):
        if left <= step <= right:
            return low + (high - low) * (step - left) / (right - left)
    return None
