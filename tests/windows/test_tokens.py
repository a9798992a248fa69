import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
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


def test_a_numpy_header_is_refused_by_name(tmp_path: Path):
    with (tmp_path / "a.npy").open("wb") as file:
        np.save(file, np.arange(16, dtype="<u4"))
    line = r"a\.npy: token file begins with a header.*ndarray\.tofile.*128 bytes"
    # Also where the file is longer than its manifest says, by just that header.
    for expected in (None, [64]):
        with pytest.raises(DataError, match=line):
            TokenFiles([tmp_path / "a.npy"], sequence_length=8, expected_bytes=expected)


@pytest.mark.parametrize("joined", [False, True])
def test_an_id_that_is_not_in_the_vocabulary_is_refused(tmp_path: Path, joined: bool):
    paths = write_positions(tmp_path, [33, 3, 80, 17])
    files = TokenFiles(paths, sequence_length=8, vocab_size=133, joined=joined)
    order = order_over(files)
    if joined:
        order = DataOrder.sequential(files.sizes, sequence_length=8, batch_tokens=8)
    ids = np.arange(order.num_instances)
    assert files.instances(order, ids).max() < 133
    files.vocab_size = 117
    with pytest.raises(DataError, match=r"3\.npy, byte 4: .*vocabulary of 117; got 117; correct"):
        files.instances(order, ids)


def test_ids_of_another_size_are_refused_by_the_vocabulary(tmp_path: Path):
    paths = write_positions(tmp_path, [64], token_bytes=2)
    files = TokenFiles(paths, sequence_length=8, vocab_size=64)
    # Ids 32 and 33, read as one.
    got = (33 << 16) + 32
    with pytest.raises(DataError, match=rf"0\.npy, byte 64: .*got {got}; correct token_bytes.* 4"):
        files.instances(order_over(files), [2])


@given(
    parts=st.lists(st.integers(0, 70), min_size=1, max_size=7),
    token_bytes=st.sampled_from([1, 2, 4]),
    length=st.integers(1, 9),
    seed=st.integers(0, 999),
)
def test_parts_of_one_stream_read_as_the_stream(
    tmp_path_factory: pytest.TempPathFactory,
    parts: list[int],
    token_bytes: int,
    length: int,
    seed: int,
):
    rng = np.random.default_rng(seed)
    parts[-1] += -sum(parts) % token_bytes
    folder = tmp_path_factory.mktemp("parts")
    written = [np.frombuffer(rng.bytes(size), dtype=np.uint8) for size in parts]
    paths = [folder / f"document-{number:05}.bin" for number in range(len(parts))]
    for path, part in zip(paths, written, strict=True):
        part.tofile(path)
    stream = np.concatenate(written).view(f"<u{token_bytes}")
    whole = len(stream) // length
    assume(whole)
    files = TokenFiles(paths, sequence_length=length, token_bytes=token_bytes, joined=True)
    order = DataOrder.sequential(
        files.sizes, sequence_length=length, batch_tokens=length, token_bytes=token_bytes
    )
    ids = rng.integers(0, whole, size=2 * whole)
    seen: list[int] = []
    rows = files.instances(order, ids, advance=seen.append)
    assert (rows == stream[: whole * length].reshape(whole, length)[ids]).all()
    assert sum(seen) == len(ids)


def test_parts_of_one_stream_are_not_files_by_themselves(tmp_path: Path):
    (tmp_path / "0.bin").write_bytes(bytes(33))
    (tmp_path / "1.bin").write_bytes(bytes(31))
    paths = [tmp_path / "0.bin", tmp_path / "1.bin"]
    joined = TokenFiles(paths, sequence_length=8, joined=True)
    order = DataOrder.sequential(joined.sizes, sequence_length=8, batch_tokens=8)
    assert joined.instances(order, [0, 1]).shape == (2, 8)
    with pytest.raises(DataError, match="not a whole number of 4-byte ids; got 33 bytes"):
        TokenFiles(paths, sequence_length=8)
    with pytest.raises(DataError, match="got 95 bytes in all files"):
        TokenFiles([*paths, *paths[1:]], sequence_length=8, joined=True)
    apart = TokenFiles(write_positions(tmp_path, [16]), sequence_length=8)
    order = DataOrder.sequential(apart.sizes, sequence_length=8, batch_tokens=8)
    with pytest.raises(DataError, match="joined where they should not be"):
        apart.instances(order, [0])


def test_an_instance_asked_for_twice_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files = TokenFiles(write_positions(tmp_path, [160]), sequence_length=8)
    order = order_over(files)
    reads: list[int] = []
    preadv = os.preadv

    def count(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        reads.append(offset)
        return preadv(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", count)
    ids = [7, 3, 7, 7, 0, 3]
    seen: list[int] = []
    rows = files.instances(order, ids, advance=seen.append)
    assert (rows == np.array(ids)[:, None] * 8 + np.arange(8)).all()
    # In the order in which they lie on disk.
    assert reads == [0, 96, 224]
    assert sum(seen) == 6


def test_paths_are_those_given_and_may_be_text(tmp_path: Path):
    paths = write_positions(tmp_path, [16, 8])
    files = TokenFiles([str(paths[0]), paths[1].as_uri()], sequence_length=8)
    assert files.paths == tuple(paths)
    assert files.sizes == (64, 32)


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
