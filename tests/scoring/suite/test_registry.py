"""What every task of the suite keeps, whichever family it is of."""

import json
import subprocess
import sys
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from scoring.suite import released
from scoring.suite.registry import NO_LABELS, blocks, chosen, find, tasks
from scoring.suite.schema import SPLITS
from scoring.suite.sets import Sets
from windows.errors import ConfigError, DataError

KEYS = [key for key, task in tasks().items() if task.origin in ("built in", "fine-tuning")]
BUILT_IN = [key for key, task in tasks().items() if task.origin == "built in"]
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
    found = Counter((task.origin, task.family) for task in tasks().values())
    assert found == {
        **{("built in", family): count for family, count in FAMILIES.items()},
        ("hub", "flipped_answer"): 8,
        ("hub", "normal_control"): 8,
        ("fine-tuning", "out_of_context"): 7,
        ("fine-tuning", "emergent_misalignment"): 1,
    }
    assert all(key == task.key for key, task in tasks().items())
    labelled = {task.family for task in tasks().values()} - set(NO_LABELS)
    assert labelled == {f for f in FAMILIES if not f.endswith("_control")}


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


def test_demo_seeds_ask_apart_whatever_their_number(key: str) -> None:
    few, many = (blocks(key, split="label", demo_seeds=count) for count in (2, 6))
    wordings = tasks()[key].wordings["label"]
    first = {wording: [b for b in many if b.wording == wording][:2] for wording in wordings}
    assert few == [block for wording in wordings for block in first[wording]]
    # What a fine-tuning eval draws may be the wrong answers alone.
    name = "prompt" if key in BUILT_IN else "item_id"
    texts = {(b.wording, b.prefix, *(getattr(item, name) for item in b.items)) for b in many}
    assert len(texts) == len(many)


def test_every_task_has_three_wordings_and_no_more_than_asked_for() -> None:
    for key, task in tasks().items():
        label, verify = (task.wordings[split] for split in SPLITS)
        assert len({*label, *verify}) == len(label) + len(verify) >= 3, key
        assert len(label) >= 2 and verify, key
    for split in SPLITS:
        every = blocks(KEYS[0], split=split, demo_seeds=2)
        for most in (1, 2, 9):
            kept = tasks()[KEYS[0]].wordings[split][:most]
            some = blocks(KEYS[0], split=split, demo_seeds=2, wordings=most)
            assert some == [block for block in every if block.wording in kept]


@pytest.mark.parametrize(
    ("key", "most"),
    [
        ("intuitive_answer/crt_growth", 25),
        ("repetitive_answer/algebra_short", 32),
        ("successive_control/letters", 32),
        ("repetitive_answer/logic", None),
        ("out_of_context/function_code", None),
    ],
)
def test_no_more_demo_seeds_are_built_than_differ(key: str, most: int | None) -> None:
    for split in SPLITS:
        assert tasks()[key].draws(split) == most
        made = blocks(key, split=split, demo_seeds=40, wordings=1)
        assert [block.demo_seed for block in made] == list(range(most or 40))
        assert len({(b.prefix, *(item.item_id for item in b.items)) for b in made}) == len(made)


