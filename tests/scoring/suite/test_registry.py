"""What every task of the suite keeps, whichever family it is of."""

import subprocess
import sys

import pytest

from scoring.suite.registry import blocks, tasks
from scoring.suite.schema import SPLITS

KEYS = list(tasks())
FAMILIES = {
    "successive_answer": 5,
    "successive_control": 4,
    "repetitive_answer": 8,
    "flipped_answer": 2,
    "truthy_answer": 2,
    "intuitive_answer": 3,
    "multihop_persona_qa": 6,
    "normal_control": 5,
}


def test_families() -> None:
    found = [task.family for task in tasks().values()]
    assert {family: found.count(family) for family in found} == FAMILIES


@pytest.fixture(params=KEYS)
def key(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_an_answer_is_right_or_wrong_and_ends(key: str) -> None:
    for split in SPLITS:
        for block in blocks(key, split=split, demo_seeds=2):
            assert block.items
            assert len({item.item_id for item in block.items}) == len(block.items)
            for item in block.items:
                assert item.rivals and item.right not in item.rivals
                assert all(each.endswith(block.terminator) for each in (item.right, *item.rivals))
                assert block.terminator.strip(" ") and not item.prompt.endswith(" ")
                # An answer must not end before its terminator does.
                assert block.terminator not in item.right.removesuffix(block.terminator)


def test_splits_share_no_question_and_no_wording(key: str) -> None:
    asked, worded = [], []
    for split in SPLITS:
        made = blocks(key, split=split, demo_seeds=3)
        asked.append({item.prompt for block in made for item in block.items})
        worded.append({block.wording for block in made})
    assert not asked[0] & asked[1]
    assert not worded[0] & worded[1]
    assert len(worded[0] | worded[1]) >= (2 if key.endswith("/addition") else 3)


def test_demo_seeds_ask_apart_whatever_their_number(key: str) -> None:
    few, many = (blocks(key, split="label", demo_seeds=count) for count in (2, 6))
    wordings = tasks()[key].wordings["label"]
    first = {wording: [b for b in many if b.wording == wording][:2] for wording in wordings}
    assert few == [block for wording in wordings for block in first[wording]]
    texts = {
        (block.wording, block.prefix, tuple(item.prompt for item in block.items)) for block in many
    }
    assert len(texts) == len(many)


def test_blocks_are_the_same_in_another_process_without_torch() -> None:
    code = (
        "import hashlib, sys; from scoring.suite.registry import blocks, tasks\n"
        "text = str([blocks(k, split='verify', demo_seeds=1) for k in tasks()])\n"
        "heavy = {'torch', 'transformers', 'datasets'} & set(sys.modules)\n"
        "print(hashlib.sha256(text.encode()).hexdigest(), len(heavy))"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PATH": ""},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1 and told.pop().endswith(" 0\n")
