"""Which checkpoints to score next: a coarse grid, then around what happened between two of it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from scoring.items import ITEMS, items_path, read_tables
from scoring.prefetch import Target
from scoring.series import Metric, seed_series
from windows.checkpoints.folder import Checkpoint
from windows.errors import ConfigError, DataError


class Level(NamedTuple):
    """A checkpoint's level, and its standard error (0 where nobody knows)."""

    level: float
    se: float = 0.0


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for, and how coarsely at first.

    Attributes
    ----------
    threshold
        The change of the level that is worth following, in the level's unit.
    every
        Stride of the grid, in available steps.
    z
        How many standard errors of a difference are taken for noise.

    Raises
    ------
    ConfigError
        The threshold is not positive, `every` is less than 1, or `z` is negative.
    """

    threshold: float
    every: int = 8
    z: float = 2.0

    def __post_init__(self) -> None:
        threshold, every, z = self.threshold, self.every, self.z
        if not (threshold > 0 and math.isfinite(threshold) and every >= 1 and z >= 0):
            raise ConfigError(
                "not a way from coarse to fine",
                where="threshold, every, z",
                got=f"{threshold}, {every}, {z}",
                do="use a threshold above 0, a stride of 1 or more, and no negative z",
            )

    def follows(self, before: Level, after: Level) -> bool:
        """Whether a change is above the threshold and above its noise, errors independent."""
        noise = self.z * math.hypot(before.se, after.se)
        return abs(after.level - before.level) > max(self.threshold, noise)


class Change(NamedTuple):
    """A change of the level between two neighbours among the scored steps.

    Attributes
    ----------
    first_step, end_step
        The checkpoints between which it lies.
    change
        The level after it less the level before it.
    se
        The standard error of that, the two errors taken for independent.
    """

    first_step: int
    end_step: int
    change: float
    se: float


@dataclass(frozen=True, slots=True)
class Refined:
    """What was scored on the way from coarse to fine, and the changes that were found.

    Attributes
    ----------
    levels
        Of each step that was scored, ascending.
    changes
        Each in the interval that remains of it, ascending: between neighbours of all that can be
        scored.
    """

    levels: Mapping[int, Level]
    changes: tuple[Change, ...]


def next_steps(
    scored: Mapping[int, Level], available: Sequence[int], search: Search
) -> tuple[int, ...]:
    """Return the steps to score next; none where coarse-to-fine has nothing left to ask.

    First the grid: every so many available steps, the first and the last. Then the middle of each
    interval between scored steps that holds unscored ones and over which the level changes as
    `Search.follows` says. At the end each such change lies between neighbours in `available`.

    What rises and falls again between two scored steps is not seen; a change is, wherever its
    interval's ends differ by more than the threshold.

    Parameters
    ----------
    scored
        Level by step, of some of the available steps.
    available
        The steps that have a checkpoint, in any order.
    search
        What to look for.

    Returns
    -------
    tuple of int
        Ascending, without any step of `scored`. With n grid intervals and a total variation V of
        all levels, at most ``n + 1 + V / threshold * ceil(log2(every))`` steps are scored in all.

    Raises
    ------
    DataError
        A scored step is not available, or its level or error is not a number.
    """
    steps = sorted(set(available))
    _check_levels(scored, set(steps))
    grid = {*steps[:: search.every], *steps[-1:]}
    if absent := grid - scored.keys():
        return tuple(sorted(absent))
    known = [index for index, step in enumerate(steps) if step in scored]
    return tuple(
        steps[(left + right) // 2]
        for left, right in pairwise(known)
        if right - left > 1 and search.follows(scored[steps[left]], scored[steps[right]])
    )


def coarse_to_fine(
    score: Callable[[tuple[int, ...]], Mapping[int, Level]],
    available: Sequence[int],
    search: Search,
    *,
    known: Mapping[int, Level] | None = None,
) -> Refined:
    """Score a grid of checkpoints, then bisect around its changes; see `next_steps`.

    Parameters
    ----------
    score
        Scores some steps, which one sweep can do together; called until nothing is left to ask.
    available, search
        As of `next_steps`.
    known
        Levels from before, which are not scored again.

    Raises
    ------
    DataError
        As `next_steps` does; or `score` did not return what it was asked for.
    """
    levels = dict(known or {})
    while wanted := next_steps(levels, available, search):
        made = score(wanted)
        if absent := [step for step in wanted if step not in made]:
            raise DataError(
                "steps were not scored",
                where="scores",
                got=", ".join(map(str, absent[:5])),
                do="score every step that is asked for",
            )
        levels |= {step: made[step] for step in wanted}
    ordered = dict(sorted(levels.items()))
    return Refined(ordered, _changes(ordered, search))


def sweep_coarse_to_fine(
    checkpoints: Sequence[Target],
    score: Callable[[Sequence[Target]], object],
    out: Path,
    task: str,
    search: Search,
    *,
    metric: Metric = "soft",
) -> Refined:
    """Score some of a run's checkpoints: a grid, then those around the changes of one task.

    The tables are those of a sweep over the checkpoints that were chosen; tables that are there are
    not made again, so that a killed search goes on where it was.

    Parameters
    ----------
    checkpoints
        All that could be scored, of one run and one stage, in any order.
    score
        Sweeps some of them into `out`, for log-probabilities of `task` among others.
    out
        The folder of tables.
    task
        ``family/name``. A checkpoint's level is its score averaged over items, wordings and demo
        seeds, its error that of the mean over demo seeds (0 where there is but one).
    search
        What to look for.
    metric
        As of `scoring.series.seed_series`.

    Raises
    ------
    ConfigError
        The checkpoints are of several runs or stages, or two are of one step.
    ModehopError
        As `score` and `seed_series` do.
    """
    by_step = _by_step(checkpoints)

    def scored(steps: tuple[int, ...]) -> dict[int, Level]:
        chosen = [by_step[step] for step in steps]
        score(chosen)
        return {target.step: read_level(out, target, task, metric=metric) for target in chosen}

    return coarse_to_fine(scored, list(by_step), search)


def read_level(out: Path, target: Target, task: str, *, metric: Metric = "soft") -> Level:
    """Return a swept checkpoint's level on a task, and its standard error over demo seeds.

    Raises
    ------
    DataError
        The task was not scored there, or a score is not a finite number.
    """
    checkpoint = Checkpoint(target.run, target.stage, target.step, out)
    items = read_tables([items_path(out, checkpoint, task)], ITEMS, "item scores", out)
    series = seed_series(items, task, metric=metric)
    (values,) = series.values
    se = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return Level(float(series.level[0]), float(se))


def _changes(levels: Mapping[int, Level], search: Search) -> tuple[Change, ...]:
    return tuple(
        Change(first, end, after.level - before.level, math.hypot(before.se, after.se))
        for (first, before), (end, after) in pairwise(levels.items())
        if search.follows(before, after)
    )


def _by_step(checkpoints: Sequence[Target]) -> dict[int, Target]:
    if len({(each.run, each.stage) for each in checkpoints}) > 1:
        raise ConfigError(
            "from coarse to fine goes along one stage of one run",
            where="checkpoints",
            got=", ".join(sorted({f"{each.run} {each.stage}" for each in checkpoints})[:5]),
            do="search one at a time",
        )
    found: dict[int, Target] = {}
    for each in checkpoints:
        if found.setdefault(each.step, each) != each:
            raise ConfigError(
                "two checkpoints of one step",
                where="checkpoints",
                got=f"{found[each.step].name} and {each.name}",
                do="leave one of them out",
            )
    return found


def _check_levels(scored: Mapping[int, Level], available: set[int]) -> None:
    for step, (level, error) in scored.items():
        if step not in available:
            raise DataError(
                "a scored step has no checkpoint",
                where=f"step {step}",
                do="score steps of the catalog only",
            )
        if not (math.isfinite(level) and math.isfinite(error) and error >= 0):
            raise DataError(
                "not a level with its standard error",
                where=f"step {step}",
                got=f"{level} with {error}",
                do="score the checkpoint again",
            )
