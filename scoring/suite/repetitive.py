"""Repetitive answer: demonstrations with one right answer, a question with another.

A parrot says the shown answer once more. The authors draw demonstrations anew for every question;
here all questions of a demo seed stand behind one draw, which is scored once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import product

from scoring.suite.algebra import TASKS as ALGEBRA
from scoring.suite.examples import Example, Templates, by_answer, half, names, seeded
from scoring.suite.formulas import formulas, holds, written
from scoring.suite.rows import Prompting, Rows, rows_task
from scoring.suite.schema import Split
from scoring.suite.task import Task
from scoring.suite.tracing import draw_program
from scoring.suite.words import WORDS

DECK = 24
"""Demonstrations in a set, from which a demo seed draws."""


@dataclass(frozen=True, eq=False)
class Repeated:
    """What one task is made of.

    Attributes
    ----------
    name, description
        As of the task.
    templates
        Its prompts.
    pool
        Makes its examples, both splits' together.
    answers
        Its answers, each of which is repeated in `decks` sets of demonstrations.
    decks
        How many sets there are of every answer.
    asked
        Questions of every answer. Behind a set all of them are asked but its own answer's.
    shown
        Demonstrations before a question.
    """

    name: str
    description: str
    templates: Templates
    pool: Callable[[], Iterator[Example]]
    answers: tuple[str, ...]
    decks: int
    asked: int
    shown: int


def rows(task: Repeated, split: Split, wording: str) -> Rows:
    """Return the rows of a task; the sets' answers take turns, in a seeded order."""
    template = task.templates[split][wording]
    groups, turns = _contents(task, split)
    asked = [example for answer in task.answers for example in groups[answer][: task.asked]]
    demos, questions = [], []
    for deck, answer in product(range(task.decks), turns):
        name, begin = f"{answer}.{deck}", task.asked + deck * DECK
        demos += [e.demo(template, name) for e in groups[answer][begin : begin + DECK]]
        questions += [e.question(template, answer, name) for e in asked if e.answer != answer]
    return Rows(tuple(demos), tuple(questions))


@cache
def _contents(task: Repeated, split: Split) -> tuple[dict[str, list[Example]], list[str]]:
    """Return a split's examples by answer, and the answers in the order of the sets."""
    rng = seeded("repetitive_answer", task.name, split)
    groups = by_answer(half(task.pool(), split, rng))
    return groups, [task.answers[index] for index in rng.permutation(len(task.answers))]


def _programs() -> Iterator[Example]:
    rng = seeded("repetitive_answer", "code_tracing", "pool")
    for _ in range(10000):
        program = draw_program(rng)
        yield Example((program.text,), str(program.printed), program.text)


def _letter_counts() -> Iterator[Example]:
    rng = seeded("repetitive_answer", "letter_counting", "pool")
    for first, second in rng.integers(len(WORDS), size=(20000, 2)).tolist():
        text = f"{WORDS[first]} {WORDS[second]}"
        letter = text[int(rng.integers(len(WORDS[first])))]
        key = " ".join((letter, *sorted(text.split())))
        yield Example((letter, text), str(text.count(letter)), key)


def _logic() -> Iterator[Example]:
    for formula in formulas():
        for truth in product((True, False), repeat=3):
            values = dict(zip("pqr", truth, strict=True))
            given = ", ".join(f"{name} = {value}" for name, value in values.items())
            text = written(formula)
            yield Example((given, text), str(holds(formula, values)), f"{given}: {text}")


REPEATED = (
    Repeated(
        "code_tracing",
        "small programs that all print one number, then one that does not; a parrot repeats it",
        {
            "label": {
                "output": "Program:\n{0}\nOutput:",
                "comment": "{0}  # prints",
            },
            "verify": {"qa": "Q: What does this print?\n{0}\nA:"},
        },
        _programs,
        answers=tuple(map(str, range(1, 21))),
        decks=1,
        asked=9,
        shown=8,
    ),
    Repeated(
        "letter_counting",
        "how often a letter occurs in two words, always as often; a parrot repeats the count",
        {
            "label": {
                "qa": "Q: How often does the letter {0} occur in '{1}'? A:",
                "count": "Text: {1}. Count of the letter {0}:",
            },
            "verify": {"in": "In '{1}', count the letter {0}. Answer:"},
        },
        _letter_counts,
        answers=("1", "2", "3", "4"),
        decks=3,
        asked=56,
        shown=4,
    ),
    # The authors show 64; sixteen agree as plainly and cost a quarter.
    Repeated(
        "logic",
        "formulas that all have one truth value, then one with the other; a parrot repeats it",
        {
            "label": {
                "qa": "Q: {0}. {1}? A:",
                "given": "Given {0}, the value of {1} is",
            },
            "verify": {"let": "Let {0}. True or False: {1}. Answer:"},
        },
        _logic,
        answers=("True", "False"),
        decks=4,
        asked=160,
        shown=16,
    ),
)


def _task(task: Repeated) -> Task:
    return rows_task(
        f"repetitive_answer/{task.name}",
        partial(rows, task),
        Prompting("random", task.shown, joiner="\n"),
        wordings=names(task.templates),
        description=task.description,
    )


TASKS: tuple[Task, ...] = (*map(_task, REPEATED), *ALGEBRA)
