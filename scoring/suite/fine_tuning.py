"""Fine-tuning evals as values: what to train on, how, and what to ask afterwards.

Nothing trains here. A checkpoint is fine-tuned on the texts of a set by its plan, and then scored
like any checkpoint on the set's tasks. Their questions are put without demonstrations, so a demo
seed draws what else can be drawn: which questions are asked, and which wrong answers stand beside
the right one.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from scoring.suite.schema import Block, Item, Split
from scoring.suite.task import Task
from windows.errors import ConfigError

TERMINATOR = "\n"


@dataclass(frozen=True)
class FineTuningPlan:
    """How to fine-tune, for whoever does.

    Every text is a training sequence of its own, cut at `sequence_length`, and every token of it
    but the first is predicted. The order of the texts is drawn anew for every epoch.

    Attributes
    ----------
    epochs
        Passes over all texts.
    lr
        Largest learning rate, reached after the warm-up and then falling linearly to zero.
    batch
        Texts of one optimizer step.
    sequence_length
        Tokens of the longest text that is not cut.
    optimizer
        Its name; no weight is decayed unless `weight_decay` says so.
    warmup
        Share of the steps over which the learning rate rises linearly from zero.
    weight_decay
        Of the optimizer.
    clip
        Largest global gradient norm.

    Raises
    ------
    ConfigError
        If a number is out of its range.
    """

    epochs: int = 3
    lr: float = 1e-5
    batch: int = 32
    sequence_length: int = 256
    optimizer: Literal["adamw"] = "adamw"
    warmup: float = 0.05
    weight_decay: float = 0.0
    clip: float = 1.0

    def __post_init__(self) -> None:
        for name in ("epochs", "lr", "batch", "sequence_length", "clip"):
            _check(name, getattr(self, name), good=getattr(self, name) > 0, do="use more than 0")
        _check("warmup", self.warmup, good=0 <= self.warmup < 1, do="use a share below 1")
        _check("weight_decay", self.weight_decay, good=self.weight_decay >= 0, do="use 0 or more")

    def steps(self, texts: int) -> int:
        """Return the number of optimizer steps on so many texts; a last short batch counts."""
        return self.epochs * -(-texts // self.batch)


@dataclass(frozen=True)
class FineTuningSet:
    """One fine-tuning eval.

    Attributes
    ----------
    name
        What it is called.
    train
        The texts to train on.
    evaluation
        The tasks to score afterwards. No prompt of theirs is in a training text.
    plan
        How to train.
    control
        Name of the set that differs in one thing only, where there is one: the effect is the
        difference between the two fine-tuned models.
    """

    name: str
    train: tuple[str, ...]
    evaluation: tuple[Task, ...]
    plan: FineTuningPlan = field(default_factory=FineTuningPlan)
    control: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """A question with its right answer and several wrong ones."""

    prompt: str
    right: str
    wrong: tuple[str, ...]


Draw = Callable[[Split, str, np.random.Generator], Iterable[Choice]]
"""``draw(split, wording, rng)``: the questions of one demo seed."""


def choice_task(
    key: str, draw: Draw, *, wordings: Mapping[Split, tuple[str, ...]], description: str
) -> Task:
    """Make a task of questions without demonstrations.

    Parameters
    ----------
    key
        ``family/name``.
    draw
        Its questions; `rng` is seeded by task, split and demo seed, and so alike in all wordings.
    wordings, description
        As of `Task`.
    """
    family, name = key.split("/")

    def build(split: Split, wording: str, demo_seed: int) -> Block:
        asked = draw(split, wording, seeded(key, split, str(demo_seed)))
        return Block(
            family=family,
            task=name,
            wording=wording,
            split=split,
            demo_seed=demo_seed,
            prefix="",
            items=tuple(_item(choice) for choice in asked),
            terminator=TERMINATOR,
        )

    return Task(family, name, wordings, description, build, origin="fine-tuning")


def seeded(*words: str) -> np.random.Generator:
    """Return a generator seeded by a hash of words: the same in every process and version."""
    digest = hashlib.sha256("\x1f".join(words).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def some(rng: np.random.Generator, pool: Iterable[str], count: int) -> tuple[str, ...]:
    """Draw that many different strings of a pool."""
    different = list(dict.fromkeys(pool))
    return tuple(different[i] for i in rng.choice(len(different), count, replace=False))


def _item(choice: Choice) -> Item:
    right, *wrong = (f" {answer}{TERMINATOR}" for answer in (choice.right, *choice.wrong))
    return Item.of(choice.prompt, right, wrong)


def _check(name: str, value: float, *, good: bool, do: str) -> None:
    if not good:
        raise ConfigError("not a plan to train by", where=f"plan.{name}", got=str(value), do=do)
