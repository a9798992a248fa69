"""What one checkpoint is asked, the tables it lacks, and scoring it: the unit of every sweep.

Importing this module does not import torch: a process that only hands out the jobs needs none.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from scoring.items import Where, read_table, write_items
from scoring.loading import Compute, load_scorer
from scoring.prefetch import Snapshots, Source
from windows.checkpoints.folder import Checkpoint
from windows.errors import ConfigError
from windows.identity import content_id

_REQUEST = b"modehop.request"


class Questionnaire(Protocol):
    """What a checkpoint is asked: tables of one schema, each made by itself.

    It is hashable, can be pickled, and is made without torch.
    """

    @property
    def tables(self) -> tuple[str, ...]:
        """The names of its tables, each once."""

    @property
    def schema(self) -> pa.Schema:
        """The schema of them all."""

    def path(self, out: Path, checkpoint: Checkpoint, name: str) -> Path:
        """Return where a checkpoint's table of a name lies."""

    def fingerprint(self, name: str) -> str:
        """Return the identity of all that a table's content depends on, but for the weights."""

    def table(self, model: Any, tokenizer: Any, name: str, where: Where) -> pa.Table:
        """Ask a checkpoint, and return the table of a name."""


Asked = Questionnaire | Sequence[Questionnaire]
"""One questionnaire or several, of which no two have a table in common."""


@dataclass(frozen=True)
class WantedTable:
    """A table of one checkpoint: whose, called what, where it lies, and what it must answer."""

    questionnaire: Questionnaire
    name: str
    path: Path
    fingerprint: str

    def is_done(self) -> bool:
        """Whether it is there, whole, and answers what is asked now."""
        try:
            table = read_table(self.path)
        except (OSError, pa.ArrowException):
            return False
        told = (table.schema.metadata or {}).get(_REQUEST, b"").decode()
        return bool(table.schema.equals(self.questionnaire.schema)) and told == self.fingerprint


@dataclass(frozen=True)
class Job:
    """One checkpoint with the tables that it lacks.

    Attributes
    ----------
    source
        The checkpoint, whose folder must be there when the job is scored.
    missing
        The tables to make.
    compute
        Where and how precisely; its device is settled.
    threads
        Threads to compute with; bytes depend on it.
    """

    source: Source
    missing: tuple[WantedTable, ...]
    compute: Compute
    threads: int = 1

    def unscored(self) -> "Job":
        """Leave out what has been scored since the job was made."""
        return replace(self, missing=tuple(each for each in self.missing if not each.is_done()))


def fingerprints(asked: Asked, compute: Compute) -> list[tuple[Questionnaire, str, str]]:
    """Return questionnaire, name and identity of every table that a checkpoint shall get.

    The identity is of what is asked, and of the device and the precision that answer it.
    """
    several = asked if isinstance(asked, Sequence) else (asked,)
    how: dict[str, str] = {"device": compute.device, "dtype": compute.dtype}
    if compute.backend != "transformers":
        how["backend"] = compute.backend
    return [
        (each, name, content_id({"asked": each.fingerprint(name), **how}))
        for each in several
        for name in each.tables
    ]


def pending(
    sources: Sequence[Source], asked: Asked, out: Path, compute: Compute, threads: int = 1
) -> list[Job]:
    """Return a job for each checkpoint of which a table is missing, in order.

    Raises
    ------
    ConfigError
        Two questionnaires would write the same table, or one asks for what there is not.
    """
    wanted = fingerprints(asked, compute)
    jobs = []
    for source in sources:
        tables = [
            WantedTable(each, name, each.path(out, source.checkpoint, name), told)
            for each, name, told in wanted
        ]
        _check_apart(tables)
        if (job := Job(source, tuple(tables), compute, threads).unscored()).missing:
            jobs.append(job)
    return jobs


def score(job: Job) -> None:
    """Load a job's checkpoint from its folder, once, and write the tables it lacks."""
    checkpoint = job.source.checkpoint
    where = Where(checkpoint.run, checkpoint.stage, checkpoint.step)
    with _threads(job.threads):
        model, tokenizer = load_scorer(checkpoint.path, job.compute)
        try:
            for wanted in job.missing:
                table = wanted.questionnaire.table(model, tokenizer, wanted.name, where)
                told = {_REQUEST: wanted.fingerprint}
                write_items(table.replace_schema_metadata(told), wanted.path)
        finally:
            if job.compute.backend == "vllm":
                # Its processes hold the device until they are told to end.
                model.close()


def fetch_and_score(job: Job, snapshots: Snapshots) -> None:
    """Score one checkpoint where nobody has fetched it: what one task of an executor does."""
    revision, job = job.source.revision, job.unscored()
    if job.missing:
        if revision:
            snapshots.fetch(revision)
        score(job)
    if revision:
        snapshots.drop(revision)


def _check_apart(tables: Sequence[WantedTable]) -> None:
    seen: set[Path] = set()
    for table in tables:
        if table.path in seen:
            raise ConfigError(
                "two requests would write one table",
                where="requests",
                got=table.name,
                do="ask each task once, or write to folders apart",
            )
        seen.add(table.path)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Sum in the same order in this process as in a worker: bytes depend on the thread count."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
