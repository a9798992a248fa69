"""What a run read, and when: questions put to its data order and its token files."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from windows.bounds import read_bounds
from windows.errors import ConfigError, DataError
from windows.manifest import read_manifest
from windows.order import DataOrder
from windows.run import DataFile, RunConfig, Window, window
from windows.tokens import TokenFiles, documents


@dataclass(frozen=True)
class Share:
    """What one source gave: whole instances, and their tokens."""

    source: str
    instances: int
    tokens: int


@dataclass(frozen=True)
class Sample:
    """A document, or as much of it as its instance holds.

    `start` and `end` are token positions in the instance, half-open; `head_cut` and `tail_cut` say
    that the document may begin before, or goes on after.
    """

    source: str
    file: int
    instance: int
    batch: int
    start: int
    end: int
    head_cut: bool
    tail_cut: bool
    text: str


@dataclass(frozen=True)
class Reading:
    """When an instance was read: its batch, -1 for the unused tail, and the steps that took it.

    Step ``s`` means: trained between checkpoint ``s`` and checkpoint ``s + 1``. No step where the
    run ended before the batch, or skipped it.
    """

    instance: int
    file: int
    first_token: int
    batch: int
    steps: tuple[int, ...]


class Stream:
    """A run's data as it was read.

    Parameters
    ----------
    run
        The run, with the seed of its data order.
    files
        Its token files, in its order.
    folder
        The folder of their manifest; None where the run lists its files itself.
    end_step
        The last step that the run trained; batches after it were never read.
    """

    def __init__(
        self, run: RunConfig, files: Sequence[DataFile], folder: Path | None, end_step: int
    ) -> None:
        self.run = run
        self.folder = folder
        self.files = tuple(files)
        self.end_step = end_step
        self.tokens = TokenFiles(
            [Path(file.path) for file in self.files],
            sequence_length=run.sequence_length,
            token_bytes=run.token_bytes,
            expected_bytes=[file.bytes for file in self.files],
        )
        self.order: DataOrder = run.order(self.tokens.sizes)

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """The sources, in the order in which the run lists them."""
        return tuple(dict.fromkeys(file.source for file in self.files))

    def window(self, first_step: int, end_step: int) -> Window:
        """Return the window between two checkpoints.

        Raises
        ------
        ConfigError
            The run did not train these steps.
        """
        if end_step > self.end_step:
            raise ConfigError(
                f"run {self.run.name} ended at step {self.end_step}",
                where="--steps",
                got=f"{first_step}:{end_step}",
                do=f"choose a range within {self.run.step_map[0].first_step}:{self.end_step}",
            )
        return window(self.run, self.order, first_step, end_step)

    def composition(self, first_batch: int, end_batch: int) -> tuple[Share, ...]:
        """Return what each source gave to batches ``[first_batch, end_batch)``, exactly."""
        files, _ = self.order.locate(self.order.instances(first_batch, end_batch))
        counts = np.bincount(files, minlength=len(self.files))
        given = dict.fromkeys(self.sources, 0)
        for file, count in zip(self.files, counts, strict=True):
            given[file.source] += int(count)
        return tuple(Share(name, n, n * self.run.sequence_length) for name, n in given.items())

    def sample(self, first_batch: int, end_batch: int, count: int, seed: int) -> list[Sample]:
        """Draw documents from batches ``[first_batch, end_batch)``.

        Instances are drawn without replacement, and in each one token; its document is the sample.
        So every token of the batches is as likely as any other to be in it, and a long document
        more likely than a short one.

        Parameters
        ----------
        count
            How many; fewer where there are not so many instances.
        seed
            The same seed and range give the same sample.

        Raises
        ------
        DataError
            There is no ``tokenizer.json`` beside the token files.
        """
        rng = np.random.default_rng([seed, first_batch, end_batch])
        read = self.order.instances(first_batch, end_batch)
        ids = np.sort(rng.choice(read, size=min(count, len(read)), replace=False))
        rows = self.tokens.instances(self.order, ids)
        places = rng.integers(self.run.sequence_length, size=len(ids))
        batches = self.order.batch_of(ids)
        files, _ = self.order.locate(ids)
        return [
            self._document(row, int(place), (int(file), int(instance), int(batch)))
            for row, place, file, instance, batch in zip(
                rows, places, files, ids, batches, strict=True
            )
        ]

    def reading(self, instance: int) -> Reading:
        """Return when an instance was read; ConfigError if the run has no such instance."""
        files, offsets = self.order.locate([instance])
        batch = int(self.order.batch_of([instance])[0])
        return Reading(
            instance=instance,
            file=int(files[0]),
            first_token=int(offsets[0]) // self.run.token_bytes,
            batch=batch,
            steps=tuple(step for step in self.run.steps_of_batch(batch) if step < self.end_step),
        )

    def instances_of(self, file: int, start: int, end: int) -> list[int]:
        """Return the instances that hold tokens ``[start, end)`` of a file.

        None where all of them lie behind the file's last whole instance, which no run reads.
        """
        size = self.run.token_bytes
        return [int(each) for each in self.order.layout.overlapping(file, start * size, end * size)]

    def _document(
        self, row: npt.NDArray[np.uint32], place: int, where: tuple[int, int, int]
    ) -> Sample:
        spans = documents(row, self.run.tokenizer.eos_id)
        span = next(span for span in spans if span.start <= place < span.end)
        file, instance, batch = where
        ids = [int(token) for token in row[span.start : span.end]]
        return Sample(
            source=self.files[file].source,
            file=file,
            instance=instance,
            batch=batch,
            start=span.start,
            end=span.end,
            head_cut=span.head_cut,
            tail_cut=span.tail_cut,
            text=self._tokenizer.decode(ids, skip_special_tokens=False),
        )

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        beside = Path(self.files[0].path).parent
        for folder in (beside, beside.parent):
            if (folder / "tokenizer.json").is_file():
                return Tokenizer.from_file(str(folder / "tokenizer.json"))
        raise DataError(
            "documents cannot be shown as text: there is no tokenizer.json",
            where=str(beside),
            do="put the run's tokenizer.json beside the token files, or leave out --sample",
        )


def find_file(files: Sequence[DataFile], name: str) -> int:
    """Return the index of the token file that `name` means: an index, a path, or the end of one.

    Raises
    ------
    ConfigError
        No file is meant, or more than one.
    """
    if name.isdecimal() and int(name) < len(files):
        return int(name)
    paths = [Path(file.path) for file in files]
    meant = [
        i
        for i, path in enumerate(paths)
        if path.parts[-len(Path(name).parts) :] == Path(name).parts
    ]
    if len(meant) == 1:
        return meant[0]
    raise ConfigError(
        "more than one token file is called this" if meant else "no such token file",
        where="--file",
        got=repr(name),
        do=f"give an index in [0, {len(files)}), or a path such as {paths[0].name}",
    )


def document_span(folder: Path | None, file: int, document: str) -> tuple[int, int]:
    """Return the tokens ``[start, end)`` of a document of a token file, from the file's bounds.

    Parameters
    ----------
    folder
        The folder of the run's manifest, which names the bounds.
    document
        The document's id, or its 0-based place in the file.

    Raises
    ------
    ConfigError
        There is no such document, or there are no bounds to find it by.
    """
    if folder is None:
        raise ConfigError(
            "documents cannot be looked up in a run without a manifest",
            where="--document",
            do="ask by --instance, or describe the run's files by a manifest",
        )
    bounds = folder / read_manifest(folder).shards[file].bounds
    count = 0
    by_place: tuple[int, int] | None = None
    for count, bound in enumerate(read_bounds(bounds), start=1):
        if bound.id == document:
            return bound.start, bound.end
        if document.isdecimal() and count == int(document) + 1:
            by_place = (bound.start, bound.end)
    if by_place is not None:
        return by_place
    raise ConfigError(
        "no such document",
        where=f"--document, in {bounds}",
        got=repr(document),
        do=f"give the id of a document, or its place in [0, {count})",
    )
