"""`modehop select` and `modehop predictors` on the small embedded study."""

import json
from pathlib import Path
from typing import Any

import pytest

from curate.cli import main
from trainers.predictors import PREDICTORS

STUDY = str(Path(__file__).parents[1] / "studies" / "small.yaml")


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main([*arguments, "--json", "--quiet"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_checkpoints_are_ranked_and_predictors_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = (STUDY, "--out", str(tmp_path / "out"), "--set", "workers=0")
    found = ask(capsys, "select", *where)
    steps = [row["step"] for row in found["checkpoints"]]
    assert steps == list(range(24, 57, 4))
    best = min(found["checkpoints"], key=lambda row: row["rank"])
    assert (best["step"], best["rank"]) == (found["high"], 1)
    assert {row["other"] for row in found["comparisons"]} >= {"final", "loss-selected"}
    assert {row["task"] for row in found["forgetting"]} == {
        "successive_answer/addition",
        "repetitive_answer/addition",
    }, "controls have no mode to be selected by"
    measured = ask(capsys, "predictors", *where, "--set", "predictors.examples=8")
    values = measured["values"]
    assert {row["step"] for row in values} == set(steps)
    assert {row["predictor"] for row in values} == set(PREDICTORS)
    assert {row["sign"] for row in measured["best_layers"]} == {"positive", "negative"}
    assert measured["best_layers"] != measured["best_layers_detrended"]
    assert all(row["floor"] == pytest.approx(1 / 9) for row in measured["best_layers"])
