import gzip
import hashlib
import json
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from windows import shards
from windows.errors import ConfigError, DataError
from windows.shards import (
    INSTANCE_SCHEMA,
    Bound,
    InstanceRow,
    Manifest,
    ShardWriter,
    data_files,
    describe_shard,
    iter_rows,
    read_bounds,
    read_manifest,
    read_tokens,
    write_bounds,
    write_manifest,
)

EOS = 1


def row_of(instance: int, **change: Any) -> InstanceRow:
    fields = {
        "run": "toy",
        "window": "stage1-0:4",
        "batch": instance // 2,
        "file": 0,
        "source_offset": instance * 32,
        "instance": instance,
        "label": "pattern",
        "head_cut": True,
        "tail_cut": False,
    }
    return InstanceRow(**(fields | change))


def table_of(instances: int, length: int = 8) -> npt.NDArray[np.uint32]:
    """Tokens equal to their position, but for an EOS after every fifth."""
    tokens = np.arange(instances * length, dtype=np.uint32)
    tokens[4::5] = EOS
    return tokens.reshape(instances, length)


def write_table(folder: Path, tokens: npt.NDArray[np.uint32], **change: Any) -> Path:
    settings = {"vocab_size": 1000, "eos_id": EOS, "sequence_length": 8, "shard_tokens": 24}
    with ShardWriter(folder, **(settings | change)) as writer:
        for instance, row in enumerate(tokens):
            writer.add(row, row_of(instance))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_what_was_written_is_read(tmp_path: Path):
    tokens = table_of(7)
    write_table(tmp_path, tokens)
    assert sorted(contents(tmp_path)) == [
        "instances.parquet",
        "manifest.json",
        *(f"part-0000{n}.{end}" for n in range(3) for end in ("csv.gz", "npy")),
    ]
    assert (read_tokens(tmp_path) == tokens).all()
    rows = list(iter_rows(tmp_path))
    assert [row for row, _ in rows] == [row_of(n) for n in range(7)]
    assert (np.stack([row for _, row in rows]) == tokens).all()


def test_shards_are_headerless_little_endian_ids(tmp_path: Path):
    tokens = table_of(7)
    write_table(tmp_path, tokens)
    written = b"".join((tmp_path / f"part-0000{n}.npy").read_bytes() for n in range(3))
    assert written == tokens.astype("<u4").tobytes()


def test_the_manifest_says_what_the_files_hold(tmp_path: Path):
    write_table(tmp_path, table_of(7))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    listed = manifest.pop("shards")
    assert manifest == {
        "schema": 1,
        "dtype": "uint32",
        "vocab_size": 1000,
        "eos_id": EOS,
        "sequence_length": 8,
        "unit": "instance",
    }
    assert [shard["tokens"] for shard in listed] == [24, 24, 8]
    for shard in listed:
        for name in ("", "bounds_"):
            path = tmp_path / shard["bounds" if name else "path"]
            assert hashlib.sha256(path.read_bytes()).hexdigest() == shard[f"{name}sha256"]


def test_rows_know_where_they_lie(tmp_path: Path):
    tokens = table_of(7)
    write_table(tmp_path, tokens)
    table = pq.read_table(tmp_path / "instances.parquet")
    assert table.schema.equals(INSTANCE_SCHEMA)
    for row, expected in zip(table.to_pylist(), tokens, strict=True):
        shard = np.fromfile(tmp_path / f"part-0000{row['shard']}.npy", dtype="<u4")
        assert (shard[row["offset"] : row["offset"] + row["length"]] == expected).all()


def test_the_same_rows_give_the_same_bytes(tmp_path: Path):
    first = contents(write_table(tmp_path / "a", table_of(9)))
    assert contents(write_table(tmp_path / "b", table_of(9))) == first


def test_what_an_earlier_attempt_left_is_replaced(tmp_path: Path):
    write_table(tmp_path / "a", table_of(30))
    write_table(tmp_path / "a", table_of(4))
    assert contents(tmp_path / "a") == contents(write_table(tmp_path / "b", table_of(4)))


