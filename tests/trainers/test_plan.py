"""What is written down before the first step stays as it is, and tells arms apart."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from trainers.plan import PLAN, TrainingPlan, check_arms, differences, read_plan, write_plan
from trainers.settings import OptimizerSection
from windows.errors import DataError

FIELDS: dict[str, Any] = {
    "arm": "control-pattern",
    "seed": 0,
    "base": "b" * 64,
    "base_step": 20,
    "init": "weights+optimizer",
    "data": "d" * 64,
    "stage": "stage1",
    "steps": 8,
    "every": 4,
    "batch": 32,
    "lr": 1e-3,
    "optimizer": OptimizerSection(),
}
OTHERS: dict[str, Any] = {
    "engine": "olmo_core",
    "base": "c" * 64,
    "base_step": 24,
    "init": "weights",
    "stage": "stage2",
    "steps": 12,
    "every": 2,
    "batch": 16,
    "lr": 2e-3,
    "optimizer": OptimizerSection(clip=2.0),
}
OF_THE_ARM: dict[str, Any] = {"arm": "placebo", "seed": 1, "data": "e" * 64}


def plan_of(**changes: Any) -> TrainingPlan:
    return TrainingPlan(**(FIELDS | changes))


def test_every_field_is_either_the_arms_or_compared():
    assert set(OTHERS) | set(OF_THE_ARM) == set(TrainingPlan.model_fields)


@pytest.mark.parametrize("field", OTHERS)
def test_arms_that_differ_in_more_than_data_are_refused_by_field(field: str):
    other = plan_of(**OF_THE_ARM, **{field: OTHERS[field]})
    assert differences(plan_of(), other) == differences(other, plan_of()) == [field]
    plans = [plan_of(), plan_of(**OF_THE_ARM), other]
    with pytest.raises(DataError, match="control-pattern and placebo differ") as caught:
        check_arms(plans)
    assert caught.value.where == field
    assert str(OTHERS[field]) in caught.value.got and "\n" not in str(caught.value)


def test_all_differences_are_named():
    with pytest.raises(DataError) as caught:
        check_arms([plan_of(), plan_of(lr=0.5, batch=1)])
    assert (caught.value.where, caught.value.got) == ("batch, lr", "32 and 1, 0.001 and 0.5")


def test_arms_that_differ_in_data_only_may_be_compared():
    plans = [plan_of(**{field: OF_THE_ARM[field]}) for field in OF_THE_ARM]
    assert all(differences(plan_of(), plan) == [] for plan in plans)
    check_arms([plan_of(), *plans, plan_of(**OF_THE_ARM)])
    check_arms([])


def test_checkpoints_are_counted_from_the_runs_start():
    assert plan_of().save_at == (24, 28)
    assert plan_of(steps=9, every=3, base_step=0).save_at == (3, 6, 9)


def test_the_learning_rate_is_constant():
    (phase,) = plan_of().phases
    assert (phase.first_step, phase.lr) == (0, 1e-3)


def test_what_was_written_is_read(tmp_path: Path):
    write_plan(plan_of(), tmp_path / "arm")
    assert read_plan(tmp_path / "arm") == plan_of()
    told = json.loads((tmp_path / "arm" / PLAN).read_text())
    assert set(told) == set(TrainingPlan.model_fields) and told["engine"] == "local"


def test_a_plan_is_never_rewritten(tmp_path: Path):
    write_plan(plan_of(), tmp_path)
    before = (tmp_path / PLAN).read_bytes(), (tmp_path / PLAN).stat().st_ino
    write_plan(plan_of(), tmp_path)
    for change in (*OTHERS.items(), *OF_THE_ARM.items()):
        with pytest.raises(DataError, match="says something else") as caught:
            write_plan(plan_of(**dict([change])), tmp_path)
        assert str(tmp_path / PLAN) in str(caught.value)
    assert ((tmp_path / PLAN).read_bytes(), (tmp_path / PLAN).stat().st_ino) == before
    assert [path.name for path in tmp_path.iterdir()] == [PLAN]


def test_the_same_plan_is_the_same_bytes(tmp_path: Path):
    for name in ("a", "b"):
        write_plan(plan_of(), tmp_path / name)
    assert (tmp_path / "a" / PLAN).read_bytes() == (tmp_path / "b" / PLAN).read_bytes()
    write_plan(plan_of(), shutil.copytree(tmp_path / "a", tmp_path / "c"))


def test_an_unknown_field_is_refused():
    with pytest.raises(ValidationError, match="extra_forbidden"):
        plan_of(momentum=0.5)
