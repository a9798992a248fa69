import json
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from scoring.suite.schema import SPLITS, Block
from scoring.suite.task import Task
from scoring.suite.truthy import TASKS

PATH = Path(__file__).parents[3] / "scoring" / "suite" / "data" / "claims.jsonl"
CLAIMS = [json.loads(line) for line in PATH.read_text("utf-8").splitlines()]
BY_CLAIM = {row["claim"]: row for row in CLAIMS}
SURPRISING, MISCONCEPTION = TASKS
SEEDS = range(4)
AFTER = {"qa": " A:", "claim": " True or False:", "statement": " This statement is"}
BEFORE = {"qa": "Q: ", "claim": "Claim: ", "statement": "Statement: "}

Told = list[tuple[str, str]]


def claim_in(prompt: str, wording: str) -> str:
    claim = prompt.removeprefix(BEFORE[wording]).removesuffix(AFTER[wording])
    assert len(claim) == len(prompt) - len(BEFORE[wording]) - len(AFTER[wording])
    assert claim in BY_CLAIM
    return claim


def shown(block: Block) -> Told:
    lines = block.prefix.splitlines()
    pairs = [line.rpartition(" ") for line in lines]
    return [(claim_in(prompt, block.wording), answer) for prompt, _, answer in pairs]


def asked(block: Block) -> Told:
    for item in block.items:
        assert {item.right, *item.rivals} == {" True\n", " False\n"}
        assert len(item.rivals) == 1
    return [(claim_in(item.prompt, block.wording), item.right.strip()) for item in block.items]


def all_blocks(task: Task, split: str) -> list[Block]:
    return _blocks(TASKS.index(task), split)


@cache
def _blocks(index: int, split: str) -> list[Block]:
    task = TASKS[index]
    return [task.build(split, w, seed) for w in task.wordings[split] for seed in SEEDS]


@cache
def misconception_of(claim: str) -> str:
    """The false claim that a claim of the kind is, or that it corrects: it stands before it."""
    place = CLAIMS.index(BY_CLAIM[claim])
    while CLAIMS[place]["true"]:
        place -= 1
    assert CLAIMS[place]["kind"] == "misconception"
    return CLAIMS[place]["claim"]


@pytest.fixture(params=TASKS, ids=lambda task: task.name)
def task(request: pytest.FixtureRequest) -> Task:
    return request.param


def test_names() -> None:
    assert [task.key for task in TASKS] == [
        "truthy_answer/surprising_truth",
        "truthy_answer/common_misconception",
    ]


@pytest.mark.parametrize("split", SPLITS)
def test_what_is_shown_and_right_is_true(task: Task, split: str) -> None:
    for block in all_blocks(task, split):
        for claim, answer in [*shown(block), *asked(block)]:
            assert answer == str(BY_CLAIM[claim]["true"])


@pytest.mark.parametrize("split", SPLITS)
def test_demonstrations_are_balanced(task: Task, split: str) -> None:
    each = {"surprising_truth": 4, "common_misconception": 16}[task.name]
    for block in all_blocks(task, split):
        told = shown(block)
        assert Counter(answer for _, answer in told) == {"True": each, "False": each}
        assert len({claim for claim, _ in told}) == 2 * each


def test_apparent_claims_are_shown_and_surprising_ones_asked() -> None:
    found: set[str] = set()
    for split in SPLITS:
        for block in all_blocks(SURPRISING, split):
            assert {BY_CLAIM[claim]["kind"] for claim, _ in shown(block)} == {"apparent"}
            found |= {claim for claim, _ in asked(block)}
    assert {BY_CLAIM[claim]["kind"] for claim in found} == {"surprising"}
    assert len(found) > 500


@pytest.mark.parametrize("split", SPLITS)
def test_who_always_says_the_same_is_right_half_of_the_time(task: Task, split: str) -> None:
    for block in all_blocks(task, split):
        counts = Counter(answer for _, answer in asked(block))
        assert counts["True"] == counts["False"] > 25


def test_a_misconception_is_asked_with_its_correction() -> None:
    for split in SPLITS:
        for block in all_blocks(MISCONCEPTION, split):
            groups = Counter(misconception_of(claim) for claim, _ in asked(block))
            assert set(groups.values()) == {2}


def test_no_claim_is_asked_behind_its_correction_or_itself() -> None:
    for split in SPLITS:
        for block in all_blocks(MISCONCEPTION, split):
            told, later = (
                {misconception_of(claim) for claim, _ in part}
                for part in (shown(block), asked(block))
            )
            assert not told & later


def test_splits_share_no_claim_and_no_correction(task: Task) -> None:
    used = []
    for split in SPLITS:
        blocks = all_blocks(task, split)
        claims = {claim for b in blocks for claim, _ in [*shown(b), *asked(b)]}
        if task is MISCONCEPTION:
            claims = set(map(misconception_of, claims))
        used.append(claims)
    assert used[0] and used[1] and not used[0] & used[1]
    assert not set(task.wordings["label"]) & set(task.wordings["verify"])


def test_seeds_draw_apart(task: Task) -> None:
    for split in SPLITS:
        prefixes = {block.prefix for block in all_blocks(task, split)}
        assert len(prefixes) == len(task.wordings[split]) * len(SEEDS)
