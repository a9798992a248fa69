"""What a run read, and when: questions put to its data order and its token files."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from curate.run_data import RunData
from curate.run_file import RunFile
from windows import sampling
from windows.composition import SourceCounter
from windows.documents import NamedSpan, read_document_bounds
from windows.errors import ConfigError
from windows.order import DataOrder
from windows.progress import Advance
from windows.reading.digest import digest
from windows.reading.limits import ReadCost
from windows.run import RunConfig, Window, window
from windows.tokens import documents


@dataclass(frozen=True)
class Share:
    """What one source gave: whole instances, and their tokens."""

    source: str
    instances: int
    tokens: int


@dataclass(frozen=True)
class SampledDocument:
    """A document, or as much of it as its instance holds.

    Attributes
    ----------
    source, file, path
        Where the token file stands in the run: its source, its index, its address.
    document, document_source
        What the bounds of the file say of the document; empty where there are none.
    instance, batch, weight
        The instance it was drawn in, the batch that read it, and how many instances of the window
        it stands for.
    start, end
        Token positions in the instance, half-open.
    first_token
        Where in the file `start` lies, in tokens.
    head_cut, tail_cut
        The document may begin before `start`, or goes on after `end`.
    masked
        Whether the run's repetition filter masked the instance's loss; None where it had none.
    text
        Decoded with the run's tokenizer.
    """

    source: str
    file: int
    path: str
    document: str
    document_source: str
    instance: int
    batch: int
    weight: float
    start: int
    end: int
    first_token: int
    head_cut: bool
    tail_cut: bool
    masked: bool | None
    text: str


@dataclass(frozen=True)
class Reading:
    """When an instance was read: its batch, -1 for the unused tail, and the steps that took it.

    Step ``s`` means: trained between checkpoint ``s`` and checkpoint ``s + 1``. No step where the
    run ended before the batch, or skipped it. `step_map_exact` says whether batch and step are
    known to belong together.
    """

    instance: int
    file: int
    first_token: int
    batch: int
    steps: tuple[int, ...]
    step_map_exact: bool


class Stream:
    """A run's data as it was read.

    Parameters
    ----------
    file
        The run's file.
    run
        The run, with the seed of its data order.
    data
        Its token files, in its order.
    order
        Its data order.
    end_step
        The last step that the run trained; batches after it were never read.
    """

    def __init__(
        self, file: RunFile, run: RunConfig, data: RunData, order: DataOrder, end_step: int
    ) -> None:
        self.file = file
        self.run = run
        self.data = data
        self.files = data.files
        self.order = order
        self.end_step = end_step

    @cached_property
    def counter(self) -> SourceCounter:
        """Counts instances by source."""
        return SourceCounter(self.order.layout, [file.source for file in self.files])

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
        counts = self.counter.counts(self.order.instances(first_batch, end_batch))
        length = self.run.sequence_length - self.run.overlap
        pairs = zip(self.counter.names, counts.tolist(), strict=True)
        return tuple(Share(name, count, count * length) for name, count in pairs)

    def draw(self, asked: Window, count: int, seed: int, *, stratify: bool) -> sampling.Sample:
        """Draw instances of a window; see `windows.sampling`.

        Parameters
        ----------
        stratify
            Draw from every source, rare ones more often; else every instance has the same chance.
        """
        ids = self.order.instances(asked.first_batch, asked.end_batch)
        if stratify:
            sources = self.counter.source_of(ids)
            if count < len(np.unique(sources)):
                raise ConfigError(
                    "too few to see every source",
                    where="--sample",
                    got=str(count),
                    do=f"draw at least {len(np.unique(sources))}, or leave out --stratify",
                )
            return sampling.stratified(ids, sources, count, seed)
        return sampling.uniform(ids, count, seed)

    def cost(self, drawn: sampling.Sample) -> ReadCost:
        """Return what reading a sample would cost; nothing is read."""
        return self.data.tokens.cost(self.order, drawn.ids)

    def documents(
        self, asked: Window, drawn: sampling.Sample, seed: int, advance: Advance
    ) -> tuple[list[SampledDocument], str]:
        """Read one document of every instance drawn.

        In each instance one token is drawn; its document is the sample. So, weights regarded, every
        token of the window is as likely as any other to be in it, and a long document more likely
        than a short one.

        Returns
        -------
        documents, sha256
            And the hash of all bytes read, instance by instance: the run's fingerprint covers names
            and sizes of files only.

        Raises
        ------
        DataError
            Bytes cannot be read, or there is no tokenizer to show them with.
        """
        rows = self.data.tokens.instances(self.order, drawn.ids, advance=advance)
        masks = self._masks(rows)
        batches = self._batches(asked, drawn.ids)
        files, offsets = self.order.locate(drawn.ids)
        first = offsets // self.run.token_bytes
        found = []
        for i, instance in enumerate(drawn.ids.tolist()):
            file, head = int(files[i]), int(first[i])
            named = self._document(rows[i], file, head, [seed, instance])
            found.append(
                SampledDocument(
                    source=self.files[file].source,
                    file=file,
                    path=self.files[file].path,
                    document=named.id,
                    document_source=named.source,
                    instance=instance,
                    batch=int(batches[i]),
                    weight=float(drawn.weights[i]),
                    start=named.span.start,
                    end=named.span.end,
                    first_token=head + named.span.start,
                    head_cut=named.span.head_cut,
                    tail_cut=named.span.tail_cut,
                    masked=masks[i],
                    text=self.data.text(rows[i][named.span.start : named.span.end]),
                )
            )
        return found, digest(rows)

    def readings(self, instances: Sequence[int]) -> list[Reading]:
        """Return when instances were read; ConfigError if the run has no such instance."""
        batches = self.order.batch_of(instances).tolist()
        files, offsets = (each.tolist() for each in self.order.locate(instances))
        places = zip(instances, files, offsets, batches, strict=True)
        return [self._reading(*place) for place in places]

    def _reading(self, instance: int, file: int, offset: int, batch: int) -> Reading:
        steps = tuple(step for step in self.run.steps_of_batch(batch) if step < self.end_step)
        return Reading(
            instance=instance,
            file=file,
            first_token=offset // self.run.token_bytes,
            batch=batch,
            steps=steps,
            step_map_exact=all(self.run.exact_between(step, step + 1) for step in steps),
        )

    def notes(self, first_step: int = 0, end_step: int | None = None) -> list[str]:
        """Say what a reader must know of steps ``[first_step, end_step)``, or of the whole run."""
        lines = [self.data.note] if self.data.note else []
        lines += [
            remark.says
            for remark in self.file.remarks
            if remark.of_the_whole_run
            or (end_step is not None and remark.touches(first_step, end_step))
        ]
        if end_step is not None and not self.run.exact_between(first_step, end_step):
            lines.insert(0, "which batch these steps read is not known exactly")
        return lines

    def check_tokens(self, file: int, start: int, end: int) -> None:
        """Refuse tokens that a file does not have.

        Raises
        ------
        ConfigError
            ``[start, end)`` is empty or not in the file.
        """
        count = self.data.file_bytes[file] // self.run.token_bytes
        if not 0 <= start < end <= count:
            raise ConfigError(
                f"no tokens of a file of {count:,}",
                where="--tokens",
                got=f"{start}:{end}",
                do=f"choose a range within 0:{count}",
            )

    def instances_of(self, file: int, start: int, end: int) -> list[int]:
        """Return the instances that hold tokens ``[start, end)`` of a file.

        None where all of them lie behind the file's last whole instance, which no run reads.
        """
        size = self.run.token_bytes
        last = min(end * size, self.order.file_bytes[file])
        if start * size >= last:
            return []
        held = self.order.layout.overlapping(file, start * size, last)
        return [int(each) for each in held]

    def document_span(self, file: int, document: str) -> tuple[int, int]:
        """Return the tokens ``[start, end)`` of a document of a token file, from its bounds.

        Parameters
        ----------
        document
            The document's id, or its 0-based place in the file.

        Raises
        ------
        ConfigError
            There is no such document, or there are no bounds to find it by.
        """
        path = self.data.bounds[file] or self.data.fetched_bounds(file)
        bounds = read_document_bounds(path)
        place = bounds.find(document)
        if place is None:
            raise ConfigError(
                "no such document",
                where=f"--document, in {path}",
                got=repr(document),
                do=f"give the id of a document, or its place in [0, {len(bounds.starts)})",
            )
        return int(bounds.starts[place]), int(bounds.ends[place])

    def _document(
        self, row: npt.NDArray[np.uint32], file: int, first: int, seed: Sequence[int]
    ) -> NamedSpan:
        path = self.data.bounds[file]
        place = int(np.random.default_rng(list(seed)).integers(len(row)))
        named = read_document_bounds(path).within(first, first + len(row)) if path else []
        # Bounds may have gaps, or end before their file: what they leave out is split by EOS.
        spans = documents(row, self.run.tokenizer.eos_id)
        named += [NamedSpan(span, "", "") for span in spans]
        return next(each for each in named if each.span.start <= place < each.span.end)

    def _masks(self, rows: npt.NDArray[np.uint32]) -> list[bool | None]:
        mask = self.file.repetition_filter
        return [None] * len(rows) if mask is None else mask.masked(rows).tolist()

    def _batches(self, asked: Window, ids: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
        """Return int64[n]: the batch of each, found within the window instead of the whole run."""
        start, _ = self.order.positions(asked.first_batch, asked.end_batch)
        read = self.order.instances(asked.first_batch, asked.end_batch)
        by_id = np.argsort(read)
        places = by_id[np.searchsorted(read, ids, sorter=by_id)]
        return self.order.batch_sizes.batch_at(places + start)


def find_file(data: RunData, name: str) -> tuple[int, ...]:
    """Return the index of the token file that `name` means: an index, a path, or the end of one.

    A file that the run lists, and reads, more than once has as many.

    Raises
    ------
    ConfigError
        No file is meant, or more than one.
    """
    files = data.files
    if name.isdecimal() and int(name) < len(files):
        return (int(name),)
    parts = name.split("/")
    paths = [file.path.split("/") for file in files]
    meant = [i for i, path in enumerate(paths) if path[-len(parts) :] == parts]
    if len({files[i].path for i in meant}) == 1:
        return tuple(meant)
    raise ConfigError(
        "more than one token file is called this" if meant else "no such token file",
        where="--file",
        got=repr(name),
        do=f"give an index in [0, {len(files)}), or a path such as {'/'.join(paths[0][-2:])}",
    )
