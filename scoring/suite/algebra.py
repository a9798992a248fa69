"""Linear equations with one solution for the repetitive answer, under four templates.

The four tasks ask the same equations after the same demonstrations: what differs between their
series is the template's doing.
"""

from collections.abc import Iterator
from functools import cache, partial

from scoring.suite.examples import Example, Templates, by_answer, half, names, seeded
from scoring.suite.rows import Demo, Prompting, Question, Rows, rows_task
from scoring.suite.schema import Split
from scoring.suite.task import Task

SHOWN = 4
SETS = 32
QUESTIONS = 176

_SOLUTIONS = range(2, 100)
_TERMS = 12
_LETTERS = "abckmnptxyz"

TEMPLATES: dict[str, Templates] = {
    "original": {
        "label": {"qa": "Q: {0}. {1}? A:", "what": "{0}. What is {1}? A:"},
        "verify": {"question": "Question: {0}. {1}? Answer:"},
    },
    "numbered": {
        "label": {"dot": "{2}. {0}, {1} =", "bracket": "({2}) {0}. {1}:"},
        "verify": {"problem": "Problem {2}: {0}. Solution: {1} ="},
    },
    "instruction": {
        "label": {
            "solve": "Solve for {1}: {0}. Solution:",
            "find": "Find the number {1} for which {0}. Answer:",
        },
        "verify": {"must": "What must {1} be so that {0}? It must be"},
    },
    "short": {
        "label": {"arrow": "{0} -> {1} =", "semicolon": "{0}; {1} ="},
        "verify": {"so": "{0}, so {1} ="},
    },
}
"""The prompts by template, split and wording: equation, unknown, number of the line."""


def rows(template: str, split: Split, wording: str) -> Rows:
    """Return the rows of one template's task; a set's demonstrations share their solution."""
    text = TEMPLATES[template][split][wording]
    asked, sets = _contents(split)
    demos: list[Demo] = []
    questions: list[Question] = []
    for answer, shown in sets.items():
        demos += [_numbered(e, line).demo(text, answer) for line, e in enumerate(shown, start=1)]
        last = [_numbered(e, SHOWN + 1) for e in asked if e.answer != answer]
        questions += [example.question(text, answer, answer) for example in last]
    return Rows(tuple(demos), tuple(questions))


def _numbered(example: Example, line: int) -> Example:
    return Example((*example.fields, str(line)), example.answer, example.key)


@cache
def _contents(split: Split) -> tuple[list[Example], dict[str, list[Example]]]:
    """Return the questions, and the demonstrations by their solution: none is in both."""
    rng = seeded("repetitive_answer", "algebra", split)
    own = half(_equations(), split, rng)
    groups = by_answer(own[QUESTIONS:])
    repeated = rng.choice(_SOLUTIONS, SETS, replace=False).tolist()
    return own[:QUESTIONS], {str(value): groups[str(value)][:SHOWN] for value in repeated}


def _equations() -> Iterator[Example]:
    rng = seeded("repetitive_answer", "algebra", "pool")
    for solution in _SOLUTIONS:
        for term in (rng.permutation(98)[: 2 * _TERMS] + 2).tolist():
            sign = 1 - 2 * int(rng.integers(2))
            unknown = _LETTERS[rng.integers(len(_LETTERS))]
            left, right = _sides(solution, sign * term, unknown, int(rng.integers(4)))
            # The unknown's name and the order of the terms do not make another equation.
            key = " ".join(sorted(f"{left} = {right}".replace(unknown, "?").split()))
            yield Example((f"{left} = {right}", unknown), str(solution), key)


def _sides(solution: int, term: int, unknown: str, form: int) -> tuple[str, str]:
    if form == 0:
        return str(term + solution), f"{term} + {unknown}"
    if form == 1:
        return str(term + solution), f"{unknown} + {term}"
    if form == 2:
        return f"{unknown} - {abs(term)}", str(solution - abs(term))
    return f"{abs(term)} - {unknown}", str(abs(term) - solution)


def _task(template: str) -> Task:
    return rows_task(
        f"repetitive_answer/algebra_{template}",
        partial(rows, template),
        Prompting("ordered", SHOWN, joiner="\n"),
        wordings=names(TEMPLATES[template]),
        description=f"equations with one solution, then one with another; {template} template",
    )


TASKS: tuple[Task, ...] = tuple(map(_task, TEMPLATES))
"""One task for each template."""
