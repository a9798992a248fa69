import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import curate.mixture
from curate.mixture import DRAW_SCHEMA, choose_windows, draw
from curate.settings import SelectSection
from windows.errors import CheckFailed, DataError

STRENGTHS = [0.1, 2.0, -1.5, 0.4, -0.2, 1.0, -3.0, 0.0]
LABELS = ["neutral"] + ["generalization", "pattern"] * 3 + ["undecided"]


def labels(order=None):
    table = pl.DataFrame(
        {
            "window": [f"stage1-{16 * i}:{16 * i + 16}" for i in range(8)],
            "label": LABELS,
            "first_batch": [16 * i for i in range(8)],
            "strength": STRENGTHS,
        }
    )
    return table if order is None else table[list(order)]


def name(i):
    return f"stage1-{16 * i}:{16 * i + 16}"


def windows_of(sizes):
    ids = np.random.default_rng(0).permutation(sum(sizes)).astype(np.uint32)
    ends = np.cumsum(sizes)
    return {
        name(i): (np.arange(size) // 4 + 16 * i, ids[end - size : end])
        for i, (size, end) in enumerate(zip(sizes, ends, strict=True))
    }


@given(st.permutations(range(8)))
def test_the_strongest_of_a_label_come_first_whatever_the_row_order(order):
    table = labels(order)
    generalization = SelectSection(by="label", label="generalization", windows=2)
    pattern = SelectSection(by="label", label="pattern", windows=2)
    assert choose_windows(table, generalization, seed=0, name="g") == (name(1), name(5))
    assert choose_windows(table, pattern, seed=0, name="p") == (name(6), name(2))


def test_fewer_windows_where_fewer_carry_the_label():
    select = SelectSection(by="label", label="pattern", windows=7)
    assert choose_windows(labels(), select, seed=0, name="p") == (name(6), name(2), name(4))


def test_no_window_with_the_label_is_a_failed_check_that_counts_what_is_there():
    select = SelectSection(by="label", label="pattern", windows=2)
    table = labels().filter(pl.col("label") != "pattern")
    with pytest.raises(CheckFailed, match=r"no window is labelled pattern.*generalization 3"):
        choose_windows(table, select, seed=0, name="p")


def test_a_label_without_strength_cannot_be_the_strongest():
    table = labels().with_columns(
        pl.when(pl.col("window") == name(6))
        .then(float("nan"))
        .otherwise("strength")
        .alias("strength")
    )
    select = SelectSection(by="label", label="pattern", windows=1)
    assert choose_windows(table, select, seed=0, name="p") == (name(2),)


@given(st.permutations(range(8)))
def test_any_takes_all_in_the_order_of_the_run(order):
    chosen = choose_windows(labels(order), SelectSection(by="any"), seed=0, name="u")
    assert chosen == tuple(name(i) for i in range(8))


@given(st.permutations(range(8)), st.integers(0, 1000))
def test_a_placebo_depends_on_seed_and_name_and_on_nothing_else(order, seed):
    select = SelectSection(by="placebo", windows=3)
    chosen = choose_windows(labels(order), select, seed=seed, name="placebo")
    relabelled = labels().with_columns(strength=-pl.col("strength"), label=pl.lit("neutral"))
    assert chosen == choose_windows(relabelled, select, seed=seed, name="placebo")
    assert len(set(chosen)) == 3


def test_placebo_windows_are_redrawn_for_every_arm_seed_and_take_every_window_alike():
    select = SelectSection(by="placebo", windows=3)
    drawn = [choose_windows(labels(), select, seed=s, name="placebo") for s in range(400)]
    counts = np.unique([window for windows in drawn for window in windows], return_counts=True)[1]
    assert len(set(drawn)) > 100
    # Binomial(400, 3/8): mean 150, standard deviation 9.7.
    assert len(counts) == 8 and abs(counts - 150).max() < 45
    other = choose_windows(labels(), select, seed=0, name="another")
    assert set(other) != set(drawn[0])


def test_a_placebo_of_more_windows_than_there_are_is_refused():
    with pytest.raises(DataError, match="got 9, with 8 windows"):
        choose_windows(labels(), SelectSection(by="placebo", windows=9), seed=0, name="placebo")


def test_labels_of_two_tasks_are_refused():
    with pytest.raises(DataError, match="more than one label"):
        choose_windows(pl.concat([labels(), labels()]), SelectSection(by="any"), seed=0, name="u")


@settings(max_examples=50)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    seed=st.integers(-3, 2**70),
    repetitions=st.integers(1, 3),
    data=st.data(),
)
def test_a_draw_is_independent_of_row_order_and_keeps_its_cap(sizes, seed, repetitions, data):
    given_rows = windows_of(sizes)
    shuffled = {}
    for window in data.draw(st.permutations(list(given_rows))):
        batches, ids = given_rows[window]
        rows = data.draw(st.permutations(range(len(ids))))
        shuffled[window] = (batches[list(rows)], ids[list(rows)])
    table = draw(list(given_rows), given_rows, seed=seed, repetitions=repetitions)
    assert table.equals(draw(list(shuffled), shuffled, seed=seed, repetitions=repetitions))
    assert dict(table.schema) == DRAW_SCHEMA
    assert table["position"].to_list() == list(range(len(table)))
    counts = table.group_by("instance").agg(pl.len(), pl.col("repetition").max())
    assert (counts["len"] == repetitions).all() and (counts["repetition"] == repetitions).all()
    for window, (batches, ids) in given_rows.items():
        rows = table.filter(window=window, repetition=1).sort("instance")
        order = np.argsort(ids)
        assert rows["instance"].to_list() == ids[order].tolist()
        assert rows["batch"].to_list() == batches[order].tolist()


