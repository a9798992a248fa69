"""What a test of the suite is made of: items, and the blocks of items that share demonstrations."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from windows.identity import content_id

Split = Literal["label", "verify"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True, slots=True)
class Item:
    """One question with its right answer and what a parrot would say instead.

    Attributes
    ----------
    item_id
        Hash of the other three fields, so that it means the same question in every run.
    prompt
        The question, up to and including the open answer marker.
    right
        The right answer, as the string that follows the prompt, its terminator included.
    rivals
        The wrong answers, in the same form; the likeliest of them is the parrot's answer.
    """

    item_id: str
    prompt: str
    right: str
    rivals: tuple[str, ...]

    @classmethod
    def of(cls, prompt: str, right: str, rivals: Iterable[str]) -> "Item":
        """Build an item and derive its id from its content."""
        wrong = tuple(rivals)
        return cls(content_id([prompt, right, wrong])[:16], prompt, right, wrong)


@dataclass(frozen=True, slots=True)
class Block:
    """The items asked after one draw of demonstrations: the cluster of all inference.

    Attributes
    ----------
    family, task
        Which test this is; together they are the task's key, ``family/task``.
    wording
        The frame in which demonstrations and items are put.
    split
        ``label`` for items that label windows, ``verify`` for items that judge arms.
    demo_seed
        Which draw of demonstrations this is.
    prefix
        What stands before every item: the full prompt of an item is ``prefix + item.prompt``.
    items
        The questions.
    frame
        The beginning of `prefix` that only the wording is made of: without it, demonstrations and
        question are what a contaminated document would hold.
    terminator
        The suffix of every answer, which keeps any answer from being a token prefix of another.
    """

    family: str
    task: str
    wording: str
    split: Split
    demo_seed: int
    prefix: str
    items: tuple[Item, ...]
    terminator: str
    frame: str = ""

    @property
    def key(self) -> str:
        """The task's key in the registry."""
        return f"{self.family}/{self.task}"
