"""One test of the suite: its name, its wordings, and what makes its blocks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from scoring.suite.schema import Block, Split


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
    """

    family: str
    name: str
    wordings: Mapping[Split, tuple[str, ...]]
    description: str
    build: Callable[[Split, str, int], Block]

    @property
    def key(self) -> str:
        """``family/name``."""
        return f"{self.family}/{self.name}"