def test_patterns_take_what_is_built_in_unless_their_family_is_written_out() -> None:
    assert chosen(["*"]) == chosen(["*", "*/*", BUILT_IN[3]]) == tuple(BUILT_IN)
    known = tasks()
    for pattern in ("flipped_answer/*", "normal_control/*_[sh]*", "out_of_context/location_?*"):
        wanted = tuple(key for key in known if fnmatchcase(key, pattern))
        assert wanted and chosen([pattern]) == wanted
    assert "flipped_answer/sst2" in chosen(["flipped_answer/*"])
    # In the order in which tasks are reported, whatever the order asked for.
    some = ["emergent_misalignment/everyday", "normal_control/imdb", "truthy_answer/*"]
    assert chosen(some) == chosen(some[::-1] * 2) == tuple(k for k in known if k in chosen(some))
    assert chosen([]) == ()


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("sucessive_answer/*", "'sucessive_answer/*'; `modehop suite` lists them"),
        ("*/imdb", "write the family out, as in 'flipped_answer/imdb'"),
        ("succesive_answer/letters", "did you mean 'successive_answer/letters'"),
        ("flipped_answer/released-sst2", "give suite.released, which says where"),
    ],
)
def test_what_means_no_task_is_refused(pattern: str, says: str) -> None:
    with pytest.raises(ConfigError, match=r"^s\.yaml: suite\.tasks: no task ") as error:
        chosen(["normal_control/addition", pattern], where="s.yaml: suite.tasks")
    assert says in str(error.value)


def released_set(folder: Path) -> Sets:
    """Two tasks of the set: two sets of ordered demonstrations, and questions without any."""
    demos = [
        {"split": "demo", "prompt": f"{s} {a}?", "answer": str(a), "demo_set": s}
        for s in range(4)
        for a in range(10)
    ]
    tests = [
        {"split": "test", "prompt": f"{i}?", "correct_answer": "7", "incorrect_answer": "11"}
        for i in range(40)
    ]
    for name, rows in {
        "successive_answer.even": demos + tests,
        "intuitive_answer.crt": tests,
    }.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Sets(released=str(folder))


def test_the_released_set_is_a_part_of_the_suite_and_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = released_set(tmp_path)
    opened: list[Path] = []
    read = released._read
    monkeypatch.setattr(released, "_read", lambda path: (opened.append(path), read(path))[1])
    keys = ["successive_answer/released-even", "intuitive_answer/released-crt"]
    assert set(tasks(sets)) == {*tasks(), *keys}
    assert keys[0] in chosen(["successive_answer/*"], sets=sets)
    assert not set(keys) & set(chosen(["*"], sets=sets))
    assert find(keys[0], sets=sets).origin == "released"
    assert not opened
    for key, most in zip(keys, (2, 1), strict=True):
        for split in SPLITS:
            made = blocks(key, split=split, demo_seeds=24, sets=sets)
            assert [block.demo_seed for block in made] == list(range(most))
            assert len({block.prefix for block in made}) == most
    assert sorted(path.name for path in opened) == [
        "intuitive_answer.crt.jsonl",
        "successive_answer.even.jsonl",
    ]


def test_sets_that_cannot_be_are_refused(tmp_path: Path) -> None:
    for sets, fault, says in (
        (Sets(released="owner/name"), ConfigError, "as suite.released.revision"),
        (Sets(released=str(tmp_path / "none")), DataError, "no such folder"),
        (Sets(revisions=(("imbd", "a" * 40),)), ConfigError, "did you mean 'imdb'"),
    ):
        with pytest.raises(fault, match=says):
            chosen(["*"], sets=sets)
    for key in ("flipped_answer/poem_sentiment", "normal_control/poem_sentiment"):
        for sets in (Sets(), Sets(revisions=(("poem_sentiment", "main"),))):
            with pytest.raises(ConfigError, match=r"digits of one as suite\.revisions\.poem_sent"):
                blocks(key, split="label", demo_seeds=1, sets=sets)


def test_tasks_are_listed_without_reading_or_importing_what_reads() -> None:
    code = (
        "import sys; from scoring.suite.registry import chosen, tasks; from scoring.suite.sets"
        " import Sets; tasks(Sets('owner/name', 'a' * 40)); chosen(['*', 'flipped_answer/*'])\n"
        "sys.exit(bool({'datasets', 'huggingface_hub', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_blocks_are_the_same_in_another_process_without_torch() -> None:
    code = (
        "import hashlib, sys; from scoring.suite.registry import blocks, tasks\n"
        f"text = str([blocks(k, split='verify', demo_seeds=1) for k in {KEYS}])\n"
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
