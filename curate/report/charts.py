"""The charts, each drawn twice: for a wide page and for a narrow one.

A chart scaled down to a telephone has unreadable letters, so the style sheet shows the drawing
that fits and hides the other, from screen readers too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TypeVar

from curate.report.data import ArmCurve, Arms, Endpoint, Transfer, Truth, finite
from curate.report.svg import Panel, Point, Scale, circle, extent, line, marker, path, tag, text
from curate.report.words import SHAPES, decimal

T = TypeVar("T")


@dataclass(frozen=True)
class Size:
    """A drawing's width and side margins, in user units (pixels where it is not scaled)."""

    name: str
    width: float
    left: float
    right: float

    def pick(self, wide: T, narrow: T) -> T:
        """Return the value meant for this size."""
        return wide if self.name == "wide" else narrow


WIDE = Size("wide", 1060, 58, 10)
HALF = Size("wide", 630, 58, 10)  # with words beside it
NARROW = Size("narrow", 372, 50, 8)


@dataclass(frozen=True)
class Chart:
    """A drawing in two sizes, as SVG markup with a title and a description inside."""

    wide: str
    narrow: str


def both(
    name: str,
    title: str,
    description: str,
    draw: Callable[[Size], tuple[str, float]],
    wide: Size = WIDE,
) -> Chart:
    """Return the chart which ``draw`` makes of each size; it returns markup and a height."""

    def one(size: Size) -> str:
        markup, height = draw(size)
        ids = f"{name}-{size.name}-title", f"{name}-{size.name}-desc"
        return tag(
            "svg",
            tag("title", escape(title), id=ids[0]),
            tag("desc", escape(description), id=ids[1]),
            markup,
            viewBox=f"0 0 {size.width:.0f} {height:.0f}",
            width=size.width,
            height=round(height),
            role="img",
            aria_labelledby=" ".join(ids),
            class_=f"chart {size.name}",
        )

    return Chart(wide=one(wide), narrow=one(NARROW))


@dataclass(frozen=True)
class Dot:
    """One mark of a scatter: place, label, tooltip, and the ends of a whisker through it."""

    x: float | None
    y: float | None
    label: str
    tooltip: str
    whisker: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Scatter:
    """A scatter's dots and the words at its axes."""

    dots: tuple[Dot, ...]
    x_title: str
    y_title: str


def _scatter(scatter: Scatter, box: tuple[float, float, float, float]) -> str:
    """Draw into the box (left, top, right, bottom) of the plot area."""
    left, top, right, bottom = box
    x_lo, x_hi = extent([dot.x for dot in scatter.dots], include=(0.0,))
    ys = [value for dot in scatter.dots for value in (dot.y, *dot.whisker)]
    y_lo, y_hi = extent(ys, include=(0.0,))
    panel = Panel(Scale(x_lo, x_hi, left, right), Scale(y_lo, y_hi, bottom, top))
    drawn = [panel.y_axis(6), panel.x_axis(6), panel.level(0.0, "zero")]
    drawn.append(line((panel.x(0.0), top), (panel.x(0.0), bottom), "zero"))
    for dot in scatter.dots:
        known = [y for y in dot.whisker if finite(y) is not None]
        place = panel.at(dot.x, dot.y) if finite(dot.x) is not None and dot.x is not None else None
        if place is None:
            continue
        if len(known) > 1:
            ends = [panel.y(y) for y in known if y is not None]
            drawn.append(line((place[0], min(ends)), (place[0], max(ends)), "whisker"))
        drawn.append(marker(SHAPES[dot.label], place, 4.2, f"dot {dot.label}", dot.tooltip))
    drawn.append(text((left + right) / 2, bottom + 34, scatter.x_title, class_="axis-title middle"))
    drawn.append(text(left - 40, top - 10, scatter.y_title, class_="axis-title start"))
    return "".join(drawn)


