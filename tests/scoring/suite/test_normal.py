import json
import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from scoring.suite import flipped
from scoring.suite.normal import TASKS, word_problems
from scoring.suite.registry import CONTROL
from scoring.suite.schema import SPLITS, Block
from scoring.suite.task import Task

FOLDER = Path(__file__).parents[3] / "scoring" / "suite" / "data"
SEEDS = range(4)
BY_NAME = {task.name: task for task in TASKS}


def read(name: str) -> list[dict[str, str]]:
    lines = (FOLDER / f"{name}.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def shown(block: Block) -> list[tuple[str, str]]:
    lines = block.prefix.splitlines()
    # Two lines are one demonstration.
    parts = ["\n".join(pair) for pair in zip(lines[::2], lines[1::2], strict=True)]
    pairs = [re.fullmatch(r"\w+: (.*)\n\w+: (.*)", part) for part in parts]
    assert all(pairs)
    return [(pair[1], pair[2]) for pair in pairs if pair]


def asked(block: Block) -> list[tuple[str, str, str]]:
    found = []
    for item in block.items:
        text = re.fullmatch(r"\w+: (.*)\n\w+:", item.prompt)
        (wrong,) = item.rivals
        assert text and item.right != wrong
        for answer in (item.right, wrong):
            assert re.fullmatch(r" \S(.*\S)?\n", answer)
        found.append((text[1], item.right.strip(), wrong.strip()))
    return found


def all_blocks(task: Task, split: str) -> list[Block]:
    return _blocks(TASKS.index(task), split)


@cache
def _blocks(index: int, split: str) -> list[Block]:
    task = TASKS[index]
    return [task.build(split, w, seed) for w in task.wordings[split] for seed in SEEDS]


# The second solver: it reads a problem, and shares nothing with what wrote it.
def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def _per(text: str) -> tuple[int, list[int]]:
    """Add up one heap after another; return the sum and the numbers that are left."""
    heaps, each, *rest = _numbers(text)
    return sum(each for _ in range(heaps)), rest


SOLVERS: dict[str, Callable[[str], int]] = {
    r"has \d+ \w+ and gets \d+ more": lambda text: sum(_numbers(text)),
    r"gives away": lambda text: len(range(_numbers(text)[1], _numbers(text)[0])),
    r"fills \d+ boxes": lambda text: _per(text)[0],
    r"shares a number": lambda text: _per(text)[0],
    r"buys \d+ packs": lambda text: _per(text)[0] - _per(text)[1][0],
    r"found \d+ more and sold": lambda text: sum(_numbers(text)) - 2 * _numbers(text)[2],
    r"times as many on Tuesday": lambda text: sum([_numbers(text)[0]] * (1 + _numbers(text)[1])),
    r"packs \d+ bags": lambda text: _per(text)[0] + _per(text)[1][0],
}


@cache
def solve(text: str) -> int:
    (solver,) = [solver for pattern, solver in SOLVERS.items() if re.search(pattern, text)]
    return solver(text)


def test_names() -> None:
    names = ["sentiment", "topic", "knowledge", "math_word"]
    assert [task.key for task in TASKS] == [f"{CONTROL}/{name}" for name in names]


@pytest.fixture(params=TASKS, ids=lambda task: task.name)
def task(request: pytest.FixtureRequest) -> Task:
    return request.param


@pytest.mark.parametrize("split", SPLITS)
def test_some_are_shown_and_none_of_them_is_asked(task: Task, split: str) -> None:
    blocks = all_blocks(task, split)
    # As many of either label as the flipped tasks show, or eight of any answer.
    labelled = task.name in ("sentiment", "topic")
    for block in blocks:
        told, later = shown(block), asked(block)
        assert len({text for text, _ in told}) == (32 if labelled else 8)
        if labelled:
            answers = [answer for _, answer in told]
            assert sorted(map(answers.count, set(answers))) == [16, 16]
        assert len(later) >= 150
        assert not {text for text, _ in told} & {text for text, *_ in later}
    assert len({block.prefix for block in blocks}) == len(blocks)


def test_splits_share_no_content_and_no_wording(task: Task) -> None:
    label, verify = (
        {text for b in all_blocks(task, split) for text, *_ in [*shown(b), *asked(b)]}
        for split in SPLITS
    )
    assert label and verify and not label & verify
    assert not set(task.wordings["label"]) & set(task.wordings["verify"])
    assert (len(task.wordings["label"]), len(task.wordings["verify"])) == (2, 1)


@pytest.mark.parametrize("name", ["sentiment", "topic"])
def test_labels_are_the_true_ones(name: str) -> None:
    labels = {row["text"]: row["label"] for row in read(name)}
    by_length = sorted(labels, key=len, reverse=True)
    for split in SPLITS:
        block = BY_NAME[name].build(split, BY_NAME[name].wordings[split][0], 0)
        for told, right, *wrong in [*shown(block), *asked(block)]:
            text = next(text for text in by_length if told.startswith(text))
            assert right == labels[text]
            assert set(wrong) <= set(labels.values()) - {right}


@pytest.mark.parametrize("name", ["sentiment", "topic"])
def test_the_same_questions_are_asked_flipped(name: str) -> None:
    """Control and flipped task differ in their labels only."""
    (other,) = [task for task in flipped.TASKS if task.name == name]
    for split in SPLITS:
        wording = other.wordings[split][0]
        plain, turned = (
            {item.prompt: (item.right, item.rivals) for item in task.build(split, wording, 0).items}
            for task in (BY_NAME[name], other)
        )
        both = plain.keys() & turned.keys()
        assert len(both) > 100
        assert all(plain[prompt][0] == turned[prompt][1][0] for prompt in both)


def test_knowledge_is_that_of_the_data() -> None:
    rows = {row["question"]: row for row in read("knowledge")}
    for split in SPLITS:
        for block in all_blocks(BY_NAME["knowledge"], split):
            assert all(rows[text]["right"] == answer for text, answer in shown(block))
            for text, right, wrong in asked(block):
                assert (right, wrong) == (rows[text]["right"], rows[text]["wrong"])


def test_no_question_of_knowledge_is_asked_behind_its_mirror_image() -> None:
    rows = {row["question"]: {row["right"], row["wrong"]} for row in read("knowledge")}
    mirrored = Counter(map(frozenset, rows.values()))
    assert sum(count > 1 for count in mirrored.values()) > 60
    sides = []
    for split in SPLITS:
        side = set()
        for block in all_blocks(BY_NAME["knowledge"], split):
            told = [rows[text] for text, _ in shown(block)]
            assert not [text for text, *_ in asked(block) if rows[text] in told]
            side |= {frozenset(rows[text]) for text, *_ in asked(block)}
        sides.append(side)
    assert not sides[0] & sides[1]


def test_word_problems_are_solved_alike_by_another_solver() -> None:
    problems = word_problems()
    assert len({problem.text for problem in problems}) == len(problems) == 60 * len(SOLVERS)
    for problem in problems:
        assert problem.right == solve(problem.text), problem.text
        assert problem.wrong != problem.right
        assert problem.wrong > 0
        assert len(str(problem.right)) == len(str(problem.wrong))


def test_neither_the_larger_nor_the_last_number_is_the_answer() -> None:
    problems = word_problems()
    larger = sum(problem.right > problem.wrong for problem in problems) / len(problems)
    assert 0.35 < larger < 0.65
    told = sum(problem.right in _numbers(problem.text) for problem in problems)
    assert told < 0.05 * len(problems)


def test_word_problems_ask_what_the_second_solver_answers() -> None:
    for split in SPLITS:
        for block in all_blocks(BY_NAME["math_word"], split):
            for text, right, *_ in [*shown(block), *asked(block)]:
                assert solve(text) == int(right)
