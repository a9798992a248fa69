from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import scoring.reduction
from scoring.clusters import cluster_series
from scoring.extraction import answer_mass
from scoring.items import ITEMS, read_items, task_file, write_items
from scoring.metrics import authors_metrics, metrics
from scoring.reduction import all_series, concatenated, item_tables, map_tables
from scoring.series import seed_series
from windows.errors import DataError
from windows.progress import Reporter
from windows.workers import WorkerPool

HERE, QUIET = WorkerPool(0), Reporter(quiet=True)
METRICS = ("soft", "hard", "margin")
STEPS = (340, 356, 1200)


@dataclass(frozen=True)
class Shape:
    """What a checkpoint is asked of a task."""

    task: str
    seeds: int
    wordings: int
    items: int


def table(shape: Shape, step: int, *, run: str = "tiny", seed: int = 0) -> pa.Table:
    """Scores of one checkpoint on one task, its rows in no order."""
    rng = np.random.default_rng([seed, step, shape.items])
    grid = np.indices((shape.seeds, shape.wordings, shape.items)).reshape(3, -1)
    grid = grid[:, rng.permutation(grid.shape[1])]
    count, (family, name) = grid.shape[1], shape.task.split("/")
    scores = -rng.exponential(2, (4, count)).astype("f4")
    columns = {
        "run": [run] * count,
        "stage": ["stage1"] * count,
        "family": [family] * count,
        "task": [name] * count,
        "wording": [f"w{index}" for index in grid[1]],
        "item_id": [f"item{index:04d}" for index in grid[2]],
        "step": [step] * count,
        "demo_seed": grid[0].astype("i2"),
        "lp_right": scores[0],
        "lp_parrot": scores[1],
        "mean_p_right": np.exp(scores[2]),
        "mean_p_parrot": np.exp(scores[3]),
        "n_right": np.full(count, 3, "i2"),
        "n_parrot": np.full(count, 4, "i2"),
        "boundary": ["joined"] * count,
    }
    return pa.table(columns, schema=ITEMS)


def place(folder: Path, shape: Shape, step: int) -> Path:
    path = folder / "tiny" / f"stage1-step{step}" / task_file(shape.task)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


SHAPES = (
    Shape("successive/addition", 4, 2, 37),
    Shape("successive/a.b", 3, 1, 150),
    Shape("normal/addition", 1, 3, 20),
)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("swept")
    for shape in SHAPES:
        for step in STEPS:
            write_items(table(shape, step), place(folder, shape, step))
    (folder / "tiny" / "stage1-step340" / "answers").mkdir()
    (folder / "tiny" / "stage1-step340" / "answers" / "x.parquet").write_bytes(b"no item scores")
    return folder


def groups() -> pl.DataFrame:
    names = [f"item{index:04d}" for index in range(20)]
    return pl.DataFrame({"item_id": names, "group": [f"g{i % 7}" for i in range(20)]})


@pytest.mark.parametrize("named", [None, groups()], ids=["items", "groups"])
def test_series_are_those_of_all_rows_to_the_bit(swept: Path, named: pl.DataFrame | None) -> None:
    found = all_series(swept, HERE, QUIET, metrics=METRICS, groups=named)
    items = read_items(swept)
    keys = items.select("family", "task").unique().sort("family", "task").rows()
    for metric in METRICS:
        assert list(found[metric]) == [f"{family}/{task}" for family, task in keys]
        for task, series in found[metric].items():
            whole = cluster_series(items, task, metric=metric, groups=named)
            assert (series.task, series.unit) == (whole.task, whole.unit)
            assert series.values.tobytes() == whole.values.tobytes()
            assert series.steps.tolist() == whole.steps.tolist()
            assert series.clusters.tolist() == whole.clusters.tolist()
            assert series.steps.dtype == whole.steps.dtype


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 5), st.integers(1, 2), st.integers(1, 300), st.integers(1, 4))
def test_how_a_mean_is_summed_does_not_depend_on_the_other_checkpoints(
    tmp_path_factory: pytest.TempPathFactory, seeds: int, wordings: int, items: int, steps: int
) -> None:
    folder, shape = tmp_path_factory.mktemp("one"), Shape("a/b", seeds, wordings, items)
    for step in range(steps):
        write_items(table(shape, step), place(folder, shape, step))
    (series,) = all_series(folder, HERE, QUIET)["soft"].values()
    assert series.values.tobytes() == seed_series(read_items(folder), "a/b").values.tobytes()


