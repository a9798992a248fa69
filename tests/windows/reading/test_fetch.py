import dataclasses
import errno
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from windows.errors import ConfigError, DataError
from windows.order import DataOrder
from windows.reading.cache import RangeCache
from windows.reading.limits import ReadCost, ReadLimits
from windows.tokens import TokenFiles

Refused = Callable[..., str]


def entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("??/*") if path.is_file())


def test_every_instance_is_one_request_for_its_own_bytes(toy: Any):
    seen: list[int] = []
    rows = toy.remote().instances(toy.order, toy.ids, advance=seen.append)
    assert (rows == toy.local()).all()
    assert sum(seen) == len(toy.ids)
    files, offsets = toy.order.locate(toy.ids)
    asked = [
        (f"/{file}.npy", (offset, offset + 32))
        for file, offset in zip(files.tolist(), offsets.tolist(), strict=True)
    ]
    assert sorted(toy.server.ranges()) == sorted(asked)
    headers = toy.server.requests[0].headers
    assert headers["Accept-Encoding"] == "identity"
    assert headers["User-Agent"].startswith("modehop")


def test_an_instance_asked_for_twice_is_read_once(toy: Any):
    ids = np.array([3, 7, 3, 0, 7, 7])
    seen: list[int] = []
    rows = toy.remote().instances(toy.order, ids, advance=seen.append)
    assert len(toy.server.requests) == 3
    assert sum(seen) == 6
    local = TokenFiles(toy.paths, sequence_length=toy.length)
    assert (rows == local.instances(toy.order, ids)).all()


@pytest.mark.parametrize("connections", [1, 3])
def test_connections_are_bounded(toy: Any, quick: ReadLimits, connections: int):
    toy.server.delay = 0.01
    limits = dataclasses.replace(quick, connections=connections)
    rows = toy.remote(limits=limits).instances(toy.order, toy.ids)
    assert (rows == toy.local()).all()
    assert toy.server.most_at_once == connections
    # They are kept open from one request to the next.
    assert len({each.port for each in toy.server.requests}) == connections


def test_a_window_served_with_faults_reads_back_exactly(toy: Any, quick: ReadLimits):
    faults = {
        "status": [(429, {"Retry-After": "0"}), (500, {}), (502, {}), (503, {"Retry-After": "0"})],
        "reset": [(5, {}), (31, {})],
        "cut": [(0, {}), (17, {})],
        "short": [(4, {})],
        "more": [(4, {})],
        "shift": [(-32, {}), (4, {})],
        "slow": [(3, {})],
    }
    for kind, cases in faults.items():
        for value, headers in cases:
            toy.server.fail(kind, value, headers=headers, path="/2.npy")
    limits = dataclasses.replace(quick, timeout=0.5, attempts=20)
    rows = toy.remote(limits=limits).instances(toy.order, toy.ids)
    assert (rows == toy.local()).all()
    assert sorted(toy.server.met) == sorted(k for k, cases in faults.items() for _ in cases)
    # Every fault costs one request more, and nothing else is asked twice.
    assert len(toy.server.requests) == len(toy.ids) + len(toy.server.met)
    # The server does not notice that a slow request was given up.
    assert toy.server.most_at_once <= limits.connections + 1


@pytest.mark.parametrize(
    ("kind", "value", "says"),
    [
        ("status", 500, "HTTP status 500, after 3 attempts"),
        ("status", 429, "HTTP status 429, after 3 attempts"),
        ("cut", 8, "after 3 attempts"),
        ("reset", 8, "after 3 attempts"),
        ("short", 8, "the answer ended after 24 of 32 bytes, after 3 attempts"),
        ("slow", 2, "no full answer within 0.2 seconds, after 3 attempts"),
    ],
)
def test_what_does_not_pass_is_given_up(
    toy: Any, quick: ReadLimits, refused: Refused, kind: str, value: float, says: str
):
    toy.server.fail(kind, value, times=float("inf"))
    limits = dataclasses.replace(quick, attempts=3, timeout=0.2 if kind == "slow" else 10)
    line = refused(lambda: toy.remote(limits=limits).instances(toy.order, [0]), DataError)
    assert line.startswith(f"{toy.urls[0]}: bytes [0, 32) cannot be read; got ")
    assert says in line
    assert "try again later" in line
    assert len(toy.server.requests) == 3


