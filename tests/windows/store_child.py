"""What test_store_kill.py kills: a process that builds one artefact of several files, resuming."""

import hashlib
import sys
from pathlib import Path

from windows.files import atomic_path, write_atomic
from windows.store import Recipe, Store, StoreLock

RECIPE = Recipe("shards", "tiny", 1, {"seed": 5, "files": 6})
CONFIG = {"seed": 5, "name": "killed"}


def content(index: int, size: int) -> bytes:
    return hashlib.sha256(str(index).encode()).digest() * (size // 32)


def make(part: Path, size: int) -> None:
    for index in range(6):
        target = part / f"{index % 2}" / f"{index}.bin"
        if not target.exists():
            write_atomic(target, content(index, size))
    if not (part / "folder").exists():
        with atomic_path(part / "folder") as folder:
            (folder / "deep").mkdir(parents=True)
            for index in range(3):
                (folder / "deep" / str(index)).write_bytes(content(index, size))


def build(root: Path, size: int) -> bool:
    with StoreLock(root):
        return Store(root).build(RECIPE, lambda part: make(part, size), config=CONFIG)[1]


if __name__ == "__main__":
    sys.stderr.write("ready\n")
    sys.stderr.flush()
    build(Path(sys.argv[1]), int(sys.argv[2]))
