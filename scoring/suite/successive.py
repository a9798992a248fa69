"""Successive answer: demonstrations whose right answers count up, a question whose does not.

A parrot counts on. Beside every task stands a control of its own family: the same demonstrations
out of order, the same questions, the same rival. What a model gets wrong there too is not the
pattern's doing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise

from scoring.suite.examples import Example, Templates, by_answer, half, names, seeded
from scoring.suite.rows import Prompting, Rows, rows_task
from scoring.suite.schema import Split
from scoring.suite.task import Task
from scoring.suite.words import PLURALS, WORDS

SHOWN = 10
"""Demonstrations before a question. The authors show 32 for arithmetic and even; ten count up as
plainly and cost a third."""

SETS = 32
QUESTIONS = 184


@dataclass(frozen=True, eq=False)
class Series:
    """What one task is made of.

    Attributes
    ----------
    name, description
        As of the task.
    templates
        Its prompts.
    answers
        Its answers in the order in which a parrot counts.
    pool
        Makes its examples, both splits' together.
    """

    name: str
    description: str
    templates: Templates
    answers: tuple[str, ...]
    pool: Callable[[], Iterator[Example]]


@dataclass(frozen=True)
class _Run:
    """One demonstration set: examples whose answers count up, and the answer that would follow."""

    name: str
    examples: tuple[Example, ...]
    follows: str


def rows(series: Series, split: Split, wording: str, *, shuffled: bool = False) -> Rows:
    """Return the rows of a task, or with `shuffled` those of its control.

    Every question is asked behind every set, but for those whose right answer follows the set's.
    """
    template = series.templates[split][wording]
    asked, runs = _contents(series, split)
    demos, questions = [], []
    for run in runs:
        shown = (
            [run.examples[place] for place in _scattered(run.name)] if shuffled else run.examples
        )
        demos += [example.demo(template, run.name) for example in shown]
        questions += [
            example.question(template, run.follows, run.name)
            for example in asked
            if example.answer != run.follows
        ]
    return Rows(tuple(demos), tuple(questions))


@cache
def _contents(series: Series, split: Split) -> tuple[list[Example], list[_Run]]:
    rng = seeded("successive_answer", series.name, split)
    own = half(series.pool(), split, rng)
    groups = by_answer(own)
    starts = rng.permutation(len(series.answers) - SHOWN)
    runs = []
    for number in range(SETS):
        turn, place = divmod(number, len(starts))
        counted = series.answers[starts[place] :][: SHOWN + 1]
        examples = [groups[answer][rng.integers(len(groups[answer]))] for answer in counted[:-1]]
        runs.append(_Run(f"{counted[0]}.{turn}", tuple(examples), counted[-1]))
    return own[:QUESTIONS], runs


def _scattered(name: str) -> list[int]:
    """Draw an order without two answers that follow each other; the highest does not end it."""
    rng = seeded("successive_control", name)
    while True:
        order: list[int] = rng.permutation(SHOWN).tolist()
        apart = all(abs(after - before) > 1 for before, after in pairwise(order))
        if apart and order[-1] != SHOWN - 1:
            return order


_WORDS_TO_TWENTY = """
one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen
"""
_TENS_WORDS = "twenty thirty forty fifty sixty seventy eighty ninety"
_ONES, _TENS = _WORDS_TO_TWENTY.split(), _TENS_WORDS.split()


def spelled(number: int) -> str:
    """Spell a number from 1 to 99."""
    if number < 20:
        return _ONES[number - 1]
    tens, ones = divmod(number, 10)
    return _TENS[tens - 2] + (f"-{_ONES[ones - 1]}" if ones else "")


def _quantities() -> Iterator[Example]:
    for number in range(2, 100):
        for things in PLURALS:
            text = f"{spelled(number)} {things}"
            yield Example((text,), str(number), text)


def _initials() -> Iterator[Example]:
    for word in WORDS:
        yield Example((word,), word[0], word)


def _sums() -> Iterator[Example]:
    for answer in range(1, 100):
        for other in range(1, 100):
            yield _sum(answer + other, "-", other, answer)
        for first in range(1, answer):
            yield _sum(first, "+", answer - first, answer)


def _sum(first: int, sign: str, second: int, answer: int) -> Example:
    key = " ".join((sign, *sorted((str(first), str(second)))))
    return Example((f"{first} {sign} {second}",), str(answer), key)


def _evens() -> Iterator[Example]:
    rng = seeded("successive_answer", "even", "pool")
    for answer in range(2, 100, 2):
        for odd in (2 * rng.integers(50, size=(60, 2)) + 1).tolist():
            if odd[0] != odd[1]:
                listed = [spelled(number) for number in rng.permutation([answer, *odd]).tolist()]
                yield Example((", ".join(listed),), str(answer), " ".join(sorted(listed)))


SERIES = (
    Series(
        "number_words",
        "numbers in words, put into figures; the figures count up and a parrot counts on",
        {
            "label": {"qa": "Q: {0}. How many? A:", "figures": "In figures, {0}:"},
            "verify": {"note": "The note says {0}. As a number:"},
        },
        tuple(map(str, range(2, 100))),
        _quantities,
    ),
    Series(
        "letters",
        "the first letter of a word; the letters follow the alphabet and a parrot goes on in it",
        {
            "label": {
                "qa": "Q: First letter of {0}? A:",
                "begins": "The word {0} begins with the letter",
            },
            "verify": {"initial": "Word: {0}. Initial:"},
        },
        tuple("abcdefghijklmnopqrstuvw"),
        _initials,
    ),
    Series(
        "arithmetic",
        "sums and differences whose results count up; a parrot counts on",
        {
            "label": {"qa": "Q: {0} = ? A:", "equation": "{0} ="},
            "verify": {"compute": "Compute {0}. Answer:"},
        },
        tuple(map(str, range(1, 100))),
        _sums,
    ),
    Series(
        "even",
        "the one even number of three in words; the even numbers count up and a parrot counts on",
        {
            "label": {
                "qa": "Q: Which of {0} is even, in figures? A:",
                "pick": "Numbers: {0}. The even one in figures:",
            },
            "verify": {"divisible": "Among {0}, divisible by two, as digits:"},
        },
        tuple(map(str, range(2, 100, 2))),
        _evens,
    ),
)


def _task(series: Series, *, shuffled: bool) -> Task:
    family = "successive_control" if shuffled else "successive_answer"
    about = f"{series.name} out of order: the same questions and rival without the pattern"
    return rows_task(
        f"{family}/{series.name}",
        partial(rows, series, shuffled=shuffled),
        Prompting("ordered", SHOWN, joiner="\n"),
        wordings=names(series.templates),
        description=about if shuffled else series.description,
    )


TASKS: tuple[Task, ...] = tuple(
    _task(series, shuffled=shuffled) for shuffled in (False, True) for series in SERIES
)
"""The four tasks, then their controls."""