def transfer_chart(transfer: Transfer) -> Chart:
    """Return label strength against the mean effect of the shuffled replays, a mark a window."""
    dots = tuple(
        Dot(
            point.strength,
            point.effect,
            point.label,
            f"{point.window}: {point.label}, strength {decimal(point.strength, signed=True)}, "
            f"mean effect {decimal(point.effect, signed=True)}",
            point.per_shuffle,
        )
        for point in transfer.points
    )
    scatter = Scatter(dots, "label strength in the run", "mean effect of shuffled replays (soft)")
    description = (
        f"{len(dots)} windows. Spearman correlation {decimal(transfer.rho)}, one-sided lower bound "
        f"{decimal(transfer.lower_bound)}. Vertical lines join the single shuffles."
    )

    def draw(size: Size) -> tuple[str, float]:
        bottom = size.pick(380.0, 320.0)
        box = (size.left, 28.0, size.width - size.right, bottom)
        return _scatter(scatter, box), bottom + 44

    return both("transfer", "Do the labels transfer", description, draw, HALF)


def truth_chart(truth: Truth) -> Chart:
    """Return label strength against the planted composition of this and of the previous window."""
    before = (None, *(point.composition for point in truth.points[:-1]))

    def dots(xs: Sequence[float | None]) -> tuple[Dot, ...]:
        return tuple(
            Dot(x, p.strength, p.label, f"{p.window}: {p.label}, strength {decimal(p.strength)}")
            for x, p in zip(xs, truth.points, strict=True)
        )

    own = Scatter(
        dots([point.composition for point in truth.points]), "its own composition", "label strength"
    )
    previous = Scatter(dots(before), "the previous window's composition", "label strength")

    def draw(size: Size) -> tuple[str, float]:
        if size.name == "narrow":
            right = size.width - size.right
            first = _scatter(own, (size.left, 28, right, 240))
            return first + _scatter(previous, (size.left, 320, right, 532)), 576
        first = _scatter(own, (size.left, 28, 510, 300))
        return first + _scatter(previous, (610, 28, size.width - size.right, 300)), 344

    description = (
        f"Spearman correlation {decimal(truth.rho)} with the window's own composition, "
        f"{decimal(truth.rho_previous)} with the previous window's."
    )
    return both("truth", "Label strength against the planted composition", description, draw)


@dataclass(frozen=True)
class Facets:
    """One panel an arm: which value of a curve is drawn, on what scale, against what level."""

    arms: Arms
    pick: Callable[[ArmCurve], tuple[float | None, ...]]
    domain: Point
    level: float | None
    height: float


def arms_chart(arms: Arms) -> Chart:
    """Return every arm's runs on the endpoint's task, a panel an arm, thin lines a seed."""
    values = [value for curve in arms.curves for value in curve.soft]
    lo, hi = extent([*values, arms.base_soft], include=(0.0,))
    facets = Facets(
        arms, lambda curve: curve.soft, (max(lo, -1.0), min(hi, 1.0)), arms.base_soft, 210
    )
    means = "; ".join(f"{s.arm} {decimal(s.mean_soft)}" for s in arms.summaries)
    description = (
        f"Soft score on {arms.task} by steps after the base checkpoint. Mean over runs: {means}. "
        f"Base checkpoint: {decimal(arms.base_soft)}."
    )
    return both("arms", "The arms' curves", description, lambda size: _facets(facets, size))


def control_chart(arms: Arms) -> Chart:
    """Return every arm's runs on the normal control, on its whole scale from 0 to 1."""
    facets = Facets(arms, lambda curve: curve.control, (0.0, 1.0), arms.base_control, 90)
    means = "; ".join(f"{s.arm} {decimal(s.control)}" for s in arms.summaries)
    description = f"Normal control by steps after the base checkpoint. Mean over runs: {means}."
    return both("control", "Normal control", description, lambda size: _facets(facets, size))


