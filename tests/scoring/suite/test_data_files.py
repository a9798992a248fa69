import json
from pathlib import Path

import pytest

from scoring.suite.data_files import data_lines, even_half
from scoring.suite.schema import SPLITS
from windows.errors import DataError

FOLDER = Path(__file__).parents[3] / "scoring" / "suite" / "data"


@pytest.mark.parametrize("name", ["claims", "sentiment", "topic", "knowledge"])
def test_lines_are_those_of_the_file(name: str) -> None:
    text = (FOLDER / f"{name}.jsonl").read_text("utf-8")
    assert [dict(line) for line in data_lines(name)] == [
        json.loads(line) for line in text.splitlines()
    ]


def test_lines_are_read_once_and_cannot_be_changed() -> None:
    assert data_lines("topic") is data_lines("topic")
    with pytest.raises(TypeError):
        data_lines("topic")[0]["label"] = "other"


def test_a_missing_file_is_named() -> None:
    with pytest.raises(DataError, match=r"scoring/suite/data/no such\.jsonl: no readable data"):
        data_lines("no such")


def test_a_broken_line_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "broken.jsonl").write_text('{"a": 1}\n[1]\n', encoding="utf-8")
    monkeypatch.setattr("scoring.suite.data_files.files", lambda package: tmp_path)
    with pytest.raises(DataError, match=r"broken\.jsonl"):
        data_lines("broken")


def test_a_half_has_as_many_lines_of_every_label_and_keeps_their_order() -> None:
    lines = [{"t": f"line {n}", "l": "abb"[n % 3]} for n in range(300)]
    halves = [even_half(lines, split, text="t", label="l") for split in SPLITS]
    for found in halves:
        assert found == [line for line in lines if line in found]
        labels = [line["l"] for line in found]
        assert labels.count("a") == labels.count("b") > 35
    assert not {line["t"] for line in halves[0]} & {line["t"] for line in halves[1]}
    assert sum(len(half) for half in halves) == 200


def test_which_lines_are_in_a_half_does_not_depend_on_their_place() -> None:
    lines = [{"t": f"line {n}", "l": "abb"[n % 3]} for n in range(300)]
    one, other = (even_half(some, "label", text="t", label="l") for some in (lines, lines[::-1]))
    assert one == other[::-1]
    assert even_half([], "label", text="t", label="l") == []
