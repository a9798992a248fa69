"""The checkpoints of a run, listed and audited: in folders, in the Hub's cache, in tables."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import save

from curate.cli import main
from windows.order_cache import CACHE_VARIABLE

REPO = "allenai/Olmo-3-1125-32B"


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def write_run(**change: Any) -> None:
    run = {
        "name": "small",
        "sequence_length": 8,
        "seed": 7,
        "step_map": [{"first_step": 0, "first_batch": 0, "batch_tokens": 32}],
        "tokenizer": {"vocab_size": 127, "eos_id": 1, "pad_id": 0},
        "loader": "unknown",
    }
    Path("small.yaml").write_text(yaml.safe_dump(run | change))


def weights(seed: int) -> bytes:
    return save({"w": np.random.default_rng(seed).normal(size=5).astype(np.float32)})


def ask(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    assert main(["checkpoints", "./small.yaml", *arguments, "--json", "--quiet"]) == code
    out, _ = capsys.readouterr()
    return json.loads(out)


def test_a_folder_is_listed_and_audited(capsys: pytest.CaptureFixture[str]) -> None:
    write_run(checkpoints="ckpt")
    for step, seed in ((0, 0), (10, 1), (20, 2), (30, 2)):
        folder = Path("ckpt") / f"stage1-step{step}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(weights(seed))
    (Path("ckpt") / "notes").mkdir()
    found = ask(capsys)
    assert [(row["step"], row["tokens"]) for row in found["checkpoints"]] == [
        (step, 32 * step) for step in (0, 10, 20, 30)
    ]
    assert found["unknown"] == ["notes"]
    assert "audit" not in found
    found = ask(capsys, "--audit", code=1)
    assert found["audit"]["equal"] == [
        {"names": ["stage1-step20", "stage1-step30"], "files": ["model.safetensors"], "whole": True}
    ]
    # One checkpoint is audited beside all the others.
    found = ask(capsys, "--audit", "--step", "20", code=1)
    assert [row["step"] for row in found["checkpoints"]] == [20]
    (Path("ckpt") / "stage1-step30" / "model.safetensors").write_bytes(weights(3))
    assert ask(capsys, "--audit", "--all-bytes")["audit"]["clean"] is True


def hub_cache(root: Path, revisions: dict[str, int]) -> None:
    """Lay revisions out as the Hub's client does: refs, snapshots of links, blobs by SHA-256."""
    repo = root / f"models--{REPO.replace('/', '--')}"
    for name, seed in revisions.items():
        data = weights(seed)
        digest = hashlib.sha256(data).hexdigest()
        commit = hashlib.sha1(name.encode()).hexdigest()
        for folder in ("blobs", "refs", f"snapshots/{commit}"):
            (repo / folder).mkdir(parents=True, exist_ok=True)
        (repo / "blobs" / digest).write_bytes(data)
        (repo / "refs" / name).write_text(commit)
        link = repo / "snapshots" / commit / "model.safetensors"
        link.symlink_to(Path("../../blobs") / digest)


def test_revisions_that_serve_the_final_model_are_found_without_a_network(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    write_run(released={"hub": REPO})
    hub_cache(
        tmp_path / "hub",
        {"stage1-step1000": 1, "stage1-step2000": 9, "stage1-step3000": 3, "main": 9, "odd": 5},
    )
    found = ask(capsys, "--audit", code=1)
    assert [row["name"] for row in found["checkpoints"]] == [
        f"stage1-step{step}" for step in (1000, 2000, 3000)
    ]
    assert found["unknown"] == ["main", "odd"]
    one = ask(capsys, "--step", "2000")["checkpoints"]
    commit = hashlib.sha1(b"stage1-step2000").hexdigest()
    assert [row["address"] for row in one] == [f"{REPO}@{commit}"]
    assert main(["checkpoints", "./small.yaml", "--step", "2500"]) == 2
    err = capsys.readouterr().err
    assert "has no checkpoint stage1-step2500" in err and "2000" in err and err.count("\n") == 1
    assert [each["names"] for each in found["audit"]["equal"]] == [["stage1-step2000", "main"]]


def test_a_table_is_corrected_by_its_steps(capsys: pytest.CaptureFixture[str]) -> None:
    write_run(released={"csv": "table.csv"})
    rows = ["Stage,Step,Tokens Seen,Checkpoint Directory"]
    rows += [f"stage1,{step},{tokens},https://d.test/step{step}" for step, tokens in
             ((0, 0), (10, 320), (20, 600))]  # fmt: skip
    Path("table.csv").write_text("\n".join(rows) + "\n")
    found = ask(capsys)
    assert [row["tokens"] for row in found["checkpoints"]] == [0, 320, 640]
    assert len(found["notes"]) == 1 and "600" in found["notes"][0]


def test_a_later_stages_tokens_follow_from_its_batches(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As in OLMo 3's tables: a later stage's column is one interval low throughout."""
    stages = {"stage2": {"batch_tokens": 16}}
    write_run(released={"csv": "table.csv", "stages": stages})
    rows = ["Stage,Step,Tokens Seen,Checkpoint Directory"]
    rows += [f"stage1,{step},{32 * step},https://d.test/stage1/step{step}" for step in (0, 10, 20)]
    rows += [
        f"stage2,{step},{640 + 16 * (step - 5)},https://d.test/stage2/step{step}"
        for step in (5, 10)
    ]
    Path("table.csv").write_text("\n".join(rows) + "\n")
    found = ask(capsys)
    assert [row["tokens"] for row in found["checkpoints"]] == [0, 320, 640, 80, 160]
    assert any("2" in note and "stage2" in note for note in found["notes"])


@pytest.mark.parametrize(
    ("change", "arguments", "says"),
    [
        ({}, [], "does not say where its checkpoints are"),
        ({"checkpoints": "none"}, [], "none"),
        ({"released": {"csv": "none.csv"}}, [], "the table cannot be read"),
        ({"released": {"csv": "none.csv"}}, ["--from", "hub"], "released.hub"),
        ({"released": {"csv": "none.csv"}}, ["--audit"], "cannot be compared"),
    ],
)
def test_checkpoints_that_cannot_be_listed(
    capsys: pytest.CaptureFixture[str], change: dict[str, Any], arguments: list[str], says: str
) -> None:
    write_run(**change)
    assert main(["checkpoints", "./small.yaml", *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert says in err
