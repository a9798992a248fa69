from dataclasses import replace
from functools import cache
from math import comb

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.transfer import TransferVerdict
from trainers.comparisons import Endpoint, Hypothesis, compare
from trainers.stabilization import (
    Stabilization,
    _primary_words,
    stabilization,
    summarize_runs,
    switches,
)
from windows.errors import ConfigError, DataError

TRANSFERABLE = TransferVerdict(
    verdict="transferable",
    rho=0.7,
    lower_bound=0.53,
    lo=0.5,
    hi=0.8,
    p=0.0001,
    mean_effect=0.02,
    sign_agreement=0.8,
    windows=40,
    shuffles=2,
    reliability=0.9,
    sentence="They do.",
)

# (mean, standard deviation within a run, switches) of an arm's runs.
CONTROLLED = {
    "control-generalization": (0.6, 0.10, 0),
    "control-pattern": (-0.6, 0.10, 0),
    "uncontrolled": (0.0, 0.30, 3),
    "placebo": (0.1, 0.30, 3),
}


def arms_of(
    arms: dict[str, tuple[float, float, int]], *, runs: int = 5, control: float = 0.95
) -> pl.DataFrame:
    rows = []
    for arm, (mean, spread, count) in arms.items():
        for seed in range(runs):
            wiggle = 0.01 * (seed - runs / 2)
            rows.append((arm, seed, mean + wiggle, spread + wiggle, count, control, 2.0 + wiggle))
    names = ["arm", "seed", "mean_soft", "within_sd", "switches", "control", "loss"]
    return pl.DataFrame(rows, schema=names, orient="row")


@cache
def controlled() -> Stabilization:
    """The plain case, in which everything holds."""
    return stabilization(arms_of(CONTROLLED), TRANSFERABLE)


def changed(**arms: tuple[float, float, int]) -> dict[str, tuple[float, float, int]]:
    return CONTROLLED | {name.replace("_", "-"): numbers for name, numbers in arms.items()}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.3, -0.3, 0.3], 2),
        ([0.3, 0.1, -0.1, 0.3], 0),
        ([0.1, -0.1, 0.1], 0),
        ([0.3, 0.0, -0.3], 1),
        ([0.0, -0.3, 0.2, 0.3], 1),
        ([0.2, -0.2], 0),
        ([], 0),
        # A series of the prototype's embedded run, which counted three.
        ([0.5, 0.43, 0.27, -0.11, 0.3, 0.5, -0.11, 0.26, -0.34, 0.07, 0.53, -0.15, -0.4, 0.1], 3),
    ],
)
def test_switches_by_hand(values: list[float], expected: int) -> None:
    assert switches(values, 0.2) == expected


@settings(deadline=None)
@given(st.lists(st.floats(-1, 1), max_size=30), st.floats(0, 0.5))
def test_switches_know_neither_direction_nor_the_other_mode(
    values: list[float], threshold: float
) -> None:
    found = switches(values, threshold)
    assert found == switches(values[::-1], threshold)
    assert found == switches([-value for value in values], threshold)
    assert found <= max(len(values) - 1, 0)


def test_runs_are_summarised_by_hand() -> None:
    scores = pl.DataFrame(
        {
            "arm": ["placebo"] * 3 + ["uncontrolled"] * 3,
            "seed": [4] * 3 + [2] * 3,
            "step": [30, 10, 20] * 2,
            "soft": [0.6, 0.3, -0.3, 0.0, 0.0, 0.0],
            "control": [0.9, 1.0, 0.8, 1.0, 1.0, 1.0],
        }
    )
    loss = pl.DataFrame({"arm": ["uncontrolled", "placebo"], "seed": [2, 4], "loss": [2.5, 2.0]})
    runs = summarize_runs(scores, loss)
    row = runs.row(0, named=True)
    assert (row["arm"], row["seed"], row["loss"]) == ("placebo", 4, 2.0)
    assert row["mean_soft"] == pytest.approx(0.2)
    assert row["within_sd"] == pytest.approx(np.std([0.3, -0.3, 0.6], ddof=1))
    assert row["switches"] == 2  # +0.3, -0.3, +0.6: by step, not by row
    assert row["control"] == pytest.approx(0.9)
    assert runs["switches"].to_list() == [2, 0]


def scores_of(steps: dict[int, list[int]]) -> tuple[pl.DataFrame, pl.DataFrame]:
    rows = [("placebo", seed, step, 0.1, 0.9) for seed, at in steps.items() for step in at]
    scores = pl.DataFrame(rows, schema=["arm", "seed", "step", "soft", "control"], orient="row")
    loss = pl.DataFrame({"arm": ["placebo"] * len(steps), "seed": list(steps), "loss": 2.0})
    return scores, loss


