"""One test of the suite: its name, its wordings, and what makes its blocks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from scoring.suite.schema import Block, Split

Origin = Literal["built in", "hub", "released", "fine-tuning"]
"""Where a task's questions come from. Those of a fine-tuning eval ask what its texts taught."""


def _unlimited(split: Split) -> None:
    return None


def _always() -> bool:
    return True


@dataclass(frozen=True)
class Task:
    """One test of the suite.

    Attributes
    ----------
    family, name
        The two parts of its key.
    wordings
        For each split the wordings it may be asked in, the default ones first to last. No wording
        is in both splits: what labels windows must not be what verifies arms.
    description
        One line for ``modehop suite``.
    build
        ``build(split, wording, demo_seed)`` makes one block.
    origin
        Where its questions come from.
    draws
        ``draws(split)`` tells how many demo seeds differ from each other; None where there is no
        such number. What comes from a file is read for it.
    at_hand
        Tells whether blocks can be built here and now, without a download.
    """

    family: str
    name: str
    wordings: Mapping[Split, tuple[str, ...]]
    description: str
    build: Callable[[Split, str, int], Block]
    origin: Origin = "built in"
    draws: Callable[[Split], int | None] = _unlimited
    at_hand: Callable[[], bool] = _always

    @property
    def key(self) -> str:
        """``family/name``."""
        return f"{self.family}/{self.name}"
