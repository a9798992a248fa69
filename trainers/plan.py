"""What an arm's training is, written down before its first step: arms differ in data only."""

import json
from collections.abc import Sequence
from pathlib import Path

from trainers.settings import OptimizerSection, Phase
from windows.errors import DataError
from windows.files import write_atomic
from windows.settings import Section

PLAN = "plan.json"
# What may differ between two arms; everything else is compared field by field.
_OF_THE_ARM = frozenset({"arm", "seed", "data"})


class TrainingPlan(Section):
    """One continued pre-training run.

    Attributes
    ----------
    base
        Content id of the artefact that the base checkpoint lies in.
    data
        Content id of the artefact that holds the arm's shards.
    lr
        Constant over the arm's steps.
    batch
        Instances per step.
    """

    arm: str
    seed: int
    engine: str = "local"
    base: str
    base_step: int
    init: str
    data: str
    stage: str
    steps: int
    every: int
    batch: int
    lr: float
    optimizer: OptimizerSection

    @property
    def save_at(self) -> tuple[int, ...]:
        """Steps after which a checkpoint is written, counted from the run's start."""
        first = self.base_step + self.every
        return tuple(range(first, self.base_step + self.steps + 1, self.every))

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The learning-rate schedule."""
        return (Phase(first_step=0, lr=self.lr),)


def differences(a: TrainingPlan, b: TrainingPlan) -> list[str]:
    """Name the fields in which two plans differ, apart from arm, seed and data."""
    fields = set(TrainingPlan.model_fields) - _OF_THE_ARM
    return sorted(name for name in fields if getattr(a, name) != getattr(b, name))


def check_arms(plans: Sequence[TrainingPlan]) -> None:
    """Refuse arms that differ in more than their data.

    Raises
    ------
    DataError
        Names the two arms and the fields.
    """
    for plan in plans[1:]:
        if found := differences(plans[0], plan):
            raise DataError(
                f"arms {plans[0].arm} and {plan.arm} differ in more than their data",
                where=", ".join(found),
                got=", ".join(f"{getattr(plans[0], n)} and {getattr(plan, n)}" for n in found),
                do="compare only arms that were trained alike",
            )


def write_plan(plan: TrainingPlan, folder: Path) -> None:
    """Write the plan, or check that the one already there says the same.

    Raises
    ------
    DataError
        Another plan is there: it is never rewritten.
    """
    path = folder / PLAN
    text = json.dumps(plan.model_dump(mode="json"), indent=2, sort_keys=True) + "\n"
    if not path.exists():
        write_atomic(path, text)
    elif path.read_text(encoding="utf-8") != text:
        raise DataError(
            "the plan written before the first step says something else",
            where=str(path),
            do="remove the folder to train anew",
        )


def read_plan(folder: Path) -> TrainingPlan:
    """Return the plan in `folder`."""
    return TrainingPlan.model_validate_json((folder / PLAN).read_text(encoding="utf-8"))
