"""The few drawing primitives the charts need: escaped elements, scales, ticks, axes.

Charts are written by hand, not by a plotting library, so that they take the page's colours (also
its dark ones), have titles a screen reader can read, and are the same bytes everywhere. Colours
come from the classes of ``style.css``; lengths are in user units of the view box.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]


def number(value: float) -> str:
    """Return a coordinate as text, a tenth of a unit precise and never "-0"."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def tag(name: str, *children: str, **attributes: str | float | None) -> str:
    """Return an element; attribute values are escaped, children are taken as markup.

    Keyword names become attribute names: underscores turn to hyphens, a trailing one is dropped.
    Attributes that are None are left out.
    """
    parts = [name]
    for key, value in attributes.items():
        if value is None:
            continue
        shown = value if isinstance(value, str) else number(value)
        parts.append(f'{key.rstrip("_").replace("_", "-")}="{escape(shown)}"')
    return f"<{' '.join(parts)}>{''.join(children)}</{name}>"


def text(x: float, y: float, content: str, **attributes: str | float | None) -> str:
    """Return a text element with its content escaped."""
    return tag("text", escape(content), x=x, y=y, **attributes)


def line(start: Point, end: Point, class_: str) -> str:
    """Return a straight line."""
    return tag("line", x1=start[0], y1=start[1], x2=end[0], y2=end[1], class_=class_)


def circle(centre: Point, radius: float, class_: str, tooltip: str) -> str:
    """Return a circle with a tooltip."""
    return tag("circle", title(tooltip), cx=centre[0], cy=centre[1], r=radius, class_=class_)


def title(content: str) -> str:
    """Return a title element: the tooltip of the element it stands in."""
    return tag("title", escape(content))


def path(points: Iterable[Point], class_: str, *, close: bool = False) -> str:
    """Return the polyline through the points, empty for fewer than two of them."""
    steps = [f"{number(x)} {number(y)}" for x, y in points]
    if len(steps) < 2:
        return ""
    return tag("path", d=f"M{'L'.join(steps)}{'Z' if close else ''}", class_=class_)


def boxes(spans: Iterable[Point], top: float, height: float, class_: str) -> str:
    """Return rectangles of one height as one element, those that touch drawn as one."""
    joined: list[list[float]] = []
    for left, right in spans:
        if joined and left - joined[-1][1] < 0.01:
            joined[-1][1] = right
        else:
            joined.append([left, right])
    down = f"v{number(height)}"
    drawn = [
        f"M{number(left)} {number(top)}h{number(right - left)}{down}h{number(left - right)}z"
        for left, right in joined
    ]
    return tag("path", d="".join(drawn), class_=class_) if drawn else ""


def dots(points: Iterable[Point | None], class_: str) -> str:
    """Return a dot at every point, as one element: strokes of no length with round ends."""
    drawn = [f"M{number(at[0])} {number(at[1])}h0" for at in points if at is not None]
    return tag("path", d="".join(drawn), class_=class_) if drawn else ""


def segments(pairs: Iterable[tuple[Point, Point]], class_: str) -> str:
    """Return straight lines as one element."""
    drawn = [f"M{number(a[0])} {number(a[1])}L{number(b[0])} {number(b[1])}" for a, b in pairs]
    return tag("path", d="".join(drawn), class_=class_) if drawn else ""


def marker(shape: str, centre: Point, size: float, class_: str, tooltip: str) -> str:
    """Return a mark with a tooltip; shapes: circle, up, down, square, diamond."""
    x, y = centre
    if shape == "circle":
        return circle(centre, size, class_, tooltip)
    outlines = {
        "up": ((0.0, -1.2), (1.1, 0.9), (-1.1, 0.9)),
        "down": ((0.0, 1.2), (1.1, -0.9), (-1.1, -0.9)),
        "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
        "diamond": ((0.0, -1.3), (1.1, 0.0), (0.0, 1.3), (-1.1, 0.0)),
    }
    corners = [f"{number(x + dx * size)} {number(y + dy * size)}" for dx, dy in outlines[shape]]
    return tag("path", title(tooltip), d=f"M{'L'.join(corners)}Z", class_=class_)


