"""What the suite asks: families, tasks, numbers of items, and an example of each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from curate.command import Answer
from scoring.lm_eval_export import TAG, export_tasks
from scoring.settings import SuiteSection
from scoring.suite.registry import blocks, chosen, tasks
from scoring.suite.schema import SPLITS, Block, Split
from scoring.suite.sets import PINNED, Sets
from scoring.suite.task import Task

# Of an example, on a terminal; --json has the whole.
SHOWN_CHARACTERS = 240


def list_suite(section: SuiteSection | None, sets: Sets = PINNED) -> Answer:
    """List the tasks of a study's suite, or all there are.

    Nothing is downloaded for it: of what is read from the Hub and is not in its cache, neither
    items nor an example can be shown.

    Raises
    ------
    ModehopError
        As `scoring.suite.registry.blocks` does.
    """
    asked = section or SuiteSection(tasks=tuple(tasks(sets)))
    known = tasks(sets)
    rows = [_describe(known[key], asked, sets) for key in chosen(asked.tasks, sets=sets)]
    data = {"demo_seeds": asked.demo_seeds, "tasks": rows}
    return Answer(data, (_table(rows, asked.demo_seeds),))


def export_suite(
    section: SuiteSection | None, folder: Path, split: Split, sets: Sets = PINNED
) -> Answer:
    """Write a study's tasks, or all that come with the package, for lm-evaluation-harness.

    Raises
    ------
    ModehopError
        As `scoring.lm_eval_export.export_tasks` does.
    """
    asked = section or SuiteSection(tasks=("*",), demo_seeds=4)
    names = export_tasks(
        chosen(asked.tasks, sets=sets),
        folder,
        split=split,
        demo_seeds=asked.demo_seeds,
        wordings=asked.wordings,
        sets=sets,
    )
    run = f"lm_eval --model hf --include_path {folder} --tasks {TAG}"
    lines = f"{len(names)} tasks written to {folder}\nrun them all: {run}"
    return Answer({"folder": str(folder), "tasks": names}, (lines,))


def _describe(task: Task, asked: SuiteSection, sets: Sets) -> dict[str, Any]:
    return {
        "task": task.key,
        "family": task.family,
        "origin": task.origin,
        "description": task.description,
        "wordings": {split: list(task.wordings[split][: asked.wordings]) for split in SPLITS},
        **(_contents(task, asked, sets) if task.at_hand() else _NOT_HERE),
    }


_NOT_HERE = {"demo_seeds": None, "items_of_a_demo_seed": None, "example": None}


def _contents(task: Task, asked: SuiteSection, sets: Sets) -> dict[str, Any]:
    # Of the first demo seed: the others ask as many, or nearly so.
    made = {
        split: blocks(task.key, split=split, demo_seeds=1, wordings=asked.wordings, sets=sets)
        for split in SPLITS
    }
    draws = {split: task.draws(split) for split in SPLITS}
    return {
        "demo_seeds": {
            split: asked.demo_seeds if most is None else min(asked.demo_seeds, most)
            for split, most in draws.items()
        },
        "items_of_a_demo_seed": {
            split: sum(len(block.items) for block in made[split]) for split in SPLITS
        },
        "example": _example(made["label"][0]),
    }


def _example(block: Block) -> dict[str, Any]:
    item = block.items[0]
    return {
        "prompt": block.prefix + item.prompt,
        "right": item.right,
        "parrot": item.rivals[0] if len(item.rivals) == 1 else "",
        "rivals": list(item.rivals),
    }


def _table(rows: Sequence[dict[str, Any]], demo_seeds: int) -> Table:
    table = Table(
        title=f"suite: items of each of {demo_seeds} demo seeds",
        title_justify="left",
        show_lines=True,
    )
    # A key that is cut names no task.
    table.add_column("task", no_wrap=True)
    for name in ("asks", "items\nlabel", "items\nverify", "example", "right", "parrot"):
        table.add_column(name, justify="right" if "items" in name else "left", overflow="fold")
    for row in rows:
        table.add_row(_head(row, demo_seeds), row["description"], *_cells(row))
    return table


def _head(row: dict[str, Any], demo_seeds: int) -> str:
    """Return the task, where it is from, and of how many demo seeds where that is fewer."""
    most = min((row["demo_seeds"] or {}).values(), default=demo_seeds)
    fewer = f", demo seeds: {most}" if most < demo_seeds else ""
    return f"{row['task']}\n({row['origin']}{fewer})"


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    example = row["example"]
    if example is None:
        return ("", "", "not here: read from the Hub when it is scored", "", "")
    items = row["items_of_a_demo_seed"]
    return (
        str(items["label"]),
        str(items["verify"]),
        _tail(example["prompt"]),
        example["right"].strip(),
        example["parrot"].strip() or f"strongest of {len(example['rivals'])}",
    )


def _tail(prompt: str) -> str:
    """Return the end of a prompt: with its demonstrations, one may be pages long."""
    return prompt if len(prompt) <= SHOWN_CHARACTERS else f"… {prompt[-SHOWN_CHARACTERS:].lstrip()}"
