"""Where instances lie in a run's token files."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from windows.errors import ConfigError

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """How token files are cut into instances, numbered in file order.

    Attributes
    ----------
    file_bytes
        Size of every file, in the run's order.
    instance_bytes
        Size of an instance.
    chunk
        Each file holds a whole multiple of this many instances; what is left is never read.
    joined
        The files are consecutive parts of one stream, cut anywhere: an instance may begin in one
        and end in the next.
    """

    file_bytes: tuple[int, ...]
    instance_bytes: int
    chunk: int = 1
    joined: bool = False

    @property
    def num_instances(self) -> int:
        """Instances in all files."""
        if self.joined:
            return sum(self.file_bytes) // self.instance_bytes
        return int(self._instance_ends[-1])

    @cached_property
    def instances_by_file(self) -> Int64s:
        """int64[F]: how many instances begin in each file."""
        if self.joined:
            ends = np.minimum(-(-self._byte_ends // self.instance_bytes), self.num_instances)
            return np.diff(ends, prepend=0)
        span = self.chunk * self.instance_bytes
        return np.array(self.file_bytes, dtype=np.int64) // span * self.chunk

    def locate(self, ids: Int64s) -> tuple[Int64s, Int64s]:
        """Return file and byte offset, int64[n] each, at which each instance begins."""
        if self.joined:
            starts = ids * self.instance_bytes
            files = np.searchsorted(self._byte_ends, starts, side="right")
            return files, starts - (self._byte_ends - self.file_bytes)[files]
        files = np.searchsorted(self._instance_ends, ids, side="right")
        before = self._instance_ends - self.instances_by_file
        return files, (ids - before[files]) * self.instance_bytes

    def overlapping(self, file: int, start_byte: int, end_byte: int) -> Int64s:
        """Return the instances that hold any of the bytes ``[start_byte, end_byte)`` of a file.

        Returns
        -------
        int64[n]
            Consecutive ids; none where all the bytes lie behind the last instance.

        Raises
        ------
        ConfigError
            There is no such file, or it has no such bytes.
        """
        self._check_bytes(file, start_byte, end_byte)
        if self.joined:
            before = int(self._byte_ends[file]) - self.file_bytes[file]
            first, last = before + start_byte, before + end_byte
            base, end = 0, self.num_instances
        else:
            first, last = start_byte, end_byte
            end = int(self._instance_ends[file])
            base = end - int(self.instances_by_file[file])
        stop = min(base - (-last // self.instance_bytes), end)
        return np.arange(base + first // self.instance_bytes, stop, dtype=np.int64)

    def _check_bytes(self, file: int, start_byte: int, end_byte: int) -> None:
        if not 0 <= file < len(self.file_bytes):
            raise ConfigError(
                "no such file",
                where="file",
                got=str(file),
                do=f"choose from [0, {len(self.file_bytes)})",
            )
        if not 0 <= start_byte < end_byte <= self.file_bytes[file]:
            raise ConfigError(
                f"no bytes of file {file}, which has {self.file_bytes[file]}",
                where="bytes",
                got=f"[{start_byte}, {end_byte})",
            )

    @cached_property
    def _instance_ends(self) -> Int64s:
        return np.cumsum(self.instances_by_file)

    @cached_property
    def _byte_ends(self) -> Int64s:
        return np.cumsum(np.array(self.file_bytes, dtype=np.int64))