def test_the_order_is_made_of_blocks_of_whole_windows_reshuffled_in_every_pass():
    rows = windows_of([8] * 6)
    table = draw(list(rows), rows, seed=1, repetitions=2)
    blocks = (
        table.with_columns(block=pl.col("position") // 8)
        .group_by("block")
        .agg(pl.col("window").n_unique().alias("kinds"), pl.col("window").first())
        .sort("block")
    )
    assert (blocks["kinds"] == 1).all()
    first, second = blocks["window"].to_list()[:6], blocks["window"].to_list()[6:]
    assert set(first) == set(second) == set(rows)
    assert first != second
    within = [table.filter(window=name(0), repetition=r)["instance"].to_list() for r in (1, 2)]
    assert within[0] != within[1] and sorted(within[0]) == sorted(within[1])


def test_another_seed_is_another_order_of_the_same_instances():
    rows = windows_of([16] * 3)
    tables = [draw(list(rows), rows, seed=s, repetitions=1) for s in range(20)]
    assert len({tuple(table["instance"]) for table in tables}) == 20
    assert len({tuple(sorted(table["instance"])) for table in tables}) == 1


def test_an_instance_in_two_windows_would_break_the_cap_and_is_refused():
    rows = {"a": (np.array([0]), np.array([5])), "b": (np.array([1]), np.array([5]))}
    with pytest.raises(DataError, match="instance 5"):
        draw(["a", "b"], rows, seed=0, repetitions=1)


def test_no_windows_no_rows():
    assert draw([], {}, seed=0, repetitions=2).schema == DRAW_SCHEMA


def test_a_draw_is_the_same_in_another_process_under_another_hash_seed():
    script = (
        "import numpy as np; from curate.mixture import draw;"
        "r = {w: (np.arange(4), np.arange(4) + 10 * i) for i, w in enumerate('abc')};"
        "print(draw(list(set(r)), r, seed=3, repetitions=2)['instance'].to_list())"
    )
    told = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONHASHSEED": "2"},
        cwd=Path(curate.mixture.__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = {w: (np.arange(4), np.arange(4) + 10 * i) for i, w in enumerate("abc")}
    assert told.stdout == f"{draw(list(rows), rows, seed=3, repetitions=2)['instance'].to_list()}\n"
