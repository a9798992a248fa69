import json
import threading
from pathlib import Path

import numpy as np
import pytest

from windows.errors import StoreError
from windows.order import DataOrder
from windows.order_cache import CACHE_VARIABLE, OrderCache, cache_folder
from windows.progress import Reporter
from windows.store import RECORD, SUMS, verify

QUIET = Reporter(quiet=True)


def order(chunk: int = 1, seed: int = 7) -> DataOrder:
    return DataOrder.from_sizes(
        [4000, 1234, 8000],
        sequence_length=4,
        max_sequence_length=4 * chunk,
        batch_tokens=12,
        seed=seed,
    )


def cache(folder: Path, kept_from: int = 10) -> OrderCache:
    return OrderCache(folder, QUIET, kept_from=kept_from)


@pytest.mark.parametrize("chunk", [1, 2, 5])
@pytest.mark.parametrize("inverse", [False, True])
def test_a_kept_order_is_the_same_order(tmp_path: Path, chunk: int, inverse: bool):
    made = order(chunk)
    kept = cache(tmp_path).kept(made, inverse=inverse)
    assert kept == made
    assert kept.kept is not None and (kept.kept.inverse is not None) is inverse
    for first in range(made.num_batches):
        assert (kept.instances(first, first + 1) == made.instances(first, first + 1)).all()
    ids = np.arange(made.num_instances)
    assert (kept.batch_of(ids) == made.batch_of(ids)).all()


def test_an_order_is_kept_once_and_says_how_it_was_made(tmp_path: Path):
    first = cache(tmp_path).kept(order())
    assert first.kept is not None
    artefact = first.kept.order.parent
    written = first.kept.order.stat().st_mtime_ns
    # The files' names and sizes do not matter, only how many instances there are and the seed.
    again = DataOrder.from_sizes(
        [order().num_instances * 16], sequence_length=4, batch_tokens=4, seed=6, epoch=2
    )
    other = cache(tmp_path).kept(again)
    assert other.kept == first.kept
    assert first.kept.order.stat().st_mtime_ns == written
    record = json.loads((artefact / RECORD).read_text())
    assert record["packages"]["numpy"] == np.__version__
    assert (artefact / SUMS).read_text().endswith("  order.u32\n")
    assert verify(artefact) == []
    raw = np.fromfile(first.kept.order, "<u4")
    assert (raw == order().permutation.slice(0, order().num_instances)).all()


def test_an_inverse_is_kept_later_without_shuffling_again(tmp_path: Path):
    first = cache(tmp_path).kept(order())
    second = cache(tmp_path).kept(order(), inverse=True)
    assert first.kept and second.kept and first.kept.order == second.kept.order
    assert cache(tmp_path).kept(order()).kept == second.kept


def test_small_and_unshuffled_orders_are_not_kept(tmp_path: Path):
    assert cache(tmp_path, kept_from=10_000).kept(order()).kept is None
    plain = DataOrder.sequential([4000], sequence_length=4, batch_tokens=4)
    assert cache(tmp_path).kept(plain, inverse=True).kept is None
    assert list(tmp_path.iterdir()) == []


def test_two_at_once_make_one(tmp_path: Path):
    found: list[DataOrder] = []

    def work() -> None:
        found.append(cache(tmp_path).kept(order(), inverse=True))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({each.kept for each in found}) == 1
    assert len(list(tmp_path.glob("*/*"))) == 2


def test_a_changed_record_is_refused(tmp_path: Path):
    kept = cache(tmp_path).kept(order()).kept
    assert kept is not None
    (kept.order.parent / SUMS).write_text("")
    with pytest.raises(StoreError, match="checksums are not those of the record"):
        cache(tmp_path).kept(order())


def test_the_cache_lies_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "modehop"
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "modehop"
