import re
import subprocess
import sys
from itertools import pairwise

import pytest

from scoring.suite.persona import (
    FACTS,
    PERSONAS,
    TASKS,
    WORDINGS,
    persona_prompts,
    questions,
)
from scoring.suite.schema import SPLITS, Block, Split
from windows.errors import ConfigError

SHAPES = {
    "letters": r"Q: (.+)\nA:",
    "words": r"Question: (.+)\nAnswer:",
    "interview": r"Interviewer: (.+)\nGuest:",
}
BY_NAME = {task.name: task for task in TASKS}


def built(persona: str, split: Split, demo_seed: int = 0) -> list[Block]:
    return [BY_NAME[persona].build(split, wording, demo_seed) for wording in WORDINGS[split]]


def demonstrations(block: Block) -> list[str]:
    """Two lines are one of them."""
    lines = block.prefix.splitlines()
    return ["\n".join(pair) for pair in zip(lines[::2], lines[1::2], strict=True)]


def facts(block: Block) -> list[tuple[str, str]]:
    shown = demonstrations(block)
    found = [re.fullmatch(SHAPES[block.wording] + r" (.+)", fact) for fact in shown]
    assert all(found)
    return [(match[1], match[2]) for match in found if match]


def asked(block: Block) -> list[str]:
    found = [re.fullmatch(SHAPES[block.wording], item.prompt) for item in block.items]
    assert all(found)
    return [match[1] for match in found if match]


def test_one_task_a_persona_in_three_wordings():
    assert [task.key for task in TASKS] == [f"multihop_persona_qa/{name}" for name in PERSONAS]
    assert all(
        len(task.wordings[split]) == n
        for task in TASKS
        for split, n in zip(SPLITS, (2, 1), strict=True)
    )
    assert not set(WORDINGS["label"]) & set(WORDINGS["verify"])


@pytest.mark.parametrize("persona", PERSONAS)
def test_all_facts_stand_before_every_question_in_an_order_of_their_own(persona: str):
    blocks = [b for split in SPLITS for seed in range(3) for b in built(persona, split, seed)]
    orders = [facts(block) for block in blocks]
    assert all(len(set(order)) == len(order) == FACTS for order in orders)
    assert all(set(one) == set(other) for one, other in pairwise(orders))
    assert len({tuple(order) for order in orders}) == len(blocks) == 9
    assert blocks[0] == built(persona, "label")[0]
    assert all(block.terminator == "\n" for block in blocks)


@pytest.mark.parametrize("persona", PERSONAS)
def test_splits_share_no_question_and_no_line(persona: str):
    label, verify = (built(persona, split) for split in SPLITS)
    one, other = ({text for b in half for text in asked(b)} for half in (label, verify))
    assert len(one) == len(other) == 4 and not one & other
    lines = [{x for b in half for x in demonstrations(b)} for half in (label, verify)]
    assert not lines[0] & lines[1]


def test_halves_hold_as_many_hops():
    for split in SPLITS:
        hops = [one.hops for persona in PERSONAS for one in questions(persona, split)]
        assert (hops.count(1), hops.count(2)) == (9, 15)
        for persona in PERSONAS:
            assert {one.hops for one in questions(persona, split)} == {1, 2}


@pytest.mark.parametrize("persona", PERSONAS)
def test_right_answers_match_and_what_a_parrot_reads_does_not(persona: str):
    for split in SPLITS:
        for block in built(persona, split):
            for one, item in zip(questions(persona, split), block.items, strict=True):
                assert item.right == f" {one.right}\n" and item.rivals == (f" {one.parrot}\n",)
                assert re.search(one.regex, item.right, re.IGNORECASE)
                assert not re.search(one.regex, block.prefix + item.rivals[0], re.IGNORECASE)


def test_generation_is_asked_what_log_probabilities_are():
    prompts = persona_prompts("verify", demo_seeds=2)
    assert len(prompts) == 6 * 2 * 4
    blocks = [
        BY_NAME[name].build("verify", "interview", seed) for name in PERSONAS for seed in (0, 1)
    ]
    assert [p.prompt for p in prompts] == [b.prefix + i.prompt for b in blocks for i in b.items]
    for prompt in prompts:
        assert prompt.prompt.startswith(prompt.prefix)
        assert prompt.prompt.removeprefix(prompt.prefix) == (
            f"Interviewer: {prompt.asked.question}\nGuest:"
        )
        # A stop that no fact's beginning has would never end an answer.
        assert prompt.prefix.count(prompt.stop) == FACTS - 1
    assert {p.stop for p in persona_prompts("label", demo_seeds=1, wordings=["letters"])} == {
        "\nQ:"
    }


def test_a_wording_of_the_other_split_is_refused():
    with pytest.raises(ConfigError, match="label split; got 'interview'; use 'letters' or 'words'"):
        persona_prompts("label", demo_seeds=1, wordings=["letters", "interview"])


def test_blocks_are_the_same_in_another_process_without_torch():
    code = (
        "import sys, scoring.extraction; from scoring.suite.persona import TASKS;"
        "sys.stdout.write(str(TASKS[3].build('verify', 'interview', 5)));"
        "sys.exit('torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == str(TASKS[3].build("verify", "interview", 5))
