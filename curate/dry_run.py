"""What a command would do: the resolved configuration, and which artefacts it would make."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.table import Table

from curate.chain import Chain
from curate.command import Answer
from curate.study import Study
from windows.progress import Reporter

if TYPE_CHECKING:
    from curate.chain import Step


def dry_run(study: Study, out: Path, needs: Sequence[str], options: Mapping[str, object]) -> Answer:
    """Say what would be done, and do nothing.

    Parameters
    ----------
    needs
        Names of the steps that the command makes where they are missing.
    options
        The command's own options, as given.
    """
    steps = [step for step in plan(study, out) if step.name in needs]
    chosen = {key: value for key, value in options.items() if value is not None}
    data = {"out": str(out), "options": chosen, **study.resolved(), "steps": _plain(steps)}
    documents = [
        f"# study {study.path}\n{_yaml(study.resolved()['study'])}",
        f"# run {study.run_path}\n{_yaml(study.resolved()['run'])}",
    ]
    shown = ["---\n" + text for text in documents]
    return Answer(data, (*shown, step_table(steps, out)))


def status(study: Study, out: Path) -> Answer:
    """Tell which of a study's artefacts exist."""
    steps = plan(study, out)
    done = sum(step.done for step in steps)
    data = {"out": str(out), "done": done, "of": len(steps), "steps": _plain(steps)}
    return Answer(data, (step_table(steps, out), f"{done} of {len(steps)} steps are done"))


def plan(study: Study, out: Path) -> "list[Step]":
    """Return the study's steps in order, those done and those to do."""
    return Chain(study, out, reporter=Reporter(quiet=True)).plan()


def step_table(steps: "Sequence[Step]", out: Path) -> Table:
    """Lay out steps as a table; an id is known once everything before it exists."""
    table = Table(title=f"steps, in {out}", title_justify="left")
    for name in ("state", "step", "artefact", "id"):
        table.add_column(name, overflow="fold")
    for step in steps:
        state = "exists" if step.done else "to do"
        table.add_row(state, step.name, f"{step.kind}/{step.label}", (step.id or "")[:12])
    return table


def _plain(steps: "Sequence[Step]") -> list[dict[str, Any]]:
    return [asdict(step) for step in steps]


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=None)
