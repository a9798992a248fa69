"""What the suite asks: families, tasks, numbers of items, and an example of each."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from curate.command import Answer
from scoring.settings import SuiteSection
from scoring.suite.registry import blocks, tasks
from scoring.suite.schema import SPLITS, Block
from scoring.suite.task import Task

# Of an example, on a terminal; --json has the whole.
SHOWN_CHARACTERS = 240


def list_suite(section: SuiteSection | None) -> Answer:
    """List the tasks of a study's suite, or all there are."""
    chosen = section or SuiteSection(tasks=tuple(tasks()))
    rows = [_describe(tasks()[key]) for key in chosen.tasks]
    data = {"demo_seeds": chosen.demo_seeds, "tasks": rows}
    return Answer(data, (_table(rows, chosen.demo_seeds),))


def _describe(task: Task) -> dict[str, Any]:
    # Of the first demo seed, in all wordings: the others ask as many, or nearly so.
    made = {split: blocks(task.key, split=split, demo_seeds=1) for split in SPLITS}
    return {
        "task": task.key,
        "family": task.family,
        "description": task.description,
        "wordings": {split: list(task.wordings[split]) for split in SPLITS},
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
    for name in ("task", "asks", "items\nlabel", "items\nverify", "example", "right", "parrot"):
        table.add_column(name, justify="right" if name.startswith("items") else "left")
    for row in rows:
        example = row["example"]
        table.add_row(
            row["task"],
            row["description"],
            str(row["items_of_a_demo_seed"]["label"]),
            str(row["items_of_a_demo_seed"]["verify"]),
            _tail(example["prompt"]),
            example["right"].strip(),
            example["parrot"].strip() or f"strongest of {len(example['rivals'])}",
        )
    return table


def _tail(prompt: str) -> str:
    """Return the end of a prompt: with its demonstrations, one may be pages long."""
    return prompt if len(prompt) <= SHOWN_CHARACTERS else f"… {prompt[-SHOWN_CHARACTERS:].lstrip()}"
