import math
from dataclasses import replace

import pytest

from curate.report import words


@pytest.mark.parametrize(
    ("value", "options", "shown"),
    [
        (0.456, {}, "0.46"),
        (-0.456, {}, "−0.46"),
        (0.456, {"signed": True}, "+0.46"),
        (-0.001, {}, "0.00"),
        (-0.001, {"signed": True}, "0.00"),
        (3.14159, {"digits": 3}, "3.142"),
        (math.nan, {}, "–"),
        (math.inf, {}, "–"),
        (None, {"signed": True}, "–"),
    ],
)
def test_decimals(value, options, shown):
    assert words.decimal(value, **options) == shown


def test_intervals_miss_both_ends_or_none():
    assert words.interval(-0.1, 0.25) == "[−0.10, 0.25]"
    assert words.interval(None, 0.25) == "–"
    assert words.interval(-0.1, math.nan) == "–"


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, "< 0.001"), (0.0009, "< 0.001"), (0.05, "0.050"), (None, "–")]
)
def test_a_probability_is_never_a_bare_zero(value, shown):
    assert words.probability(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0.52, "0.520"), (36.24, "36.2"), (1280.4, "1,280"), (None, "–")]
)
def test_numbers_of_unknown_size(value, shown):
    assert words.rounded(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (950, "950"), (2048, "2.05 k"), (4_194_304, "4.19 M"), (5.93e12, "5.93 T")],
)
def test_short_counts(value, shown):
    assert words.short_count(value) == shown


def test_the_headline_is_one_sentence_and_its_rest_comes_first_beneath(planted):
    assert words.headline(planted) == "Controlled: the labelled data held the mode on its side."
    assert words.basis(planted)[0].startswith("Levels moved")
    assert words.basis(planted)[1].startswith("Primary:")
    assert words.caveats(planted) == list(planted.verdict.sentences[2:])


def test_without_transfer_no_sentence_of_the_verdict_is_said(unplanted):
    said = [words.headline(unplanted), *words.basis(unplanted), *words.caveats(unplanted)]
    assert not set(said) & set(unplanted.verdict.sentences)
    assert words.NO_CLAIM in said


def test_headlines_follow_what_was_done(planted, unplanted, labels_only):
    assert words.headline(planted).startswith("Controlled:")
    assert words.headline(unplanted).startswith("The labels are not shown to transfer:")
    below = replace(unplanted, transfer=replace(unplanted.transfer, hi=0.29))
    assert words.headline(below).startswith("The labels do not transfer:")
    unknown = replace(unplanted, transfer=replace(unplanted.transfer, hi=None))
    assert words.headline(unknown).startswith("The labels are not shown to transfer:")
    assert words.headline(replace(planted, verdict=None)).startswith("The labels transfer:")
    assert words.headline(labels_only).endswith("whether the labels transfer was not checked.")


@pytest.mark.parametrize(
    ("verdict", "hi", "said"),
    [
        ("not-transferable", 0.2, "The labels do not carry over"),
        ("not-transferable", 0.5, "are not shown to carry over"),
        ("underpowered", 0.9, "too few windows to tell"),
    ],
)
def test_the_caution_above_the_arms_follows_the_check(unplanted, verdict, hi, said):
    transfer = replace(unplanted.transfer, verdict=verdict, hi=hi)
    assert said in words.arms_caution(replace(unplanted, transfer=transfer))


def test_arms_need_no_caution_where_labels_transfer(planted):
    assert words.arms_caution(planted) == words.arms_caution(replace(planted, transfer=None)) == ""


def test_texts_become_sentences():
    assert words.as_sentence("an instance is left out") == "An instance is left out."
    assert words.as_sentence("Done.") == "Done."


@pytest.mark.parametrize(("value", "shown"), [(0.525, "52 %"), (1.0, "100 %"), (None, "–")])
def test_shares(value, shown):
    assert words.share(value) == shown


def test_an_underpowered_check_says_so_whatever_the_verdict_is_called(unplanted):
    transfer = replace(unplanted.transfer, verdict="underpowered")
    verdict = replace(unplanted.verdict, name="no-effect")
    assert "cannot be told" in words.headline(
        replace(unplanted, transfer=transfer, verdict=verdict)
    )


def test_a_verdict_without_a_transfer_check_admits_it(planted):
    assert "Whether the labels transfer was not checked." in words.basis(
        replace(planted, transfer=None)
    )
