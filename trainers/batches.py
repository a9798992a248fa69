"""The two places batches come from: a run's own data order, and curated shards."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from windows.errors import DataError
from windows.order import DataOrder
from windows.shards import iter_rows, read_tokens
from windows.tokens import TokenFiles


class OrderedBatches:
    """A run's batches in the run's own order."""

    def __init__(self, files: TokenFiles, order: DataOrder) -> None:
        self._files = files
        self._order = order

    def batch(self, index: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Return ids uint32[k] and tokens uint32[k, L] of batch `index`, 0-based.

        Raises
        ------
        ConfigError
            The run has no such batch.
        """
        ids = self._order.instances(index, index + 1)
        return ids, self._files.instances(self._order, ids)


class ListedBatches:
    """Instances in a given order, cut into batches.

    Parameters
    ----------
    ids, tokens
        uint32[n] and uint32[n, L].
    edges
        Ascending rows; batch `b` is the rows `[edges[b], edges[b + 1])`.
    """

    def __init__(
        self, ids: NDArray[np.uint32], tokens: NDArray[np.uint32], edges: Sequence[int]
    ) -> None:
        self._ids = ids
        self._tokens = tokens
        self._edges = edges

    @property
    def num_batches(self) -> int:
        """Batches there are."""
        return len(self._edges) - 1

    def batch(self, index: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Return ids uint32[k] and tokens uint32[k, L] of batch `index`, 0-based.

        Raises
        ------
        DataError
            The list has no such batch.
        """
        if not 0 <= index < self.num_batches:
            raise DataError(
                "the data have no such batch",
                where=f"batch {index}",
                got=f"{self.num_batches} batches",
            )
        rows = slice(self._edges[index], self._edges[index + 1])
        return self._ids[rows], self._tokens[rows]


def shard_batches(folder: Path, *, batch: int, steps: int) -> ListedBatches:
    """Read a folder of curated shards as batches of `batch` instances, in the shards' order.

    What is left behind the last whole batch is not read.

    Raises
    ------
    DataError
        The folder is not finished or damaged, or holds fewer than `steps` batches.
    """
    tokens = read_tokens(folder)
    ids = np.array([row.instance for row, _ in iter_rows(folder)], dtype=np.uint32)
    batches = ListedBatches(ids, tokens, range(0, len(tokens) + 1, batch))
    if batches.num_batches < steps:
        raise DataError(
            "the shards end before the training does",
            where=str(folder),
            got=f"{len(tokens)} instances where {steps} steps of {batch} need {steps * batch}",
            do="raise the mixture's tokens or lower training.steps",
        )
    return batches


def shuffled_window(
    files: TokenFiles, order: DataOrder, batches: tuple[int, int], *, seed: Sequence[int]
) -> ListedBatches:
    """Read batches `[first, end)` of a run with their instances in a shuffled order.

    Every batch keeps its size.
    """
    first, end = batches
    start, _ = order.positions(first, end)
    edges = [order.positions(first, batch)[1] - start for batch in range(first, end + 1)]
    ids = np.random.default_rng(seed).permutation(order.instances(first, end))
    return ListedBatches(ids, files.instances(order, ids), edges)
