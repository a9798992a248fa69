"""Artefacts are checked byte by byte, installations package by package."""

import json
from pathlib import Path

import pytest

from curate import soundness
from curate.cli import main
from windows.store import Recipe, Store


def test_check_tells_changed_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path / "out")
    for label in ("one", "two"):
        recipe = Recipe("letters", label, 1, {"label": label})
        store.build(recipe, lambda part: write_letter(part / "letter"), config={})
    assert main(["check", str(store.root), "--quiet"]) == 0
    assert capsys.readouterr().out == "2 of 2 artefacts match\n"
    first = store.list()[0].path
    (first / "letter").write_text("b")
    assert main(["check", str(first)]) == 1
    out, err = capsys.readouterr()
    assert "changed: letter" in out
    assert err == "modehop: 1 of 1 artefacts do not match their checksums\n"
    assert main(["check", str(store.root), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["artefacts"][0]["faults"] == ["changed: letter"]


def write_letter(path: Path) -> None:
    path.write_text("a")


@pytest.mark.slow
def test_doctor_finds_this_installation_sound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--out", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sound"]
    by_name = {each["what"]: each for each in found["findings"]}
    assert {"torch", "polars", "free disk"} <= by_name.keys()
    assert by_name["torch threads"]["found"].endswith("1 in every worker")


def test_doctor_refuses_a_package_out_of_range(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ["numpy<1", "no-such-distribution>=2", "pyyaml", 'numpy<1; extra == "dev"']
    monkeypatch.setattr(soundness, "_requirements", lambda: wanted)
    monkeypatch.setattr(soundness, "_threads", lambda: iter(()))
    assert main(["doctor", "--out", str(tmp_path), "--quiet"]) == 1
    out, err = capsys.readouterr()
    assert "missing" in out
    assert err == "modehop: not sound: numpy, no-such-distribution\n"
