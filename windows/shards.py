"""The token-shard format: the one in which curated data and a run's own data lie.

A folder holds headerless little-endian token files (``part-00000.npy``; the suffix is OLMo-core's
convention, not numpy's format), for each the bounds of its documents (``part-00000.csv.gz``),
``instances.parquet`` where its rows were chosen from a run, and ``manifest.json``, written last: a
folder without it is not finished. OLMo-core reads the shards as they are. Everything is
deterministic to the byte for one version of pyarrow and zlib.
"""

import hashlib
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from windows.bounds import Bound, read_bounds, write_bounds
from windows.errors import ConfigError, DataError
from windows.files import atomic_path
from windows.identity import hash_file
from windows.manifest import (
    MANIFEST,
    Manifest,
    ManifestShard,
    data_files,
    describe_shard,
    read_manifest,
    write_manifest,
)
from windows.tokens import documents

__all__ = [
    "INSTANCES",
    "INSTANCE_SCHEMA",
    "MANIFEST",
    "Bound",
    "InstanceRow",
    "Manifest",
    "ManifestShard",
    "ShardWriter",
    "data_files",
    "describe_shard",
    "iter_rows",
    "read_bounds",
    "read_manifest",
    "read_tokens",
    "write_bounds",
    "write_manifest",
]

INSTANCES = "instances.parquet"

INSTANCE_SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),
        ("offset", pa.int64()),
        ("length", pa.int32()),
        ("run", pa.string()),
        ("window", pa.string()),
        ("batch", pa.int64()),
        ("file", pa.int32()),
        ("source_offset", pa.int64()),
        ("instance", pa.int64()),
        ("label", pa.string()),
        ("head_cut", pa.bool_()),
        ("tail_cut", pa.bool_()),
    ]
)
"""Columns of ``instances.parquet``; `offset` and `length` count tokens of the shard."""

# Rows kept in memory before they go to the file, and rows of one parquet row group.
_ROW_GROUP = 65_536


@dataclass(frozen=True)
class InstanceRow:
    """Where a row of curated data was read.

    Attributes
    ----------
    run, window
        The run, and the name of the window.
    batch
        The 0-based batch that read it.
    file, source_offset
        Index of the run's token file, and the byte in it at which the row begins.
    instance
        The run's instance id.
    label
        The window's label.
    head_cut, tail_cut
        Whether the row begins, or ends, inside a document.
    """

    run: str
    window: str
    batch: int
    file: int
    source_offset: int
    instance: int
    label: str
    head_cut: bool
    tail_cut: bool


_COLUMNS = attrgetter(*(field.name for field in fields(InstanceRow)))


