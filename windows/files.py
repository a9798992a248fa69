"""Files that are there whole or not at all."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

SUFFIX = ".tmp"


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a sibling of `path` ending in ``.tmp`` that takes its place in one rename on success.

    The body makes a file, or a folder (then `path` must not exist yet, or be an empty folder), at
    the yielded path. Parent folders are made, and everything is synced to the disk. After an error
    in the body, `path` is as it was, the sibling is gone, and the error goes on unchanged. A killed
    process may leave the sibling behind; its name is never used again.

    Notes
    -----
    ``numpy.save`` appends ``.npy`` to a name that does not end so: give it an open file.

    Raises
    ------
    OSError
        Whatever writing, syncing or renaming raised, a full disk above all; where the error names
        no file, `path` is put in.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}")
    try:
        yield part
        sync_tree(part)
        part.replace(path)
    except BaseException as error:
        remove(part)
        if isinstance(error, OSError) and error.filename is None:
            # A failed write does not say of what, and a user has to know which disk is full.
            error.filename = str(path)
        raise
    sync(path.parent)


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write `data` (str as UTF-8): at any instant the file holds its old bytes or all the new."""
    with atomic_path(path) as part:
        part.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(path: Path) -> None:
    """Sync a file, or everything below a folder and then the folder."""
    if path.is_dir() and not path.is_symlink():
        for child in path.iterdir():
            if not child.is_symlink():
                sync_tree(child)
    sync(path)


def remove(path: Path) -> None:
    """Remove a file or a folder as far as that is possible, without an OSError of its own."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
