import importlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from scoring.suite.flipped import TASKS
from scoring.suite.schema import SPLITS, Block
from scoring.suite.task import Task

FOLDER = Path(__file__).parents[3] / "scoring" / "suite" / "data"
SEEDS = range(4)
LABELS = {"sentiment": {"positive", "negative"}, "topic": {"sports", "science"}}

Pair = tuple[str, str]


def truth(name: str) -> dict[str, str]:
    """The label of every text, read without the code under test."""
    lines = (FOLDER / f"{name}.jsonl").read_text("utf-8").splitlines()
    return {row["text"]: row["label"] for row in map(json.loads, lines)}


def text_of(prompt: str, texts: dict[str, str]) -> str:
    """The known text that a prompt begins with, after its first marker."""
    told = prompt.partition(": ")[2]
    ends = [at for at in range(len(told)) if told[at] in ".!?"]
    (found,) = [told[: at + 1] for at in ends if told[: at + 1] in texts]
    return found


def shown(block: Block, texts: dict[str, str]) -> list[Pair]:
    lines = block.prefix.splitlines()
    # Two lines are one demonstration.
    parts = ["\n".join(pair) for pair in zip(lines[::2], lines[1::2], strict=True)]
    return [(text_of(part, texts), part.rpartition(" ")[2]) for part in parts]


def asked(block: Block, texts: dict[str, str]) -> list[tuple[str, str, str]]:
    found = []
    for item in block.items:
        assert item.prompt.endswith(":")
        (wrong,) = item.rivals
        for answer in (item.right, wrong):
            assert (
                answer[0] == " "
                and answer.endswith("\n")
                and answer.count("\n") == 1
                and len(answer.split()) == 1
            )
        found.append((text_of(item.prompt, texts), item.right.strip(), wrong.strip()))
    return found


@pytest.fixture(params=TASKS, ids=lambda task: task.name)
def task(request: pytest.FixtureRequest) -> Task:
    return request.param


def test_names() -> None:
    assert [task.key for task in TASKS] == ["flipped_answer/sentiment", "flipped_answer/topic"]


def test_demonstrations_are_balanced_and_all_flipped(task: Task) -> None:
    texts = truth(task.name)
    for split in SPLITS:
        for wording in task.wordings[split]:
            pairs = shown(task.build(split, wording, 0), texts)
            assert len({text for text, _ in pairs}) == 32
            assert Counter(answer for _, answer in pairs) == dict.fromkeys(LABELS[task.name], 16)
            assert all({answer, texts[text]} == LABELS[task.name] for text, answer in pairs)


def test_the_parrot_keeps_the_true_label(task: Task) -> None:
    texts = truth(task.name)
    for split in SPLITS:
        block = task.build(split, task.wordings[split][0], 1)
        found = asked(block, texts)
        assert len(found) > 150
        for text, right, wrong in found:
            assert wrong == texts[text]
            assert {right, wrong} == LABELS[task.name]
        assert not {text for text, *_ in found} & {text for text, _ in shown(block, texts)}
        assert len(set(Counter(right for _, right, _ in found).values())) == 1


def test_splits_share_no_sentence_and_no_wording(task: Task) -> None:
    texts = truth(task.name)
    used = {
        split: {
            text
            for wording in task.wordings[split]
            for seed in SEEDS
            for block in [task.build(split, wording, seed)]
            for text, *_ in [*shown(block, texts), *asked(block, texts)]
        }
        for split in SPLITS
    }
    assert not used["label"] & used["verify"]
    assert len(used["label"] | used["verify"]) > 0.95 * len(texts)
    assert not set(task.wordings["label"]) & set(task.wordings["verify"])
    assert (len(task.wordings["label"]), len(task.wordings["verify"])) == (2, 1)


def test_seeds_draw_apart(task: Task) -> None:
    prefixes = {task.build("verify", task.wordings["verify"][0], seed).prefix for seed in SEEDS}
    assert len(prefixes) == len(SEEDS)


def test_blocks_are_the_same_in_another_process_which_loads_nothing_heavy() -> None:
    modules = ("flipped", "truthy", "normal", "intuitive")
    code = (
        "import importlib, sys\n"
        f"for name in {modules}:\n"
        "    for task in importlib.import_module('scoring.suite.' + name).TASKS:\n"
        "        print(ascii(task.build('verify', task.wordings['verify'][0], 3)))\n"
        "sys.exit(bool({'torch', 'datasets', 'transformers'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    made = [
        ascii(task.build("verify", task.wordings["verify"][0], 3))
        for name in modules
        for task in importlib.import_module(f"scoring.suite.{name}").TASKS
    ]
    assert told.stdout.splitlines() == made
    assert len(made) == 11
