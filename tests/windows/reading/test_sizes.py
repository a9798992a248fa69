import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from windows.errors import DataError
from windows.reading.limits import ReadLimits
from windows.reading.sizes import remote_sizes

Refused = Callable[..., str]


def serve(server: Any, count: int) -> list[str]:
    for number in range(count):
        (server.folder / f"{number}.npy").write_bytes(bytes(4 * number))
    return [f"{server.url}/{number}.npy" for number in range(count)]


def test_sizes_are_asked_for_by_head_and_once(server: Any, quick: ReadLimits, tmp_path: Path):
    urls = serve(server, 30)
    server.delay = 0.005
    here = tmp_path / "here.npy"
    here.write_bytes(bytes(5))
    seen: list[int] = []
    cache = tmp_path / "kept" / "sizes.json"
    files = [*urls, here, str(here), urls[3]]
    sizes = remote_sizes(files, limits=quick, cache=cache, advance=seen.append)
    assert sizes == (*range(0, 120, 4), 5, 5, 12)
    assert sum(seen) == len(files)
    assert [each.method for each in server.requests] == ["HEAD"] * 30
    assert 1 < server.most_at_once <= quick.connections
    server.forget()
    seen.clear()
    assert remote_sizes(files, limits=quick, cache=cache, advance=seen.append) == sizes
    assert server.requests == []
    assert sum(seen) == len(files)
    assert json.loads(cache.read_text())[urls[7]] == 28


def test_faults_that_pass_do_not_matter(server: Any, quick: ReadLimits):
    urls = serve(server, 12)
    server.fail("status", 429, headers={"Retry-After": "0"}, times=3)
    server.fail("status", 503, times=2)
    limits = dataclasses.replace(quick, attempts=10)
    assert remote_sizes(urls, limits=limits) == tuple(range(0, 48, 4))
    assert [each.method for each in server.requests] == ["HEAD"] * 17


def test_what_was_answered_before_a_failure_is_kept(
    server: Any, quick: ReadLimits, refused: Refused, tmp_path: Path
):
    urls = serve(server, 12)
    server.fail("status", 500, path="/11.npy", times=float("inf"))
    cache = tmp_path / "sizes.json"
    limits = dataclasses.replace(quick, attempts=2, connections=1)
    line = refused(lambda: remote_sizes(urls, limits=limits, cache=cache), DataError)
    assert line.startswith(f"{urls[11]}: the size of this file cannot be had; got HTTP status 500")
    assert set(json.loads(cache.read_text())) == set(urls[:11])
    server._faults.clear()
    server.forget()
    assert remote_sizes(urls, limits=limits, cache=cache)[11] == 44
    assert [each.path for each in server.requests] == ["/11.npy"]


def test_all_missing_files_are_named_at_once(
    server: Any, quick: ReadLimits, refused: Refused, tmp_path: Path
):
    urls = serve(server, 12)
    gone = [f"{server.url}/gone{number}.npy" for number in range(5)]
    files = [*urls[:6], *gone, *urls[6:]]
    cache = tmp_path / "sizes.json"
    line = refused(lambda: remote_sizes(files, limits=quick, cache=cache), DataError)
    assert line.startswith("files: 5 of 17 that were asked for are not there")
    assert f"got no {gone[0]}, {gone[1]}, {gone[2]} and 2 more" in line
    assert set(json.loads(cache.read_text())) == set(urls)
    assert len(server.requests) == 17


def test_a_server_without_head_is_asked_for_one_byte(server: Any, quick: ReadLimits):
    urls = serve(server, 3)
    server.fail("status", 405, method="HEAD", times=2)
    server.fail("no-size", method="HEAD")
    assert remote_sizes(urls[1:], limits=quick) == (4, 8)
    assert remote_sizes(urls[2:], limits=quick) == (8,)
    assert [span for _, span in server.ranges()] == [(0, 1)] * 3


def test_a_size_that_is_not_told_is_refused(server: Any, quick: ReadLimits, refused: Refused):
    (url,) = serve(server, 1)
    server.fail("no-size", method="HEAD")
    server.fail("ignore-range", method="GET")
    line = refused(lambda: remote_sizes([url], limits=quick), DataError)
    assert "the server does not tell the size" in line
    assert "manifest" in line


def test_a_missing_local_file_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"cannot be read.*No such file"):
        remote_sizes([tmp_path / "a.npy"])


@pytest.mark.parametrize("text", ["{", "[]", '{"https://host/a": "12"}'])
def test_a_damaged_cache_is_named(tmp_path: Path, text: str):
    (tmp_path / "sizes.json").write_text(text)
    with pytest.raises(DataError, match=r"sizes\.json.*remove the file"):
        remote_sizes(["http://127.0.0.1:9/a.npy"], cache=tmp_path / "sizes.json")
