import threading
from pathlib import Path

import numpy as np
import pytest

from windows.errors import DataError
from windows.order import DataOrder
from windows.reading import local
from windows.tokens import TokenFiles


def run(folder: Path, counts: list[int], length: int = 8) -> tuple[TokenFiles, DataOrder]:
    start, paths = 0, []
    for number, count in enumerate(counts):
        paths.append(folder / f"{number}.npy")
        np.arange(start, start + count, dtype="<u4").tofile(paths[-1])
        start += count
    files = TokenFiles(paths, sequence_length=length)
    order = DataOrder.from_sizes(files.sizes, sequence_length=length, batch_tokens=length, seed=5)
    return files, order


@pytest.mark.parametrize("threads", [1, 2, 16])
def test_threads_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int):
    monkeypatch.setattr(local, "MOST_THREADS", threads)
    files, order = run(tmp_path, [900, 8, 4000, 1203])
    ids = order.instances(0, order.num_batches)
    seen: list[int] = []
    rows = files.instances(order, ids, advance=seen.append)
    firsts = np.array([0, 900, 908, 4908])
    at, offsets = order.locate(ids)
    assert (rows == (firsts[at] + offsets // 4)[:, None] + np.arange(8)).all()
    assert sum(seen) == len(ids)


def test_a_handful_of_reads_starts_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    started: list[str] = []
    start = threading.Thread.start

    def count(thread: threading.Thread) -> None:
        started.append(thread.name)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", count)
    files, order = run(tmp_path, [9000])
    few = 2 * local.BLOCK - 1
    files.instances(order, order.instances(0, few))
    assert started == []
    files.instances(order, order.instances(0, 64 * local.BLOCK // 2))
    assert 2 <= len(started) <= local.MOST_THREADS


def test_a_file_that_goes_away_is_refused_in_any_thread(tmp_path: Path):
    files, order = run(tmp_path, [9000, 90])
    files.paths[1].unlink()
    with pytest.raises(DataError, match=r"1\.npy: token file cannot be read.*No such file"):
        files.instances(order, order.instances(0, order.num_batches))
