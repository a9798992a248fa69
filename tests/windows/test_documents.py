import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from windows.bounds import Bound, write_bounds
from windows.documents import bounds_beside, read_document_bounds
from windows.errors import DataError
from windows.tokens import documents

EOS = 7


def packed(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()))
    return path


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 10))
def test_bounds_and_eos_find_the_same_documents(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], length: int
):
    ends = np.cumsum(lengths).tolist()
    starts = [0, *ends[:-1]]
    path = tmp_path_factory.mktemp("bounds") / "a.csv.gz"
    write_bounds(
        path, [Bound(a, b, f"d{a}", "web", 0, 0) for a, b in zip(starts, ends, strict=True)]
    )
    tokens = np.zeros(ends[-1], np.uint32)
    tokens[np.array(ends) - 1] = EOS
    found = read_document_bounds(path)
    for first in range(0, ends[-1] - length + 1, length):
        named = found.within(first, first + length)
        spans = documents(tokens[first : first + length], EOS, starts_document=first in starts)
        assert [each.span for each in named] == spans
        for each in named:
            start = first + each.span.start
            whole = max(s for s in starts if s <= start)
            assert (each.id, each.source) == (f"d{whole}", "web")


def test_columns_that_are_missing_are_empty(tmp_path: Path):
    two = read_document_bounds(packed(tmp_path / "a.csv.gz", "0,5\n5,9\n"))
    assert two.within(4, 6)[0].id == two.within(4, 6)[0].source == ""
    five = read_document_bounds(packed(tmp_path / "b.csv.gz", "0,5,x,s3://y,3\n5,9,z,,4\n"))
    assert [(each.id, each.source) for each in five.within(0, 9)] == [("x", "s3://y"), ("z", "")]
    assert (five.find("z"), five.find("0"), five.find("2"), five.find("y")) == (1, 0, None, None)
    assert read_document_bounds(packed(tmp_path / "c.csv.gz", "")).within(0, 3) == []


@pytest.mark.parametrize("text", ["0\n", "a,b\n", "0,5\n4,9\n", "3,3\n"])
def test_other_forms_are_refused(tmp_path: Path, text: str):
    with pytest.raises(DataError, match="the bounds of documents"):
        read_document_bounds(packed(tmp_path / "a.csv.gz", text))


def test_bounds_cut_short_are_refused(tmp_path: Path):
    whole = gzip.compress(b"".join(b"%d,%d\n" % (i, i + 1) for i in range(1000)))
    (tmp_path / "a.csv.gz").write_bytes(whole[:-20])
    with pytest.raises(DataError, match="cannot be read; got Compressed file ended"):
        read_document_bounds(tmp_path / "a.csv.gz")


def test_bounds_lie_beside_local_files_only(tmp_path: Path):
    packed(tmp_path / "00000.csv.gz", "0,5\n")
    assert bounds_beside(str(tmp_path / "00000.npy")) == tmp_path / "00000.csv.gz"
    assert bounds_beside(str(tmp_path / "00001.npy")) is None
    assert bounds_beside("https://data.test/00000.npy") is None
