"""What cannot end well is refused in one line before anything is made, by the commands it ends."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from curate.cli import main
from curate.feasible import check_feasible
from curate.shipped import shipped
from curate.study import ORDER, load_study
from scoring.transfer import EXPECTED_RHO
from windows.checkpoints.folder import OPTIMIZER, TRAINER
from windows.errors import ModehopError

TASKS = "suite.tasks=[successive_answer/addition, repetitive_answer/addition]"
CONTROL = f"{TASKS[:-1]}, normal_control/addition]"
STEPS = range(340, 437, 24)
# By the step that would have failed: a setting, and what the refusal names.
BAD = [
    ("scores", "suite.demo_seeds=5000", "suite.demo_seeds", "fewer demo seeds"),
    ("labels", "windows.first_step=1180", "windows", "at least 6 windows"),
    ("transfer", f"transfer.threshold={EXPECTED_RHO}", "transfer.threshold", "below 0.65"),
    ("transfer", "transfer.threshold=0.99", "transfer.threshold", "below 0.65"),
    ("exports", "mixtures.placebo.tokens=491521", "mixtures.placebo.tokens", "491520 or 491584"),
    ("exports", "mixtures.placebo.tokens=1", "mixtures.placebo.tokens", "use 64"),
    ("exports", "mixtures.placebo.tokens=786496", "mixtures.placebo.tokens", "at most 786432"),
    ("exports", "mixtures.control-pattern.select.windows=4", "mixtures.control-pattern", "393216"),
    ("exports", "mixtures.placebo.select.windows=41", "mixtures.placebo", "at most 40"),
    ("arms", "training.steps=264", "mixtures.control-pattern.tokens", "need 540672"),
    ("arms", "training.every=240", "training.every", "use at most 120"),
    ("verdict", TASKS, "suite.tasks", "normal_control"),
]


def refusal(check: Callable[[], object]) -> str:
    with pytest.raises(ModehopError) as caught:
        check()
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(("step", "setting", "where", "says"), BAD)
def test_a_step_that_would_fail_is_refused_by_its_commands_only(
    step: str, setting: str, where: str, says: str
) -> None:
    settings = [setting]
    if setting.startswith("windows"):
        settings += ["transfer.checkpoint=1180", "training.base_step=1180"]
    study = load_study("demo", settings)
    text = refusal(lambda: check_feasible(study, (step,)))
    assert f"{study.path}: {where}" in text
    assert says in text
    check_feasible(study, [name for name in ("corpus", "pretrain") if name != step])


@pytest.mark.parametrize(
    "setting",
    [
        "suite.demo_seeds=2",
        "transfer.threshold=0.6",
        "training.every=120",
        "mixtures.placebo.tokens=786432",
        "mixtures.placebo.select.windows=40",
        CONTROL,
    ],
)
def test_what_just_fits_is_taken(setting: str) -> None:
    check_feasible(load_study("demo", [setting]), ORDER)


def test_six_windows_are_enough_and_changes_alone_need_fewer() -> None:
    at = ["transfer.checkpoint=1180", "training.base_step=1180"]
    check_feasible(load_study("demo", ["windows.first_step=1156", *at]), ("labels",))
    few = load_study("demo", ["windows.first_step=1180", "labels.rule=delta", *at])
    check_feasible(few, ("labels",))


def test_a_dry_run_refuses_what_the_run_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for _, setting, where, says in BAD[2:4] + BAD[9:]:
        assert main(["demo", "--dry-run", "--set", setting]) == 2
        printed, err = capsys.readouterr()
        assert (printed, err.count("\n")) == ("", 1)
        assert where in err
        assert says in err
    assert list(tmp_path.iterdir()) == []


class Given:
    """A run given by its files and checkpoints, and the demo study of it."""

    def __init__(self, root: Path) -> None:
        self.run, self.study = root / "run.yaml", root / "study.yaml"
        self.checkpoints = root / "checkpoints"
        for step in STEPS:
            folder = self.checkpoints / f"stage1-step{step}"
            folder.mkdir(parents=True)
            save_file({"a/step": np.zeros(1, np.float32)}, folder / OPTIMIZER)
            (folder / TRAINER).write_text("{}")
        run = yaml.safe_load(shipped("runs")["tiny"].read_text())
        del run["corpus"], run["pretraining"]
        self._run = run | {"checkpoints": "checkpoints"}
        self.give(batches=450)
        study = yaml.safe_load(shipped("studies")["demo"].read_text())
        study |= {"run": "./run.yaml"}
        study["labels"]["rule"] = "delta"
        study["transfer"]["checkpoint"] = study["training"]["base_step"] = 388
        study["training"]["lr"] = 1e-3
        self.study.write_text(yaml.safe_dump(study))

    def give(self, batches: int) -> None:
        """Let the run's one file hold so many batches."""
        size = batches * self._run["step_map"][0]["batch_tokens"] * 4
        files = [{"source": "a", "path": "a.npy", "bytes": size}]
        self.run.write_text(yaml.safe_dump(self._run | {"files": files}))

    def refusal(self, step: str, *settings: str) -> str:
        return refusal(lambda: self.check(step, *settings))

    def check(self, step: str, *settings: str) -> None:
        check_feasible(load_study(self.study, settings), (step,))


@pytest.fixture
def given(tmp_path: Path) -> Given:
    return Given(tmp_path)


@pytest.mark.parametrize("step", ["transfer", "arms"])
@pytest.mark.parametrize("gone", [OPTIMIZER, TRAINER])
def test_a_given_run_needs_its_optimizer_where_training_goes_on(
    given: Given, step: str, gone: str
) -> None:
    given.check(step)
    (given.checkpoints / "stage1-step388" / gone).unlink()
    key = {"transfer": "transfer.checkpoint", "arms": "training.base_step"}[step]
    text = given.refusal(step)
    assert f"{given.study}: {key}" in text
    assert f"stage1-step388 has no {gone}" in text
    given.check("labels")


def test_an_optimizer_state_that_is_cut_short_is_refused(given: Given) -> None:
    path = given.checkpoints / "stage1-step388" / OPTIMIZER
    path.write_bytes(path.read_bytes()[:-1])
    assert "cut short" in given.refusal("transfer")


def test_arms_can_start_from_weights_alone_but_replays_cannot(given: Given) -> None:
    (given.checkpoints / "stage1-step388" / OPTIMIZER).unlink()
    given.check("arms", "training.init=weights")
    assert OPTIMIZER in given.refusal("transfer", "training.init=weights")


@pytest.mark.parametrize("step", ["transfer", "arms"])
def test_a_given_run_does_not_tell_its_learning_rate(given: Given, step: str) -> None:
    assert f"{given.study}: training.lr" in given.refusal(step, "training.lr=null")


def test_exports_need_a_manifest(given: Given) -> None:
    text = given.refusal("exports")
    assert f"{given.run}: files" in text
    assert "manifest.json" in text
    given.check("arms")


def test_a_run_that_was_read_to_its_end_has_nothing_to_hold_out(given: Given) -> None:
    end_step = STEPS[-1]
    given.check("arms")
    for batches, held_out in ((end_step + 1, True), (end_step, False)):
        given.give(batches)
        if held_out:
            given.check("arms")
        else:
            assert "no batch of the run is left" in given.refusal("arms")
