"""Batch sizes: how many instances each batch of a run reads, where that changed on the way too."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from windows.errors import ConfigError


@dataclass(frozen=True)
class BatchSizes:
    """Which positions of an epoch each batch reads; every batch starts where the last one ended.

    Attributes
    ----------
    changes
        ``(first_batch, instances per batch)``, ascending, the first from batch 0.
    """

    changes: tuple[tuple[int, int], ...]

    @classmethod
    def from_tokens(
        cls, batch_tokens: int | Sequence[tuple[int, int]], sequence_length: int
    ) -> Self:
        """Count batches in instances.

        Parameters
        ----------
        batch_tokens
            Tokens of a batch, or ``(first_batch, batch_tokens)`` pairs.
        sequence_length
            Tokens of an instance.

        Raises
        ------
        ConfigError
            The pairs do not ascend from batch 0, or a batch is no whole number of instances.
        """
        pairs = ((0, batch_tokens),) if isinstance(batch_tokens, int) else tuple(batch_tokens)
        firsts = [first for first, _ in pairs]
        if not pairs or firsts[0] != 0 or firsts != sorted(set(firsts)):
            raise ConfigError(
                "batch sizes must begin at batch 0 and ascend",
                where="batch_tokens",
                got=str(firsts),
                do="list (first_batch, batch_tokens) pairs in order",
            )
        for _, tokens in pairs:
            if tokens < sequence_length or tokens % sequence_length:
                raise ConfigError(
                    f"a batch is not a whole number of sequences of {sequence_length} tokens",
                    where="batch_tokens",
                    got=str(tokens),
                    do="give the global batch size in tokens",
                )
        return cls(tuple((int(first), int(tokens) // sequence_length) for first, tokens in pairs))

    def count(self, instances: int) -> int:
        """Return how many whole batches `instances` instances make.

        Raises
        ------
        ConfigError
            The instances end before the last change of the batch size.
        """
        first_batch, size = self.changes[-1]
        read_before = int(self._starts[-1])
        if read_before > instances:
            raise ConfigError(
                f"the batch size changes at batch {first_batch}, after the data end",
                where="batch_tokens",
                got=f"{instances} instances where {read_before} are read before the change",
                do="check the file sizes and the step map",
            )
        return first_batch + (instances - read_before) // size

    def position(self, batch: int) -> int:
        """Return the position at which `batch` starts."""
        segment = int(np.searchsorted(self._firsts, batch, side="right")) - 1
        first, size = self.changes[segment]
        return int(self._starts[segment]) + (batch - first) * size

    def batch_at(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the batch that reads each position, int64[n]."""
        segments = np.searchsorted(self._starts, positions, side="right") - 1
        since = positions - self._starts[segments]
        return self._firsts[segments] + since // self._sizes[segments]

    @cached_property
    def _firsts(self) -> npt.NDArray[np.int64]:
        return np.array([first for first, _ in self.changes], dtype=np.int64)

    @cached_property
    def _sizes(self) -> npt.NDArray[np.int64]:
        return np.array([size for _, size in self.changes], dtype=np.int64)

    @cached_property
    def _starts(self) -> npt.NDArray[np.int64]:
        """Position at which each entry of `changes` begins."""
        return np.concatenate(([0], np.cumsum(np.diff(self._firsts) * self._sizes[:-1])))