def test_a_failed_writing_leaves_nothing_half_written(tmp_path: Path):
    tokens = table_of(5)
    with (
        pytest.raises(KeyError),
        ShardWriter(
            tmp_path, vocab_size=1000, eos_id=EOS, sequence_length=8, shard_tokens=16
        ) as writer,
    ):
        for instance, row in enumerate(tokens):
            writer.add(row, row_of(instance))
        raise KeyError
    assert sorted(contents(tmp_path)) == [
        f"part-0000{n}.{end}" for n in range(2) for end in ("csv.gz", "npy")
    ]
    with pytest.raises(DataError, match="no manifest of token shards"):
        read_manifest(tmp_path)


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from windows.shards import InstanceRow, ShardWriter
tokens = np.load(sys.argv[1])
settings = dict(vocab_size=1000, eos_id=1, sequence_length=8, shard_tokens=24)
with ShardWriter(Path(sys.argv[2]), **settings) as writer:
    for instance, row in enumerate(tokens):
        place = InstanceRow("toy", "other", 0, 0, 0, instance, "neutral", True, False)
        writer.add(row, place)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_after_a_kill_the_same_bytes_come_out(tmp_path: Path):
    np.save(tmp_path / "tokens.npy", table_of(16))
    root = Path(shards.__file__).parent.parent
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path / "tokens.npy", tmp_path / "a"], cwd=root
    )
    assert killed.returncode == -signal.SIGKILL
    assert any(name.endswith(".tmp") for name in contents(tmp_path / "a"))
    write_table(tmp_path / "a", table_of(7))
    assert contents(tmp_path / "a") == contents(write_table(tmp_path / "b", table_of(7)))


