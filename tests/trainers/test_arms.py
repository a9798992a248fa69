"""An arm: its plan, its data in their order, its checkpoints, its held-out loss."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from curate.export import ExportJob, export_mixture
from curate.settings import DecontaminationSection, MixtureSection, SelectSection
from scoring.sweep import load_model
from trainers.arms import (
    HELDOUT,
    ArmJob,
    heldout_loss,
    heldout_loss_of,
    read_heldout_loss,
    train_arm,
)
from trainers.loop import read_log
from trainers.plan import PLAN, TrainingPlan, read_plan
from windows.checkpoints.folder import OPTIMIZER, TRAINER, catalog
from windows.errors import DataError

TASK = "successive_answer/addition"
STEPS, EVERY, BATCH = 4, 2, 4


@pytest.fixture(scope="module")
def shards(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture of any window's data, exported as a study exports it: 4 batches and a rest."""
    root = tmp_path_factory.mktemp("mixture")
    labels = pl.DataFrame(
        {
            "window": [window.name for window in tiny.windows],
            "task": TASK,
            "label": "neutral",
            "first_batch": [window.first_batch for window in tiny.windows],
            "strength": [0.1, 0.2, 0.3],
        }
    )
    labels.write_parquet(root / "labels.parquet")
    mixture = MixtureSection(
        select=SelectSection(by="any"),
        tokens=(STEPS * BATCH + 3) * 32,
        decontamination=DecontaminationSection(match="prompt"),
    )
    job = ExportJob(
        name="uncontrolled",
        mixture=mixture,
        seed=0,
        run=tiny.run,
        data=tiny.data,
        windows=tuple(tiny.windows),
        labels=root / "labels.parquet",
        task=TASK,
        prompts=(),
    )
    export_mixture(job, root / "shards")
    return root / "shards"


def plan_of(tiny: Any, **changes: Any) -> TrainingPlan:
    fields: dict[str, Any] = {
        "arm": "uncontrolled",
        "seed": 0,
        "base": "b" * 64,
        "base_step": 5,
        "init": "weights+optimizer",
        "data": "d" * 64,
        "stage": "stage1",
        "steps": STEPS,
        "every": EVERY,
        "batch": BATCH,
        "lr": 1e-3,
        "optimizer": tiny.optimizer,
    }
    return TrainingPlan(**(fields | changes))


def job_of(tiny: Any, shards: Path, **changes: Any) -> ArmJob:
    return ArmJob(plan_of(tiny, **changes), tiny.checkpoint(5), shards, tiny.heldout)


