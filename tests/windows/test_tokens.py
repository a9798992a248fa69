from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from windows.errors import ConfigError, DataError
from windows.order import DataOrder
from windows.tokens import Span, TokenFiles, documents


def write_positions(folder: Path, counts: list[int], token_bytes: int = 4) -> list[Path]:
    """Files whose every token is its position in the concatenation of all files."""
    paths, start = [], 0
    for number, count in enumerate(counts):
        path = folder / f"{number}.npy"
        np.arange(start, start + count, dtype=f"<u{token_bytes}").tofile(path)
        paths.append(path)
        start += count
    return paths


def order_over(files: TokenFiles, **change: object) -> DataOrder:
    arguments = {
        "sequence_length": files.sequence_length,
        "batch_tokens": files.sequence_length,
        "seed": 7,
        "token_bytes": files.token_bytes,
    }
    return DataOrder.from_sizes(files.sizes, **(arguments | change))  # type: ignore[arg-type]


@pytest.mark.parametrize("token_bytes", [2, 4])
def test_instances_hold_the_tokens_of_their_place(tmp_path: Path, token_bytes: int):
    paths = write_positions(tmp_path, [33, 3, 80, 17], token_bytes)
    files = TokenFiles(paths, sequence_length=8, token_bytes=token_bytes)
    order = order_over(files)
    ids = order.instances(0, order.num_batches)
    ids = np.concatenate([ids, ids[:3]])
    read = files.instances(order, ids)
    assert read.shape == (len(ids), 8)
    assert read.dtype == np.uint32
    starts = {0: 0, 1: 33, 2: 36, 3: 116}
    for row, file, offset in zip(read, *order.locate(ids), strict=True):
        assert row[0] == starts[int(file)] + offset // token_bytes
        assert (np.diff(row) == 1).all()


def test_no_instances_is_an_empty_table(tmp_path: Path):
    files = TokenFiles(write_positions(tmp_path, [16]), sequence_length=8)
    assert files.instances(order_over(files), []).shape == (0, 8)


def test_an_order_over_other_files_is_refused(tmp_path: Path):
    files = TokenFiles(write_positions(tmp_path, [16]), sequence_length=8)
    with pytest.raises(DataError, match="not those of this data order"):
        files.instances(order_over(files, sequence_length=4, batch_tokens=4), [0])


def test_a_file_cut_short_while_reading_is_refused(tmp_path: Path):
    paths = write_positions(tmp_path, [16])
    files = TokenFiles(paths, sequence_length=8)
    order = order_over(files)
    paths[0].write_bytes(paths[0].read_bytes()[:40])
    with pytest.raises(DataError, match=r"0\.npy.*cut short.*byte 40"):
        files.instances(order, [0, 1])


def test_a_size_that_is_no_whole_number_of_ids_is_refused(tmp_path: Path):
    (tmp_path / "a.npy").write_bytes(bytes(10))
    with pytest.raises(DataError, match=r"a\.npy.*whole number of 4-byte ids; got 10 bytes"):
        TokenFiles([tmp_path / "a.npy"], sequence_length=8)


@pytest.mark.parametrize(("expected", "word"), [(72, "cut short"), (56, "longer")])
def test_a_size_other_than_the_manifest_says_is_refused(tmp_path: Path, expected: int, word: str):
    paths = write_positions(tmp_path, [16])
    TokenFiles(paths, sequence_length=8, expected_bytes=[64])
    with pytest.raises(DataError, match=f"{word}.*64 bytes where the manifest says {expected}"):
        TokenFiles(paths, sequence_length=8, expected_bytes=[expected])


def test_missing_files_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="no token files"):
        TokenFiles([], sequence_length=8)
    with pytest.raises(DataError, match=r"b\.npy.*cannot be read.*No such file"):
        TokenFiles([tmp_path / "b.npy"], sequence_length=8)


def test_senseless_arguments_are_refused(tmp_path: Path):
    paths = write_positions(tmp_path, [16])
    with pytest.raises(ConfigError, match="token_bytes"):
        TokenFiles(paths, sequence_length=8, token_bytes=3)
    with pytest.raises(ConfigError, match="as many sizes"):
        TokenFiles(paths, sequence_length=8, expected_bytes=[64, 64])


def test_a_document_ends_with_its_eos():
    tokens = np.array([5, 5, 1, 5, 1, 1, 5], dtype=np.uint32)
    assert documents(tokens, 1) == [
        Span(0, 3, True, False),
        Span(3, 5, False, False),
        Span(5, 6, False, False),
        Span(6, 7, False, True),
    ]
    assert documents(tokens[:3], 1, starts_document=True) == [Span(0, 3, False, False)]
    assert documents(tokens[:2], 1) == [Span(0, 2, True, True)]
    assert documents(tokens[:0], 1) == []


@given(st.lists(st.integers(0, 3), max_size=40), st.booleans())
def test_documents_cover_an_instance(values: list[int], starts: bool):
    tokens = np.array(values, dtype=np.uint32)
    spans = documents(tokens, 1, starts_document=starts)
    assert [t for s in spans for t in range(s.start, s.end)] == list(range(len(values)))
    for span in spans:
        body = values[span.start : span.end]
        assert 1 not in body[:-1]
        assert span.tail_cut == (body[-1] != 1)
        assert span.head_cut == (span.start == 0 and not starts)
