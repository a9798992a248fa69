"""Rows: the one form in which every log-probability test lies, released or written here.

A row is what the authors' released set has a line for: a demonstration with its answer, or a test
with its right answer and the parrot's. A family says how demonstrations are drawn and joined; one
handler (`rows_task`) makes blocks of any of them.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from scoring.suite.schema import SPLITS, Block, Item, Split
from scoring.suite.task import Task
from windows.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True)
class Demo:
    """A demonstration.

    Attributes
    ----------
    prompt, answer
        What is asked, up to the open answer marker; the answer shown.
    label
        Which class it demonstrates, where demonstrations are drawn balanced.
    demo_set
        Which set of demonstrations it belongs to, where a draw takes one set.
    group
        What it is about: no question of the same group is asked behind it.
    """

    prompt: str
    answer: str
    label: str = ""
    demo_set: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """A test: `right` is true, `wrong` is what a parrot would say.

    `demo_set` and `group` are as of `Demo`; a question with a set is asked behind that set only.
    """

    prompt: str
    right: str
    wrong: str
    label: str = ""
    demo_set: str = ""
    group: str = ""


@dataclass(frozen=True)
class Rows:
    """The demonstrations and tests of one task, in a fixed order."""

    demos: tuple[Demo, ...]
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Prompting:
    """How a family puts demonstrations before a test.

    Attributes
    ----------
    demos
        ``none``; ``balanced``: the same number of every label, shuffled; ``random``: any;
        ``ordered``: the first ones, as they stand. Where rows have sets, one set is drawn from.
    count
        How many demonstrations.
    joiner
        Between demonstrations, and before the test. A single line break is one token to every
        common tokenizer, whatever follows; of a blank line, tokenizers in GPT-2's manner make two
        tokens before a text and one at the end, so that none would end an answer as demonstrations
        do.
    per_item
        Draw anew for every test, as the authors do for some families. Else all tests of a demo seed
        stand behind one draw, which is scored once.
    gap
        Between a prompt and its answer.
    terminator
        Ends an answer that is scored, so that none is a token prefix of its rival. By default what
        ends the demonstrations' answers: another would be improbable whatever the answer.
    """

    demos: Literal["none", "balanced", "random", "ordered"]
    count: int = 0
    joiner: str = "\n"
    per_item: bool = False
    gap: str = " "
    terminator: str | None = None

    @property
    def end(self) -> str:
        """The terminator in force."""
        return self.joiner if self.terminator is None else self.terminator


RowSource = Callable[[Split, str], Rows]
"""``rows(split, wording)``: the rows of a split, worded; splits share no row."""


def parse_rows(lines: Iterable[Mapping[str, Any]], where: str) -> Rows:
    """Read rows of the released form: ``{split, prompt, answer | correct_answer, …}``.

    Raises
    ------
    DataError
        A line has another form.
    """
    demos, questions = [], []
    for number, line in enumerate(lines, start=1):
        try:
            shared = {key: _text(line.get(key)) for key in ("label", "demo_set", "group")}
            if line["split"] == "demo":
                demos.append(Demo(str(line["prompt"]), str(line["answer"]), **shared))
            elif line["split"] == "test":
                right, wrong = str(line["correct_answer"]), str(line["incorrect_answer"])
                questions.append(Question(str(line["prompt"]), right, wrong, **shared))
            else:
                raise KeyError(f"split {line['split']!r}")
        except (KeyError, TypeError) as error:
            raise DataError(
                "not a row of an eval set",
                where=f"{where}, row {number}",
                got=f"no {error.args[0]}" if error.args else repr(line)[:80],
                do="write split demo with prompt and answer, or split test with prompt,"
                " correct_answer and incorrect_answer",
            ) from error
    return Rows(tuple(demos), tuple(questions))


def _text(value: object) -> str:
    # A set may be called 0, which is no absence.
    return "" if value is None else str(value)


def split_of(text: str) -> Split:
    """Return the half that a text belongs to, by its hash: the same in every version of a set."""
    return SPLITS[hashlib.sha256(text.encode()).digest()[0] % 2]


def rows_task(
    key: str,
    rows: RowSource,
    prompting: Prompting,
    *,
    wordings: Mapping[Split, tuple[str, ...]],
    description: str,
) -> Task:
    """Make a task of rows.

    Parameters
    ----------
    key
        ``family/name``.
    rows
        Its rows, by split and wording.
    prompting
        How its family asks.
    wordings, description
        As of `Task`.
    """
    family, name = key.split("/")
    kept = lru_cache(maxsize=8)(rows)

    def draws(split: Split) -> int | None:
        return number_of_draws(prompting, lambda: kept(split, wordings[split][0]))

    def build(split: Split, wording: str, demo_seed: int) -> Block:
        asked = _Asked(kept(split, wording), prompting, (key, split, wording), demo_seed)
        return Block(
            family=family,
            task=name,
            wording=wording,
            split=split,
            demo_seed=demo_seed,
            prefix="" if prompting.per_item else asked.shots(asked.draw()),
            items=asked.items(),
            terminator=prompting.end,
        )

    return Task(family, name, wordings, description, build, draws=draws)


def number_of_draws(prompting: Prompting, rows: Callable[[], Rows]) -> int | None:
    """Return how many demo seeds of a task differ; None where they are drawn without end.

    Without demonstrations there is nothing to draw; ordered ones differ by their set only.
    """
    if prompting.demos == "none":
        return 1
    if prompting.demos != "ordered":
        return None
    return max(1, len({demo.demo_set for demo in rows().demos} - {""}))


@dataclass(frozen=True)
class _Asked:
    """One demo seed of a task."""

    rows: Rows
    prompting: Prompting
    where: tuple[str, Split, str]
    demo_seed: int

    def items(self) -> tuple[Item, ...]:
        drawn = () if self.prompting.per_item else self.draw()
        groups = {demo.group for demo in drawn if demo.group}
        shown = {demo.prompt for demo in drawn}
        sets = ("", self._set())
        asked = [
            question
            for question in self.rows.questions
            if question.demo_set in sets and question.prompt not in shown
            if question.group not in groups
        ]
        return tuple(self._item(question) for question in asked)

    def draw(self, question: Question | None = None) -> tuple[Demo, ...]:
        """Draw the demonstrations, for one question where each has its own."""
        count, how = self.prompting.count, self.prompting.demos
        if how == "none":
            return ()
        sets = ("", self._set())
        pool = [demo for demo in self.rows.demos if demo.demo_set in sets]
        if question is not None:
            barred = {question.group} - {""}
            pool = [d for d in pool if d.prompt != question.prompt and d.group not in barred]
        self._check(len(pool))
        if how == "ordered":
            return tuple(pool[:count])
        rng = self._rng("demos", question.prompt if question else "")
        if how == "random":
            return tuple(pool[i] for i in rng.choice(len(pool), count, replace=False))
        return _balanced(pool, count, rng)

    def shots(self, drawn: tuple[Demo, ...]) -> str:
        gap, joiner = self.prompting.gap, self.prompting.joiner
        return "".join(f"{demo.prompt}{gap}{demo.answer}{joiner}" for demo in drawn)

    def _item(self, question: Question) -> Item:
        gap, end = self.prompting.gap, self.prompting.end
        before = self.shots(self.draw(question)) if self.prompting.per_item else ""
        right, wrong = (f"{gap}{answer}{end}" for answer in (question.right, question.wrong))
        return Item.of(f"{before}{question.prompt}", right, [wrong])

    def _set(self) -> str:
        """Return the set that this demo seed draws from: they take turns."""
        sets = list(dict.fromkeys(demo.demo_set for demo in self.rows.demos if demo.demo_set))
        return sets[self.demo_seed % len(sets)] if sets else ""

    def _check(self, available: int) -> None:
        if available < self.prompting.count:
            raise ConfigError(
                "too few demonstrations",
                where=self.where[0],
                got=f"{available} where {self.prompting.count} are shown",
                do="ask for fewer, or give the task more",
            )

    def _rng(self, *words: str) -> np.random.Generator:
        text = "\x1f".join((*self.where, str(self.demo_seed), *words))
        digest = hashlib.sha256(text.encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def _balanced(pool: list[Demo], count: int, rng: np.random.Generator) -> tuple[Demo, ...]:
    labels = sorted({demo.label for demo in pool})
    if not labels or count % len(labels):
        raise ConfigError(
            "demonstrations cannot be balanced",
            where="suite",
            got=f"{count} over {len(labels)} labels",
            do="show a multiple of the number of labels",
        )
    drawn = []
    for label in labels:
        own = [demo for demo in pool if demo.label == label]
        each = count // len(labels)
        if len(own) < each:
            raise ConfigError("too few demonstrations", where=f"label {label}", got=str(len(own)))
        drawn += [own[i] for i in rng.choice(len(own), each, replace=False)]
    return tuple(drawn[i] for i in rng.permutation(len(drawn)))
