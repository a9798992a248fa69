"""The table of item scores: its schema, where tables lie, reading and writing. Free of torch."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from re import sub

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from windows.checkpoints.folder import Checkpoint
from windows.errors import DataError
from windows.files import atomic_path

ITEMS = pa.schema(
    [
        *((name, pa.string()) for name in ("run", "stage", "family", "task", "wording", "item_id")),
        ("step", pa.int64()),
        ("demo_seed", pa.int16()),
        *((name, pa.float32()) for name in ("lp_right", "lp_parrot")),
        *((name, pa.float32()) for name in ("mean_p_right", "mean_p_parrot")),
        *((name, pa.int16()) for name in ("n_right", "n_parrot")),
        ("boundary", pa.string()),
    ]
)
"""Log-probabilities are nats over all tokens of an answer, its terminator included, and so are the
token counts; mean probabilities are over its tokens before the terminator. The boundary is
``separate`` where either answer was encoded apart from its prompt."""

PERSONA_FOLDER, ANSWERS_FOLDER = "persona", "answers"
"""Folders for what a checkpoint generated, beside its item scores, of which it is no part."""

_ORDER = ["run", "stage", "step", "family", "task", "wording", "demo_seed", "item_id"]


@dataclass(frozen=True, slots=True)
class Where:
    """The checkpoint that scores belong to."""

    run: str
    stage: str
    step: int


def write_items(table: pa.Table, path: Path) -> None:
    """Write a table, of schema `ITEMS` or another, in one piece; equal ones give equal bytes."""
    with atomic_path(path) as part:
        pq.write_table(table, part, compression="zstd")


def checkpoint_folder(out: Path, checkpoint: Checkpoint) -> Path:
    """Return where the tables of one checkpoint lie; a run's name may hold slashes."""
    run = sub(r"[^A-Za-z0-9._-]+", "-", checkpoint.run)
    if run != checkpoint.run or run.startswith("."):
        run = f"run-{run}-{sha256(checkpoint.run.encode()).hexdigest()[:8]}"
    return out / run / checkpoint.name


def items_path(out: Path, checkpoint: Checkpoint, task: str) -> Path:
    """Return where the scores of one checkpoint on one task lie."""
    return checkpoint_folder(out, checkpoint) / task_file(task)


def task_file(task: str) -> str:
    """Name the file of a task's table: ``<family>.<task>.parquet``."""
    return f"{task.replace('/', '.')}.parquet"


def read_items(folder: Path) -> pl.DataFrame:
    """Read all scores below a folder, sorted by checkpoint, task, wording, demo seed and item.

    Raises
    ------
    DataError
        If there are none, or one is not a table of schema `ITEMS`.
    """
    generated = (PERSONA_FOLDER, ANSWERS_FOLDER)
    paths = [
        path
        for path in folder.rglob("*.parquet")
        if path.relative_to(folder).parent.name not in generated
    ]
    return read_tables(paths, ITEMS, "item scores", folder).sort(_ORDER)


def read_task(folder: Path, task: str) -> pl.DataFrame:
    """Read the scores of one task below a folder, sorted as `read_items` does.

    Raises
    ------
    DataError
        As `read_items`.
    """
    paths = folder.glob(f"*/*/{task_file(task)}")
    return read_tables(paths, ITEMS, f"item scores of {task}", folder).sort(_ORDER)


def read_tables(paths: Iterable[Path], schema: pa.Schema, what: str, folder: Path) -> pl.DataFrame:
    """Read tables of one schema as one, unsorted.

    Parameters
    ----------
    paths
        Their files.
    schema
        What each of them must be.
    what, folder
        What they are called and where they were looked for, for the messages.

    Raises
    ------
    DataError
        If there are none, or one is not of that schema.
    """
    tables = [_read_checked(path, schema, what) for path in sorted(paths)]
    if not tables:
        raise DataError(f"no {what}", where=str(folder), do="run the sweep first")
    frame = pl.from_arrow(pa.concat_tables(tables))
    assert isinstance(frame, pl.DataFrame)
    return frame


def _read_checked(path: Path, schema: pa.Schema, what: str) -> pa.Table:
    try:
        table = read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise _not_one(path, what, str(error)) from error
    if not table.schema.equals(schema):
        raise _not_one(path, what, f"columns {', '.join(table.column_names)}")
    return table.replace_schema_metadata()


def _not_one(path: Path, what: str, got: str) -> DataError:
    return DataError(
        f"not a table of {what}",
        where=str(path),
        got=" ".join(got.split())[:200],
        do="delete it and run the sweep again",
    )


def read_table(path: Path) -> pa.Table:
    """Read one parquet file, whatever its schema."""
    # A single file, not a data set: folder names are no columns.
    with pq.ParquetFile(path) as file:
        return file.read()