@pytest.fixture(scope="module")
def arm(tiny: Any, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One arm, trained without an interruption. Read it only."""
    folder = tmp_path_factory.mktemp("arm") / "arm"
    train_arm(job_of(tiny, shards), folder)
    return folder


def test_an_arm_reads_its_shards_in_their_order(tiny: Any, shards: Path, arm: Path):
    log = read_log(arm)
    assert log["step"].to_list() == [5, 6, 7, 8]
    assert log["batch"].to_list() == [0, 1, 2, 3]
    assert set(log["lr"]) == {1e-3}
    exported = pl.read_parquet(shards / "instances.parquet")["instance"].to_list()
    assert log["instances"].explode().to_list() == exported[: STEPS * BATCH]
    assert len(exported) == STEPS * BATCH + 3


def test_it_leaves_the_checkpoints_of_its_plan(tiny: Any, arm: Path):
    found = catalog(arm / "checkpoints", "arm")
    assert [checkpoint.name for checkpoint in found] == ["stage1-step7", "stage1-step9"]
    assert read_plan(arm) == plan_of(tiny)
    for checkpoint in found:
        record = json.loads((checkpoint.path / TRAINER).read_text())
        assert (record["step"], record["next_batch"]) == (checkpoint.step, checkpoint.step - 5)
    assert sorted(path.name for path in arm.iterdir()) == ["checkpoints", HELDOUT, "log", PLAN]


def test_heldout_instances_are_in_no_arms_data(tiny: Any, shards: Path, arm: Path):
    heldout = set(tiny.order.instances(9, 11).tolist())
    exported = set(pl.read_parquet(shards / "instances.parquet")["instance"].to_list())
    trained = set(read_log(arm)["instances"].explode().to_list())
    assert len(heldout) == 8 and trained <= exported
    assert not heldout & exported
    assert not heldout & set(read_log(tiny.folder)["instances"].explode().to_list())
    assert exported <= set(tiny.order.instances(3, 9).tolist()), "the study's windows"


def test_the_heldout_loss_is_the_direct_computation(tiny: Any, arm: Path):
    last = arm / "checkpoints" / "stage1-step9"
    model, _ = load_model(last)
    total, count = 0.0, 0
    for row in tiny.heldout.astype(np.int64):
        with torch.inference_mode():
            logits = model(input_ids=torch.from_numpy(row[None])).logits[0].double().numpy()
        for position in range(31):
            exponents = np.exp(logits[position] - logits[position].max())
            total -= np.log(exponents[row[position + 1]] / exponents.sum())
            count += 1
    assert read_heldout_loss(arm) == pytest.approx(total / count, rel=1e-6)
    assert heldout_loss_of(last, tiny.heldout) == read_heldout_loss(arm)
    told = json.loads((arm / HELDOUT).read_text())
    assert told == {"loss": read_heldout_loss(arm), "tokens": 8 * 31}


def test_the_heldout_loss_does_not_depend_on_how_rows_are_grouped(tiny: Any):
    model, _ = load_model(tiny.checkpoint(9))
    rows = np.concatenate([tiny.heldout] * 9)[:67]
    parts = [heldout_loss(model, rows[:40]), heldout_loss(model, rows[40:])]
    expected = (40 * parts[0] + 27 * parts[1]) / 67
    assert heldout_loss(model, rows) == pytest.approx(expected, rel=1e-6)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_a_resumed_arm_ends_in_the_same_bytes(
    tiny: Any, shards: Path, arm: Path, tmp_path: Path, after: int
):
    folder, done = tmp_path / "arm", 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if done == after:
            raise Killed

    with pytest.raises(Killed):
        train_arm(job_of(tiny, shards), folder, advance=advance)
    assert read_plan(folder) == plan_of(tiny), "the plan is there before the first step"
    assert not (folder / HELDOUT).exists()
    told: list[int] = []
    train_arm(job_of(tiny, shards), folder, advance=told.append)
    assert sum(told) == STEPS
    assert tiny.contents(folder) == tiny.contents(arm)


def test_another_plan_is_refused_and_touches_nothing(
    tiny: Any, shards: Path, arm: Path, tmp_path: Path
):
    folder = shutil.copytree(arm, tmp_path / "arm")
    with pytest.raises(DataError, match="says something else"):
        train_arm(job_of(tiny, shards, lr=5e-3), folder)
    assert tiny.contents(folder) == tiny.contents(arm)


def test_shards_that_end_early_are_refused_before_anything_is_written(
    tiny: Any, shards: Path, tmp_path: Path
):
    says = r"got 19 instances where 6 steps of 4 need 24; raise the mixture's tokens"
    with pytest.raises(DataError, match=says):
        train_arm(job_of(tiny, shards, steps=6), tmp_path / "arm")
    assert not (tmp_path / "arm").exists()


def test_the_runs_optimizer_state_is_taken_over_or_not(
    tiny: Any, shards: Path, arm: Path, tmp_path: Path
):
    bare = shutil.copytree(tiny.checkpoint(5), tmp_path / "stage1-step5")
    for name in (OPTIMIZER, TRAINER):
        (bare / name).unlink()
    with pytest.raises(DataError, match=f"no {OPTIMIZER}.*training.init: weights"):
        train_arm(replace(job_of(tiny, shards), base=bare), tmp_path / "refused")
    job = replace(job_of(tiny, shards, init="weights"), base=bare)
    for name in ("a", "b"):
        # Not even what this process drew before may decide a byte.
        torch.rand(3)
        train_arm(job, tmp_path / name)
    assert tiny.contents(tmp_path / "a") == tiny.contents(tmp_path / "b")
    ours, theirs = read_log(tmp_path / "a"), read_log(arm)
    assert ours["instances"].equals(theirs["instances"])
    assert ours["loss"][0] == theirs["loss"][0], "the weights are the base's either way"
    assert ours["loss"][1] != theirs["loss"][1], "the first step is another one"


def test_an_arms_base_is_left_as_it_is(tiny: Any, shards: Path, tmp_path: Path):
    before = tiny.contents(tiny.checkpoint(5))
    train_arm(job_of(tiny, shards, steps=2), tmp_path / "arm")
    assert tiny.contents(tiny.checkpoint(5)) == before