def _facets(facets: Facets, size: Size) -> tuple[str, float]:
    columns = size.pick(min(4, max(2, len(facets.arms.summaries))), 2)
    gap = size.pick(26.0, 14.0)
    width = (size.width - size.left - size.right - gap * (columns - 1)) / columns
    drawn, bottom = [], 0.0
    for index, summary in enumerate(facets.arms.summaries):
        left = size.left + (index % columns) * (width + gap)
        top = 24 + (index // columns) * (facets.height + 62)
        bottom = top + facets.height
        steps = [step for curve in facets.arms.curves for step in curve.steps]
        panel = Panel(
            Scale(min(steps, default=0), max(steps, default=1), left, left + width),
            Scale(*facets.domain, bottom, top),
        )
        drawn.append(_facet(facets, panel, summary.arm, first=index % columns == 0))
    middle = (size.left + size.width - size.right) / 2
    words = "steps after the base checkpoint"
    drawn.append(text(middle, bottom + 36, words, class_="axis-title middle"))
    return "".join(drawn), bottom + 44


def _facet(facets: Facets, panel: Panel, arm: str, *, first: bool) -> str:
    curves = [curve for curve in facets.arms.curves if curve.arm == arm]
    ticks = max(2, round(facets.height / 42))
    drawn = [panel.y_axis(ticks, shown=first), panel.x_axis(4)]
    if panel.y.lo < 0 < panel.y.hi:
        drawn.append(panel.level(0.0, "zero"))
    level = finite(facets.level)
    if level is not None:
        drawn.append(panel.level(level, "base"))
    drawn += [panel.curve(curve.steps, facets.pick(curve), "seed") for curve in curves]
    mean = _mean_curve([(curve.steps, facets.pick(curve)) for curve in curves])
    drawn.append(panel.curve([step for step, _ in mean], [value for _, value in mean], "mean"))
    if mean and (end := panel.at(*mean[-1])):
        drawn.append(circle(end, 3.2, "mean-end", f"{arm}: {decimal(mean[-1][1])} at the end"))
    drawn.append(text(panel.x.start, panel.y.end - 8, arm, class_="strong"))
    return tag("g", *drawn, class_=f"arm {arm_class(arm)}")


def _mean_curve(
    curves: Sequence[tuple[tuple[int, ...], tuple[float | None, ...]]],
) -> list[tuple[int, float]]:
    """Return the mean over runs at every step at which any run has a score."""
    at: dict[int, list[float]] = {}
    for steps, values in curves:
        for step, value in zip(steps, values, strict=True):
            known = finite(value)
            if known is not None:
                at.setdefault(step, []).append(known)
    return [(step, sum(at[step]) / len(at[step])) for step in sorted(at)]


def arm_class(arm: str) -> str:
    """Return the style sheet's class of an arm; arms it does not know share one."""
    known = ("control-pattern", "control-generalization", "uncontrolled", "placebo")
    return f"arm-{arm}" if arm in known else "arm-other"


def forest(rows: Sequence[Endpoint]) -> list[str]:
    """Return a drawing for every row of the endpoint table: difference and interval, one scale."""
    lo, hi = extent([v for row in rows for v in (row.difference, row.lo, row.hi)], include=(0.0,))
    scale = Scale(lo, hi, 6, 104)
    return [_forest_row(row, scale) for row in rows]


def _forest_row(row: Endpoint, scale: Scale) -> str:
    drawn = [line((scale(0.0), 0), (scale(0.0), 22), "zero")]
    ends = finite(row.lo), finite(row.hi)
    if ends[0] is not None and ends[1] is not None:
        drawn.append(path([(scale(ends[0]), 11), (scale(ends[1]), 11)], "whisker"))
    difference = finite(row.difference)
    if difference is not None:
        drawn.append(marker("diamond", (scale(difference), 11), 4, "estimate", decimal(difference)))
    return tag("svg", *drawn, viewBox="0 0 110 22", width=110, height=22, aria_hidden="true")