def runs(points: Sequence[Point | None]) -> list[list[Point]]:
    """Split points at the missing ones, so that a curve is never drawn across a gap."""
    found: list[list[Point]] = [[]]
    for point in points:
        if point is None:
            found.append([])
        else:
            found[-1].append(point)
    return [run for run in found if run]


@dataclass(frozen=True)
class Scale:
    """A linear map from data ``lo`` .. ``hi`` to user units ``start`` .. ``end``."""

    lo: float
    hi: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the position of a value; a domain of no width maps to the middle."""
        if self.hi == self.lo:
            return (self.start + self.end) / 2
        return self.start + (value - self.lo) / (self.hi - self.lo) * (self.end - self.start)

    def ticks(self, about: int) -> list[float]:
        """Return round values inside the domain, ``about`` so many."""
        step = nice_step(self.hi - self.lo, about)
        first = math.ceil(self.lo / step - 1e-9)
        last = math.floor(self.hi / step + 1e-9)
        return [round(index * step, 10) for index in range(first, last + 1)]


def nice_step(span: float, about: int) -> float:
    """Return 1, 2 or 5 times a power of ten that cuts a span into at most ``about`` parts."""
    if span <= 0:
        return 1.0
    rough = span / about
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


def extent(values: Iterable[float | None], *, include: tuple[float, ...] = ()) -> Point:
    """Return the least and greatest of the finite values, rounded outwards to round numbers."""
    known = [value for value in (*values, *include) if value is not None and math.isfinite(value)]
    if not known:
        return 0.0, 1.0
    lo, hi = min(known), max(known)
    if hi - lo < 1e-9:  # narrower than any score is precise
        lo, hi = lo - 0.5, hi + 0.5
    step = nice_step(hi - lo, 8)
    return math.floor(lo / step + 1e-9) * step, math.ceil(hi / step - 1e-9) * step


@dataclass(frozen=True)
class Panel:
    """A plot area with its two scales; y grows upwards in data, downwards on the page."""

    x: Scale
    y: Scale

    def at(self, x: float, y: float | None) -> Point | None:
        """Return where a value lies, None for a missing one."""
        return None if y is None or not math.isfinite(y) else (self.x(x), self.y(y))

    def points(self, xs: Sequence[float], ys: Sequence[float | None]) -> list[Point | None]:
        """Return where the values lie, None for missing ones."""
        return [self.at(x, y) for x, y in zip(xs, ys, strict=True)]

    def curve(self, xs: Sequence[float], ys: Sequence[float | None], class_: str) -> str:
        """Return the line through the values, broken where one is missing."""
        return "".join(path(run, class_) for run in runs(self.points(xs, ys)))

    def level(self, value: float, class_: str) -> str:
        """Return a horizontal line across the panel."""
        return line((self.x.start, self.y(value)), (self.x.end, self.y(value)), class_)

    def y_axis(self, about: int, shown: bool = True) -> str:
        """Return horizontal grid lines and, where shown, their values left of the panel."""
        drawn = [self.level(tick, "grid") for tick in self.y.ticks(about)]
        if shown:
            drawn += [
                text(self.x.start - 6, self.y(tick) + 4, plain(tick), class_="tick end")
                for tick in self.y.ticks(about)
            ]
        return "".join(drawn)

    def x_axis(self, about: int, below: float = 16) -> str:
        """Return ticks and their values beneath the panel."""
        bottom = self.y.start
        return "".join(
            line((self.x(tick), bottom), (self.x(tick), bottom + 4), "axis")
            + text(self.x(tick), bottom + below, plain(tick), class_="tick middle")
            for tick in self.x.ticks(about)
        ) + line((self.x.start, bottom), (self.x.end, bottom), "axis")


def plain(value: float) -> str:
    """Return an axis value: no needless digits, thousands apart, a real minus sign."""
    return f"{value:,.6f}".rstrip("0").rstrip(".").replace("-", "−")
