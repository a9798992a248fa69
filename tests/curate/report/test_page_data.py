import json
import math
from dataclasses import replace

import pytest

from curate.report.page_data import page_data
from curate.report.timeline import tokens_by_step


def test_the_text_can_stand_in_a_script_whatever_is_named(planted):
    name = '</script><b>\u2028\u2029 & "quoted" <!--'
    hostile = replace(planted, windows=(replace(planted.windows[0], name=name),))
    text = page_data(hostile)
    assert not set(text) & {"<", "\u2028", "\u2029"}
    assert json.loads(text)["windows"][0][0] == name


@pytest.mark.parametrize("number", [math.nan, math.inf, None])
def test_what_was_not_measured_is_null(planted, number):
    window = planted.windows[0]
    broken = replace(window.labels[0], delta=number, strength=number, q=number)
    series = replace(planted.series[0], mean=(number, *planted.series[0].mean[1:]))
    windows = (replace(window, labels=(broken,)), *planted.windows[1:])
    found = json.loads(
        page_data(replace(planted, windows=windows, series=(series,))),
        parse_constant=lambda word: pytest.fail(f"{word} is not JSON"),
    )
    task = found["tasks"][0]
    assert task["delta"][0] is task["strength"][0] is task["q"][0] is None
    assert found["series"][0]["mean"][0] is None


def test_a_task_without_a_label_in_a_window_has_a_dash_there(planted):
    bare = replace(planted.windows[3], labels=())
    windows = (*planted.windows[:3], bare, *planted.windows[4:])
    for task in json.loads(page_data(replace(planted, windows=windows)))["tasks"]:
        assert [at for at, letter in enumerate(task["labels"]) if letter == "-"] == [3]
        assert task["lo"][3] is None


def test_a_control_moved_or_stood_still(with_control):
    found = json.loads(page_data(with_control))
    (control,) = [task for task in found["tasks"] if task["name"] == "normal/addition"]
    assert {found["words"][letter] for letter in control["labels"]} == {"moved", "still"}


def test_the_loss_of_a_window_is_the_last_within_it(planted):
    few = replace(planted.loss, steps=(340, 350, 372), loss=(1.0, 2.0, 3.0))
    found = json.loads(page_data(replace(planted, loss=few)))["loss"]
    assert found[:3] == [2.0, 3.0, None]
    assert json.loads(page_data(replace(planted, loss=None)))["loss"] == []


def test_tokens_are_known_at_every_checkpoint(planted):
    assert tokens_by_step(planted) == {step: step * 2048 for step in planted.series[0].steps}
