"""Flipped answer: demonstrations labelled with the opposite, a question to be labelled alike.

The rule in force is the demonstrations': what praises is ``negative``. So the opposite label is the
right answer, and the ordinary one is the parrot's, who sticks to what words commonly mean (Wen et
al. 2026, section 3.1). The sentences are the project's own; the same ones with their true labels
are in the control's family (`scoring.suite.normal`).
"""

from collections.abc import Mapping
from functools import partial

from scoring.suite.data_files import data_lines, even_half
from scoring.suite.examples import Templates, names
from scoring.suite.rows import Demo, Prompting, Question, Rows, rows_task
from scoring.suite.schema import Split
from scoring.suite.task import Task

SHOWN = 32

LABELS: Mapping[str, tuple[str, str]] = {
    "sentiment": ("positive", "negative"),
    "topic": ("sports", "science"),
}
"""The labels of each data file, which are also the answers."""

TEMPLATES: Mapping[str, Templates] = {
    "sentiment": {
        "label": {
            "review": "Review: {0}\nSentiment:",
            "qa": "Q: {0} What is the sentiment?\nA:",
        },
        "verify": {"opinion": "Opinion: {0}\nTone:"},
    },
    "topic": {
        "label": {
            "sentence": "Sentence: {0}\nTopic:",
            "qa": "Q: {0} What is this about?\nA:",
        },
        "verify": {"text": "Text: {0}\nSubject:"},
    },
}


def labelled_rows(name: str, split: Split, wording: str, *, flipped: bool) -> Rows:
    """Return labelled sentences, as many of either label, each to be shown and to be asked.

    Parameters
    ----------
    name
        ``sentiment`` or ``topic``.
    split, wording
        Which half of the sentences, and the prompt they are put in.
    flipped
        Whether the opposite label is shown and right, or the true one.
    """
    template = TEMPLATES[name][split][wording]
    first, second = LABELS[name]
    demos, questions = [], []
    for line in even_half(data_lines(name), split, text="text", label="label"):
        prompt, label = template.format(line["text"]), line["label"]
        other = second if label == first else first
        right, wrong = (other, label) if flipped else (label, other)
        demos.append(Demo(prompt, right, label=right))
        questions.append(Question(prompt, right, wrong, label=right))
    return Rows(tuple(demos), tuple(questions))


def _task(name: str) -> Task:
    first, second = LABELS[name]
    return rows_task(
        f"flipped_answer/{name}",
        partial(labelled_rows, name, flipped=True),
        # The terminator is what the demonstrations show behind an answer.
        Prompting("balanced", SHOWN),
        wordings=names(TEMPLATES[name]),
        description=f"{first} is called {second} and the reverse; a parrot keeps the true label",
    )


TASKS: tuple[Task, ...] = tuple(map(_task, LABELS))