def test_uneven_runs_are_refused() -> None:
    with pytest.raises(DataError, match="same steps"):
        summarize_runs(*scores_of({0: [10, 20], 1: [10]}))
    with pytest.raises(DataError, match="same steps"):
        summarize_runs(*scores_of({0: [10, 10]}))
    with pytest.raises(DataError, match="at least two"):
        summarize_runs(*scores_of({0: [10], 1: [10]}))
    scores, loss = scores_of({0: [10, 20], 1: [10, 20]})
    for wrong in (loss[:1], pl.concat([loss, loss[:1]])):
        with pytest.raises(DataError, match="one held-out loss"):
            summarize_runs(scores, wrong)
    with pytest.raises(DataError, match="not finite"):
        summarize_runs(scores.with_columns(soft=pl.lit(float("nan"))), loss)
    with pytest.raises(DataError, match="same steps"):
        summarize_runs(scores.clear(), loss.clear())


def test_control_is_claimed_where_everything_holds() -> None:
    found = controlled()
    assert found.verdict == "controlled"
    assert found.primary.difference == pytest.approx(1.2)
    assert found.primary.p == pytest.approx(1 / comb(10, 5))
    assert found.primary.p_holm == found.primary.p
    assert found.primary.lo < 1.2 < found.primary.hi
    assert found.arms["control-pattern"].mean_soft == pytest.approx(-0.605)
    assert found.arms["control-pattern"].lo < -0.605 < found.arms["control-pattern"].hi
    assert found.arms["uncontrolled"].switches == 3
    assert list(found.arms) == sorted(CONTROLLED)


def test_five_runs_just_pass_holm_and_four_cannot() -> None:
    five = controlled()
    assert len(five.secondary) == 12
    assert max(row.p_holm for row in five.secondary) == pytest.approx(12 / 252)
    assert 12 / 252 < 0.05
    four = stabilization(arms_of(CONTROLLED, runs=4), TRANSFERABLE)
    assert four.verdict == "underpowered"
    assert "5 runs in every arm" in four.sentences[0]


@pytest.mark.parametrize(
    ("arms", "expected"),
    [
        (changed(uncontrolled=(0.0, 0.10, 0)), "shifted"),  # no steadier than uncontrolled
        (changed(placebo=(0.6, 0.30, 3)), "shifted"),  # placebo does as much
        (changed(control_pattern=(-0.6, 0.10, 3)), "controlled"),  # one endpoint is enough
        (changed(control_pattern=(-0.6, 0.40, 0), control_generalization=(0.6, 0.1, 3)), "shifted"),
        (changed(control_generalization=(-0.6, 0.10, 0)), "stabilized-only"),
        (
            changed(control_pattern=(0.0, 0.30, 3), control_generalization=(0.6, 0.30, 3)),
            "underpowered",  # the contrast holds by one arm alone
        ),
        (changed(control_pattern=(0, 0.3, 3), control_generalization=(0, 0.3, 3)), "no-effect"),
        # Significant the wrong way round is no effect in the registered direction.
        (
            changed(control_pattern=(0.6, 0.3, 3), control_generalization=(-0.6, 0.3, 3)),
            "no-effect",
        ),
    ],
)
@pytest.mark.slow
def test_the_table_of_verdicts(arms: dict[str, tuple[float, float, int]], expected: str) -> None:
    assert stabilization(arms_of(arms), TRANSFERABLE).verdict == expected


@pytest.mark.parametrize("arms", [CONTROLLED, changed(control_pattern=(0.6, 0.3, 3))])
def test_nothing_is_claimed_without_transfer(arms: dict[str, tuple[float, float, int]]) -> None:
    refused = stabilization(arms_of(arms), replace(TRANSFERABLE, verdict="not-transferable"))
    assert refused.verdict == "labels-do-not-transfer"
    assert "did not pass the transfer check, so no control is claimed" in refused.sentences[0]
    unsure = stabilization(arms_of(arms), replace(TRANSFERABLE, verdict="underpowered"))
    assert unsure.verdict == "underpowered"
    assert "no control is claimed" in unsure.sentences[0]


def test_the_contrast_registers_the_direction() -> None:
    runs = arms_of(CONTROLLED)
    reverse = stabilization(runs, TRANSFERABLE, contrast=("control-pattern", "uncontrolled"))
    assert reverse.primary.p == 1.0
    spread = stabilization(
        runs, TRANSFERABLE, endpoint="switches", contrast=("control-pattern", "uncontrolled")
    )
    assert spread.primary.direction == "below"
    assert spread.primary.p == pytest.approx(1 / 252)


def test_order_of_rows_and_further_arms_change_nothing() -> None:
    runs = arms_of(CONTROLLED | {"fifth": (0.3, 0.2, 1)})
    plain = controlled()
    mixed = stabilization(runs.sample(fraction=1.0, shuffle=True, seed=3), TRANSFERABLE)
    assert mixed.secondary == plain.secondary
    assert "fifth" in mixed.arms


def test_what_cannot_be_tested_is_refused() -> None:
    runs = arms_of(CONTROLLED)
    with pytest.raises(DataError, match="placebo"):
        stabilization(runs.filter(pl.col("arm") != "placebo"), TRANSFERABLE)
    with pytest.raises(ConfigError, match="endpoint"):
        wrong: Endpoint = "loss"  # type: ignore[assignment]
        stabilization(runs, TRANSFERABLE, endpoint=wrong)
    for contrast in (("placebo", "placebo"), ("placebo", "other")):
        with pytest.raises(ConfigError, match="two different arms"):
            stabilization(runs, TRANSFERABLE, contrast=contrast)


