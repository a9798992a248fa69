"""The table of item scores: its schema, where its files lie, reading and writing. Free of torch."""

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

_ORDER = ["run", "stage", "step", "family", "task", "wording", "demo_seed", "item_id"]


@dataclass(frozen=True, slots=True)
class Where:
    """The checkpoint that scores belong to."""

    run: str
    stage: str
    step: int


def write_items(table: pa.Table, path: Path) -> None:
    """Write a table of schema `ITEMS` in one piece; equal tables give equal bytes."""
    with atomic_path(path) as part:
        pq.write_table(table, part, compression="zstd")


def items_path(out: Path, checkpoint: Checkpoint, task: str) -> Path:
    """Return where the scores of one checkpoint on one task lie; a run's name may hold slashes."""
    run = sub(r"[^A-Za-z0-9._-]+", "-", checkpoint.run)
    if run != checkpoint.run or run.startswith("."):
        run = f"run-{run}-{sha256(checkpoint.run.encode()).hexdigest()[:8]}"
    return out / run / checkpoint.name / f"{task.replace('/', '.')}.parquet"


def read_items(folder: Path) -> pl.DataFrame:
    """Read all scores below a folder, sorted by checkpoint, task, wording, demo seed and item.

    Raises
    ------
    DataError
        If there are none, or one is not a table of schema `ITEMS`.
    """
    tables = []
    for path in sorted(folder.rglob("*.parquet")):
        try:
            tables.append(read_table(path))
        except (OSError, pa.ArrowException) as error:
            raise _not_items(path, str(error)) from error
        if not tables[-1].schema.equals(ITEMS):
            raise _not_items(path, f"columns {', '.join(tables[-1].column_names)}")
    if not tables:
        raise DataError("no scores", where=str(folder), do="run the sweep first")
    frame = pl.from_arrow(pa.concat_tables(table.replace_schema_metadata() for table in tables))
    assert isinstance(frame, pl.DataFrame)
    return frame.sort(_ORDER)


def _not_items(path: Path, got: str) -> DataError:
    return DataError(
        "not a table of item scores",
        where=str(path),
        got=" ".join(got.split())[:200],
        do="delete it and run the sweep again",
    )


def read_table(path: Path) -> pa.Table:
    """Read one parquet file, whatever its schema."""
    # A single file, not a data set: folder names are no columns.
    with pq.ParquetFile(path) as file:
        return file.read()
