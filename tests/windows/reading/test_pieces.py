import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from windows.layout import Layout
from windows.reading.pieces import Pieces


@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=8),
    length=st.integers(1, 30),
    seed=st.integers(0, 99),
)
def test_pieces_of_joined_files_are_those_of_the_stream(sizes: list[int], length: int, seed: int):
    layout = Layout(tuple(sizes), length, joined=True)
    rng = np.random.default_rng(seed)
    ids = rng.permutation(layout.num_instances)[: layout.num_instances // 2 + 1]
    rows = rng.permutation(len(ids))
    pieces = Pieces.of_instances(rows, *layout.locate(ids), length=length, file_bytes=sizes)
    streams = [rng.bytes(size) for size in sizes]
    into = np.zeros((len(ids), length), dtype=np.int64) - 1
    for row, start, file, offset, count in pieces:
        assert 0 < count <= sizes[file] - offset
        into[row, start : start + count] = list(streams[file][offset : offset + count])
    stream = np.frombuffer(b"".join(streams), dtype=np.uint8)
    expected = np.empty_like(into)
    expected[rows] = stream[: layout.num_instances * length].reshape(-1, length)[ids]
    assert (into == expected).all()
    places = list(zip(pieces.files.tolist(), pieces.offsets.tolist(), strict=True))
    assert places == sorted(places)


@given(sizes=st.lists(st.integers(0, 90), min_size=1, max_size=6), length=st.integers(1, 20))
def test_pieces_of_files_by_themselves_are_instances(sizes: list[int], length: int):
    layout = Layout(tuple(sizes), length)
    ids = np.arange(layout.num_instances)
    files, offsets = layout.locate(ids)
    pieces = Pieces.of_instances(ids, files, offsets, length=length, file_bytes=sizes)
    assert len(pieces) == len(ids)
    assert (pieces.rows == ids).all()
    assert (pieces.lengths == length).all()
    assert (pieces.files == files).all() and (pieces.offsets == offsets).all()
    if len(ids):
        assert list(pieces.take(slice(0, 1))) == [next(iter(pieces))]
