import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import windows.permutation as module
from windows.errors import DataError
from windows.permutation import Kept, Permutation, shuffled


@pytest.mark.slow
def test_numpy_still_shuffles_as_it_did():
    ids = shuffled(20_000_000, 34522)
    assert ids.dtype == np.uint32
    assert ids[:4].tolist() == [17426839, 10574776, 14473611, 16021402]
    assert hashlib.sha256(ids.tobytes()).hexdigest().startswith("a4f450cfc8ae774a")


def test_a_numpy_that_shuffles_differently_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_PINNED", tuple(range(16)))
    module._check_stream.cache_clear()
    with pytest.raises(DataError, match="shuffles differently"):
        shuffled(3, 0)
    monkeypatch.undo()
    module._check_stream.cache_clear()
    assert sorted(shuffled(3, 0).tolist()) == [0, 1, 2]


@given(st.integers(0, 200), st.integers(0, 5), st.integers(1, 50), st.booleans())
def test_it_is_one_wherever_it_lies(
    tmp_path_factory: pytest.TempPathFactory, count: int, seed: int, scan: int, inverse: bool
):
    memory = Permutation(count, seed)
    folder = tmp_path_factory.mktemp("order")
    memory.slice(0, count).astype("<u4").tofile(folder / "a")
    memory.inverted().astype("<u4").tofile(folder / "b")
    disk = Permutation(count, seed, Kept(folder / "a", folder / "b" if inverse else None))
    sought = np.arange(0, count, 3)
    kept, module.SCAN = module.SCAN, scan
    try:
        for each in (memory, disk):
            assert each.slice(0, count).tolist() == shuffled(count, seed).tolist()
            assert (each.slice(0, count)[each.find(sought)] == sought).all()
            assert (each.inverted() == np.argsort(shuffled(count, seed))).all()
    finally:
        module.SCAN = kept


def test_what_is_not_shuffled_is_its_own_inverse():
    plain = Permutation(10, None)
    assert plain.slice(3, 7).tolist() == [3, 4, 5, 6]
    assert plain.find(np.array([2, 9])).tolist() == [2, 9]


@pytest.mark.parametrize("name", ["order", "inverse"])
def test_a_kept_order_that_is_cut_short_is_refused(tmp_path: Path, name: str):
    ids = shuffled(10, 0)
    for part in ("order", "inverse"):
        ids[: 9 if part == name else 10].tofile(tmp_path / part)
    cut = Permutation(10, 0, Kept(tmp_path / "order", tmp_path / "inverse"))
    with pytest.raises(DataError, match=r"cut short; got 36 bytes where 10 ids need 40; delete"):
        cut.find(np.array([1])) if name == "inverse" else cut.slice(0, 1)
