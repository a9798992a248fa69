import contextlib
import dataclasses
import importlib.util
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from huggingface_hub import HfFileSystem, close_session, constants

from windows.errors import ConfigError, DataError
from windows.order import DataOrder
from windows.reading.cache import RangeCache
from windows.reading.limits import ReadLimits
from windows.reading.remote import Remote
from windows.reading.sizes import remote_sizes
from windows.reading.whole import fetched
from windows.tokens import TokenFiles

Refused = Callable[..., str]


@pytest.fixture
def memory() -> Iterator[Any]:
    filesystem = fsspec.filesystem("memory")
    yield filesystem
    filesystem.store.clear()


def test_any_filesystem_of_fsspec_will_do(
    memory: Any, toy: Any, quick: ReadLimits, refused: Refused, tmp_path: Path
):
    for path in toy.paths:
        memory.pipe_file(f"/run/{path.name}", path.read_bytes())
    urls = [f"memory://run/{name}" for name in toy.names]
    files = TokenFiles(
        urls, sequence_length=toy.length, cache=RangeCache(tmp_path / "cache"), limits=quick
    )
    assert files.sizes == tuple(toy.bytes)
    assert (files.instances(toy.order, toy.ids) == toy.local()).all()
    memory.store.clear()
    assert (files.instances(toy.order, toy.ids) == toy.local()).all()
    bare = TokenFiles(urls, sequence_length=toy.length, expected_bytes=toy.bytes, limits=quick)
    line = refused(lambda: bare.instances(toy.order, [0]), DataError)
    assert line.startswith("memory://run/0.npy: bytes [0, 32) cannot be read")
    assert "the file is not there" in line
    line = refused(lambda: remote_sizes(urls, limits=quick), DataError)
    assert "4 of 4 that were asked for are not there" in line
    memory.pipe_file("/run/0.npy", bytes(4))
    line = refused(lambda: fetched("memory://run/gone", tmp_path, limits=quick), DataError)
    assert "the file is not there" in line
    assert fetched("memory://run/0.npy", tmp_path, limits=quick).read_bytes() == bytes(4)


def test_a_file_that_is_shorter_than_it_should_be_is_refused(
    memory: Any, quick: ReadLimits, refused: Refused
):
    memory.pipe_file("/a.npy", bytes(40))
    with Remote(quick) as remote:
        assert remote.read("memory://a.npy", 8, 32, 64) == bytes(32)
        line = refused(lambda: remote.read("memory://a.npy", 32, 32, 64), DataError)
    assert "the answer has 8 of 32 bytes, after 5 attempts" in line


def test_no_way_to_an_address_is_one_line(quick: ReadLimits, refused: Refused):
    line = refused(lambda: remote_sizes(["gopher://host/a.npy"], limits=quick), ConfigError)
    assert line.startswith("gopher://host/a.npy: there is no way to this address")
    if importlib.util.find_spec("s3fs") is None:
        line = refused(lambda: remote_sizes(["s3://bucket/a.npy"], limits=quick), ConfigError)
        assert "s3fs" in line
    line = refused(lambda: remote_sizes(["http://host:port/a.npy"], limits=quick))
    assert line.startswith("http://host:port/a.npy: ")


def test_nobody_listening_is_one_line(quick: ReadLimits, refused: Refused):
    url = "http://127.0.0.1:9/a.npy"
    line = refused(lambda: remote_sizes([url], limits=quick), DataError)
    assert line.startswith(f"{url}: the size of this file cannot be had")
    assert "after 5 attempts" in line


def test_a_halt_ends_a_request_that_has_no_connection_yet(quick: ReadLimits):
    remote = Remote(dataclasses.replace(quick, timeout=600))
    lines: list[str] = []
    with contextlib.ExitStack() as sockets:
        deaf, *callers = (sockets.enter_context(socket.socket()) for _ in range(4))
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for each in callers:
            # The queue is full then: nobody else is let in.
            each.setblocking(False)
            each.connect_ex(deaf.getsockname())

        def work() -> None:
            url = f"http://127.0.0.1:{deaf.getsockname()[1]}/a.npy"
            with pytest.raises(DataError) as error:
                remote.read(url, 0, 4, 8)
            lines.append(str(error.value))

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        while "http" not in remote._opened or not remote._opened["http"]._under_way:
            time.sleep(0.001)
        remote.halt()
        thread.join(60)
    assert len(lines) == 1
    assert "the call was interrupted" in lines[0]


REPO, COMMIT = "allenai/tokens", "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A server that answers what the Hub's own client asks about a data set."""
    monkeypatch.setitem(fsspec.config.conf, "hf", {"endpoint": server.url})
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    HfFileSystem.clear_instance_cache()
    yield server
    HfFileSystem.clear_instance_cache()
    close_session()


def test_files_of_the_hub_are_read_by_its_own_client(hub: Any, toy: Any, quick: ReadLimits):
    api = f"/api/datasets/{REPO}"
    info = {"id": REPO, "sha": COMMIT, "siblings": []}
    entries = [
        {"type": "file", "path": name, "size": size, "oid": "0" * 40}
        for name, size in zip(toy.names, toy.bytes, strict=True)
    ]
    hub.pages[f"{api}/revision/{COMMIT}"] = json.dumps(info).encode()
    hub.pages[f"{api}/tree/{COMMIT}"] = json.dumps(entries).encode()
    folder = hub.folder / "datasets" / REPO / "resolve" / COMMIT
    folder.mkdir(parents=True)
    for path in toy.paths:
        path.rename(folder / path.name)
    toy.paths = [folder / name for name in toy.names]
    urls = [f"hf://datasets/{REPO}@{COMMIT}/{name}" for name in toy.names]
    files = TokenFiles(urls, sequence_length=toy.length, limits=quick)
    assert files.sizes == tuple(toy.bytes)
    hub.forget()
    hub.fail("status", 503, path=f"/datasets/{REPO}/resolve/{COMMIT}/2.npy", times=1)
    rows = files.instances(toy.order, toy.ids[:20])
    assert (rows == toy.local()[:20]).all()
    spans = [span for _, span in hub.ranges() if span]
    # One ranged request for 32 bytes each, and no reading ahead.
    assert len(spans) == 21
    assert {end - start for start, end in spans} == {32}


def test_two_byte_ids_come_back_from_the_parts_of_a_stream(memory: Any, quick: ReadLimits):
    tokens = np.arange(64, dtype="<u2")
    for number, (a, b) in enumerate([(0, 31), (31, 100), (100, 128)]):
        memory.pipe_file(f"/{number}.bin", tokens.tobytes()[a:b])
    urls = [f"memory://{number}.bin" for number in range(3)]
    order = DataOrder.sequential([31, 69, 28], sequence_length=16, batch_tokens=16, token_bytes=2)
    files = TokenFiles(
        urls, sequence_length=16, token_bytes=2, joined=True, limits=quick, vocab_size=64
    )
    assert (files.instances(order, [0, 1, 2, 3]).reshape(-1) == tokens).all()
