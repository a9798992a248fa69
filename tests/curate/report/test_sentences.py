import re
from dataclasses import replace

import pytest

from curate.report import words
from curate.report.sentences import quotable

CONTROL = "normal/addition"


def with_labels(data, task, names):
    """Return the data with a task's labels renamed, window by window, in the order of `names`."""
    windows = [
        replace(
            window,
            labels=tuple(
                replace(label, label=name) if label.task == task else label
                for label in window.labels
            ),
        )
        for window, name in zip(data.windows, names, strict=True)
    ]
    return replace(data, windows=tuple(windows))


@pytest.fixture(params=["planted", "unplanted", "labels_only", "with_control"])
def any_study(request):
    return request.getfixturevalue(request.param)


def test_there_are_five_and_each_is_one_sentence(any_study):
    said = quotable(any_study)
    assert len(said) == 5
    for sentence in said:
        assert sentence.endswith(".") and sentence[0].isupper()
        assert not re.search(r"[.!?] [A-Z]", sentence), "one sentence only"
        assert not re.search(r"\b(nan|inf|None)\b", sentence)


def test_the_first_counts_the_labels_and_says_what_their_rate_counts(planted):
    names = ["pattern"] * 3 + ["generalization"] * 1 + ["neutral"] * 6 + ["undecided"] * 30
    first = quotable(with_labels(planted, planted.primary_task, names))[0]
    assert "Of 40 windows of tiny (steps 340 to 980, 1.31 M tokens), 4 are labelled" in first
    assert "(3 pattern, 1 generalization)" in first
    assert "beyond 0.05 in soft score at a false-discovery rate of 5 %" in first
    assert "a checkpoint's own passing wobble is a difference, and not counted as false" in first
    assert first.endswith("6 are neutral, and of 30 the tests cannot say.")
    stricter = replace(planted, rule=replace(planted.rule, alpha=0.001))
    assert "a false-discovery rate of 0.1 %" in quotable(stricter)[0]


def test_one_window_is_spoken_of_in_the_singular(planted):
    one = replace(planted, windows=planted.windows[:1], transfer=None, verdict=None, arms=None)
    one = with_labels(one, planted.primary_task, ["pattern"])
    assert "Of 1 window of" in quotable(one)[0]
    assert "1 is labelled" in quotable(one)[0]


def test_the_second_counts_tasks_without_pooled_ones_and_controls(planted, with_control):
    names = ["neutral"] * 40
    calm = with_labels(with_control, planted.primary_task, names)
    calm = with_labels(calm, "repetitive/addition", ["pattern", *names[1:]])
    still = with_labels(calm, CONTROL, names)
    second = quotable(still)[1]
    assert second.startswith("Over 2 tasks 1 of 80 pairs of window and task are labelled")
    assert "normal/addition moved in 0 of 40 windows" in second
    moved = with_labels(calm, CONTROL, ["pattern", "generalization", *names[2:]])
    assert "moved in 2 of 40 windows, where capability" in quotable(moved)[1]
    assert "no normal control is labelled" in quotable(planted)[1]


def test_how_many_labels_stand_over_all_pairs_at_once_is_said_where_it_is_known(planted):
    def with_q(value):
        windows = tuple(
            replace(w, labels=tuple(replace(one, q_study=value) for one in w.labels))
            for w in planted.windows
        )
        return quotable(replace(planted, windows=windows))[1]

    assert "at once" not in with_q(None)
    assert "Over 2 tasks 34 of 80" in with_q(0.01) and "(34 of them also where" in with_q(0.01)
    assert "(0 of them also where" in with_q(0.2)


def test_windows_without_a_ground_for_labels_are_described(labels_only):
    rule = replace(labels_only.rule, may_label=False, ground="Windows are described: no ground.")
    data = replace(labels_only, rule=rule)
    assert "14 are described, but for want of lasting or transferring" in quotable(data)[0]
    assert "described and not labelled" in words.headline(data)
    assert "Windows are described: no ground." in words.basis(data)
    assert "described" not in quotable(labels_only)[0] + words.headline(labels_only)


def test_a_study_of_one_task_says_that_it_is_one(planted):
    windows = tuple(replace(w, labels=w.labels[:1]) for w in planted.windows)
    assert quotable(replace(planted, windows=windows))[1].startswith(
        "Only successive/addition is labelled"
    )


@pytest.mark.parametrize(
    ("verdict", "hi", "start"),
    [
        ("transferable", 0.9, "The labels transfer:"),
        ("not-transferable", 0.2, "The labels do not transfer:"),
        ("not-transferable", 0.9, "The labels were tested and are not shown to transfer"),
        ("underpowered", 0.9, "Whether the labels transfer was tested with too few windows"),
    ],
)
def test_the_third_follows_the_check_and_holds_its_numbers(planted, verdict, hi, start):
    transfer = replace(planted.transfer, verdict=verdict, hi=hi)
    third = quotable(replace(planted, transfer=transfer, verdict=None))[2]
    assert third.startswith(start)
    assert "of 40 windows from stage1-step660, Spearman 0.76" in third
    assert "lower bound 0.62 where more than 0.30 is needed" in third
    assert third.endswith("this speaks of one task and of one checkpoint to train from.")


def test_what_was_not_done_is_said_not_to_have_been(labels_only):
    said = quotable(labels_only)
    assert said[2].startswith("Whether the labels transfer was not tested")
    assert said[3].startswith("No arm was trained")
    assert "rather than their order or chance" in said[4]


def test_the_fourth_claims_nothing_where_labels_do_not_transfer(planted, unplanted):
    assert "nothing is claimed from them" in quotable(unplanted)[3]
    assert not re.search(r"\d", quotable(unplanted)[3])
    fourth = quotable(planted)[3]
    assert "judged controlled: mean_soft of control-generalization" in fourth
    assert "+0.95 [0.80, 1.10] (one-sided p = 0.004), over 5 runs an arm" in fourth
    unjudged = quotable(replace(planted, verdict=None))[3]
    assert "have not been judged yet" in unjudged
    tiny = replace(planted.verdict.primary, p=1e-5)
    assert (
        "one-sided p < 0.001"
        in quotable(replace(planted, verdict=replace(planted.verdict, primary=tiny)))[3]
    )
    assert quotable(replace(planted, verdict=replace(planted.verdict, primary=None)))[3].startswith(
        "Arms trained on data selected by label were judged controlled, over 5 runs"
    )


def test_the_last_says_what_stays_open(planted):
    last = quotable(planted)[4]
    assert "one run read in one order, tiny" in last
    assert "beyond the transfer check it does not say" in last
    assert "not of other runs, orders or model sizes" in last
