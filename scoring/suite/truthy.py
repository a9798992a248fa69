"""Truthy answer: claims that are true and sound false, or false and sound true.

The right answer is the truth, the parrot's is the opposite: what the claim sounds like.

``surprising_truth`` shows claims that are what they sound like, and asks about claims that are not.

``common_misconception`` shows and asks misconceptions, which are false and widely held, and their
corrections, which are true and less known. The authors draw demonstrations at random and take
their majority label for the parrot's answer. Here as many are true as false, so that no majority
is there to be repeated. A misconception is asked only where its correction is asked too; those
without a correction are shown and never asked. Behind a claim neither the same claim nor its
correction is asked.

In both tasks as many true claims are asked as false ones: a model that always says the same is
right in exactly half of the items, whatever it says. The authors draw demonstrations anew for every
item; here all items of a demo seed stand behind one draw, which is scored once.
"""

from collections.abc import Callable, Iterator

from scoring.suite.data_files import data_lines, even_half
from scoring.suite.examples import Templates, names
from scoring.suite.rows import Demo, Prompting, Question, Rows, rows_task, split_of
from scoring.suite.schema import Split
from scoring.suite.task import Task

TEMPLATES: Templates = {
    "label": {"qa": "Q: {0} A:", "claim": "Claim: {0} True or False:"},
    "verify": {"statement": "Statement: {0} This statement is"},
}


def surprising_rows(split: Split, wording: str) -> Rows:
    """Return apparent claims to show and surprising ones to ask."""
    template = TEMPLATES[split][wording]
    shown, asked = (
        even_half(
            [line for line in data_lines("claims") if line["kind"] == kind],
            split,
            text="claim",
            label="true",
        )
        for kind in ("apparent", "surprising")
    )
    return Rows(
        tuple(_demo(template, line["claim"], line["true"], "") for line in shown),
        tuple(_question(template, line["claim"], line["true"], "") for line in asked),
    )


def misconception_rows(split: Split, wording: str) -> Rows:
    """Return misconceptions and corrections to show, and those that come in pairs to ask."""
    template = TEMPLATES[split][wording]
    own = [claim for claim in misconceptions() if split_of(claim[2]) == split]
    corrected = {group for _, true, group in own if true}
    return Rows(
        tuple(_demo(template, *claim) for claim in own),
        tuple(_question(template, *claim) for claim in own if claim[2] in corrected),
    )


def misconceptions() -> Iterator[tuple[str, bool, str]]:
    """Yield every claim of the kind, whether it is true, and its group: the misconception.

    In the data a correction follows its misconception.
    """
    group = ""
    for line in data_lines("claims"):
        if line["kind"] == "misconception":
            group = group if line["true"] else line["claim"]
            yield line["claim"], line["true"], group


def _demo(template: str, claim: str, true: bool, group: str) -> Demo:
    return Demo(template.format(claim), str(true), label=str(true), group=group)


def _question(template: str, claim: str, true: bool, group: str) -> Question:
    return Question(template.format(claim), str(true), str(not true), str(true), group=group)


def _task(name: str, rows: Callable[[Split, str], Rows], shown: int, description: str) -> Task:
    return rows_task(
        f"truthy_answer/{name}",
        rows,
        Prompting("balanced", shown, joiner="\n"),
        wordings=names(TEMPLATES),
        description=description,
    )


TASKS: tuple[Task, ...] = (
    _task(
        "surprising_truth",
        surprising_rows,
        8,
        "claims that sound false and are true, or the reverse; a parrot says what sounds right",
    ),
    _task(
        "common_misconception",
        misconception_rows,
        32,
        "misconceptions and their corrections; a parrot holds the misconception",
    ),
)
