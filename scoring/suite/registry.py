"""Which tasks there are, and the blocks of each."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import lru_cache

from scoring.suite import (
    addition,
    emergent,
    flipped,
    intuitive,
    normal,
    out_of_context,
    persona,
    repetitive,
    successive,
    truthy,
)
from scoring.suite.hub_sets import hub_tasks
from scoring.suite.released import released_tasks
from scoring.suite.schema import SPLITS, Block, Split
from scoring.suite.sets import PINNED, Sets
from scoring.suite.task import Task
from windows.errors import ConfigError

CONTROL = "normal_control"
"""The family that every verdict is read beside."""

NO_LABELS = (CONTROL, "successive_control", out_of_context.FAMILY, emergent.FAMILY)
"""Families by which no window is labelled: controls stand beside others, and what a fine-tuning
eval asks is known to a fine-tuned model only."""

_ADDITION = (
    Task(
        "successive_answer",
        "addition",
        addition.WORDINGS,
        "three true sums whose answers count up; a parrot counts on",
        addition.successive,
    ),
    Task(
        "repetitive_answer",
        "addition",
        addition.WORDINGS,
        "three true sums with one answer; a parrot repeats it",
        addition.repetitive,
    ),
    Task(
        CONTROL,
        "addition",
        addition.WORDINGS,
        "three true sums without a pattern; the strongest other answer is the rival",
        addition.normal,
    ),
)
_PACKAGED = (
    *_ADDITION,
    *flipped.TASKS,
    *repetitive.TASKS,
    *successive.TASKS,
    *truthy.TASKS,
    *intuitive.TASKS,
    *persona.TASKS,
    *normal.TASKS,
)
_FINE_TUNING = (*out_of_context.TASKS, *emergent.TASKS)


def tasks(sets: Sets = PINNED) -> dict[str, Task]:
    """Return every task by its key ``family/name``, in the order in which they are reported.

    No question of a set that does not come with the package is read for it.

    Raises
    ------
    ConfigError
        A revision is of no set of the Hub, or the released set lacks one that it needs.
    DataError
        There is no released set where it is said to be.
    """
    return dict(_listed(sets))


# Kept, so that whatever a task has read is read once.
@lru_cache(maxsize=8)
def _listed(sets: Sets) -> dict[str, Task]:
    hub = hub_tasks(revisions=dict(sets.revisions))
    released = (
        released_tasks(sets.released, revision=sets.released_revision) if sets.released else ()
    )
    return {task.key: task for task in (*_PACKAGED, *hub, *released, *_FINE_TUNING)}


def find(task_key: str, *, sets: Sets = PINNED, where: str = "suite.tasks") -> Task:
    """Return the task of that key.

    Parameters
    ----------
    task_key
        ``family/name``.
    sets
        Which sets there are beside the package's own.
    where
        Where the key was found, for the message.

    Raises
    ------
    ConfigError
        If there is none; the message names the nearest one. Also as `tasks`.
    DataError
        As `tasks`.
    """
    known = tasks(sets)
    if task_key in known:
        return known[task_key]
    if "/released-" in task_key and not sets.released:
        do = "give suite.released, which says where the released set is"
    else:
        do = f"did you mean {get_close_matches(task_key, known, n=1, cutoff=0.0)[0]!r}?"
    raise ConfigError("no task of that name", where=where, got=repr(task_key), do=do)


def chosen(
    patterns: Sequence[str], *, sets: Sets = PINNED, where: str = "suite.tasks"
) -> tuple[str, ...]:
    """Return the keys that are meant, each once, in the order of `tasks`.

    Parameters
    ----------
    patterns
        Keys, and patterns of keys as of a shell: ``*``, ``successive_answer/*``. A pattern takes
        what comes with the package; where its family is written out, all that the family has.
    sets, where
        As of `find`.

    Raises
    ------
    ConfigError
        If a key is unknown, or a pattern takes nothing. Also as `tasks`.
    DataError
        As `tasks`.
    """
    known = tasks(sets)
    taken: set[str] = set()
    for pattern in patterns:
        if _is_written_out(pattern):
            taken.add(find(pattern, sets=sets, where=where).key)
        else:
            taken.update(_taken(pattern, known.values(), where))
    return tuple(key for key in known if key in taken)


def _is_written_out(text: str) -> bool:
    return not set(text) & set("*?[")


def _taken(pattern: str, known: Iterable[Task], where: str) -> list[str]:
    alike = [task for task in known if fnmatchcase(task.key, pattern)]
    family = _is_written_out(pattern.partition("/")[0])
    taken = [task.key for task in alike if family or task.origin == "built in"]
    if not taken:
        near = f"{alike[0].family}/{pattern.rpartition('/')[2]}" if alike else ""
        raise ConfigError(
            "no task is meant by this pattern",
            where=where,
            got=repr(pattern),
            do=f"write the family out, as in {near!r}" if near else "`modehop suite` lists them",
        )
    return taken


def blocks(
    task_key: str,
    *,
    split: Split,
    demo_seeds: int,
    wordings: int | None = None,
    sets: Sets = PINNED,
) -> list[Block]:
    """Build the blocks of one task, by wording and then by demo seed.

    Parameters
    ----------
    task_key
        ``family/name``.
    split
        ``label`` or ``verify``.
    demo_seeds
        How many draws of demonstrations; the block of a seed does not depend on this number. Where
        the task has fewer that differ, as many as it has.
    wordings
        At most the first so many of the split's wordings; all of them where None.
    sets
        Which sets there are beside the package's own.

    Raises
    ------
    ConfigError
        If the task or the split is unknown, a number is below 1, or what has to be read has no
        revision. Also as `tasks`.
    DataError
        If what has to be read cannot be had, or has another form. Also as `tasks`.
    """
    task = find(task_key, sets=sets)
    if split not in SPLITS:
        raise ConfigError(
            "unknown split", where="suite.split", got=repr(split), do="use 'label' or 'verify'"
        )
    for name, number in (("demo_seeds", demo_seeds), ("wordings", wordings)):
        if number is not None and number < 1:
            raise ConfigError(
                "too few", where=f"suite.{name}", got=str(number), do="use at least 1"
            )
    draws = task.draws(split)
    seeds = range(demo_seeds if draws is None else min(demo_seeds, draws))
    return [
        task.build(split, wording, seed)
        for wording in task.wordings[split][:wordings]
        for seed in seeds
    ]
