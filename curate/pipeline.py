"""The datatrove steps that turn a drawn order into token shards.

Documents carry pointers only: which instance, where it lies, which window read it. Token ids are
read where they are needed, in batches, and copied; they are never turned into text and back, which
would not give the same ids.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from datatrove.data import Document, DocumentsPipeline
from datatrove.executor.base import DistributedEnvVars, PipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.logging import logger
from datatrove.utils.stats import PipelineStats
from datatrove.utils.typeshelper import StatHints

from curate.decontamination import NO_PROMPT, PromptIndex
from windows.errors import DataError
from windows.order import DataOrder
from windows.run import RunConfig
from windows.shards import InstanceRow, ShardWriter
from windows.tokens import TokenFiles

# datatrove's own steps take a document without text for an empty one.
PLACEHOLDER = "<token ids>"

REASON = "eval_prompt"

# Tokens read at a time: small enough that decontamination and copy share the page cache.
_BATCH_TOKENS = 2**18
_POINTERS = 2**16


@dataclass(frozen=True)
class InstanceSource:
    """A run's token files with the order in which the run read them."""

    run: RunConfig
    files: TokenFiles
    order: DataOrder

    @property
    def batch(self) -> int:
        """Instances to read at a time."""
        return max(1, _BATCH_TOKENS // self.run.sequence_length)

    def tokens(self, pointers: Sequence[Document]) -> npt.NDArray[np.uint32]:
        """Read the token ids that documents point to, uint32[n, L]."""
        ids = np.array([pointer.metadata["instance"] for pointer in pointers], dtype=np.int64)
        return self.files.instances(self.order, ids)

    def begins_inside(self, pointers: Sequence[Document]) -> list[bool]:
        """Tell for each instance whether it begins inside a document: no EOS stands before it."""
        width, eos = self.run.token_bytes, self.run.tokenizer.eos_id
        with contextlib.ExitStack() as stack:
            opened: dict[int, int] = {}
            found = []
            for pointer in pointers:
                file, offset = pointer.metadata["file"], pointer.metadata["offset"]
                if file not in opened:
                    opened[file] = os.open(self.files.paths[file], os.O_RDONLY)
                    stack.callback(os.close, opened[file])
                before = os.pread(opened[file], width, offset - width) if offset else b""
                found.append(offset > 0 and int.from_bytes(before, "little") != eos)
        return found


class InstanceReader(PipelineStep):  # type: ignore[misc]
    """Yield one document for each row of a drawn order.

    The metadata are the row's `position`, `window`, `batch`, `instance` and `repetition`, and where
    the instance lies: `file` (index) and `offset` (byte).

    Parameters
    ----------
    source
        The run's data.
    drawn
        A table as :func:`curate.mixture.draw` returns it.
    """

    name = "instances"
    type = "reader"

    def __init__(self, source: InstanceSource, drawn: pl.DataFrame) -> None:
        super().__init__()
        self.source = source
        self.drawn = drawn

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Yield the documents, in the drawn order."""
        for part in self.drawn.iter_slices(_POINTERS):
            files, offsets = self.source.order.locate(part["instance"].to_numpy())
            places = {"file": files.astype(np.int64), "offset": offsets}
            for row in part.with_columns(**places).iter_rows(named=True):
                self.stat_update(StatHints.total)
                yield Document(text=PLACEHOLDER, id=f"{row['position']}", metadata=row)


class Decontaminate(PipelineStep):  # type: ignore[misc]
    """Drop the instances in which an eval prompt is found.

    Every dropped instance is named once, with the prompt, in a file of JSON lines `window, batch,
    instance, prompt, documents`, in the order of the draw; `documents` counts those of the
    instance, cut ones included.

    Parameters
    ----------
    source
        The run's data.
    index
        The prompts.
    rejects
        The file to write.
    """

    name = "decontamination by token ids"
    type = "filter"

    def __init__(self, source: InstanceSource, index: PromptIndex, rejects: Path) -> None:
        super().__init__()
        self.source = source
        self.index = index
        self.rejects = rejects

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """Yield the documents in which nothing was found."""
        named: set[int] = set()
        with self.rejects.open("w", encoding="utf-8") as rejects:
            for pointer, prompt, pieces in self._judged(data):
                self.stat_update(StatHints.total)
                if prompt == NO_PROMPT:
                    self.stat_update(StatHints.forwarded)
                    yield pointer
                    continue
                self.stat_update(StatHints.dropped, f"{StatHints.dropped}_{REASON}")
                if pointer.metadata["instance"] not in named:
                    named.add(pointer.metadata["instance"])
                    rejects.write(_reject(pointer, prompt, pieces) + "\n")

    def _judged(self, data: DocumentsPipeline) -> Iterator[tuple[Document, int, int]]:
        eos = self.source.run.tokenizer.eos_id
        pointers = iter(data)
        while batch := list(islice(pointers, self.source.batch)):
            with self.track_time("batch"):
                tokens = self.source.tokens(batch)
                found = self.index.find(tokens).prompt
                pieces = count_documents(tokens, eos)
            yield from zip(batch, found.tolist(), pieces.tolist(), strict=True)


class TokenCopyWriter(PipelineStep):  # type: ignore[misc]
    """Copy the token ids of instances into shards until a budget is reached exactly.

    Parameters
    ----------
    source
        The run's data.
    folder
        Where the shards, their bounds, ``instances.parquet`` and ``manifest.json`` go.
    labels
        Window name -> label, of every window that may come.
    tokens
        The budget: a whole number of instances.
    shard_tokens
        Size of a shard.
    where
        The configuration path of the budget, for messages.
    """

    name = "token copy"
    type = "writer"

    def __init__(
        self,
        source: InstanceSource,
        folder: Path,
        labels: Mapping[str, str],
        *,
        tokens: int,
        shard_tokens: int,
        where: str,
    ) -> None:
        super().__init__()
        self.source = source
        self.folder = folder
        self.labels = dict(labels)
        self.tokens = tokens
        self.shard_tokens = shard_tokens
        self.where = where

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """Write, and yield what was written.

        Raises
        ------
        DataError
            The documents end before the budget is reached; no manifest is written then.
        """
        length = self.source.run.sequence_length
        wanted, written = self.tokens // length, 0
        with contextlib.closing(data), self._shards() as shards:
            while written < wanted:
                batch = list(islice(data, min(self.source.batch, wanted - written)))
                if not batch:
                    raise self._short(written * length)
                with self.track_time("batch"):
                    self._copy(batch, shards)
                written += len(batch)
                self.stat_update("tokens", value=length * len(batch), unit="batch")
                yield from batch

    def _copy(self, batch: Sequence[Document], shards: ShardWriter) -> None:
        eos = self.source.run.tokenizer.eos_id
        tokens = self.source.tokens(batch)
        heads, tails = self.source.begins_inside(batch), (tokens[:, -1] != eos).tolist()
        for pointer, ids, head, tail in zip(batch, tokens, heads, tails, strict=True):
            shards.add(ids, self._row(pointer, head_cut=head, tail_cut=tail))

    def _row(self, pointer: Document, *, head_cut: bool, tail_cut: bool) -> InstanceRow:
        found = pointer.metadata
        return InstanceRow(
            run=self.source.run.name,
            window=found["window"],
            batch=found["batch"],
            file=found["file"],
            source_offset=found["offset"],
            instance=found["instance"],
            label=self.labels[found["window"]],
            head_cut=head_cut,
            tail_cut=tail_cut,
        )

    def _shards(self) -> ShardWriter:
        run = self.source.run
        return ShardWriter(
            self.folder,
            vocab_size=run.tokenizer.vocab_size,
            eos_id=run.tokenizer.eos_id,
            sequence_length=run.sequence_length,
            unit="instance",
            shard_tokens=self.shard_tokens,
        )

    def _short(self, found: int) -> DataError:
        return DataError(
            "the chosen windows hold too few tokens for this budget",
            where=self.where,
            got=f"{found} tokens, decontamination and the cap on repetition applied, of"
            f" {self.tokens}",
            do=f"choose more windows, allow more repetitions, or ask for at most {found} tokens",
        )


class InProcessExecutor(PipelineExecutor):  # type: ignore[misc]
    """Run one task of a datatrove pipeline in this process, silently.

    `LocalPipelineExecutor` starts a `multiprocess.Manager` even for one worker: a process that
    outlives a killed parent, forked from one that has threads. Nor are completion markers written
    or believed: the artefact store knows what is complete. Logs go to the logging folder.

    Parameters
    ----------
    pipeline
        The steps.
    logging_dir
        A folder of this run's own: ``logs/task_00000.log`` and ``stats/00000.json``.

    Notes
    -----
    loguru's handlers are global, and datatrove replaces them: an application that has added its own
    loses them when datatrove is imported.
    """

    def __init__(self, pipeline: list[PipelineStep], logging_dir: Path) -> None:
        super().__init__(pipeline, str(logging_dir), skip_completed=False)

    def run(self) -> PipelineStats:
        """Run the steps and return their statistics; an error in one of them is raised."""
        # Any rank but the first logs nothing below an error to the console, and the errors that
        # datatrove logs are raised as well.
        logger.disable("datatrove")
        try:
            return self._run_for_rank(0, local_rank=1)
        finally:
            logger.enable("datatrove")

    def mark_rank_as_completed(self, rank: int) -> None:
        """Log the statistics, and leave no marker."""
        logger.info(PipelineStats(self.pipeline).get_repr())

    @property
    def world_size(self) -> int:
        """One task."""
        return 1

    def get_distributed_env(self, node_rank: int = -1) -> DistributedEnvVars:
        """Describe one process on one machine."""
        return DistributedEnvVars(
            datatrove_node_ips="localhost",
            datatrove_cpus_per_task="-1",
            datatrove_mem_per_cpu="-1",
            datatrove_gpus_on_node="-1",
            datatrove_executor="IN_PROCESS",
        )


def count_documents(tokens: npt.NDArray[np.uint32], eos_id: int) -> npt.NDArray[np.int64]:
    """Count the documents of instances, cut ones included.

    Parameters
    ----------
    tokens
        uint32[n, L].
    eos_id
        The id that ends a document.

    Returns
    -------
    int64[n]
        As many as :func:`windows.tokens.documents` has spans.
    """
    ends = tokens == eos_id
    counts: npt.NDArray[np.int64] = ends.sum(axis=1) + ~ends[:, -1]
    return counts


def _reject(pointer: Document, prompt: int, pieces: int) -> str:
    found = pointer.metadata
    line = {name: found[name] for name in ("window", "batch", "instance")}
    return json.dumps(line | {"prompt": prompt, "documents": pieces})
