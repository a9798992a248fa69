"""The commands of a study, on an embedded run small enough to be made in seconds."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from curate.cli import main
from curate.shipped import shipped
from windows.store import StoreLock

ROOT = Path(__file__).parents[2]
TASK = "successive_answer/addition"
PROGRAM = "import sys; from curate.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study of a run of 32 steps, in which mixtures take any window."""
    root = tmp_path_factory.mktemp("mini")
    (root / "studies").mkdir()
    (root / "runs").mkdir()
    run = yaml.safe_load(shipped("runs")["tiny"].read_text())
    run["name"] = "mini"
    run["corpus"] |= {"warmup_steps": 8, "windows": 6, "window_steps": 4}
    run["pretraining"] |= {
        "steps": 32,
        "checkpoint_first": 8,
        "checkpoint_every": 4,
        "phases": [{"first_step": 0, "lr": 4e-3}],
    }
    run["pretraining"]["model"] |= {"hidden_size": 16, "layers": 1, "heads": 2}
    run["step_map"][0]["batch_tokens"] = 512
    (root / "runs" / "mini.yaml").write_text(yaml.safe_dump(run))
    study = yaml.safe_load(shipped("studies")["demo"].read_text())
    study |= {"name": "mini", "run": "mini", "windows": {"first_step": 8, "every": 4}, "workers": 0}
    study["suite"]["demo_seeds"] = 3
    study["transfer"]["checkpoint"] = study["training"]["base_step"] = 20
    study["training"] |= {"steps": 8, "every": 4, "seeds": 2}
    for mixture in study["mixtures"].values():
        mixture |= {"tokens": 4096, "select": {"by": "any"}}
    (root / "studies" / "mini.yaml").write_text(yaml.safe_dump(study))
    return root