@pytest.mark.parametrize(
    ("status", "says"),
    [(404, "the file is not there; check the address"), (403, "credentials"), (400, "status 400")],
)
def test_what_cannot_pass_is_asked_once(toy: Any, refused: Refused, status: int, says: str):
    toy.server.fail("status", status, times=float("inf"))
    line = refused(lambda: toy.remote().instances(toy.order, [0]), DataError)
    assert line.startswith(f"{toy.urls[0]}: bytes [0, 32) cannot be read; got HTTP status {status}")
    assert says in line
    assert len(toy.server.requests) == 1


def test_a_server_that_asks_for_hours_is_not_waited_for(toy: Any, refused: Refused):
    toy.server.fail("status", 429, headers={"Retry-After": "7200"})
    line = refused(lambda: toy.remote().instances(toy.order, [0]), DataError)
    assert "the server asks to be left alone for 7200 seconds" in line
    assert len(toy.server.requests) == 1


def test_a_server_that_ignores_ranges_is_noticed_by_its_first_words(
    server: Any, quick: ReadLimits, refused: Refused
):
    size = 1 << 30
    with (server.folder / "large.npy").open("wb") as file:
        file.truncate(size)
    order = DataOrder.from_sizes([size], sequence_length=8192, batch_tokens=8192, seed=1)
    files = TokenFiles(
        [f"{server.url}/large.npy"], sequence_length=8192, expected_bytes=[size], limits=quick
    )
    server.fail("ignore-range", times=float("inf"))
    line = refused(lambda: files.instances(order, [0, 77]), DataError)
    assert "large.npy" in line
    assert f"the server ignores Range: HTTP status 200 with {size} bytes" in line
    # What the socket's buffers took before the connection was closed.
    assert server.sent < size / 16


def test_a_file_of_another_size_is_refused(toy: Any, refused: Refused):
    toy.server.fail("size", 4000)
    line = refused(lambda: toy.remote().instances(toy.order, [0]), DataError)
    assert "the file has 4,000 bytes where the run says 332" in line
    toy.server.forget()
    (toy.folder / "0.npy").write_bytes(bytes(40))
    last = toy.counts[0] // toy.length - 1
    line = refused(lambda: toy.remote().instances(toy.order, [last]), DataError)
    assert "HTTP status 416: the file ends before these bytes" in line
    assert len(toy.server.requests) == 1


def test_a_numpy_header_is_refused_by_name(toy: Any, refused: Refused):
    with (toy.folder / "0.npy").open("wb") as file:
        np.save(file, np.zeros(51, dtype="<u4"))
    line = refused(lambda: toy.remote().instances(toy.order, [0]), DataError)
    assert line.startswith(f"{toy.urls[0]}: token file begins with a header")
    assert "ndarray.tofile" in line


def test_too_much_is_refused_before_the_first_request(
    toy: Any, quick: ReadLimits, refused: Refused, tmp_path: Path
):
    cache = RangeCache(tmp_path / "cache")
    limits = dataclasses.replace(quick, max_remote_bytes=320)
    files = toy.remote(cache, limits)
    line = refused(lambda: files.instances(toy.order, toy.ids[:11]), ConfigError)
    assert line == (
        "max_remote_bytes: this reads 352 bytes in 11 requests over the network; got 320 bytes"
        " allowed; ask for fewer instances, or raise max_remote_bytes"
    )
    assert toy.server.requests == []
    # What is in the cache does not count.
    files.instances(toy.order, toy.ids[:10])
    files.instances(toy.order, toy.ids[:20])
    assert len(toy.server.requests) == 20