@pytest.mark.parametrize("function", [metrics, authors_metrics])
def test_summaries_are_those_of_all_rows_to_the_bit(swept: Path, function) -> None:
    assert concatenated(swept, function, HERE, QUIET).equals(function(read_items(swept)))


def test_the_mass_of_answers_is_that_of_all_rows(swept: Path) -> None:
    found = concatenated(swept, answer_mass, HERE, QUIET)
    assert_frame_equal(found, answer_mass(read_items(swept)), rel_tol=1e-13, abs_tol=0)


@pytest.mark.slow
def test_the_number_of_workers_changes_no_bit(swept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring.reduction, "TABLES_A_JOB", 2)
    here = all_series(swept, HERE, QUIET, metrics=METRICS)
    with WorkerPool(2) as pool:
        there = all_series(swept, pool, QUIET, metrics=METRICS)
        assert concatenated(swept, metrics, pool, QUIET).equals(metrics(read_items(swept)))
    for metric in METRICS:
        assert list(here[metric]) == list(there[metric])
        for task, series in here[metric].items():
            assert series.values.tobytes() == there[metric][task].values.tobytes()


def test_jobs_of_several_tables_keep_the_order_of_paths(
    swept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring.reduction, "TABLES_A_JOB", 2)
    heights = map_tables(swept, lambda rows: (rows["step"][0], rows.height), HERE, QUIET)
    by_path = [
        (table["step"][0], table.height) for table in map(pl.read_parquet, item_tables(swept))
    ]
    assert heights == by_path
    assert len(by_path) == 9


def broken(folder: Path, change) -> pytest.ExceptionInfo[DataError]:
    """Write two checkpoints' tables, the second changed, and return what is said of them."""
    shape = SHAPES[0]
    write_items(table(shape, 340), place(folder, shape, 340))
    write_items(change(table(shape, 356)), place(folder, shape, 356))
    with pytest.raises(DataError) as error:
        all_series(folder, HERE, QUIET)
    return error


def test_a_checkpoint_that_lacks_an_item_is_named_as_by_seed_series(tmp_path: Path) -> None:
    error = broken(tmp_path, lambda rows: rows.slice(1))
    with pytest.raises(DataError) as same:
        seed_series(read_items(tmp_path), "successive/addition")
    assert str(error.value) == str(same.value)
    assert "not scored on the same items" in str(error.value)


def test_doubled_rows_and_scores_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    doubled = broken(tmp_path / "a", lambda rows: pa.concat_tables([rows, rows.slice(0, 1)]))
    assert "not scored on the same items" in str(doubled.value)

    def spoilt(rows: pa.Table) -> pa.Table:
        scores = rows["lp_right"].to_numpy().copy()
        scores[3] = np.nan
        return rows.set_column(
            rows.column_names.index("lp_right"), ITEMS.field("lp_right"), pa.array(scores)
        )

    assert "soft at step 356" in str(broken(tmp_path / "b", spoilt).value)


def test_a_table_is_of_one_checkpoint_and_a_series_of_one_run(tmp_path: Path) -> None:
    other = table(SHAPES[0], 372)
    mixed = broken(tmp_path / "a", lambda rows: pa.concat_tables([rows, other]))
    assert "tiny, stage1-step356" in str(mixed.value)
    empty = broken(tmp_path / "b", lambda rows: rows.slice(0, 0))
    assert "without rows" in str(empty.value)
    runs = broken(tmp_path / "c", lambda rows: table(SHAPES[0], 356, run="other"))
    assert "a series is of one run" in str(runs.value)
    again = broken(tmp_path / "d", lambda rows: table(SHAPES[0], 340, seed=1))
    assert "step 340" in str(again.value) or "2 rows at 1 of 1" in str(again.value)


def test_a_folder_without_scores_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no item scores"):
        all_series(tmp_path, HERE, QUIET)
