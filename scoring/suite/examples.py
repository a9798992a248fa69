"""Examples with exact answers, and how one split gets its own."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from scoring.suite.rows import Demo, Question, split_of
from scoring.suite.schema import Split

Templates = Mapping[Split, Mapping[str, str]]
"""The prompts of a task, by split and wording; ``{0}``, ``{1}`` stand for an example's fields."""


@dataclass(frozen=True, slots=True)
class Example:
    """Something that can be asked, before it is worded.

    Attributes
    ----------
    fields
        What a template is filled with.
    answer
        The right answer.
    key
        What decides its split: the same for two examples that are one in substance, as ``3 + 4``
        and ``4 + 3``.
    """

    fields: tuple[str, ...]
    answer: str
    key: str

    def demo(self, template: str, demo_set: str) -> Demo:
        """Word it as a demonstration of a set."""
        return Demo(template.format(*self.fields), self.answer, demo_set=demo_set)

    def question(self, template: str, wrong: str, demo_set: str) -> Question:
        """Word it as a question behind a set, whose parrot says `wrong`."""
        return Question(template.format(*self.fields), self.answer, wrong, demo_set=demo_set)


def names(templates: Templates) -> dict[Split, tuple[str, ...]]:
    """Return the wordings' names by split, as a task lists them."""
    return {split: tuple(of) for split, of in templates.items()}


def half(pool: Iterable[Example], split: Split, rng: np.random.Generator) -> list[Example]:
    """Return the examples of one split, each key once, in a shuffled order."""
    own: dict[str, Example] = {}
    for example in pool:
        if split_of(example.key) == split:
            own.setdefault(example.key, example)
    found = list(own.values())
    return [found[index] for index in rng.permutation(len(found))]


def by_answer(examples: Iterable[Example]) -> dict[str, list[Example]]:
    """Group examples by their right answer, their order kept."""
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        groups[example.answer].append(example)
    return groups


def seeded(*words: str) -> np.random.Generator:
    """Return a generator that depends on the words alone, in every process alike."""
    digest = hashlib.sha256("\x1f".join(words).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))
