from collections import defaultdict
from math import exp, fsum

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from scoring.items import ITEMS
from scoring.metrics import KEY, TASK, authors_metrics, metrics
from windows.errors import DataError

# Few values, so that ties come up; float32, as they lie in the table.
LOGS = st.sampled_from([-0.5, -1.0, -1.25, -7.0, -40.0])
PROBABILITIES = st.sampled_from([0.0, 0.125, 0.5, 0.75, 1.0])
ROW = st.fixed_dictionaries(
    {
        "run": st.sampled_from(["a", "b"]),
        "stage": st.just("stage1"),
        "step": st.sampled_from([0, 1000]),
        "family": st.just("flipped_answer"),
        "task": st.sampled_from(["x", "y"]),
        "wording": st.sampled_from(["plain", "terse"]),
        "demo_seed": st.integers(0, 2),
        "item_id": st.text("abcdef0123456789", min_size=1, max_size=3),
        "lp_right": LOGS,
        "lp_parrot": LOGS,
        "mean_p_right": PROBABILITIES,
        "mean_p_parrot": PROBABILITIES,
        "n_right": st.just(2),
        "n_parrot": st.just(3),
        "boundary": st.just("joined"),
    }
)


def table(rows: list[dict]) -> pl.DataFrame:
    empty = pl.from_arrow(ITEMS.empty_table())
    return pl.DataFrame(rows, schema=empty.schema, orient="row") if rows else empty


def grouped(rows: list[dict], key: list[str]) -> dict[tuple, list[dict]]:
    cells = defaultdict(list)
    for row in rows:
        cells[tuple(row[name] for name in key)].append(row)
    return dict(sorted(cells.items()))


def mean(values: list[float]) -> float:
    return fsum(values) / len(values)


@settings(max_examples=40, deadline=None)
@given(st.lists(ROW, max_size=60))
def test_metrics_are_what_plain_loops_make_them(rows: list[dict]):
    found = metrics(table(rows))
    cells = grouped(rows, KEY)
    assert [row[: len(KEY)] for row in found.rows()] == list(cells)
    for told, own in zip(found.iter_rows(named=True), cells.values(), strict=True):
        pairs = [(row["lp_right"], row["lp_parrot"]) for row in own]
        assert told["n_items"] == len(own)
        assert told["hard"] == mean([right > parrot for right, parrot in pairs])
        assert told["margin"] == pytest.approx(mean([right - parrot for right, parrot in pairs]))
        assert told["soft"] == pytest.approx(mean([exp(right) - exp(p) for right, p in pairs]))
        wins = [(right > p) + 0.5 * (right == p) for right, _ in pairs for _, p in pairs]
        assert told["auc"] == pytest.approx(mean(wins), rel=1e-12)
        differences = [row["mean_p_right"] - row["mean_p_parrot"] for row in own]
        assert told["mean_p_soft"] == pytest.approx(mean(differences))
        assert told["mean_p_hard"] == mean([difference > 0 for difference in differences])


@settings(max_examples=40, deadline=None)
@given(st.lists(ROW, max_size=60))
def test_the_authors_figures_are_of_all_demo_seeds(rows: list[dict]):
    found = authors_metrics(table(rows))
    assert found.columns == [*TASK, "n_items", "hard", "soft"]
    cells = grouped(rows, TASK)
    assert [row[: len(TASK)] for row in found.rows()] == list(cells)
    for told, own in zip(found.iter_rows(named=True), cells.values(), strict=True):
        pairs = [(row["mean_p_right"], row["mean_p_parrot"]) for row in own]
        assert told["hard"] == sum(1 for right, parrot in pairs if right > parrot) / len(pairs)
        assert told["soft"] == pytest.approx(mean([right - parrot for right, parrot in pairs]))
        assert told["n_items"] == len(pairs)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_the_order_of_rows_changes_no_bit(seed: int, other: int):
    items = many(300)
    assert metrics(items.sample(fraction=1.0, shuffle=True, seed=seed)).equals(metrics(items))
    shuffled = items.sample(fraction=1.0, shuffle=True, seed=other)
    assert authors_metrics(shuffled).equals(authors_metrics(items))


def many(count: int) -> pl.DataFrame:
    """Items with scores whose sums depend on the order in which they are added."""
    index = pl.int_range(count, eager=True)
    wild = [(-1e-3, -1.0, -17.3, -0.1)[i % 4] * (1 + i / 7) for i in range(count)]
    return pl.DataFrame(
        {
            "run": "r",
            "stage": "stage1",
            "step": index % 2,
            "family": "f",
            "task": "t",
            "wording": "w",
            "demo_seed": (index % 3).cast(pl.Int16),
            "item_id": (index // 5).cast(pl.String),
            "lp_right": pl.Series(wild, dtype=pl.Float32),
            "lp_parrot": pl.Series(wild[::-1], dtype=pl.Float32),
            "mean_p_right": pl.Series([exp(lp) for lp in wild], dtype=pl.Float32),
            "mean_p_parrot": pl.Series([exp(lp / 3) for lp in wild[::-1]], dtype=pl.Float32),
        }
    )


def test_auc_is_sklearns():
    items = many(240)
    for cell in metrics(items).iter_rows(named=True):
        own = items.filter(step=cell["step"], demo_seed=cell["demo_seed"])
        labels = [1] * own.height + [0] * own.height
        scores = [*own["lp_right"], *own["lp_parrot"]]
        assert cell["auc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_a_tie_goes_to_the_parrot():
    row = {"run": "r", "stage": "s", "step": 1, "family": "f", "task": "t", "wording": "w"}
    row |= {"demo_seed": 0, "item_id": "i", "lp_right": -1.0, "lp_parrot": -1.0, "boundary": ""}
    row |= {"mean_p_right": 0.5, "mean_p_parrot": 0.5, "n_right": 1, "n_parrot": 1}
    (told,) = metrics(table([row])).iter_rows(named=True)
    assert (told["hard"], told["mean_p_hard"], told["auc"], told["soft"]) == (0.0, 0.0, 0.5, 0.0)
    assert authors_metrics(table([row])).row(0)[-3:] == (1, 0.0, 0.0)


@pytest.mark.parametrize("score", [float("nan"), float("-inf"), None])
def test_what_is_not_finite_is_refused(score: float | None):
    items = many(12)
    broken = items.with_columns(
        lp_parrot=pl.when(pl.int_range(pl.len()) == 7).then(score).otherwise("lp_parrot")
    )
    with pytest.raises(DataError, match=r"f/t: a score is not a finite number; got item 1 of r at"):
        metrics(broken)


def test_another_table_is_refused():
    with pytest.raises(DataError, match="no column mean_p_parrot"):
        authors_metrics(many(3).drop("mean_p_parrot"))
