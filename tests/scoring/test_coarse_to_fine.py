import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.bisect import Level, coarse_to_fine, next_steps
from windows.errors import ConfigError, DataError

AVAILABLE = range(0, 1000, 10)


class Curve:
    """Levels of all available steps, and which of them were asked for."""

    def __init__(self, levels: dict[int, float], se: float = 0.0) -> None:
        self.levels, self.se = levels, se
        self.asked: list[int] = []

    def __call__(self, steps: tuple[int, ...]) -> dict[int, Level]:
        self.asked += steps
        return {step: Level(self.levels[step], self.se) for step in steps}


@st.composite
def curves(draw: st.DrawFn) -> tuple[list[int], list[float], int]:
    count = draw(st.integers(1, 90))
    gaps = draw(st.lists(st.integers(1, 500), min_size=count, max_size=count))
    steps = [sum(gaps[: i + 1]) for i in range(count)]
    level = st.floats(-2, 2, allow_nan=False)
    return steps, draw(st.lists(level, min_size=count, max_size=count)), draw(st.integers(1, 20))


@given(curves(), st.floats(0.01, 1.0), st.randoms())
def test_any_curve_ends_with_every_seen_change_between_neighbours(made, threshold, rng) -> None:
    steps, levels, every = made
    shuffled = list(steps)
    rng.shuffle(shuffled)
    curve = Curve(dict(zip(steps, levels, strict=True)))
    found = coarse_to_fine(curve, shuffled, threshold=threshold, every=every)
    assert len(curve.asked) == len(set(curve.asked)), "a step was scored twice"
    assert list(found) == sorted(curve.asked)
    assert {*steps[::every], steps[-1]} <= found.keys() <= set(steps)
    place = {step: index for index, step in enumerate(steps)}
    for a, b in pairwise(found):
        settled = abs(found[b].level - found[a].level) <= threshold
        assert settled or place[b] == place[a] + 1
    variation = sum(abs(b - a) for a, b in pairwise(levels))
    grid = len({*steps[::every], steps[-1]})
    rounds = math.ceil(math.log2(every))
    assert len(curve.asked) <= grid + variation / threshold * rounds + 1e-6


@given(st.data())
def test_every_planted_jump_is_found(data: st.DataObject) -> None:
    """One jump in any grid interval, each above the threshold, on a drift below it."""
    every = data.draw(st.integers(2, 16))
    count = data.draw(st.integers(every + 1, 200))
    intervals = range(0, count - 1, every)
    chosen = data.draw(st.sets(st.sampled_from(intervals), min_size=1))
    jumps = {
        data.draw(st.integers(start + 1, min(start + every, count - 1))): data.draw(
            st.sampled_from([-1.0, 0.5, 0.3])
        )
        for start in sorted(chosen)
    }
    level, levels = 0.0, []
    for index in range(count):
        level += jumps.get(index, 0.0) + 0.04 / every
        levels.append(level)
    curve = Curve(dict(enumerate(levels)))
    found = coarse_to_fine(curve, range(count), threshold=0.2, every=every)
    for index in jumps:
        assert index - 1 in found and index in found, "a jump was not brought between neighbours"
    assert len(found) <= len(intervals) + 1 + len(jumps) * math.ceil(math.log2(every))


def test_grid_first_then_all_middles_of_a_round_together() -> None:
    steps = list(AVAILABLE)
    grid = next_steps({}, steps, threshold=0.1, every=25)
    assert grid == (0, 250, 500, 750, 990)
    half = {0: 0.0, 500: 0.0}
    assert next_steps(half, steps, threshold=0.1, every=25) == (250, 750, 990)
    scored = {0: 0.0, 250: 0.0, 500: 1.0, 750: 1.0, 990: 0.5}
    assert next_steps(scored, steps, threshold=0.1, every=25) == (370, 870)
    assert next_steps(scored, steps, threshold=0.6, every=25) == (370,)
    assert next_steps(scored, steps, threshold=1.0, every=25) == ()


def test_a_change_within_its_noise_is_not_followed() -> None:
    scored, errors = {0: 0.0, 990: 0.5}, {0: 0.3, 990: 0.4}
    asked = {"threshold": 0.1, "every": 99, "errors": errors}
    assert next_steps(scored, AVAILABLE, **asked, z=1.0) == ()  # 0.5 is 1 se of the difference
    assert next_steps(scored, AVAILABLE, **asked, z=0.99) == (490,)
    assert next_steps(scored, AVAILABLE, threshold=0.1, every=99) == (490,)


def test_what_is_known_is_not_scored_again() -> None:
    curve = Curve({step: float(step >= 430) for step in AVAILABLE})
    known = {0: Level(0.0), 430: Level(1.0)}
    found = coarse_to_fine(curve, AVAILABLE, threshold=0.5, every=99, known=known)
    assert not known.keys() & set(curve.asked) and {420, 430} <= found.keys()
    assert found[430] == Level(1.0)


def test_nothing_available() -> None:
    assert next_steps({}, [], threshold=0.1) == ()
    assert coarse_to_fine(Curve({}), [], threshold=0.1) == {}


@pytest.mark.parametrize(
    ("scored", "options", "says"),
    [
        ({}, {"threshold": 0.0}, "from coarse to fine"),
        ({}, {"threshold": math.nan}, "from coarse to fine"),
        ({}, {"threshold": 0.1, "every": 0}, "from coarse to fine"),
        ({}, {"threshold": 0.1, "z": -1.0}, "from coarse to fine"),
        ({5: 0.1}, {"threshold": 0.1}, "step 5: a scored step has no checkpoint"),
        ({10: math.nan}, {"threshold": 0.1}, "step 10: not a level"),
        ({10: 0.0}, {"threshold": 0.1, "errors": {10: -1.0}}, "step 10: not a level"),
    ],
)
def test_refusals(scored, options, says) -> None:
    with pytest.raises((ConfigError, DataError), match=says):
        next_steps(scored, AVAILABLE, **options)


def test_a_scorer_that_forgets_a_step_is_refused_and_not_asked_for_ever() -> None:
    with pytest.raises(DataError, match="not scored; got 0, 250"):
        coarse_to_fine(lambda steps: {}, AVAILABLE, threshold=0.1, every=25)
