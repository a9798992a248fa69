"""SIGKILL in the middle of fetching: what was fetched is whole, and is not fetched again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from windows.reading.cache import DIGEST_BYTES, RangeCache

CHILD = """
import sys
from pathlib import Path
import numpy as np
from windows.order import DataOrder
from windows.reading.cache import RangeCache
from windows.reading.limits import ReadLimits
from windows.tokens import TokenFiles

folder, length, *rest = sys.argv[1:]
sizes = [int(size) for size in rest[::2]]
order = DataOrder.from_sizes(
    sizes, sequence_length=int(length), batch_tokens=4 * int(length), seed=3
)
files = TokenFiles(
    rest[1::2],
    sequence_length=int(length),
    expected_bytes=sizes,
    cache=RangeCache(Path(folder)),
    limits=ReadLimits(connections=4, first_delay=0, longest_delay=0),
)
files.instances(order, order.instances(0, order.num_batches))
"""


def kept(folder: Path) -> list[Path]:
    return [path for path in folder.glob("??/*") if path.suffix != ".tmp"]


@pytest.mark.parametrize("wanted", [1, 12])
def test_a_killed_call_goes_on_where_it_stopped(toy: Any, tmp_path: Path, wanted: int):
    folder = tmp_path / "cache"
    files = [text for pair in zip(toy.bytes, toy.urls, strict=True) for text in map(str, pair)]
    command = [sys.executable, "-W", "error", "-c", CHILD, folder, str(toy.length), *files]
    toy.server.delay = 0.02
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    limit = time.monotonic() + 60
    while len(kept(folder)) < wanted and child.poll() is None:
        assert time.monotonic() < limit
        time.sleep(0.002)
    os.kill(child.pid, signal.SIGKILL)
    assert child.communicate()[1] == ""
    assert child.returncode == -signal.SIGKILL
    there = kept(folder)
    assert wanted <= len(there) < len(toy.ids)
    assert {path.stat().st_size for path in there} == {DIGEST_BYTES + 4 * toy.length}
    toy.server.delay = 0
    toy.server.forget()
    rows = toy.remote(RangeCache(folder)).instances(toy.order, toy.ids)
    assert (rows == toy.local()).all()
    assert len(toy.server.requests) == len(toy.ids) - len(there)
