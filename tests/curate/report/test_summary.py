import json
from dataclasses import replace

import pytest

from curate.report.summary import summary, to_json

ALWAYS = {
    "quotable",
    "sources",
    "windows",
    "labels",
    "transfer_check",
    "arms",
    "verdict",
    "wall_seconds",
}


def strict(text):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_the_schema_is_kept(planted):
    found = summary(planted)
    assert set(found) >= ALWAYS
    assert set(found["windows"][0]) >= {"name", "first_step", "end_step", "tokens"}
    assert len(found["quotable"]) == 5
    assert all(len(window["held"]) == len(found["sources"]) == 2 for window in found["windows"])
    columns = "window task label first_batch end_batch delta innovation se lo hi p q strength"
    assert set(found["labels"][0]) >= {*columns.split(), "rule_version"}
    check = {"verdict", "rho", "lo", "hi", "p", "windows", "shuffles"}
    check |= {"lower_bound", "mean_effect", "sign_agreement"}
    assert set(found["transfer_check"]) >= check
    assert found["transfer_check"]["windows"] == 40
    arm = {"mean_soft", "lo", "hi", "within_sd", "switches", "control", "loss"}
    assert all(set(row) >= arm for row in found["arms"].values())
    assert set(found["arms"]) == {
        "control-generalization",
        "uncontrolled",
        "placebo",
        "control-pattern",
    }
    assert found["verdict"]["name"] == "controlled"
    assert found["verdict"]["sentences"] == list(planted.verdict.sentences)
    assert found["wall_seconds"] == 203.4


def test_every_window_and_task_has_its_label(planted):
    found = summary(planted)
    keys = {(row["window"], row["task"]) for row in found["labels"]}
    assert len(keys) == len(found["labels"]) == 40 * 3


def test_keys_stay_when_nothing_was_done(labels_only):
    found = summary(labels_only)
    assert set(found) >= ALWAYS
    assert found["transfer_check"] is None
    assert found["arms"] == {}
    assert found["verdict"] is None
    assert found["wall_seconds"] is None


def test_json_is_strict_and_missing_numbers_are_null(planted):
    assert "NaN" not in to_json(planted)
    missing = [row for row in strict(to_json(planted))["labels"] if row["delta"] is None]
    assert missing, "the fixture holds numbers that could not be computed"


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_no_number_reaches_json_that_is_none(planted, number):
    transfer = replace(planted.transfer, rho=number, reliability=number)
    data = replace(planted, transfer=transfer, wall_seconds=number)
    found = strict(to_json(data))
    assert found["transfer_check"]["rho"] is None
    assert found["wall_seconds"] is None


def test_the_text_is_the_summary(planted):
    assert strict(to_json(planted)) == summary(planted)
    assert to_json(planted).endswith("}\n")


def test_without_transfer_the_summary_claims_nothing(unplanted):
    found = summary(unplanted)
    assert found["verdict"]["name"] == "labels-do-not-transfer"
    assert found["headline"].startswith("The labels are not shown to transfer")
