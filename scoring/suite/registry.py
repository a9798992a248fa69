"""Which tasks there are, and the blocks of each."""

from collections.abc import Sequence
from difflib import get_close_matches

from scoring.suite import (
    addition,
    flipped,
    intuitive,
    normal,
    persona,
    repetitive,
    successive,
    truthy,
)
from scoring.suite.schema import SPLITS, Block, Split
from scoring.suite.task import Task
from windows.errors import ConfigError

CONTROL = "normal_control"
"""The family that every verdict is read beside."""

NO_LABELS = (CONTROL, "successive_control")
"""Families that stand beside others; no window is labelled by them."""


_ADDITION_WORDINGS: dict[Split, tuple[str, ...]] = {"label": ("plain",), "verify": ("after-text",)}

_ADDITION = (
    Task(
        "successive_answer",
        "addition",
        _ADDITION_WORDINGS,
        "three true sums whose answers count up; a parrot counts on",
        addition.successive,
    ),
    Task(
        "repetitive_answer",
        "addition",
        _ADDITION_WORDINGS,
        "three true sums with one answer; a parrot repeats it",
        addition.repetitive,
    ),
    Task(
        CONTROL,
        "addition",
        _ADDITION_WORDINGS,
        "three true sums without a pattern; the strongest other answer is the rival",
        addition.normal,
    ),
)


_BUILT_IN = (
    *_ADDITION,
    *flipped.TASKS,
    *repetitive.TASKS,
    *successive.TASKS,
    *truthy.TASKS,
    *intuitive.TASKS,
    *persona.TASKS,
    *normal.TASKS,
)


def tasks() -> dict[str, Task]:
    """Return every task by its key ``family/name``, in the order in which they are reported."""
    return {task.key: task for task in _BUILT_IN}


def find(task_key: str, *, where: str = "suite.tasks") -> Task:
    """Return the task of that key.

    Parameters
    ----------
    task_key
        ``family/name``.
    where
        Where the key was found, for the message.

    Raises
    ------
    ConfigError
        If there is none; the message names the nearest one.
    """
    known = tasks()
    if task_key in known:
        return known[task_key]
    near = get_close_matches(task_key, known, n=1, cutoff=0.0)
    raise ConfigError(
        "no task of that name", where=where, got=repr(task_key), do=f"did you mean {near[0]!r}?"
    )


def blocks(
    task_key: str, *, split: Split, demo_seeds: int, wordings: Sequence[str] | None = None
) -> list[Block]:
    """Build the blocks of one task, by wording and then by demo seed.

    Parameters
    ----------
    task_key
        ``family/name``.
    split
        ``label`` or ``verify``.
    demo_seeds
        How many draws of demonstrations; the block of a seed does not depend on this number.
    wordings
        Which of the split's wordings; all of them where None.

    Raises
    ------
    ConfigError
        If the task, the split, or a wording of it is unknown, or there are not so many draws.
    """
    task = find(task_key)
    if split not in SPLITS:
        raise ConfigError(
            "unknown split", where="suite.split", got=repr(split), do="use 'label' or 'verify'"
        )
    if demo_seeds < 1:
        raise ConfigError(
            "too few demo seeds", where="suite.demo_seeds", got=str(demo_seeds), do="use at least 1"
        )
    chosen = task.wordings[split] if wordings is None else tuple(wordings)
    for wording in chosen:
        _check_wording(task, split, wording)
    return [task.build(split, wording, seed) for wording in chosen for seed in range(demo_seeds)]


def _check_wording(task: Task, split: Split, wording: str) -> None:
    allowed = task.wordings[split]
    if wording not in allowed:
        raise ConfigError(
            f"{task.key} is not asked in this wording in the {split} split",
            where="suite.wordings",
            got=repr(wording),
            do=f"use {' or '.join(map(repr, allowed))}",
        )
