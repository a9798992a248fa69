from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from windows.errors import DataError
from windows.reading import whole
from windows.reading.limits import ReadLimits
from windows.reading.whole import fetched, fetched_before

Refused = Callable[..., str]


def test_a_file_is_fetched_once(server: Any, quick: ReadLimits, tmp_path: Path):
    (server.folder / "mix.txt").write_bytes(b"web,a.npy\n")
    url = f"{server.url}/mix.txt"
    folder = tmp_path / "lists"
    assert fetched_before(url, folder) is None
    path = fetched(url, folder, limits=quick)
    assert path.read_bytes() == b"web,a.npy\n"
    assert path.name.endswith("-mix.txt")
    assert fetched(url, folder, limits=quick) == fetched_before(url, folder) == path
    assert len(server.requests) == 1
    # The whole address counts: two steps' states have the same name.
    assert fetched_before(f"{server.url}/2/mix.txt", folder) is None


def test_faults_that_pass_do_not_matter(server: Any, quick: ReadLimits, tmp_path: Path):
    (server.folder / "mix.txt").write_bytes(bytes(range(256)))
    server.fail("reset", 100)
    server.fail("cut", 50)
    server.fail("status", 503)
    path = fetched(f"{server.url}/mix.txt", tmp_path, limits=quick)
    assert path.read_bytes() == bytes(range(256))
    assert len(server.requests) == 4


def test_a_file_without_a_stated_size_is_fetched(server: Any, quick: ReadLimits, tmp_path: Path):
    (server.folder / "mix.txt").write_bytes(b"abc")
    server.fail("no-size")
    assert fetched(f"{server.url}/mix.txt", tmp_path, limits=quick).read_bytes() == b"abc"


def test_what_is_not_there_leaves_nothing(
    server: Any, quick: ReadLimits, refused: Refused, tmp_path: Path
):
    url = f"{server.url}/gone.txt"
    line = refused(lambda: fetched(url, tmp_path / "lists", limits=quick), DataError)
    assert line.startswith(f"{url}: the file cannot be fetched; got HTTP status 404")
    assert not (tmp_path / "lists").exists()


def test_a_large_file_is_refused_before_it_has_come(
    server: Any,
    quick: ReadLimits,
    refused: Refused,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(whole, "MOST_BYTES", 1 << 20)
    with (server.folder / "large.bin").open("wb") as file:
        file.truncate(1 << 30)
    line = refused(lambda: fetched(f"{server.url}/large.bin", tmp_path, limits=quick), DataError)
    assert "more than 1,048,576 bytes" in line
    assert server.sent < 1 << 26