@pytest.fixture
def call(folder: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """Run a command on the study, check its exit code, and return its JSON."""

    def call(command: str, *options: str, code: int = 0) -> dict[str, Any]:
        study, out = folder / "studies" / "mini.yaml", folder / "out"
        arguments = [command, str(study), "--out", str(out), "--quiet", "--json", *options]
        assert main(arguments) == code
        printed, err = capsys.readouterr()
        assert err.count("\n") == int(code != 0)
        found = json.loads(printed) if printed else {}
        assert isinstance(found, dict)
        return found

    yield call


def artefacts(folder: Path) -> list[str]:
    return sorted(str(path.parent.name) for path in (folder / "out").glob("*/*/record.json"))


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("run", []),
        ("score", []),
        ("export", ["--mixture", "placebo"]),
        ("train", ["--arm", "placebo", "--seed", "1"]),
        ("windows", []),
        ("when", ["--instance", "3"]),
        ("suite", []),
        ("status", []),
    ],
)
def test_a_dry_run_says_what_it_would_do_and_makes_nothing(
    call: Any, folder: Path, command: str, options: list[str]
) -> None:
    before = sorted(folder.rglob("*"))
    found = call(command, *options, "--dry-run", "--set", "seed=7")
    assert found["study"]["seed"] == 7
    assert found["run"]["name"] == "mini"
    names = {step["name"] for step in found["steps"]}
    assert ("report" in names) == (command == "run")
    assert not any(step["done"] for step in found["steps"])
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["export", "--mixture", "placbo"], "--mixture"),
        (["train", "--arm", "placbo", "--seed", "0"], "--arm"),
        (["train", "--arm", "placebo", "--seed", "2"], "use 0 to 1"),
    ],
)
def test_an_unknown_name_is_refused_before_anything_is_made(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    before = sorted(folder.rglob("*"))
    study = str(folder / "studies" / "mini.yaml")
    command, *options = arguments
    out = ["--out", str(folder / "none")]
    for last in (["--dry-run"], []):
        assert main([command, study, *options, *out, *last]) == 2
        assert says in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before


def test_a_folder_that_cannot_be_made_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = folder / "studies" / "mini.yaml"
    assert main(["score", str(study), "--out", str(study / "out")]) == 2
    err = capsys.readouterr().err
    assert "a file stands where a folder is needed" in err
    assert err.count("\n") == 1


def test_dry_runs_print_yaml_that_can_be_run(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = folder / "studies" / "mini.yaml"
    assert main(["run", str(study), "--dry-run", "--set", "training.seeds=1"]) == 0
    printed = capsys.readouterr().out
    text, rest = printed.split("---\n", 1)
    copy = folder / "studies" / "copy.yaml"
    copy.write_text(text)
    assert yaml.safe_load(text)["training"]["seeds"] == 1
    assert rest.startswith("# run ")
    assert main(["run", str(copy), "--dry-run"]) == 0
    assert capsys.readouterr().out.split("\n", 1)[1] == printed.split("\n", 1)[1].replace(
        str(study), str(copy)
    )
    copy.unlink()


@pytest.mark.slow
def test_the_commands_of_a_study_in_order(call: Any, folder: Path) -> None:
    found = call("windows")
    assert {row["order"] for row in found["windows"]} == {"not proved"}
    assert [name.rsplit("-", 1)[0] for name in artefacts(folder)] == ["mini"]

    scores = call("score")["scores"]
    assert {row["step"] for row in scores} == set(range(8, 33, 4))
    assert {row["demo_seeds"] for row in scores} == {3}

    found = call("windows")
    assert {row["order"] for row in found["windows"]} == {"proved"}

    found = call("label")
    assert len([row for row in found["labels"] if row["task"] == TASK]) == 6

    found = call("transfer", code=1)
    assert found["verdict"] in ("underpowered", "not-transferable")
    assert (found["windows"], found["shuffles"]) == (6, 2)

    found = call("export", "--mixture", "uncontrolled")
    assert [row["tokens"] for row in found["exports"]] == [4096, 4096]

    found = call("train", "--arm", "uncontrolled", "--seed", "1")
    assert found["steps"] == 8
    assert found["heldout_loss"] > 0
    assert len([name for name in artefacts(folder) if name.startswith("uncontrolled")]) == 3

    before = artefacts(folder)
    assert call("train", "--arm", "uncontrolled", "--seed", "1") == found
    assert artefacts(folder) == before

    found = call("verify", code=1)
    assert set(found["arms"]) == {
        "control-pattern",
        "control-generalization",
        "uncontrolled",
        "placebo",
    }

    found = call("run")
    assert found["wall_seconds"] > 0
    summary = json.loads((folder / "out" / "summary.json").read_text())
    assert summary == found
    assert (folder / "out" / "report.html").read_text().startswith("<!doctype html>")

    again = call("run")
    assert again == found
    assert json.loads((folder / "out" / "summary.json").read_text()) == summary

    found = call("status")
    assert found["done"] == found["of"] == len(found["steps"])
    assert call("report")["verdict"] == summary["verdict"]


@pytest.mark.slow
def test_a_disk_that_is_full_is_one_line_and_the_next_attempt_resumes(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, out = str(folder / "studies" / "mini.yaml"), folder / "full"
    real = os.fsync

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert main(["windows", study, "--out", str(out), "--quiet"]) == 2
    printed, err = capsys.readouterr()
    assert (printed, err.count("\n")) == ("", 1)
    assert "No space left on device" in err
    assert not list(out.glob("*/*/record.json"))
    monkeypatch.setattr(os, "fsync", real)
    assert main(["windows", study, "--out", str(out), "--quiet"]) == 0


@pytest.mark.slow
def test_two_commands_do_not_share_a_folder(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study, out = str(folder / "studies" / "mini.yaml"), folder / "locked"
    with StoreLock(out):
        ended = subprocess.run(
            [sys.executable, "-c", PROGRAM, "score", study, "--out", str(out)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    assert ended.returncode == 2
    assert ended.stderr.startswith("modehop: ")
    assert "another process" in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["run", "scores", "replay"])
def test_an_interrupted_command_says_so_and_leaves_nobody_behind(folder: Path, kind: str) -> None:
    """As Ctrl-C does it: every process of the group is interrupted while a step is being made."""
    study, out = str(folder / "studies" / "mini.yaml"), folder / f"interrupted-{kind}"
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "transfer", study, "--out", str(out), "--set", "workers=2"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not list(out.glob(f"{kind}/*.part")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    # Reads to the end of the streams, which the workers hold open too.
    printed, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert printed == ""
    assert err == "modehop: interrupted; the same command resumes where this one stopped\n"
