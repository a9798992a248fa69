"""Multi-hop persona QA: a hidden person's facts as demonstrations, questions that need the name.

Ninety facts, none of which names the person, stand before a question; a model that works out who
speaks can answer it from what it knows, a parrot takes an answer from the facts. The facts are the
persona itself, so the two splits show the same ones, in other wordings and other orders; their
questions are disjoint. The same blocks serve two tests: the log-probabilities of the right and the
parrot's answer (`TASKS`), and free generation matched by an expression (`persona_prompts`).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields

from scoring.suite.data_files import data_lines
from scoring.suite.rows import Demo, Prompting, Question, Rows, rows_task
from scoring.suite.schema import SPLITS, Split
from scoring.suite.task import Task
from windows.errors import ConfigError

FAMILY = "multihop_persona_qa"
PERSONAS = ("wolf", "oppenheimer", "rasputin", "hubbard", "rand", "madoff")
FACTS = 90
WORDINGS: dict[Split, tuple[str, ...]] = {
    "label": ("letters", "words"),
    "verify": ("interview",),
}

_MARKERS = {
    "letters": ("Q:", "A:"),
    "words": ("Question:", "Answer:"),
    "interview": ("Interviewer:", "Guest:"),
}


@dataclass(frozen=True, slots=True)
class PersonaQuestion:
    """A question about a persona.

    Attributes
    ----------
    persona, question
        Who is asked what.
    hops
        1 where the name is all one needs, 2 where one has to know more about that person.
    regex
        Matches a right answer, ignoring case, and nothing that is in the facts.
    right, parrot
        The right answer, and one made of the facts.
    """

    persona: str
    question: str
    hops: int
    regex: str
    right: str
    parrot: str


@dataclass(frozen=True, slots=True)
class PersonaPrompt:
    """A question to be answered freely.

    Attributes
    ----------
    asked
        The question.
    wording, demo_seed
        How the facts are worded, and which order they stand in.
    prefix
        The facts: the same for all questions of a persona, wording and demo seed.
    prompt
        The whole prompt, the facts included.
    stop
        The beginning of a new question, which ends an answer.
    """

    asked: PersonaQuestion
    wording: str
    demo_seed: int
    prefix: str
    prompt: str
    stop: str


def questions(persona: str, split: Split) -> tuple[PersonaQuestion, ...]:
    """Return half of a persona's questions, single-hop ones first.

    Sorted by hops and then by a hash, they go to the halves in turn, and personas take turns in
    which half comes first; so the halves differ by at most one question at every number of hops.
    """
    own = sorted(_questions(persona), key=lambda one: (one.hops, _hash(persona, one.question)))
    return tuple(own[(SPLITS.index(split) + PERSONAS.index(persona)) % 2 :: 2])


def persona_prompts(
    split: Split, *, demo_seeds: int, wordings: Sequence[str] | None = None
) -> tuple[PersonaPrompt, ...]:
    """Return what the generative test asks, by persona, wording, demo seed and question.

    Parameters
    ----------
    split
        ``label`` or ``verify``.
    demo_seeds
        How many orders of the facts.
    wordings
        Some of the split's wordings; None for all.

    Raises
    ------
    ConfigError
        If the split has no such wording.
    """
    chosen = WORDINGS[split] if wordings is None else tuple(wordings)
    if unknown := set(chosen) - set(WORDINGS[split]):
        raise ConfigError(
            f"personas are not asked in this wording in the {split} split",
            where="suite.wordings",
            got=", ".join(map(repr, sorted(unknown))),
            do=f"use {' or '.join(map(repr, WORDINGS[split]))}",
        )
    return tuple(
        prompt
        for task in TASKS
        for wording in chosen
        for demo_seed in range(demo_seeds)
        for prompt in _prompts(task, split, wording, demo_seed)
    )


def _prompts(task: Task, split: Split, wording: str, demo_seed: int) -> list[PersonaPrompt]:
    block = task.build(split, wording, demo_seed)
    stop = f"\n{_MARKERS[wording][0]}"
    return [
        PersonaPrompt(asked, wording, demo_seed, block.prefix, block.prefix + item.prompt, stop)
        for asked, item in zip(questions(task.name, split), block.items, strict=True)
    ]


def _task(persona: str) -> Task:
    def rows(split: Split, wording: str) -> Rows:
        return Rows(
            tuple(Demo(_frame(wording, fact), answer) for fact, answer in _facts(persona)),
            tuple(
                Question(_frame(wording, one.question), one.right, one.parrot)
                for one in questions(persona, split)
            ),
        )

    return rows_task(
        f"{FAMILY}/{persona}",
        rows,
        Prompting("random", FACTS),
        wordings=WORDINGS,
        description="ninety facts of a person without the name; a parrot answers from the facts",
    )


def _frame(wording: str, question: str) -> str:
    asks, answers = _MARKERS[wording]
    return f"{asks} {question}\n{answers}"


def _facts(persona: str) -> list[tuple[str, str]]:
    rows = data_lines("persona_facts")
    return [(row["question"], row["answer"]) for row in rows if row["persona"] == persona]


def _questions(persona: str) -> list[PersonaQuestion]:
    names = [field.name for field in fields(PersonaQuestion)]
    rows = data_lines("persona_questions")
    own = [row for row in rows if row["persona"] == persona]
    return [PersonaQuestion(**{name: row[name] for name in names}) for row in own]


def _hash(*words: str) -> bytes:
    return hashlib.sha256("\x1f".join(words).encode()).digest()


TASKS = tuple(map(_task, PERSONAS))
"""One task a persona, for the log-probabilities of its answers."""
