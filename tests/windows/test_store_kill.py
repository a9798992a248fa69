"""SIGKILL at any instant leaves nothing, a part or an artefact, and the next build completes it."""

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from windows.errors import StoreError
from windows.store import Store, StoreLock, verify

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)])}

# In a process of its own: `fork` is unsafe in one that has threads. The k-th child kills itself
# when the k-th line of the store's modules is about to run.
EVERY_LINE = """
import os, shutil, signal, sys
from pathlib import Path
import windows.files, windows.store
from windows.store import Store, verify
import store_child

root, size, stride = Path(sys.argv[1]), 64, int(sys.argv[2])
mine = {windows.files.__file__, windows.store.__file__, store_child.__file__}

def child(where, left):
    def count(frame, event, argument):
        nonlocal left
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return count
    sys.settrace(lambda frame, event, argument: count if frame.f_code.co_filename in mine else None)
    try:
        store_child.build(where, size)
    finally:
        os._exit(0)

def sums(where):
    (artefact,) = Store(where).list()
    assert verify(artefact.path) == [] and list(artefact.path.parent.iterdir()) == [artefact.path]
    return (artefact.path / "SHA256SUMS").read_bytes()

assert store_child.build(root / "whole", size) is False
expected, states = sums(root / "whole"), {"nothing": 0, "part": 0, "artefact": 0}
event = 1
while True:
    where = root / str(event)
    if (pid := os.fork()) == 0:
        child(where, event)
    if os.waitpid(pid, 0)[1] == 0:
        break
    folders = sorted(where.glob("shards/*"))
    assert len(folders) <= 1, folders
    found = Store(where).list()
    if found:
        assert sums(where) == expected
    assert bool(found) == (bool(folders) and folders[0].suffix != ".part"), folders
    states["artefact" if found else "part" if folders else "nothing"] += 1
    assert store_child.build(where, size) is bool(found)
    assert sums(where) == expected
    shutil.rmtree(where)
    event += stride
assert all(states.values()), states
print(event, states)
"""


def every_line(stride: int) -> None:
    # Hundreds of builds, each of them synced to the disk: in memory where there is such a folder.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        done = subprocess.run(
            [sys.executable, "-c", EVERY_LINE, folder, str(stride)],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr


def test_killed_before_every_41st_line() -> None:
    every_line(41)


@pytest.mark.slow
def test_killed_before_every_line() -> None:
    every_line(1)


def start(root: Path, size: int) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(
        [sys.executable, HERE / "store_child.py", root, str(size)],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
    )
    assert child.stderr is not None
    assert child.stderr.readline() == b"ready\n"
    return child


@pytest.mark.slow
def test_killed_at_random_instants(tmp_path: Path) -> None:
    size = 2_000_000
    begun = time.monotonic()
    start(tmp_path / "whole", size).communicate()
    duration = time.monotonic() - begun
    (whole,) = Store(tmp_path / "whole").list()
    moments = random.Random(2)
    killed = 0
    for trial in range(20):
        root = tmp_path / str(trial)
        child = start(root, size)
        time.sleep(moments.uniform(0, duration))
        child.kill()
        child.communicate()
        killed += child.returncode != 0
        assert all(verify(artefact.path) == [] for artefact in Store(root).list())
        start(root, size).communicate()
        (artefact,) = Store(root).list()
        assert artefact.content == whole.content and verify(artefact.path) == []
        assert list(artefact.path.parent.iterdir()) == [artefact.path]
    assert killed >= 5, "the build ended before it was killed: kill earlier"


HOLDER = """
import sys, time
from pathlib import Path
from windows.store import StoreLock
with StoreLock(Path(sys.argv[1])):
    sys.stderr.write("held\\n")
    sys.stderr.flush()
    time.sleep(60)
"""


def hold(root: Path) -> subprocess.Popen[bytes]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, root], env=ENVIRONMENT, stderr=subprocess.PIPE
    )
    assert holder.stderr is not None
    assert holder.stderr.readline() == b"held\n"
    return holder


def test_a_held_store_is_refused_at_once_and_a_dead_holders_is_free(tmp_path: Path) -> None:
    holder = hold(tmp_path / "out")
    try:
        begun = time.monotonic()
        with pytest.raises(StoreError) as refused, StoreLock(tmp_path / "out"):
            pass
        assert time.monotonic() - begun < 5
        assert "another process is using this folder" in str(refused.value)
        assert f"got process {holder.pid};" in str(refused.value)
        assert refused.value.do.startswith("wait for it to end, or")
    finally:
        holder.kill()
        holder.communicate()
    with StoreLock(tmp_path / "out"):
        pass


def test_the_lock_may_be_taken_again_in_its_process_and_ends_with_the_outermost(
    tmp_path: Path,
) -> None:
    refused = [sys.executable, "-c", HOLDER, tmp_path]
    with StoreLock(tmp_path):
        with StoreLock(tmp_path / "." / "."):
            pass
        done = subprocess.run(refused, env=ENVIRONMENT, capture_output=True, text=True)
        assert "StoreError" in done.stderr and f"got process {os.getpid()};" in done.stderr
    holder = hold(tmp_path)
    holder.kill()
    holder.communicate()
