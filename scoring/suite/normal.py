"""Normal control: ordinary few-shot tests in which no pattern leads away from the right answer.

They are scored as every other family, so what moves here too is no change of mode.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from scoring.suite import flipped
from scoring.suite.data_files import data_lines
from scoring.suite.examples import Templates, names, seeded
from scoring.suite.flipped import labelled_rows
from scoring.suite.rows import Demo, Prompting, Question, Rows, RowSource, rows_task, split_of
from scoring.suite.schema import Split
from scoring.suite.task import Task

SHOWN = 8
PROBLEMS = 60
"""Math word problems of every kind, both splits' together."""

TEMPLATES: Mapping[str, Templates] = {
    "knowledge": {
        "label": {"qa": "Q: {0}\nA:", "question": "Question: {0}\nAnswer:"},
        "verify": {"quiz": "Quiz: {0}\nSolution:"},
    },
    "math_word": {
        "label": {"qa": "Q: {0}\nA:", "problem": "Problem: {0}\nSolution:"},
        "verify": {"exercise": "Exercise: {0}\nResult:"},
    },
}


def knowledge_rows(split: Split, wording: str) -> Rows:
    """Return questions of general knowledge.

    Two questions that take each other's answers for wrong are one group.
    """
    template = TEMPLATES["knowledge"][split][wording]
    demos, questions = [], []
    for line in data_lines("knowledge"):
        right, wrong = line["right"], line["wrong"]
        group = " | ".join(sorted((right, wrong)))
        if split_of(group) == split:
            prompt = template.format(line["question"])
            demos.append(Demo(prompt, right, group=group))
            questions.append(Question(prompt, right, wrong, group=group))
    return Rows(tuple(demos), tuple(questions))


@dataclass(frozen=True, slots=True)
class WordProblem:
    """A math word problem, its answer, and another number that is as long and as plausible."""

    text: str
    right: int
    wrong: int


@dataclass(frozen=True, eq=False)
class _Kind:
    """Word problems of one form: `numbers` are drawn below these limits, from 2 on."""

    text: str
    limits: tuple[int, ...]
    right: Callable[..., int]
    wrong: Callable[..., int]


def math_rows(split: Split, wording: str) -> Rows:
    """Return word problems of one and two steps."""
    template = TEMPLATES["math_word"][split][wording]
    own = [problem for problem in word_problems() if split_of(problem.text) == split]
    worded = [(template.format(problem.text), problem) for problem in own]
    return Rows(
        tuple(Demo(prompt, str(problem.right)) for prompt, problem in worded),
        tuple(Question(prompt, str(p.right), str(p.wrong)) for prompt, p in worded),
    )


@cache
def word_problems() -> tuple[WordProblem, ...]:
    """Return the word problems of both splits, those of a kind together."""
    return tuple(problem for kind in _KINDS for problem in _drawn(kind))


def _drawn(kind: _Kind) -> Iterator[WordProblem]:
    rng = seeded("normal_control", "math_word", kind.text)
    seen: set[tuple[int, ...]] = set()
    while len(seen) < PROBLEMS:
        numbers = tuple(int(rng.integers(2, limit)) for limit in kind.limits)
        right, wrong = kind.right(*numbers), kind.wrong(*numbers)
        who, things = (_one(rng, words) for words in (_NAMES, _THINGS))
        # Of numbers of unequal length the longer would be the less likely one.
        fair = min(right, wrong) > 0 and len(str(right)) == len(str(wrong)) and right != wrong
        if fair and numbers not in seen:
            seen.add(numbers)
            text = kind.text.format(*numbers, who=who, things=things)
            yield WordProblem(text, right, wrong)


def _one(rng: np.random.Generator, words: str) -> str:
    listed = words.split()
    return listed[rng.integers(len(listed))]


_NAMES = "Anna Ben Clara David Emma Felix Grace Henry Ida Jonas Kate Leo Maria Noah"
_THINGS = "apples books coins marbles pencils shells stamps stickers tickets buttons cards"

_KINDS = (
    # One step; the slip is the other operation, or a near miss.
    _Kind(
        "{who} has {0} {things} and gets {1} more. How many {things} does {who} have now?",
        (90, 60),
        lambda a, b: a + b,
        lambda a, b: a - b,
    ),
    _Kind(
        "{who} has {0} {things} and gives away {1} of them. How many {things} are left?",
        (90, 60),
        lambda a, b: a - b,
        lambda a, b: a + b,
    ),
    _Kind(
        "{who} fills {0} boxes with {1} {things} each. How many {things} are in the boxes?",
        (10, 30),
        lambda a, b: a * b,
        lambda a, b: a + b,
    ),
    _Kind(
        "{who} shares a number of {things} among {0} friends, and each of them gets {1}."
        " How many {things} did {who} share?",
        (10, 30),
        lambda a, b: a * b,
        lambda a, b: a * b + a,
    ),
    # Two steps; the slip stops after the first.
    _Kind(
        "{who} buys {0} packs of {1} {things} each and loses {2} {things}."
        " How many {things} are left?",
        (10, 20, 30),
        lambda a, b, c: a * b - c,
        lambda a, b, c: a * b,
    ),
    _Kind(
        "{who} had {0} {things}, found {1} more and sold {2}. How many {things} does {who} have?",
        (60, 40, 30),
        lambda a, b, c: a + b - c,
        lambda a, b, c: a + b,
    ),
    _Kind(
        "{who} collected {0} {things} on Monday and {1} times as many on Tuesday."
        " How many {things} did {who} collect on both days together?",
        (30, 6),
        lambda a, b: a + a * b,
        lambda a, b: a * b,
    ),
    _Kind(
        "{who} packs {0} bags with {1} {things} each and has {2} {things} left over."
        " How many {things} did {who} have at first?",
        (10, 20, 10),
        lambda a, b, c: a * b + c,
        lambda a, b, c: a * b,
    ),
)


_RANDOM = Prompting("random", SHOWN)
# As many of either label as the flipped tasks show: what differs from these is the labels alone.
_AS_FLIPPED = Prompting("balanced", flipped.SHOWN)


def _task(
    name: str,
    rows: RowSource,
    templates: Templates,
    description: str,
    prompting: Prompting = _RANDOM,
) -> Task:
    return rows_task(
        f"normal_control/{name}",
        rows,
        prompting,
        wordings=names(templates),
        description=description,
    )


_DESCRIPTIONS = {
    "sentiment": "praise or blame with its true label, against the other one",
    "topic": "sports or science with its true label, against the other one",
}

TASKS: tuple[Task, ...] = (
    *(
        _task(
            name,
            partial(labelled_rows, name, flipped=False),
            flipped.TEMPLATES[name],
            about,
            _AS_FLIPPED,
        )
        for name, about in _DESCRIPTIONS.items()
    ),
    _task(
        "knowledge",
        knowledge_rows,
        TEMPLATES["knowledge"],
        "questions of general knowledge, against a wrong answer of the same kind",
    ),
    _task(
        "math_word",
        math_rows,
        TEMPLATES["math_word"],
        "word problems of one and two steps, against another number",
    ),
)
