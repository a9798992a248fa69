"""Configuration sections of the scoring layer."""

from typing import Literal

from pydantic import Field

from windows.settings import Section


class SuiteSection(Section):
    """What every checkpoint is scored on.

    `demo_seeds` is the number of demonstration sets per task and split: the clusters of all
    inference, so few of them mean wide intervals however many items there are.
    """

    tasks: tuple[str, ...] = Field(min_length=1)
    demo_seeds: int = Field(default=24, ge=2)
    token_budget: int = Field(default=1024, ge=64)


class LabelsSection(Section):
    """How windows are labelled.

    `task` is the family/name whose labels the mixtures select by. `minimum` is the smallest effect
    of interest, in soft score.
    """

    task: str
    rule: Literal["innovation", "delta"] = "innovation"
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    minimum: float = Field(default=0.05, ge=0)
