import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.bisect import (
    Level,
    Search,
    coarse_to_fine,
    next_steps,
    read_level,
    sweep_coarse_to_fine,
)
from scoring.items import items_path, read_items
from scoring.prefetch import Target
from scoring.sweep import SweepRequest, sweep
from windows.checkpoints.folder import Checkpoint
from windows.errors import ConfigError, DataError
from windows.progress import Reporter
from windows.workers import WorkerPool

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
    search = Search(threshold, every)
    refined = coarse_to_fine(curve, shuffled, search)
    found = refined.levels
    assert len(curve.asked) == len(set(curve.asked)), "a step was scored twice"
    assert list(found) == sorted(curve.asked)
    assert {*steps[::every], steps[-1]} <= found.keys() <= set(steps)
    place = {step: index for index, step in enumerate(steps)}
    for a, b in pairwise(found):
        change = found[b].level - found[a].level
        followed = (a, b, change, 0.0) in refined.changes
        assert followed == (abs(change) > threshold)
        assert not followed or place[b] == place[a] + 1
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
    refined = coarse_to_fine(curve, range(count), Search(0.2, every))
    found = refined.levels
    for index in jumps:
        assert index - 1 in found and index in found, "a jump was not brought between neighbours"
    assert [(a, b) for a, b, *_ in refined.changes] == [(i - 1, i) for i in sorted(jumps)]
    assert len(found) <= len(intervals) + 1 + len(jumps) * math.ceil(math.log2(every))


def levels(scored: dict[int, float]) -> dict[int, Level]:
    return {step: Level(level) for step, level in scored.items()}


def test_grid_first_then_all_middles_of_a_round_together() -> None:
    steps = list(AVAILABLE)
    grid = next_steps({}, steps, Search(0.1, 25))
    assert grid == (0, 250, 500, 750, 990)
    half = levels({0: 0.0, 500: 0.0})
    assert next_steps(half, steps, Search(0.1, 25)) == (250, 750, 990)
    scored = levels({0: 0.0, 250: 0.0, 500: 1.0, 750: 1.0, 990: 0.5})
    assert next_steps(scored, steps, Search(0.1, 25)) == (370, 870)
    assert next_steps(scored, steps, Search(0.6, 25)) == (370,)
    assert next_steps(scored, steps, Search(1.0, 25)) == ()


def test_a_change_within_its_noise_is_not_followed() -> None:
    scored = {0: Level(0.0, 0.3), 990: Level(0.5, 0.4)}
    # 0.5 is 1 se of the difference
    assert next_steps(scored, AVAILABLE, Search(0.1, 99, z=1.0)) == ()
    assert next_steps(scored, AVAILABLE, Search(0.1, 99, z=0.99)) == (490,)
    assert next_steps(levels({0: 0.0, 990: 0.5}), AVAILABLE, Search(0.1, 99)) == (490,)


def test_what_is_known_is_not_scored_again() -> None:
    curve = Curve({step: float(step >= 430) for step in AVAILABLE})
    known = {0: Level(0.0), 430: Level(1.0)}
    found = coarse_to_fine(curve, AVAILABLE, Search(0.5, 99), known=known).levels
    assert not known.keys() & set(curve.asked) and {420, 430} <= found.keys()
    assert found[430] == Level(1.0)


def test_nothing_available() -> None:
    assert next_steps({}, [], Search(0.1)) == ()
    refined = coarse_to_fine(Curve({}), [], Search(0.1))
    assert (refined.levels, refined.changes) == ({}, ())


@pytest.mark.parametrize(
    "options",
    [
        {"threshold": 0.0},
        {"threshold": math.nan},
        {"threshold": 0.1, "every": 0},
        {"threshold": 0.1, "z": -1.0},
    ],
)
def test_a_search_that_cannot_be_is_refused(options) -> None:
    with pytest.raises(ConfigError, match="from coarse to fine"):
        Search(**options)


