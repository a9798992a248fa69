"""Fetched ranges on disk, under a size limit, each with a digest of its own.

::

    <folder>/ab/cdef…        SHA-256 of the key and the bytes (32 bytes), then the bytes
"""

import hashlib
import os
import secrets
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from windows import files
from windows.errors import ConfigError, DataError

DIGEST_BYTES = 32

# A killed process cannot remove what it was writing; a living one takes no such time over it.
_STALE_SECONDS = 3600


class RangeKey(NamedTuple):
    """What a range is known by: where it lies, in a file of which size."""

    url: str
    size: int
    offset: int
    length: int

    @property
    def name(self) -> str:
        """64 hex digits."""
        return hashlib.sha256(self.text).hexdigest()

    @property
    def text(self) -> bytes:
        """The key in bytes; a URL holds no line break."""
        return f"1\n{self.url}\n{self.size}\n{self.offset}\n{self.length}".encode()


class RangeCache:
    """Ranges of remote files, kept from one call to the next.

    Any number of processes may use one folder. The least recently used go first; each process keeps
    to the limit by what it saw when it last counted, so that several may together pass it until one
    of them counts again.

    Parameters
    ----------
    folder
        Where they lie; made when the first is kept.
    limit_bytes
        Most bytes of all entries.

    Raises
    ------
    ConfigError
        The limit is negative.
    """

    def __init__(self, folder: Path, *, limit_bytes: int = 10 * 2**30) -> None:
        if limit_bytes < 0:
            raise ConfigError(
                "not a size", where="limit_bytes", got=str(limit_bytes), do="use 0 or more"
            )
        self.folder = folder
        self.limit_bytes = limit_bytes
        self._counted: int | None = None

    def holds(self, key: RangeKey) -> bool:
        """Tell whether there is an entry, without looking into it."""
        return self._path(key.name).exists()

    def get(self, key: RangeKey) -> bytes | None:
        """Return the bytes of an entry and count it as used; None where there is none.

        An entry that was never written to its end, as a power cut leaves it, is none.

        Raises
        ------
        DataError
            The bytes are not those that were kept. The entry is gone then.
        """
        path = self._path(key.name)
        try:
            stored = path.read_bytes()
            os.utime(path)
        except FileNotFoundError:
            return None
        kept, data = stored[:DIGEST_BYTES], stored[DIGEST_BYTES:]
        if len(data) == key.length and kept == _digest(key, data):
            return data
        path.unlink(missing_ok=True)
        if len(data) != key.length:
            return None
        raise DataError(
            "an entry of the cache was damaged: its bytes are not those that were kept",
            where=str(path),
            got=f"bytes [{key.offset}, {key.offset + key.length}) of {key.url}",
            do="run the same command again, which fetches it anew; if this recurs, check the disk",
        )

    def put(self, key: RangeKey, data: bytes) -> None:
        """Keep bytes; an entry is there whole or not at all.

        Raises
        ------
        OSError
            They cannot be written: a full disk above all. Nothing is left of them.
        """
        path = self._path(key.name)
        part = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}{files.SUFFIX}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Not synced: that would take longer than fetching, and what is lost is fetched again.
            part.write_bytes(_digest(key, data) + data)
            part.replace(path)
        except BaseException as error:
            files.remove(part)
            if isinstance(error, OSError) and error.filename is None:
                error.filename = str(path)
            raise

    def make_room(self, wanted: int, keep: Collection[str]) -> int:
        """Remove the least recently used entries until there is room for more bytes.

        Parameters
        ----------
        wanted
            Bytes to come, digests included.
        keep
            Names of entries that stay.

        Returns
        -------
        int
            The room there is, at most `wanted`; less where only entries to keep are left.
        """
        if wanted == 0:
            return 0
        if self._counted is None or self._counted + wanted > self.limit_bytes:
            self._counted = self._shrink(self.limit_bytes - wanted, keep)
        room = max(0, min(wanted, self.limit_bytes - self._counted))
        self._counted += room
        return room

    def _shrink(self, goal: int, keep: Collection[str]) -> int:
        """Remove entries until their bytes are at most `goal`; return how many are left."""
        entries = sorted(self._entries())
        total = sum(size for _, size, _ in entries)
        for _, size, path in entries:
            if total <= goal:
                break
            if path.parent.name + path.name not in keep:
                files.remove(path)
                total -= size
        return total

    def _entries(self) -> Iterator[tuple[int, int, Path]]:
        """Yield time of last use (ns), bytes and path; remove what killed processes have left."""
        stale = time.time() - _STALE_SECONDS
        for path in self.folder.glob("??/*"):
            try:
                status = path.stat()
            except FileNotFoundError:
                # Another process makes room as well.
                continue
            if path.suffix != files.SUFFIX:
                yield status.st_mtime_ns, status.st_size, path
            elif status.st_mtime < stale:
                files.remove(path)

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / name[2:]


def _digest(key: RangeKey, data: bytes) -> bytes:
    """Return a digest of bytes as those of a key: an entry under another's name is damaged too."""
    digest = hashlib.sha256(key.text)
    digest.update(b"\n")
    digest.update(data)
    return digest.digest()
