import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.report.svg import (
    Panel,
    Scale,
    boxes,
    dots,
    extent,
    nice_step,
    number,
    path,
    plain,
    runs,
    segments,
    tag,
    text,
)

reals = st.floats(-1e6, 1e6, allow_nan=False)


@given(reals, reals)
def test_extent_holds_its_values_and_zero(a, b):
    lo, hi = extent([a, b, math.nan, None], include=(0.0,))
    slack = 1e-6 * max(1.0, abs(a), abs(b))
    assert lo - slack <= min(a, b, 0.0)
    assert hi + slack >= max(a, b, 0.0)
    assert lo < hi


def test_extent_of_nothing_is_a_unit():
    assert extent([None, math.nan]) == (0.0, 1.0)


@given(st.floats(1e-6, 1e9), st.integers(2, 12))
def test_steps_are_round_and_not_too_many(span, about):
    step = nice_step(span, about)
    first_digit = f"{step:e}"[0]
    assert first_digit in "125"
    assert span / step <= about * 1.01


@given(reals, st.floats(1e-3, 1e5))
def test_ticks_lie_inside_the_domain(lo, width):
    scale = Scale(lo, lo + width, 0, 100)
    slack = 1e-6 * width + 1e-9 * abs(lo)
    assert all(lo - slack <= tick <= lo + width + slack for tick in scale.ticks(6))


def test_a_scale_maps_ends_to_ends_and_no_width_to_the_middle():
    scale = Scale(-1, 1, 200, 100)
    assert (scale(-1), scale(0), scale(1)) == (200, 150, 100)
    assert Scale(3, 3, 0, 10)(3) == 5


def test_a_curve_is_not_drawn_across_a_gap():
    assert runs([(0, 0), None, None, (1, 1), (2, 2)]) == [[(0, 0)], [(1, 1), (2, 2)]]
    panel = Panel(Scale(0, 4, 0, 40), Scale(0, 1, 10, 0))
    drawn = panel.curve([0, 1, 2, 3, 4], [0.0, 1.0, math.nan, 1.0, 0.0], "c")
    assert drawn.count("<path") == 2
    assert "nan" not in drawn


def test_single_points_make_no_path():
    assert path([(1, 1)], "c") == ""


def test_boxes_that_touch_are_one():
    drawn = boxes([(0, 1), (1, 2.5), (4, 5)], 10, 3, "c")
    assert re.findall(r"M([\d.]+) 10h([\d.]+)v3h-[\d.]+z", drawn) == [("0", "2.5"), ("4", "1")]
    assert drawn.count("<path") == 1
    assert boxes([], 0, 1, "c") == ""


@given(st.lists(st.integers(0, 1), min_size=1, max_size=60))
def test_boxes_cover_exactly_what_they_are_given(mask):
    spans = [(index, index + 1) for index, on in enumerate(mask) if on]
    found = re.findall(r"M([\d.]+) 0h([\d.]+)", boxes(spans, 0, 1, "c"))
    covered = [at for left, width in found for at in range(int(left), int(left) + int(width))]
    assert covered == [index for index, on in enumerate(mask) if on]


def test_dots_and_segments_are_one_element_each():
    assert dots([(1, 2), None, (3, 4)], "c") == '<path d="M1 2h0M3 4h0" class="c"></path>'
    assert segments([((0, 1), (2, 3))], "c") == '<path d="M0 1L2 3" class="c"></path>'
    assert dots([None], "c") == segments([], "c") == ""


@pytest.mark.parametrize(
    ("value", "shown"), [(-0.04, "0"), (1.0, "1"), (2.25, "2.2"), (-3.06, "-3.1")]
)
def test_coordinates_are_short(value, shown):
    assert number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(-0.5, "−0.5"), (1000, "1,000"), (0, "0"), (0.25, "0.25"), (10, "10")]
)
def test_axis_values_have_no_needless_digits(value, shown):
    assert plain(value) == shown


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])))
def test_any_text_is_escaped(content):
    drawn = tag("g", text(0, 0, content), aria_label=content)
    element = ElementTree.fromstring(drawn)
    assert (element[0].text or "") == content
    assert element.get("aria-label") == content
