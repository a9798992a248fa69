"""`modehop score` on a released run: a Hub cache under the true names, scored offline by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from curate.cli import main
from scoring.items import read_items

REPO = "allenai/Olmo-3-1025-7B"
STEPS = tuple(range(1000, 10000, 1000))
TASK = "successive_answer/addition"
STUDY: dict[str, Any] = {
    "name": "released",
    "run": "olmo3-7b",
    "suite": {"tasks": [TASK, "normal_control/addition"], "demo_seeds": 2, "wordings": 1},
    "windows": {"first_step": 1000, "every": 1000},
    "workers": 0,
}


@pytest.fixture
def cached(
    tiny: Callable[[int], Path], lay: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A cache with revisions of OLMo 3 7B, a tiny model in each, and nobody to ask."""
    from huggingface_hub import constants

    files = {f"stage1-step{step}": long_sighted(tiny(step % 4000)) for step in STEPS}
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(lay(REPO, files)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def long_sighted(folder: Path) -> dict[str, bytes]:
    """Read a checkpoint whose rotary positions go as far as a persona's facts."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    config = json.loads(files["config.json"]) | {"max_position_embeddings": 4096}
    return files | {"config.json": json.dumps(config).encode()}


def ask(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    assert main([*arguments, "--quiet"]) == code
    out, err = capsys.readouterr()
    return json.loads(out) if "--json" in arguments else err or out


def write(**change: Any) -> str:
    Path("study.yaml").write_text(yaml.safe_dump(STUDY | change))
    return "study.yaml"


def test_scored_and_labelled_by_name(cached: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = write(labels={"task": TASK, "rule": "delta"})
    plan = ask(capsys, "score", study, "--dry-run", "--json")
    cost = plan["cost"]
    assert (cost["checkpoints"], cost["tables"], cost["to_fetch"]) == (len(STEPS), 2, 0)
    assert 0 < cost["unique_tokens"] < cost["tokens"] and cost["flops"] > 0
    assert not Path("modehop-out").exists()
    found = ask(capsys, "score", study, "--json")
    assert {row["step"] for row in found["scores"]} == set(STEPS)
    assert {"soft", "hard", "margin", "auc", "mean_p_soft", "mean_p_hard", "mass"} < set(
        found["scores"][0]
    )
    items = read_items(Path(found["artefact"]))
    assert items["run"].unique().to_list() == ["olmo3-7b"]
    labels = ask(capsys, "label", study, "--json")["labels"]
    assert [row["first_batch"] for row in labels if row["task"] == TASK] == list(STEPS[:-1])
    # Models of steps 1000 and 5000 are one: nothing moved in the end, whatever moved between.
    levels = {row["step"]: row["soft"] for row in found["scores"] if row["task"] == TASK}
    assert levels[1000] == levels[5000] == levels[9000] != levels[2000]
    again = ask(capsys, "score", study, "--json")
    assert again == found


def test_generations_beside(cached: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate = {"personas": ["wolf"], "samples": 1, "max_new_tokens": 1, "answers": [TASK]}
    study = write(suite={**STUDY["suite"], "demo_seeds": 1, "generate": generate})
    found = ask(capsys, "score", study, "--json", "--set", "windows.end_step=2000")
    assert {row["step"] for row in found["personas"]} == {1000, 2000}
    assert {row["task"] for row in found["answers"]} == {"addition"}


def test_coarse_to_fine(cached: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = write(sweep={"coarse": {"task": TASK, "every": 4, "threshold": 1e-12, "z": 0}})
    found = ask(capsys, "score", study, "--json")
    # 1000, 5000 and 9000 hold one model: nothing is seen to change, and no more is scored.
    assert found["changes"] == []
    assert sorted({row["step"] for row in found["scores"]}) == [1000, 5000, 9000]
    finer = ask(capsys, "score", study, "--json", "--set", "sweep.coarse.every=2")
    assert {(row["first_step"], row["end_step"]) for row in finer["changes"]} >= {(1000, 2000)}
    labelled = write(
        sweep={"coarse": {"task": TASK, "every": 2}}, labels={"task": TASK, "rule": "delta"}
    )
    assert "sweep.coarse" in ask(capsys, "label", labelled, code=2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sweep": {"executor": "slurm"}}, "slurm"),
        ({"labels": {"task": TASK}, "mixtures": {}}, ""),
        ({"windows": {"first_step": 1000, "every": 1500}}, "the nearest is"),
        ({"suite": {**STUDY["suite"], "tasks": ["succesive_answer/*"]}}, "suite.tasks"),
        ({"sweep": {"coarse": {"task": "normal_control/addition", "every": 2}}}, "control"),
    ],
)
def test_faults_are_told_before_a_model_is_loaded(
    cached: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], says: str
) -> None:
    said = ask(capsys, "score", write(**change), "--dry-run", code=2 if says else 0)
    assert says in said and (not says or said.count("\n") == 1)
    assert not Path("modehop-out").exists()


def test_what_a_study_says_nothing_of_is_refused(
    cached: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "labels" in ask(capsys, "label", write(), code=2)
    assert "transfer" in ask(capsys, "transfer", write(labels={"task": TASK}), code=2)
    done = ask(capsys, "status", write(), "--json")
    assert [step["name"] for step in done["steps"]] == ["pretrain", "scores"]


def test_a_run_without_data_or_training_is_reported(
    cached: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write(labels={"task": TASK, "rule": "delta"})
    found = ask(capsys, "report", study, "--json")
    assert Path("modehop-out/released/report.html").stat().st_size > 0
    assert found["verdict"] is None and found["transfer_check"] is None
    assert ask(capsys, "run", study, "--json")["labels"] == found["labels"]
    nulls = ask(capsys, "null", study, "--json")
    assert {row["null"] for row in nulls["findings"]} >= {"identity"} or not nulls["verdicts"]
    refused = ask(capsys, "null", study, "--check", "averaging", code=2)
    assert "averaging" in refused
