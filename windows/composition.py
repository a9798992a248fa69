"""How many instances each source gave: exact, from ids and file sizes, without a byte of data."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from windows.layout import Layout

# Ids are looked up in blocks of 2**8: a table that fits into a processor's cache.
_SHIFT = 8


class SourceCounter:
    """Counts instances by source.

    Parameters
    ----------
    layout
        Where the instances lie.
    sources
        The source of every file, in the run's order.

    Attributes
    ----------
    names : tuple of str
        The sources, in the order in which the run lists them.
    """

    def __init__(self, layout: Layout, sources: Sequence[str]) -> None:
        self.names = tuple(dict.fromkeys(sources))
        self._layout = layout
        index = {name: i for i, name in enumerate(self.names)}
        self._of_file = np.array([index[source] for source in sources], dtype=np.uint16)

    def source_of(self, ids: npt.NDArray[np.unsignedinteger]) -> npt.NDArray[np.int64]:
        """Return int64[n]: which of `names` each instance comes from."""
        found: npt.NDArray[np.int64] = self._of_block[ids >> np.uint32(_SHIFT)].astype(np.int64)
        unsure = np.flatnonzero(found == self._mixed)
        files, _ = self._layout.locate(ids[unsure].astype(np.int64))
        found[unsure] = self._of_file[files]
        return found

    def counts(self, ids: npt.NDArray[np.unsignedinteger]) -> npt.NDArray[np.int64]:
        """Return int64[S]: how many of the instances come from each of `names`."""
        return np.bincount(self.source_of(ids), minlength=len(self.names))

    @property
    def _mixed(self) -> int:
        """Stands for a block whose instances come from more than one source."""
        return len(self.names)

    @cached_property
    def _of_block(self) -> npt.NDArray[np.uint16]:
        count = self._layout.num_instances
        first = np.arange(0, count, 1 << _SHIFT, dtype=np.int64)
        last = np.minimum(first + (1 << _SHIFT), count) - 1
        begin, end = (self._layout.locate(ids)[0] for ids in (first, last))
        whole = self._stretch[begin] == self._stretch[end]
        return np.where(whole, self._of_file[begin], np.uint16(self._mixed))

    @cached_property
    def _stretch(self) -> npt.NDArray[np.int64]:
        """int64[F]: in which stretch of neighbouring files of one source each file is."""
        return np.cumsum(np.diff(self._of_file.astype(np.int64), prepend=0) != 0)