@pytest.mark.parametrize(
    ("scored", "says"),
    [
        ({5: Level(0.1)}, "step 5: a scored step has no checkpoint"),
        ({10: Level(math.nan)}, "step 10: not a level"),
        ({10: Level(0.0, -1.0)}, "step 10: not a level"),
    ],
)
def test_levels_that_cannot_be_are_refused(scored, says) -> None:
    with pytest.raises(DataError, match=says):
        next_steps(scored, AVAILABLE, Search(0.1))


def test_a_scorer_that_forgets_a_step_is_refused_and_not_asked_for_ever() -> None:
    with pytest.raises(DataError, match="not scored; got 0, 250"):
        coarse_to_fine(lambda steps: {}, AVAILABLE, Search(0.1, 25))


TASK = "successive_answer/addition"
REQUEST = SweepRequest((TASK,), "label", 3)


@pytest.fixture
def switching(tiny: Callable[[int], Path]) -> list[Checkpoint]:
    """A run whose model is one before step 130, and another from there on."""
    steps = range(0, 200, 10)
    return [Checkpoint("run/a", "stage1", s, tiny(1000 if s < 130 else 2000)) for s in steps]


def test_a_switch_is_found_by_real_sweeps(switching: list[Checkpoint], tmp_path: Path) -> None:
    out, rounds = tmp_path / "out", []

    def score(chosen: Sequence[Target]) -> None:
        rounds.append([target.step for target in chosen])
        with WorkerPool(0) as pool:
            sweep(chosen, REQUEST, out, pool, Reporter(quiet=True))

    def searched(search: Search):
        return sweep_coarse_to_fine(switching[::-1], score, out, TASK, search, metric="margin")

    score([switching[0], switching[-1]])
    seeds = (
        read_items(out)
        .group_by("step", "demo_seed")
        .agg((pl.col("lp_right") - pl.col("lp_parrot")).cast(pl.Float64).mean().alias("level"))
        .group_by("step", maintain_order=True)
        .agg(pl.col("level").mean(), (pl.col("level").std() / 3**0.5).alias("se"))
    )
    known = {step: (level, se) for step, level, se in seeds.rows()}
    rounds.clear()
    search = Search(abs(known[190][0] - known[0][0]) / 2, every=8, z=0.0)
    refined = searched(search)
    assert rounds == [[0, 80, 160, 190], [120], [140], [130]]
    assert list(refined.levels) == [0, 80, 120, 130, 140, 160, 190]
    for step, level in refined.levels.items():
        assert level == pytest.approx(known[0 if step < 130 else 190], abs=1e-6)
        assert level.se > 0
    ((first, end, change, se),) = refined.changes
    assert (first, end) == (120, 130)
    assert change == pytest.approx(known[190][0] - known[0][0], abs=1e-6)
    assert se == pytest.approx(math.hypot(known[0][1], known[190][1]), abs=1e-6)
    assert read_items(out)["step"].unique().to_list() == list(refined.levels)

    written = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    assert searched(search) == refined, "a search that is begun again ends alike"
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")} == written
    certain = Search(search.threshold, 8, z=1.01 * abs(change) / se)
    assert searched(certain).changes == () and len(searched(certain).levels) == 4


def test_a_level_is_of_one_table_and_one_seed_has_no_error(
    switching: list[Checkpoint], tmp_path: Path
) -> None:
    one = SweepRequest((TASK,), "label", 1)
    with WorkerPool(0) as pool:
        sweep(switching[:1], one, tmp_path, pool, Reporter(quiet=True))
    items_path(tmp_path, switching[0], "f/other").write_bytes(b"PAR1")
    assert read_level(tmp_path, switching[0], TASK).se == 0.0
    with pytest.raises(DataError, match="not a table of item scores"):
        read_level(tmp_path, switching[0], "f/other")


def test_checkpoints_that_are_no_one_series_are_refused(
    switching: list[Checkpoint], tmp_path: Path
) -> None:
    other = Checkpoint("run/b", "stage1", 5, tmp_path)
    twin = Checkpoint("run/a", "stage1", 10, tmp_path)
    for more, says in ((other, "got run/a stage1, run/b stage1"), (twin, "of one step; got")):
        with pytest.raises(ConfigError, match=says):
            sweep_coarse_to_fine([*switching, more], print, tmp_path, TASK, Search(0.1))
