"""Which checkpoints to score next: a coarse grid, then around what happened between two of it."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from windows.errors import ConfigError, DataError


class Level(NamedTuple):
    """A checkpoint's level, and its standard error (0 where nobody knows)."""

    level: float
    se: float = 0.0


def next_steps(
    scored: Mapping[int, float],
    available: Sequence[int],
    *,
    threshold: float,
    every: int = 8,
    errors: Mapping[int, float] | None = None,
    z: float = 2.0,
) -> tuple[int, ...]:
    """Return the steps to score next; none where coarse-to-fine has nothing left to ask.

    First the grid: every `every`-th available step, the first and the last. Then the middle of each
    interval between scored steps that holds unscored ones and over which the level changes by more
    than `threshold`, and by more than `z` standard errors of the difference. At the end each such
    change lies between neighbours in `available`.

    What rises and falls again between two scored steps is not seen; a change is, wherever its
    interval's ends differ by more than the threshold.

    Parameters
    ----------
    scored
        Level by step, of some of the available steps.
    available
        The steps that have a checkpoint, in any order.
    threshold
        In the level's unit.
    every
        Stride of the grid, in available steps.
    errors
        Standard error by step; a step that is absent has none.
    z
        How many standard errors of a difference are taken for noise.

    Returns
    -------
    tuple of int
        Ascending, without any step of `scored`. With n grid intervals and a total variation V of
        all levels, at most ``n + 1 + V / threshold * ceil(log2(every))`` steps are scored in all.

    Raises
    ------
    ConfigError
        The threshold is not positive, `every` is less than 1, or `z` is negative.
    DataError
        A scored step is not available, or its level or error is not a number.
    """
    steps = sorted(set(available))
    _check_options(threshold, every, z)
    _check_levels(scored, errors or {}, set(steps))
    grid = {*steps[::every], *steps[-1:]}
    if absent := grid - scored.keys():
        return tuple(sorted(absent))
    noise = errors or {}
    known = [index for index, step in enumerate(steps) if step in scored]
    middles = []
    for left, right in pairwise(known):
        a, b = steps[left], steps[right]
        change = abs(scored[b] - scored[a])
        certain = z * math.hypot(noise.get(a, 0.0), noise.get(b, 0.0))
        if right - left > 1 and change > max(threshold, certain):
            middles.append(steps[(left + right) // 2])
    return tuple(middles)


def coarse_to_fine(
    score: Callable[[tuple[int, ...]], Mapping[int, Level]],
    available: Sequence[int],
    *,
    threshold: float,
    every: int = 8,
    z: float = 2.0,
    known: Mapping[int, Level] | None = None,
) -> dict[int, Level]:
    """Score a grid of checkpoints, then bisect around its changes; see `next_steps`.

    Parameters
    ----------
    score
        Scores some steps, which one sweep can do together; called until nothing is left to ask.
    known
        Levels from before, which are not scored again.

    Returns
    -------
    dict
        Level by step, of the steps that were scored, ascending.

    Raises
    ------
    ConfigError, DataError
        As `next_steps` does; or `score` did not return what it was asked for.
    """
    levels = dict(known or {})
    while wanted := next_steps(
        {step: level.level for step, level in levels.items()},
        available,
        threshold=threshold,
        every=every,
        errors={step: level.se for step, level in levels.items()},
        z=z,
    ):
        made = score(wanted)
        if absent := [step for step in wanted if step not in made]:
            raise DataError(
                "steps were not scored",
                where="scores",
                got=", ".join(map(str, absent[:5])),
                do="score every step that is asked for",
            )
        levels |= {step: made[step] for step in wanted}
    return dict(sorted(levels.items()))


def _check_options(threshold: float, every: int, z: float) -> None:
    if not (threshold > 0 and math.isfinite(threshold) and every >= 1 and z >= 0):
        raise ConfigError(
            "not a way from coarse to fine",
            where="threshold, every, z",
            got=f"{threshold}, {every}, {z}",
            do="use a threshold above 0, a stride of 1 or more, and no negative z",
        )


def _check_levels(
    scored: Mapping[int, float], errors: Mapping[int, float], available: set[int]
) -> None:
    for step, level in scored.items():
        error = errors.get(step, 0.0)
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