def test_the_cost_is_told_without_a_request(toy: Any, tmp_path: Path):
    cache = RangeCache(tmp_path / "cache")
    files = toy.remote(cache)
    assert files.cost(toy.order, [1, 2, 1]) == ReadCost(requests=2, bytes=64, cached=0)
    assert toy.server.requests == []
    files.instances(toy.order, [2, 5])
    assert files.cost(toy.order, [1, 2, 5]) == ReadCost(requests=1, bytes=32, cached=2)
    assert toy.remote().cost(toy.order, [2]) == ReadCost(requests=1, bytes=32, cached=0)
    local = TokenFiles(toy.paths, sequence_length=toy.length)
    assert local.cost(toy.order, toy.ids) == ReadCost()


def test_growing_a_sample_keeps_what_was_read(toy: Any, tmp_path: Path):
    files = toy.remote(RangeCache(tmp_path / "cache"))
    files.instances(toy.order, toy.ids[:12])
    toy.server.forget()
    again = toy.remote(RangeCache(tmp_path / "cache"))
    rows = again.instances(toy.order, toy.ids)
    assert len(toy.server.requests) == len(toy.ids) - 12
    toy.server.forget()
    assert (again.instances(toy.order, toy.ids) == rows).all()
    assert (rows == toy.local()).all()
    assert toy.server.requests == []


def test_what_was_fetched_before_a_failure_is_kept(toy: Any, tmp_path: Path):
    files = toy.remote(RangeCache(tmp_path / "cache"))
    toy.server.fail("status", 404, path="/3.npy", times=2)
    with pytest.raises(DataError, match="404"):
        files.instances(toy.order, toy.ids)
    kept = len(entries(tmp_path / "cache"))
    assert kept > 0
    toy.server.fail("status", 500, path="/3.npy", times=1)
    toy.server._faults.clear()
    toy.server.forget()
    assert (files.instances(toy.order, toy.ids) == toy.local()).all()
    assert len(toy.server.requests) == len(toy.ids) - kept


def test_a_flipped_bit_is_refused_once(toy: Any, refused: Refused, tmp_path: Path):
    files = toy.remote(RangeCache(tmp_path / "cache"))
    files.instances(toy.order, toy.ids)
    damaged = entries(tmp_path / "cache")[7]
    data = bytearray(damaged.read_bytes())
    data[40] ^= 4
    damaged.write_bytes(data)
    toy.server.forget()
    line = refused(lambda: files.instances(toy.order, toy.ids), DataError)
    assert str(damaged) in line
    assert "run the same command again" in line
    assert toy.server.requests == []
    assert (files.instances(toy.order, toy.ids) == toy.local()).all()
    assert len(toy.server.requests) == 1


def test_a_cache_smaller_than_the_call_holds_what_fits(toy: Any, tmp_path: Path):
    cache = RangeCache(tmp_path / "cache", limit_bytes=10 * 64)
    files = toy.remote(cache)
    assert (files.instances(toy.order, toy.ids) == toy.local()).all()
    assert len(entries(tmp_path / "cache")) == 10
    toy.server.forget()
    assert (files.instances(toy.order, toy.ids) == toy.local()).all()
    assert len(toy.server.requests) == len(toy.ids) - 10


def test_what_a_call_needs_is_not_what_makes_room_for_it(toy: Any, tmp_path: Path):
    cache = RangeCache(tmp_path / "cache", limit_bytes=20 * 64)
    files = toy.remote(cache)
    files.instances(toy.order, toy.ids[:10])
    files.instances(toy.order, toy.ids[10:20])
    toy.server.forget()
    # The oldest ten are needed; room is made among the later ones.
    files.instances(toy.order, np.concatenate([toy.ids[:10], toy.ids[20:25]]))
    assert len(toy.server.requests) == 5
    assert files.cost(toy.order, toy.ids[:10]) == ReadCost(0, 0, 10)
    assert files.cost(toy.order, toy.ids[10:20]).cached == 5