def test_a_single_run_has_no_interval_and_no_claim() -> None:
    found = stabilization(arms_of(CONTROLLED, runs=1), TRANSFERABLE)
    assert found.verdict == "underpowered"
    assert found.arms["placebo"].lo is None
    assert (found.primary.lo, found.primary.effect_size) == (None, None)


def says(found: list[str], *parts: str) -> bool:
    return any(all(part in sentence for part in parts) for sentence in found)


@pytest.mark.slow
def test_caveats_apply_where_they_should() -> None:
    clean = list(controlled().sentences)
    assert not says(clean, "not a pure mode change")
    assert not says(clean, "Held-out loss")
    assert says(clean, "one checkpoint of one pre-training run")

    pattern = pl.col("arm") == "control-pattern"
    runs = arms_of(CONTROLLED).with_columns(
        control=pl.when(pattern).then(0.8).otherwise("control"),
        loss=pl.when(pattern).then(pl.col("loss") + 0.5).otherwise("loss"),
    )
    spoiled = list(stabilization(runs, TRANSFERABLE).sentences)
    assert says(spoiled, "control-pattern is 0.80, below 0.85", "not a pure mode change")
    assert says(spoiled, "control-pattern and control-generalization", "0.15 apart")
    assert says(spoiled, "Held-out loss of control-pattern", "+0.500")

    weak = changed(control_generalization=(-0.05, 0.1, 0), uncontrolled=(-0.4, 0.3, 3))
    assert says(
        list(stabilization(arms_of(weak), TRANSFERABLE).sentences),
        "On average control-generalization stays on the other side of zero",
    )
    level = changed(control_generalization=(0.0, 0.1, 0))
    assert says(
        list(stabilization(arms_of(level), TRANSFERABLE).sentences),
        "Not shown to lie above uncontrolled in mean_soft: control-generalization",
    )


def test_the_last_caveat_says_what_a_seed_redraws_and_what_not() -> None:
    last = controlled().sentences[-1]
    assert "takes the same windows for every seed" in last
    assert "only uncontrolled and placebo draw windows anew" in last
    assert "draws of data" not in last


@pytest.mark.parametrize(("gap", "said"), [(0.002, False), (0.0099, False), (0.02, True)])
def test_a_loss_gap_too_small_to_matter_is_not_said(gap: float, said: bool) -> None:
    moved = pl.col("arm") == "control-pattern"
    noise = 1e-5 * pl.col("seed")  # runs so alike that any gap is significant
    loss = 2.0 + noise + pl.when(moved).then(gap).otherwise(0.0)
    runs = arms_of(CONTROLLED).with_columns(loss=loss)
    assert says(list(stabilization(runs, TRANSFERABLE).sentences), "Held-out loss") is said


@pytest.mark.parametrize("runs", [1, 2, 5])
def test_the_word_exact_comes_from_the_test(runs: int) -> None:
    sentences = list(stabilization(arms_of(CONTROLLED, runs=runs), TRANSFERABLE).sentences)
    assert says(sentences, "Primary:", "one-sided exact p =") is (runs > 1)
    assert says(sentences, "Primary:", "not tested") is (runs == 1)
    if runs == 1:
        assert not says(sentences, "exact")


def test_splits_drawn_at_random_are_called_so() -> None:
    values = np.arange(11.0)
    row = compare(
        values + 3, values, Hypothesis("mean_soft", "placebo", "uncontrolled", "above"), alpha=0.05
    )
    assert _primary_words(row).endswith(f"p = {row.p:.4f} over 99,999 splits drawn at random.")
    assert "exact" not in _primary_words(row)


def test_sentences_begin_in_upper_case() -> None:
    weak = changed(control_generalization=(-0.05, 0.1, 0), uncontrolled=(-0.4, 0.3, 3))
    for arms in (CONTROLLED, weak):
        sentences = stabilization(arms_of(arms, control=0.5), TRANSFERABLE).sentences
        assert all(sentence[0].isupper() for sentence in sentences)


def test_ties_in_switches_are_said() -> None:
    zero = pl.when((pl.col("arm") == "uncontrolled") & (pl.col("seed") == 0)).then(0)
    runs = arms_of(CONTROLLED).with_columns(switches=zero.otherwise("switches"))
    found = stabilization(runs, TRANSFERABLE)
    row = next(
        row
        for row in found.secondary
        if (row.endpoint, row.arm, row.reference) == ("switches", "control-pattern", "uncontrolled")
    )
    # Six zeros among ten: any five of them will do.
    assert row.p == row.floor == pytest.approx(comb(6, 5) / comb(10, 5))
    assert says(list(found.sentences), "ties", f"below {row.floor:.3f}")
    assert not says(list(controlled().sentences), "ties")
