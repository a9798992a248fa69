"""The order in which a run read its instances: OLMo-core's, rebuilt from file sizes alone.

The files are cut into instances, the instances are numbered in file order, and one seeded
Fisher-Yates shuffle of those numbers is consumed batch by batch. So the order of trillions of
tokens follows from file sizes, two sequence lengths, a seed and an epoch; no token is read. Source:
``olmo_core.data.data_loader.NumpyFSLDataLoader`` and ``numpy_dataset.NumpyFSLDataset`` of
ai2-olmo-core 3.0, which the tests run beside this module.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from windows.batches import BatchSizes
from windows.errors import ConfigError, DataError
from windows.fingerprint import DATASET_CLASS, dataset_fingerprint
from windows.layout import Layout
from windows.permutation import Kept, Permutation

if TYPE_CHECKING:
    from windows.run import TokenizerFields

TOKEN_DTYPES = {1: np.uint8, 2: np.uint16, 4: np.uint32}
"""Type of a token id by its bytes; on disk little-endian, without a header."""


@dataclass(frozen=True)
class DataOrder:
    """Which instances every batch of one epoch holds, and where their tokens lie.

    Build one with `DataOrder.from_sizes`, or `DataOrder.sequential` for data that were shuffled
    before they were written; both check their arguments. The permutation is made in memory at its
    first use, unless `kept` says where it lies (see `windows.order_cache`).

    Attributes
    ----------
    file_bytes
        Size of every token file, in the run's order.
    sequence_length
        Tokens of one instance.
    max_sequence_length
        The run's largest planned sequence length as configured, or None; instances that together
        make one such sequence stay neighbours.
    token_bytes
        Bytes of one token id: 1, 2 or 4.
    seed, epoch
        The loader's seed and the 1-based epoch.
    batch_sizes
        How many instances each batch reads.
    joined
        The files are consecutive parts of one stream, cut anywhere, and read from front to back.
    kept
        Where the permutation is kept; None for one made in memory. It bears no identity.
    """

    file_bytes: tuple[int, ...]
    sequence_length: int
    max_sequence_length: int | None
    token_bytes: int
    seed: int
    epoch: int
    batch_sizes: BatchSizes
    joined: bool = False
    kept: Kept | None = field(default=None, compare=False)

    @classmethod
    def from_sizes(
        cls,
        file_bytes: Sequence[int],
        *,
        sequence_length: int,
        batch_tokens: int | Sequence[tuple[int, int]],
        seed: int,
        epoch: int = 1,
        max_sequence_length: int | None = None,
        token_bytes: int = 4,
    ) -> Self:
        """Rebuild the order of a run from the sizes of its token files.

        Parameters
        ----------
        file_bytes
            Size of every token file in bytes, in the order in which the run listed them.
        sequence_length
            Tokens of one instance.
        batch_tokens
            Tokens of a batch; or ``(first_batch, batch_tokens)`` pairs where the size changed on
            the way, each batch starting where the one before it ended.
        seed, epoch
            The loader's seed and the 1-based epoch.
        max_sequence_length
            OLMo-core's ``max_target_sequence_length``, exactly as the run set it: None and
            `sequence_length` give the same order but not the same fingerprint.
        token_bytes
            Bytes of one token id: 1, 2 or 4.

        Raises
        ------
        DataError
            There is no file, or there are too many instances for 32-bit ids.
        ConfigError
            The lengths, batch sizes or epoch cannot be a run's.
        """
        _check_lengths(sequence_length, max_sequence_length, token_bytes, epoch)
        return cls(
            tuple(int(size) for size in file_bytes),
            sequence_length,
            max_sequence_length,
            token_bytes,
            seed,
            epoch,
            BatchSizes.from_tokens(batch_tokens, sequence_length),
        )._checked_counts()

    @classmethod
    def sequential(
        cls,
        file_bytes: Sequence[int],
        *,
        sequence_length: int,
        batch_tokens: int | Sequence[tuple[int, int]],
        token_bytes: int = 4,
    ) -> Self:
        """Describe a run whose data were shuffled before they were written, as Pythia's were.

        The files are the parts of one stream of instances, read from front to back; an instance
        may begin in one part and end in the next.

        Parameters
        ----------
        file_bytes, sequence_length, batch_tokens, token_bytes
            As of `from_sizes`.

        Raises
        ------
        DataError, ConfigError
            As `from_sizes`.
        """
        _check_lengths(sequence_length, None, token_bytes, 1)
        return cls(
            tuple(int(size) for size in file_bytes),
            sequence_length,
            None,
            token_bytes,
            0,
            1,
            BatchSizes.from_tokens(batch_tokens, sequence_length),
            joined=True,
        )._checked_counts()

    @property
    def chunk(self) -> int:
        """Neighbouring instances that are shuffled as one."""
        return (self.max_sequence_length or self.sequence_length) // self.sequence_length

    @property
    def num_instances(self) -> int:
        """Instances of the epoch, those of the unused tail included."""
        return self.layout.num_instances

    @property
    def instance_bytes(self) -> int:
        """Bytes of one instance."""
        return self.sequence_length * self.token_bytes

    @cached_property
    def num_batches(self) -> int:
        """Whole batches of the epoch; what is left after them is never read."""
        return self.batch_sizes.count(self.num_instances)

    def positions(self, first_batch: int, end_batch: int) -> tuple[int, int]:
        """Return the half-open range of positions that batches ``[first_batch, end_batch)`` read.

        Raises
        ------
        ConfigError
            The batches are not all in the run.
        """
        if not 0 <= first_batch <= end_batch <= self.num_batches:
            raise ConfigError(
                f"batches outside the run, whose last is {self.num_batches - 1}",
                where="batches",
                got=f"[{first_batch}, {end_batch})",
                do=f"stay within [0, {self.num_batches})",
            )
        return self.batch_sizes.position(first_batch), self.batch_sizes.position(end_batch)

    def instances(self, first_batch: int, end_batch: int) -> npt.NDArray[np.uint32]:
        """Return the ids of the instances in batches ``[first_batch, end_batch)``, as read.

        Returns
        -------
        uint32[n]
            Batch after batch; a copy.

        Raises
        ------
        ConfigError
            The batches are not all in the run.
        """
        start, end = self.positions(first_batch, end_batch)
        if self.chunk == 1:
            return self.permutation.slice(start, end)
        first = start // self.chunk
        chunks = self.permutation.slice(first, -(-end // self.chunk))
        members = np.arange(self.chunk, dtype=np.uint32)
        ids = (chunks[:, None] * np.uint32(self.chunk) + members).reshape(-1)
        return ids[start - first * self.chunk : end - first * self.chunk]

    def locate(self, ids: npt.ArrayLike) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Find the tokens of instances.

        Parameters
        ----------
        ids
            Instance ids, ``[n]``.

        Returns
        -------
        file_index : int64[n]
            Which file.
        byte_offset : int64[n]
            Where in it the instance's `instance_bytes` start.

        Raises
        ------
        ConfigError
            An id is not in ``[0, num_instances)``.
        """
        return self.layout.locate(self._checked(ids))

    def batch_of(self, ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Tell which batch read each instance: the inverse of `instances`.

        Looked up where the inverse is kept, else one pass over the permutation, however many ids.

        Parameters
        ----------
        ids
            Instance ids, ``[n]``; repeats are allowed.

        Returns
        -------
        int64[n]
            The 0-based batch, -1 for an instance of the unused tail.

        Raises
        ------
        ConfigError
            An id is not in ``[0, num_instances)``.
        """
        wanted = self._checked(ids)
        known, back = np.unique(wanted // self.chunk, return_inverse=True)
        positions = self.permutation.find(known)[back] * self.chunk + wanted % self.chunk
        batches = self.batch_sizes.batch_at(positions)
        return np.where(batches < self.num_batches, batches, -1)

    def fingerprint(
        self,
        names: Sequence[str],
        tokenizer: "TokenizerFields",
        dataset_class: str = DATASET_CLASS,
    ) -> str:
        """Compute OLMo-core's fingerprint of the data set, to prove a reconstruction.

        Parameters
        ----------
        names
            The files' names, in order; folders before the last ``/`` do not count.
        tokenizer
            The fields of the run's tokenizer that the hash covers.
        dataset_class
            OLMo-core's class of the data set.

        Returns
        -------
        str
            Equal to ``NumpyFSLDataset.fingerprint``, the ``dataset_fingerprint`` which a released
            checkpoint's loader state records.

        Raises
        ------
        ConfigError
            There is not one name for each file.
        """
        if len(names) != len(self.file_bytes):
            raise ConfigError(
                f"{len(self.file_bytes)} files need as many names",
                where="names",
                got=str(len(names)),
                do="give one name for each file",
            )
        fields = {
            "vocab_size": tokenizer.vocab_size,
            "pad_token_id": tokenizer.pad_id,
            "eos_token_id": tokenizer.eos_id,
            "dtype": TOKEN_DTYPES[self.token_bytes],
            "max_target_sequence_length": self.max_sequence_length,
            "bos_token_id": tokenizer.bos_id,
        }
        files = zip(names, self.file_bytes, strict=True)
        return dataset_fingerprint(dataset_class, fields, files)

    def __getstate__(self) -> dict[str, Any]:
        # What follows from the fields is made anew rather than sent to a worker process.
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def permutation(self) -> Permutation:
        """The order in which chunks of `chunk` neighbouring instances are read."""
        seed = None if self.joined else self.seed + self.epoch
        return Permutation(self.num_instances // self.chunk, seed, self.kept)

    @cached_property
    def layout(self) -> Layout:
        """Where the instances lie in the files."""
        return Layout(self.file_bytes, self.instance_bytes, self.chunk, self.joined)

    def _checked_counts(self) -> Self:
        if not self.file_bytes:
            raise DataError("the run has no token files", where="files", do="list at least one")
        if self.num_instances >= np.iinfo(np.uint32).max:
            raise DataError(
                "more instances than 32-bit ids can number",
                where="files",
                got=str(self.num_instances),
                do="check the file sizes and the sequence length",
            )
        self.batch_sizes.count(self.num_instances)
        return self

    def _checked(self, ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        given = np.asarray(ids)
        # A number that no integer type holds is no int64, and is compared as it is.
        outside = given[(given < 0) | (given >= self.num_instances)]
        if outside.size:
            raise ConfigError(
                "no such instance",
                where="instance",
                got=str(outside.flat[0]),
                do=f"choose from [0, {self.num_instances})",
            )
        return given.astype(np.int64)


def _check_lengths(length: int, longest: int | None, token_bytes: int, epoch: int) -> None:
    if length < 1:
        raise ConfigError(
            "not a length", where="sequence_length", got=str(length), do="use 1 or more"
        )
    if longest is not None and (longest < length or longest % length):
        raise ConfigError(
            f"not a multiple of the sequence length {length}",
            where="max_sequence_length",
            got=str(longest),
            do="give the run's own max_target_sequence_length",
        )
    if token_bytes not in TOKEN_DTYPES:
        raise ConfigError(
            "not a size of a token id",
            where="token_bytes",
            got=str(token_bytes),
            do="use 1, 2 or 4",
        )
    if epoch < 1:
        raise ConfigError("epochs count from 1", where="epoch", got=str(epoch), do="use 1 or more")
