"""The two places batches come from: a run's own data order, and curated shards."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from windows.errors import DataError
from windows.order import DataOrder
from windows.shards import INSTANCES, read_manifest, read_tokens
from windows.tokens import TokenFiles


class OrderedBatches:
    """A run's batches in the run's own order."""

    def __init__(self, files: TokenFiles, order: DataOrder) -> None:
        self._files = files
        self._order = order

    def batch(self, index: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Return ids uint32[k] and tokens uint32[k, L] of batch `index`, 0-based."""
        ids = self._order.instances(index, index + 1)
        return ids, self._files.instances(self._order, ids)


class ListedBatches:
    """Instances in a given order, cut into batches of `batch` instances."""

    def __init__(self, ids: NDArray[np.uint32], tokens: NDArray[np.uint32], *, batch: int) -> None:
        self._ids = ids
        self._tokens = tokens
        self._batch = batch

    def batch(self, index: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Return ids uint32[k] and tokens uint32[k, L] of batch `index`, 0-based.

        Raises
        ------
        DataError
            The list has no such batch.
        """
        rows = slice(index * self._batch, (index + 1) * self._batch)
        ids = self._ids[rows]
        if len(ids) < self._batch:
            raise DataError(
                f"the data end before batch {index}",
                got=f"{len(self._ids)} instances, {self._batch} a batch",
                do="raise the mixture's tokens or lower training.steps",
            )
        return ids, self._tokens[rows]


def shard_batches(folder: Path, *, batch: int) -> ListedBatches:
    """Read a folder of curated shards as batches, in the shards' order."""
    read_manifest(folder)
    ids = pl.read_parquet(folder / INSTANCES, columns=["instance"])["instance"].to_numpy()
    return ListedBatches(ids.astype(np.uint32), read_tokens(folder), batch=batch)


def shuffled_window(
    files: TokenFiles, order: DataOrder, batches: tuple[int, int], *, seed: Sequence[int]
) -> ListedBatches:
    """Read batches `[first, end)` of a run with their instances in a shuffled order."""
    first, end = batches
    ids = np.random.default_rng(seed).permutation(order.instances(first, end))
    return ListedBatches(ids, files.instances(order, ids), batch=len(ids) // (end - first))