@contextmanager
def small_files() -> Iterator[None]:
    """No file grows beyond 64 KiB, as on a disk that is full; nor does one pytest prints to."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path):
    tokens = np.zeros((3000, 8), dtype=np.uint32)
    with pytest.raises(OSError, match="File too large"), small_files():
        write_table(tmp_path, tokens, shard_tokens=tokens.size)
    assert contents(tmp_path) == {}


def test_bounds_list_documents_and_fragments(tmp_path: Path):
    tokens = np.array([[5, 1, 6, 6, 1, 7, 7, 7], [8, 8, 8, 8, 8, 8, 8, 1]], dtype=np.uint32)
    write_table(tmp_path, tokens)
    bounds = list(read_bounds(tmp_path / "part-00000.csv.gz"))
    assert [(b.start, b.end, b.instance) for b in bounds] == [
        (0, 2, 0),
        (2, 5, 0),
        (5, 8, 0),
        (8, 16, 1),
    ]
    assert [b.id for b in bounds] == ["toy/0:0+0", "toy/0:0+2", "toy/0:0+5", "toy/0:32+0"]
    text = gzip.decompress((tmp_path / "part-00000.csv.gz").read_bytes()).decode()
    assert text.splitlines()[0] == "0,2,toy/0:0+0,toy,0,0"
    header = (tmp_path / "part-00000.csv.gz").read_bytes()[:8]
    assert header[3:8] == bytes(5), "neither a file name nor a time"


def test_whole_documents_are_a_unit_of_their_own(tmp_path: Path):
    lengths = [3, 40, 1, 7]
    with ShardWriter(
        tmp_path, vocab_size=9, eos_id=EOS, sequence_length=8, unit="document", shard_tokens=20
    ) as writer:
        for number, length in enumerate(lengths):
            writer.add(np.full(length, EOS, dtype=np.uint32), row_of(number))
    manifest = read_manifest(tmp_path)
    assert [shard.tokens for shard in manifest.shards] == [3, 40, 8]
    assert [len(tokens) for _, tokens in iter_rows(tmp_path)] == lengths
    bounds = [b for shard in manifest.shards for b in read_bounds(tmp_path / shard.bounds)]
    assert [(b.start, b.end) for b in bounds] == [(0, 3), (0, 40), (0, 1), (1, 8)]
    with pytest.raises(DataError, match="got unit document"):
        read_tokens(tmp_path)


def test_no_rows_are_an_empty_table(tmp_path: Path):
    write_table(tmp_path, table_of(0))
    assert read_tokens(tmp_path).shape == (0, 8)
    assert list(iter_rows(tmp_path)) == []


texts = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), max_size=8)
bounds_lists = st.lists(
    st.builds(Bound, st.integers(0), st.integers(0), texts, texts, st.integers(0), st.integers(0)),
    max_size=6,
)


@given(bounds_lists)
def test_bounds_survive_the_file(tmp_path_factory: pytest.TempPathFactory, bounds: list[Bound]):
    path = tmp_path_factory.mktemp("bounds") / "part-00000.csv.gz"
    write_bounds(path, bounds)
    assert list(read_bounds(path)) == bounds
    with gzip.open(path, "rt") as file:
        starts = [tuple(map(int, line.split(",")[:2])) for line in file]
    assert starts == [(b.start, b.end) for b in bounds], "readable without csv quoting"


def test_a_line_break_in_bounds_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="line break"):
        write_bounds(tmp_path / "a.csv.gz", [Bound(0, 1, "a\nb", "toy", 0, 0)])


@pytest.mark.parametrize(
    "data",
    [b"", b"text", gzip.compress(b"1,2\n"), gzip.compress(b"1,2,a")[:-3]],
    ids=["empty", "no gzip", "too few columns", "cut short"],
)
def test_damaged_bounds_are_refused(tmp_path: Path, data: bytes):
    (tmp_path / "a.csv.gz").write_bytes(data)
    with pytest.raises(DataError, match="bounds cannot be read"):
        list(read_bounds(tmp_path / "a.csv.gz"))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([5] * 7 + [1000], "instance 3 of run toy: a token id outside.*got 1000"),
        ([5] * 7, "got 7 tokens"),
        ([], "got 0 tokens"),
    ],
)
def test_rows_that_do_not_fit_are_refused(tmp_path: Path, tokens: list[int], message: str):
    settings = {"vocab_size": 1000, "eos_id": EOS, "sequence_length": 8, "shard_tokens": 24}
    with (
        pytest.raises(DataError, match=message),
        ShardWriter(tmp_path, **settings) as writer,  # type: ignore[arg-type]
    ):
        writer.add(np.array(tokens, dtype=np.uint32), row_of(3))
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab_size": 2**32 + 1}, "too large for uint32"),
        ({"eos_id": 1000}, "not below vocab_size"),
        ({"sequence_length": 0}, "sequence_length"),
        ({"shard_tokens": 0}, "shard_tokens"),
    ],
)
def test_shards_that_cannot_be_are_refused(tmp_path: Path, change: dict[str, int], message: str):
    with pytest.raises(ConfigError, match=message):
        write_table(tmp_path, table_of(1), **change)


def test_a_shard_cut_short_is_refused(tmp_path: Path):
    write_table(tmp_path, table_of(7))
    path = tmp_path / "part-00001.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError, match=r"part-00001\.npy.*cut short.*92 bytes.*says 96"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("name", ["part-00001.npy", "part-00001.csv.gz"])
def test_a_missing_file_is_refused(tmp_path: Path, name: str):
    write_table(tmp_path, table_of(7))
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=f"{name}.*cannot be read"):
        read_manifest(tmp_path)


def test_missing_rows_are_refused(tmp_path: Path):
    write_table(tmp_path, table_of(7))
    (tmp_path / "instances.parquet").unlink()
    with pytest.raises(DataError, match=r"instances\.parquet.*cannot be read"):
        list(iter_rows(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "schema"),
        ({"dtype": "int64"}, "dtype"),
        ({"vocab_size": 300, "dtype": "uint8"}, "too large for uint8"),
        ({"sequence_length": 7}, "no whole number of instances"),
        ({"extra": 1}, "extra"),
        ({"shards": [{"path": "../a.npy"}]}, r"shards\.0"),
    ],
)
def test_a_manifest_of_another_form_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
):
    write_table(tmp_path, table_of(7))
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=message):
        read_manifest(tmp_path)


@pytest.mark.parametrize("path", ["../a.npy", "/a.npy", "", "a/../../b.npy"])
def test_a_manifest_stays_in_its_folder(path: str):
    with pytest.raises(ValueError, match="not a file inside the folder"):
        Manifest.model_validate(
            {"vocab_size": 2, "eos_id": 1, "sequence_length": 1, "unit": "document"}
            | {
                "shards": [
                    dict.fromkeys(("sha256", "bounds_sha256"), "")
                    | {"path": path, "bounds": "b", "tokens": 0}
                ]
            }
        )


def test_a_runs_own_data_has_the_same_format(tmp_path: Path):
    for source in ("ledger", "almanac"):
        (tmp_path / source).mkdir()
        np.arange(10, dtype="<u2").tofile(tmp_path / source / "0.npy")
        write_bounds(tmp_path / source / "0.csv.gz", [Bound(0, 10, "a", source, 0, 0)])
    described = tuple(
        describe_shard(tmp_path, f"{source}/0.npy", f"{source}/0.csv.gz", token_bytes=2)
        for source in ("ledger", "almanac")
    )
    manifest = Manifest(
        dtype="uint16",
        vocab_size=10,
        eos_id=EOS,
        sequence_length=4,
        unit="document",
        shards=described,
    )
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    assert [(f.source, f.bytes, Path(f.path)) for f in data_files(tmp_path)] == [
        (source, 20, tmp_path / source / "0.npy") for source in ("ledger", "almanac")
    ]
