import json
from pathlib import Path

import pytest
from huggingface_hub import constants
from rich.console import Console

from curate.command import Answer
from curate.suite_listing import list_suite
from scoring.settings import SuiteSection
from scoring.suite.registry import blocks, tasks
from scoring.suite.schema import SPLITS
from scoring.suite.sets import Sets


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def printed(answer: Answer, width: int) -> str:
    assert not callable(answer.shown)
    console = Console(width=width)
    with console.capture() as told:
        console.print(*answer.shown)
    return told.get()


def test_counts_are_those_of_the_blocks_that_are_scored() -> None:
    keys = ["normal_control/addition", "intuitive_answer/crt_price", "out_of_context/location_food"]
    for wordings in (None, 1):
        section = SuiteSection(tasks=tuple(keys), demo_seeds=30, wordings=wordings)
        rows = list_suite(section).data["tasks"]
        assert [row["task"] for row in rows] == [key for key in tasks() if key in keys]
        for row in rows:
            for split in SPLITS:
                made = blocks(row["task"], split=split, demo_seeds=30, wordings=wordings)
                assert row["demo_seeds"][split] == len({block.demo_seed for block in made})
                assert row["wordings"][split] == list(dict.fromkeys(b.wording for b in made))
                items = sum(len(block.items) for block in made if block.demo_seed == 0)
                assert row["items_of_a_demo_seed"][split] == items
            assert row["example"]["right"] not in row["example"]["rivals"]


def test_what_would_be_downloaded_is_listed_and_not_read() -> None:
    answer = list_suite(SuiteSection(tasks=("flipped_answer/*",)))
    rows = {row["task"]: row for row in answer.data["tasks"]}
    assert list(rows) == [key for key in tasks() if key.startswith("flipped_answer/")]
    for row in rows.values():
        here = row["origin"] == "built in"
        assert here == (row["example"] is not None) == (row["items_of_a_demo_seed"] is not None)
    assert [row["origin"] for row in rows.values()] == ["built in"] * 2 + ["hub"] * 8
    narrow, wide = (printed(answer, width) for width in (80, 200))
    assert all(key in narrow for key in rows)
    assert wide.count("not here:") == 8


def test_the_released_set_on_disk_is_listed_with_its_items(tmp_path: Path) -> None:
    row = {"split": "test", "correct_answer": "0.05", "incorrect_answer": "0.10"}
    rows = [{**row, "prompt": f"A bat and {i} balls?"} for i in range(20)]
    (tmp_path / "intuitive_answer.crt.jsonl").write_text("\n".join(map(json.dumps, rows)))
    sets = Sets(released=str(tmp_path))
    section = SuiteSection(tasks=("intuitive_answer/released-*",))
    (listed,) = list_suite(section, sets).data["tasks"]
    assert listed["origin"] == "released"
    assert listed["demo_seeds"] == {"label": 1, "verify": 1}
    assert sum(listed["items_of_a_demo_seed"].values()) == 20
    assert listed["example"]["right"] == " 0.05\n"
    assert "(released, demo seeds: 1)" in printed(list_suite(section, sets), 200)
