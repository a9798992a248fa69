import math
from dataclasses import FrozenInstanceError, replace

import pytest

from curate.report.data import CLAIMS, VERDICTS, Loss, finite


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_is_no_number_counts_as_missing(value):
    assert finite(value) is None


def test_columns_of_one_series_have_one_length(planted):
    with pytest.raises(ValueError, match=r"successive/addition.*'mean': 40"):
        replace(planted.series[0], mean=planted.series[0].mean[:-1])
    with pytest.raises(ValueError, match="loss"):
        Loss(steps=(1, 2), loss=(0.5,))


@pytest.mark.parametrize("name", sorted(CLAIMS))
def test_no_claim_can_be_made_with_labels_that_do_not_transfer(unplanted, name):
    with pytest.raises(ValueError, match="did not pass"):
        replace(unplanted, verdict=replace(unplanted.verdict, name=name))


@pytest.mark.parametrize("name", sorted(set(VERDICTS) - CLAIMS))
def test_every_other_verdict_can_stand_without_transfer(unplanted, name):
    assert replace(unplanted, verdict=replace(unplanted.verdict, name=name)).transfers is False


def test_an_underpowered_check_is_not_a_passed_one(planted):
    transfer = replace(planted.transfer, verdict="underpowered")
    with pytest.raises(ValueError, match="transfer"):
        replace(planted, transfer=transfer)


def test_unknown_words_are_refused(planted):
    with pytest.raises(ValueError, match=r"'up'.*pattern"):
        replace(planted.windows[0].labels[0], label="up")
    with pytest.raises(ValueError, match="verdict"):
        replace(planted.verdict, name="success")


def test_a_verdict_says_something(planted):
    with pytest.raises(ValueError, match="headline"):
        replace(planted.verdict, sentences=())


def test_a_hop_is_yes_or_no_and_never_a_direction(planted):
    with pytest.raises(ValueError, match="'none'"):
        replace(planted.windows[0].labels[0], hop="none")


def test_arms_without_a_summary_are_refused(planted):
    with pytest.raises(ValueError, match="control-generalization"):
        replace(planted.arms, summaries=planted.arms.summaries[1:])


def test_a_window_counts_by_the_reports_sources(planted):
    with pytest.raises(ValueError, match=r"stage1-340:356.*'sources': 1, 'held': 2"):
        replace(planted, sources=("web",))


def test_values_cannot_be_changed(planted):
    with pytest.raises(FrozenInstanceError):
        planted.primary_task = "other"


def test_label_counts_name_every_label_and_sum_to_the_windows(planted):
    counts = planted.label_counts(planted.primary_task)
    assert list(counts) == ["pattern", "generalization", "neutral", "undecided"]
    assert sum(counts.values()) == len(planted.windows)
    assert sum(planted.label_counts("absent/task").values()) == 0