def test_a_full_disk_is_one_line_and_leaves_nothing(
    server: Any, quick: ReadLimits, refused: Refused, small_disk: Path
):
    length, count = 8192, 60
    data = np.arange(length * count, dtype="<u4")
    data.tofile(server.folder / "0.npy")
    order = DataOrder.from_sizes([data.nbytes], sequence_length=length, batch_tokens=length, seed=1)
    files = TokenFiles(
        [f"{server.url}/0.npy"],
        sequence_length=length,
        expected_bytes=[data.nbytes],
        cache=RangeCache(small_disk / "cache"),
        limits=quick,
    )
    with pytest.raises(OSError, match="No space left on device") as error:
        files.instances(order, np.arange(count))
    assert error.value.errno == errno.ENOSPC
    assert str(error.value.filename).startswith(str(small_disk / "cache"))
    assert [path for path in small_disk.rglob("*") if path.suffix == ".tmp"] == []
    whole = 32 + 4 * length
    assert {path.stat().st_size for path in entries(small_disk / "cache")} == {whole}
    server.forget()
    kept = len(entries(small_disk / "cache"))
    roomy = RangeCache(small_disk / "cache", limit_bytes=kept * whole)
    again = TokenFiles(
        [f"{server.url}/0.npy"],
        sequence_length=length,
        expected_bytes=[data.nbytes],
        cache=roomy,
        limits=quick,
    )
    assert (again.instances(order, np.arange(count)) == data.reshape(count, length)).all()
    assert len(server.requests) == count - kept


def test_files_here_and_on_servers_are_one_run(toy: Any, quick: ReadLimits):
    mixed = [toy.paths[0], toy.urls[1], toy.urls[2], toy.paths[3].as_uri()]
    files = TokenFiles(mixed, sequence_length=toy.length, expected_bytes=toy.bytes, limits=quick)
    assert (files.instances(toy.order, toy.ids) == toy.local()).all()
    assert {path for path, _ in toy.server.ranges()} == {"/2.npy"}
    with pytest.raises(DataError, match="needs the token files on a local disk"):
        _ = files.paths


def test_sizes_are_asked_for_where_nobody_says_them(toy: Any, quick: ReadLimits):
    files = TokenFiles(toy.urls, sequence_length=toy.length, limits=quick)
    assert files.sizes == tuple(toy.bytes)
    assert {each.method for each in toy.server.requests} == {"HEAD"}
    assert (files.instances(toy.order, toy.ids) == toy.local()).all()


def test_an_instance_in_two_files_is_two_requests(server: Any, quick: ReadLimits):
    tokens = np.arange(100, dtype="<u2")
    stream, cuts = tokens.tobytes(), [0, 37, 37, 99, 200]
    sizes = [b - a for a, b in itertools.pairwise(cuts)]
    for number, (a, b) in enumerate(itertools.pairwise(cuts)):
        (server.folder / f"{number}.bin").write_bytes(stream[a:b])
    order = DataOrder.sequential(sizes, sequence_length=8, batch_tokens=16, token_bytes=2)
    files = TokenFiles(
        [f"{server.url}/{number}.bin" for number in range(len(sizes))],
        sequence_length=8,
        token_bytes=2,
        expected_bytes=sizes,
        joined=True,
        limits=quick,
    )
    ids = order.instances(0, order.num_batches)
    seen: list[int] = []
    assert files.cost(order, ids) == ReadCost(requests=14, bytes=192, cached=0)
    rows = files.instances(order, ids, advance=seen.append)
    assert (rows == tokens[:96].reshape(12, 8)).all()
    assert sum(seen) == 12
    assert len(server.requests) == 14


def test_nothing_is_left_open(toy: Any):
    files = toy.remote()
    files.instances(toy.order, toy.ids)
    port = int(toy.server.url.rpartition(":")[2])
    peers = [each.raddr.port for each in psutil.Process().net_connections("tcp") if each.raddr]
    assert port not in peers


def test_an_interrupted_call_waits_for_no_server(toy: Any, quick: ReadLimits):
    toy.server.fail("slow", 600, path="/2.npy", times=3)
    limits = dataclasses.replace(quick, timeout=600)

    def interrupt(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        toy.remote(limits=limits).instances(toy.order, toy.ids, advance=interrupt)
