import re
import subprocess
import sys
from itertools import pairwise

import pytest

from scoring.suite import addition
from scoring.suite.registry import blocks, tasks
from scoring.suite.schema import SPLITS, Block, Item
from windows.errors import ConfigError

KEYS = [key for key in tasks() if key.endswith("/addition")]
WORDS_BEFORE = {"after-end": 0, "after-text": 6, "after-long-text": 24}
LINE = re.compile(r"Q (\d+) \+ (\d+) A (\d+) \n ")


def demos(block: Block) -> list[tuple[int, int, int]]:
    return [(int(a), int(b), int(c)) for a, b, c in LINE.findall(block.prefix)]


def question(item: Item) -> tuple[int, int]:
    found = re.fullmatch(r"Q (\d) \+ (\d) A", item.prompt)
    assert found
    return int(found[1]), int(found[2])


def value(answer: str) -> int:
    found = re.fullmatch(r" (\d+) \n", answer)
    assert found
    return int(found[1])


@pytest.fixture(params=KEYS)
def key(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=SPLITS)
def split(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_keys() -> None:
    assert KEYS == [
        "successive_answer/addition",
        "repetitive_answer/addition",
        "normal_control/addition",
    ]


def test_halves_are_stratified_by_answer() -> None:
    label, verify = (addition.facts(split) for split in SPLITS)
    assert len(label) == len(verify) == 32
    assert set(label) | set(verify) == {addition.Fact(a, b) for a in range(8) for b in range(8)}
    for answer in range(15):
        counts = [sum(f.answer == answer for f in half) for half in (label, verify)]
        assert abs(counts[0] - counts[1]) <= 1


def test_every_line_is_true_and_from_its_half(key: str, split: str) -> None:
    half = set(addition.facts(split))
    for block in blocks(key, split=split, demo_seeds=16):
        shown = demos(block)
        assert len({(a, b) for a, b, _ in shown}) == 3
        assert all(a + b == c and (a, b) in half for a, b, c in shown)
        for item in block.items:
            asked = question(item)
            assert sum(asked) == value(item.right)
            assert asked in half - {(a, b) for a, b, _ in shown}
            assert item.right not in item.rivals
        assert all(item.right.endswith(block.terminator) for item in block.items)


def test_what_labels_is_disjoint_from_what_verifies(key: str) -> None:
    label, verify = (blocks(key, split=split, demo_seeds=16) for split in SPLITS)
    for part in (
        lambda bs: {question(item) for b in bs for item in b.items},
        lambda bs: {line[:2] for b in bs for line in demos(b)},
        lambda bs: (
            {question(item) for b in bs for item in b.items}
            | {line[:2] for b in bs for line in demos(b)}
        ),
        lambda bs: {b.wording for b in bs},
        lambda bs: {b.prefix for b in bs},
    ):
        assert part(label) and part(verify) and not part(label) & part(verify)


def test_wordings(split: str, key: str) -> None:
    for block in blocks(key, split=split, demo_seeds=8):
        head = LINE.sub("", block.prefix)
        assert head == block.frame
        if block.wording == "plain":
            assert head == ""
        else:
            count = WORDS_BEFORE[block.wording]
            assert re.fullmatch(rf"(w\d+ ){{{count}}}<eos> ", head)


def test_successive_items_part_the_parrot_from_the_right_answer(split: str) -> None:
    made = blocks("successive_answer/addition", split=split, demo_seeds=16, wordings=1)
    starts = [demos(b)[0][2] for b in made]
    for block, start in zip(made, starts, strict=True):
        assert [c for _, _, c in demos(block)] == [start, start + 1, start + 2]
        assert all([value(r) for r in item.rivals] == [start + 3] for item in block.items)
        left = [f for f in addition.facts(split) if f.answer != start + 3]
        assert len(block.items) == len(left) - 3
    possible = {0: 1, 1: 2} if split == "label" else {}
    counts = {s: starts.count(s) for s in set(starts)}
    assert counts == {**counts, **possible}
    assert set(starts) == (set(range(6)) if split == "label" else set(range(1, 6)))
    free = [n for s, n in counts.items() if s not in possible]
    assert max(free) - min(free) <= 1


def test_repetitive_items(split: str) -> None:
    for block in blocks("repetitive_answer/addition", split=split, demo_seeds=16):
        ((_, _, repeated),) = {(0, 0, c) for _, _, c in demos(block)}
        assert all([value(r) for r in item.rivals] == [repeated] for item in block.items)
        assert all(value(item.right) != repeated for item in block.items)


def test_normal_control_has_no_pattern_and_all_rivals(split: str) -> None:
    for block in blocks("normal_control/addition", split=split, demo_seeds=16):
        answers = [c for _, _, c in demos(block)]
        assert len(set(answers)) == 3
        assert all(after != before + 1 for before, after in pairwise(answers))
        assert len(block.items) == 29
        for item in block.items:
            assert {value(r) for r in item.rivals} | {value(item.right)} == set(range(15))


def test_demo_seeds_differ_and_do_not_depend_on_their_number(key: str, split: str) -> None:
    few, many = (blocks(key, split=split, demo_seeds=count) for count in (5, 48))
    for wording in tasks()[key].wordings[split]:
        own, first = ([b for b in made if b.wording == wording] for made in (many, few))
        assert own[:5] == first
        assert len({tuple(demos(b)) for b in own}) == len(own) == 48


def test_blocks_are_the_same_in_another_process(key: str) -> None:
    code = (
        "import sys; from scoring.suite.registry import blocks;"
        f"sys.stdout.write(str(blocks({key!r}, split='verify', demo_seeds=3)))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == str(blocks(key, split="verify", demo_seeds=3))


def test_suite_is_torch_free() -> None:
    code = "import scoring.suite.registry, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_item_id_is_content() -> None:
    one = Item.of("Q", " 1 \n", [" 2 \n"])
    assert one == Item.of("Q", " 1 \n", (" 2 \n",))
    assert one.item_id != Item.of("Q", " 2 \n", [" 1 \n"]).item_id
    every = [
        i for k in KEYS for s in SPLITS for b in blocks(k, split=s, demo_seeds=6) for i in b.items
    ]
    assert len({i.item_id for i in every}) == len(set(every))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"task_key": "succesive_answer/addition"}, "did you mean 'successive_answer/addition'"),
        ({"split": "test"}, "use 'label' or 'verify'"),
        ({"demo_seeds": 0}, "at least 1"),
        ({"demo_seeds": 1000}, "fewer demo seeds"),
        ({"wordings": 0}, "suite.wordings: too few; got 0; use at least 1"),
    ],
)
def test_refusals(arguments: dict[str, object], says: str) -> None:
    asked: dict[str, object] = {"task_key": KEYS[0], "split": "label", "demo_seeds": 1} | arguments
    with pytest.raises(ConfigError, match=says):
        blocks(asked.pop("task_key"), **asked)  # type: ignore[arg-type]
