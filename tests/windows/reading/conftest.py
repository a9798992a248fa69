"""A server that fails on demand, and token files whose every token is its own place."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from windows.errors import ModehopError
from windows.order import DataOrder
from windows.reading.cache import RangeCache
from windows.reading.limits import ReadLimits
from windows.tokens import TokenFiles

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from server import FaultyServer

QUICK = ReadLimits(connections=4, first_delay=0, longest_delay=2, timeout=10)


class Toy:
    """Token files of toy tokens, here and on the server, and an order over them."""

    length = 8
    counts = (83, 3, 240, 17)

    def __init__(self, folder: Path, server: "FaultyServer") -> None:
        self.server = server
        self.names = [f"{number}.npy" for number in range(len(self.counts))]
        ends = np.cumsum([0, *self.counts])
        for name, start, end in zip(self.names, ends, ends[1:], strict=False):
            np.arange(start, end, dtype="<u4").tofile(folder / name)
        self.folder = folder
        self.paths = [folder / name for name in self.names]
        self.urls = [f"{server.url}/{name}" for name in self.names]
        self.bytes = [4 * count for count in self.counts]
        self.order = DataOrder.from_sizes(
            self.bytes, sequence_length=self.length, batch_tokens=4 * self.length, seed=3
        )
        self.ids = self.order.instances(0, self.order.num_batches)

    def local(self) -> "NDArray[np.uint32]":
        files = TokenFiles(self.paths, sequence_length=self.length)
        return files.instances(self.order, self.ids)

    def remote(
        self, cache: RangeCache | None = None, limits: ReadLimits = QUICK, **rest: object
    ) -> TokenFiles:
        arguments = {
            "sequence_length": self.length,
            "expected_bytes": self.bytes,
            "cache": cache,
            "limits": limits,
        }
        return TokenFiles(self.urls, **(arguments | rest))  # type: ignore[arg-type]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["FaultyServer"]:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    from server import FaultyServer

    folder = tmp_path / "served"
    folder.mkdir()
    with FaultyServer(folder) as running:
        yield running


@pytest.fixture
def toy(server: "FaultyServer") -> Toy:
    return Toy(server.folder, server)


@pytest.fixture
def quick() -> ReadLimits:
    """Limits without a delay worth waiting for."""
    return QUICK


@pytest.fixture
def refused() -> Callable[..., str]:
    """Call something that has to refuse in one line; return the line."""

    def call(what: Callable[[], object], kind: type[Exception] = ModehopError) -> str:
        with pytest.raises(kind) as error:
            what()
        line = str(error.value)
        assert "\n" not in line
        return line

    return call


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [each for each in threading.enumerate() if each not in before]
    # fsspec keeps one event loop for the life of the process.
    assert [each for each in left if not each.name.startswith(("fsspecIO", "asyncio_"))] == []