class ShardWriter:
    """Writes a folder of token shards from rows of token ids.

    Use it as a context manager: after an error nothing half-written stays under a final name, and
    without its manifest the folder is not finished. What an earlier attempt left there is removed.

    Parameters
    ----------
    folder
        Where to write; made if needed.
    vocab_size, eos_id, sequence_length, unit
        As in `Manifest`.
    shard_tokens
        A token file is closed before a row would make it longer than this; rows are never split.

    Raises
    ------
    ConfigError
        The vocabulary is too large for 32-bit ids, or another parameter cannot be.
    """

    def __init__(
        self,
        folder: Path,
        *,
        vocab_size: int,
        eos_id: int,
        sequence_length: int,
        unit: Literal["instance", "document"] = "instance",
        shard_tokens: int,
    ) -> None:
        try:
            self._manifest = Manifest(
                vocab_size=vocab_size,
                eos_id=eos_id,
                sequence_length=sequence_length,
                unit=unit,
                shards=(),
            )
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "vocab_size"
            raise ConfigError("not token shards", where=where, got=first["msg"]) from error
        if shard_tokens < 1:
            raise ConfigError("a shard needs a token", where="shard_tokens", got=str(shard_tokens))
        _clear(folder)
        self._folder = folder
        self._shard_tokens = shard_tokens
        self._done: list[ManifestShard] = []
        self._open: _OpenShard | None = None
        self._rows: list[tuple[Any, ...]] = []
        self._stack = ExitStack()
        part = self._stack.enter_context(atomic_path(folder / INSTANCES))
        self._table = self._stack.enter_context(
            pq.ParquetWriter(part, INSTANCE_SCHEMA, compression="zstd", version="2.6")
        )

    def add(self, tokens: npt.NDArray[np.uint32], row: InstanceRow) -> None:
        """Append one row.

        Parameters
        ----------
        tokens
            Token ids, ``[n]``; n is the sequence length where the unit is the instance.
        row
            Where they were read.

        Raises
        ------
        DataError
            The row has another length, or an id that is not in the vocabulary.
        """
        ids = np.ascontiguousarray(tokens, dtype="<u4")
        self._check(ids, row)
        shard = self._shard_for(len(ids))
        place = (len(self._done), shard.tokens, len(ids))
        shard.bounds += self._bounds(ids, row, shard.tokens)
        shard.write(ids)
        self._rows.append((*place, *_COLUMNS(row)))
        if len(self._rows) == _ROW_GROUP:
            self._flush()

    def close(self) -> None:
        """Finish the last shard, ``instances.parquet`` and, after them, the manifest."""
        try:
            self._finish_shard()
            self._flush()
            self._stack.close()
        except BaseException:
            self._abandon(*sys.exc_info())
            raise
        manifest = self._manifest.model_copy(update={"shards": tuple(self._done)})
        write_manifest(self._folder, manifest)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self._abandon(kind, error, trace)

    def _abandon(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # One stack of both, because the second must be undone even where undoing the first fails.
        both = ExitStack()
        both.push(self._stack)
        if self._open is not None:
            both.push(self._open.files)
        both.__exit__(kind, error, trace)

    def _check(self, tokens: npt.NDArray[np.uint32], row: InstanceRow) -> None:
        where = f"instance {row.instance} of run {row.run}"
        length, unit = self._manifest.sequence_length, self._manifest.unit
        if not len(tokens) or (unit == "instance" and len(tokens) != length):
            raise DataError(
                f"not a row of unit {unit} with sequence length {length}",
                where=where,
                got=f"{len(tokens)} tokens",
                do="give whole instances, or export with unit: document",
            )
        largest = int(tokens.max())
        if largest >= self._manifest.vocab_size:
            raise DataError(
                f"a token id outside the vocabulary of {self._manifest.vocab_size}",
                where=where,
                got=str(largest),
                do="check that the token files and the tokenizer belong together",
            )

    def _bounds(
        self, tokens: npt.NDArray[np.uint32], row: InstanceRow, offset: int
    ) -> Iterator[Bound]:
        """Yield the documents of a row that begins at token `offset` of its file."""
        if self._manifest.unit == "document":
            places = [(0, len(tokens))]
        else:
            places = [(span.start, span.end) for span in documents(tokens, self._manifest.eos_id)]
        for start, end in places:
            name = f"{row.run}/{row.file}:{row.source_offset}+{start}"
            yield Bound(offset + start, offset + end, name, row.run, row.file, row.instance)

    def _shard_for(self, length: int) -> "_OpenShard":
        if self._open is not None and self._open.tokens + length > self._shard_tokens:
            self._finish_shard()
        if self._open is None:
            self._open = _OpenShard(self._folder, len(self._done))
        return self._open

    def _finish_shard(self) -> None:
        if self._open is not None:
            self._done.append(self._open.finish())
            self._open = None

    def _flush(self) -> None:
        if self._rows:
            columns = [
                pa.array(values, type=field.type)
                for values, field in zip(
                    zip(*self._rows, strict=True), INSTANCE_SCHEMA, strict=True
                )
            ]
            self._table.write_table(pa.Table.from_arrays(columns, schema=INSTANCE_SCHEMA))
            self._rows.clear()


class _OpenShard:
    """A token file that is being written."""

    def __init__(self, folder: Path, number: int) -> None:
        self.tokens = 0
        self.bounds: list[Bound] = []
        self.files = ExitStack()
        self._folder = folder
        self._name = f"part-{number:05d}"
        self._hash = hashlib.sha256()
        part = self.files.enter_context(atomic_path(folder / f"{self._name}.npy"))
        self._file = self.files.enter_context(part.open("wb"))

    def write(self, tokens: npt.NDArray[np.uint32]) -> None:
        data = tokens.data.cast("B")
        self._file.write(data)
        self._hash.update(data)
        self.tokens += len(tokens)

    def finish(self) -> ManifestShard:
        self.files.close()
        bounds = f"{self._name}.csv.gz"
        write_bounds(self._folder / bounds, self.bounds)
        return ManifestShard(
            path=f"{self._name}.npy",
            tokens=self.tokens,
            sha256=self._hash.hexdigest(),
            bounds=bounds,
            bounds_sha256=hash_file(self._folder / bounds),
        )


def _clear(folder: Path) -> None:
    """Remove what an earlier attempt left, the manifest first, which vouches for the rest."""
    for pattern in (f"{MANIFEST}*", f"{INSTANCES}*", "part-*.npy*", "part-*.csv.gz*"):
        for path in folder.glob(pattern):
            path.unlink()


def read_tokens(folder: Path) -> npt.NDArray[np.uint32]:
    """Read all instances of a folder whose unit is the instance.

    Returns
    -------
    uint32[n_instances, sequence_length]
        Shard after shard.

    Raises
    ------
    DataError
        As `read_manifest`, or the unit is the document.
    """
    manifest = read_manifest(folder)
    if manifest.unit != "instance":
        raise DataError(
            "rows of unequal length make no table",
            where=str(folder / MANIFEST),
            got=f"unit {manifest.unit}",
            do="export with unit: instance",
        )
    parts = [_load(folder, manifest, number) for number in range(len(manifest.shards))]
    tokens = np.concatenate([np.empty(0, dtype=np.uint32), *parts])
    return tokens.reshape(-1, manifest.sequence_length)


def iter_rows(folder: Path) -> Iterator[tuple[InstanceRow, npt.NDArray[np.uint32]]]:
    """Yield every row of a folder with its tokens, uint32[length], in the order of writing.

    Raises
    ------
    DataError
        As `read_manifest`, or ``instances.parquet`` is absent or damaged.
    """
    manifest = read_manifest(folder)
    try:
        table = pq.read_table(folder / INSTANCES, schema=INSTANCE_SCHEMA)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            "rows cannot be read", where=str(folder / INSTANCES), got=str(error), do="export again"
        ) from error
    loaded, tokens = -1, np.empty(0, dtype=np.uint32)
    for batch in table.to_batches(max_chunksize=_ROW_GROUP):
        for row in batch.to_pylist():
            shard, offset, length = (row.pop(name) for name in ("shard", "offset", "length"))
            if shard != loaded:
                loaded, tokens = shard, _load(folder, manifest, shard)
            yield InstanceRow(**row), tokens[offset : offset + length]


def _load(folder: Path, manifest: Manifest, number: int) -> npt.NDArray[np.uint32]:
    path = folder / manifest.shards[number].path
    dtype = np.dtype(manifest.dtype).newbyteorder("<")
    return np.fromfile(path, dtype=dtype).astype(np.uint32, copy=False)
