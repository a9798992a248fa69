"""Checkpoints x tasks -> one table of item scores each.

Importing this module does not import torch: a process that only hands out the jobs needs none.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from scoring.items import ITEMS, Where, items_path, read_items, read_table, write_items
from scoring.loading import load_model
from scoring.prefetch import (
    FETCHED,
    Fetcher,
    Snapshots,
    Source,
    Target,
    find_sources,
    grouped,
)
from scoring.suite.registry import blocks as suite_blocks
from scoring.suite.schema import Block, Split
from scoring.trie import ScoringPlan, plan_scoring
from windows.checkpoints.hub import Hub
from windows.identity import content_id
from windows.progress import Reporter
from windows.workers import WorkerPool

if TYPE_CHECKING:
    from scoring.engine import PairScores

__all__ = [
    "ITEMS",
    "Job",
    "SweepRequest",
    "Where",
    "fetch_and_score",
    "items_path",
    "load_model",
    "pending",
    "plan_blocks",
    "read_items",
    "score",
    "score_blocks",
    "score_model",
    "sweep",
    "write_items",
]

TOKEN_BUDGET = 256
_REQUEST = b"modehop.request"


@dataclass(frozen=True, slots=True)
class SweepRequest:
    """What every checkpoint is asked.

    Attributes
    ----------
    tasks
        Keys of the suite's tasks.
    split
        ``label`` or ``verify``.
    demo_seeds
        Draws of demonstrations for each task.
    wordings
        Some of the split's wordings; None for all.
    token_budget
        The most unique tokens of one forward. Attention is dense over them: small models, whose
        other work is small, want few; a GPU wants 1024 and more.
    """

    tasks: tuple[str, ...]
    split: Split
    demo_seeds: int
    wordings: tuple[str, ...] | None = None
    token_budget: int = TOKEN_BUDGET

    def blocks(self, task: str) -> tuple[Block, ...]:
        """Return the blocks of one task."""
        return _blocks(self, task)


@lru_cache(maxsize=64)
def _blocks(request: SweepRequest, task: str) -> tuple[Block, ...]:
    made = suite_blocks(
        task, split=request.split, demo_seeds=request.demo_seeds, wordings=request.wordings
    )
    return tuple(made)


def score_blocks(
    model: Any,
    tokenizer: Any,
    blocks: Sequence[Block],
    where: Where,
    *,
    token_budget: int = TOKEN_BUDGET,
) -> pa.Table:
    """Score blocks of the suite under one checkpoint.

    Encoding and packing are kept for the next checkpoint with an equal tokenizer.

    Returns
    -------
    pyarrow.Table
        Of schema `ITEMS`, one row an item, in the order of the blocks and their items. The parrot's
        answer is the likeliest rival, the first of equals.

    Raises
    ------
    ModehopError
        As `PrefixScorer` does.
    """
    from scoring.engine import PrefixScorer

    plan = plan_blocks(tokenizer, blocks, token_budget=token_budget)
    scores = PrefixScorer(model, tokenizer, token_budget=token_budget).run(plan)
    return _table(blocks, plan, scores, where)


def score_model(model: Any, tokenizer: Any, request: SweepRequest, where: Where) -> pa.Table:
    """Score all that a request asks under one checkpoint, task after task; see `score_blocks`."""
    tables = [
        score_blocks(
            model, tokenizer, request.blocks(task), where, token_budget=request.token_budget
        )
        for task in request.tasks
    ]
    return pa.concat_tables([ITEMS.empty_table(), *tables]).combine_chunks()


def plan_blocks(tokenizer: Any, blocks: Sequence[Block], *, token_budget: int) -> ScoringPlan:
    """Encode and pack blocks; what was planned lately for an equal tokenizer is not made again."""
    return _plan(_Tokenizer.of(tokenizer), tuple(blocks), token_budget)


@dataclass(frozen=True, slots=True)
class _Tokenizer:
    """A tokenizer that equals another where both encode alike."""

    fingerprint: str
    tokenizer: Any = field(compare=False)

    @classmethod
    def of(cls, tokenizer: Any) -> "_Tokenizer":
        backend = getattr(tokenizer, "backend_tokenizer", None)
        text = f"object {id(tokenizer)}" if backend is None else backend.to_str()
        return cls(sha256(text.encode()).hexdigest(), tokenizer)


@lru_cache(maxsize=64)
def _plan(tokenizer: _Tokenizer, blocks: tuple[Block, ...], token_budget: int) -> ScoringPlan:
    asked = [(block, item) for block in blocks for item in block.items]
    return plan_scoring(
        tokenizer.tokenizer,
        [block.prefix + item.prompt for block, item in asked],
        [(item.right, *item.rivals) for _, item in asked],
        terminators=[block.terminator for block, _ in asked],
        token_budget=token_budget,
    )


def _table(
    blocks: Sequence[Block], plan: ScoringPlan, scores: "PairScores", where: Where
) -> pa.Table:
    asked = [(block, item) for block in blocks for item in block.items]
    widths = np.asarray(plan.widths, dtype=np.int64)
    right = np.concatenate([[0], np.cumsum(widths)])[:-1].astype(np.int64)
    parrot = right.copy()
    for index, (start, width) in enumerate(zip(right.tolist(), plan.widths, strict=True)):
        parrot[index] += 1 + int(np.argmax(scores.logprob[start + 1 : start + width]))
    apart = np.array([boundary == "separate" for boundary in plan.boundaries], dtype=bool)
    columns: dict[str, Any] = {
        "run": [where.run] * len(asked),
        "stage": [where.stage] * len(asked),
        "family": [block.family for block, _ in asked],
        "task": [block.task for block, _ in asked],
        "wording": [block.wording for block, _ in asked],
        "item_id": [item.item_id for _, item in asked],
        "step": [where.step] * len(asked),
        "demo_seed": [block.demo_seed for block, _ in asked],
        "boundary": np.where(apart[right] | apart[parrot], "separate", "joined").tolist(),
    }
    for name, at in (("right", right), ("parrot", parrot)):
        columns[f"lp_{name}"] = scores.logprob[at].astype(np.float32)
        columns[f"mean_p_{name}"] = scores.mean_p[at].astype(np.float32)
        columns[f"n_{name}"] = plan.n_tokens[at].astype(np.int16)
    return pa.table({field.name: columns[field.name] for field in ITEMS}, schema=ITEMS)


@dataclass(frozen=True)
class Job:
    """One checkpoint with the tasks that are not scored yet: where to write, and for what request.

    Attributes
    ----------
    source
        The checkpoint, whose folder must be there when the job is scored.
    request
        What it is asked.
    missing
        Task, file and fingerprint of each table that is to be made.
    threads
        Threads to compute with; bytes depend on it.
    """

    source: Source
    request: SweepRequest
    missing: tuple[tuple[str, Path, str], ...]
    threads: int = 1

    def unscored(self) -> "Job":
        """Leave out what has been scored since the job was made."""
        still = tuple((t, path, told) for t, path, told in self.missing if not _is_done(path, told))
        return replace(self, missing=still)


def pending(
    sources: Sequence[Source], request: SweepRequest, out: Path, threads: int = 1
) -> list[Job]:
    """Return a job for each checkpoint of which a table is missing, in order; see `sweep`."""
    wanted = {task: _fingerprint(request, task) for task in request.tasks}
    jobs = []
    for source in sources:
        paths = {task: items_path(out, source.checkpoint, task) for task in request.tasks}
        job = Job(source, request, tuple((t, p, wanted[t]) for t, p in paths.items()), threads)
        if (job := job.unscored()).missing:
            jobs.append(job)
    return jobs


def sweep(
    checkpoints: Sequence[Target],
    request: SweepRequest,
    out: Path,
    pool: WorkerPool,
    reporter: Reporter,
    *,
    drop_scored: bool = False,
    hub: Hub | None = None,
) -> None:
    """Score every checkpoint on every task, one file each; what is there already stays.

    The files are ``<out>/<run>/<stage>-step<step>/<family>.<task>.parquet`` (see `items_path`), of
    schema `ITEMS`. Each is written in one piece, so that a killed sweep goes on where it was. A
    file that cannot be read, or that answers another request, is made again; that a checkpoint's
    weights are still the ones that were scored is for the owner of `out` to know. A checkpoint is
    loaded once, and only if one of its files is missing.

    Revisions on the Hub are fetched to its own cache. As many are scored at a time as the pool has
    workers (at least one), and as many are fetched meanwhile.

    Parameters
    ----------
    checkpoints
        Whose weights to score: local folders, or a catalog's entries.
    request
        What to ask.
    out
        The folder to write to.
    pool
        Where to work: one job for each checkpoint.
    reporter
        Told of every checkpoint.
    drop_scored
        Remove from the Hub's cache again what was fetched for a checkpoint once it is scored. What
        was there before stays. Let no two sweeps drop from one cache at a time.
    hub
        Where revisions are fetched from; by default as ``huggingface_hub`` is set up.

    Raises
    ------
    ModehopError
        If a task, wording or checkpoint is not what it should be, or a worker died. What could not
        be fetched is told when its turn comes: the checkpoints before it have been scored.
    """
    hub = hub or Hub()
    sources = find_sources(checkpoints, hub)
    jobs = pending(sources, request, out, pool.threads)
    snapshots = Snapshots(hub, out / FETCHED if drop_scored else None)
    remote = [job for job in jobs if job.source.revision]
    uses = Counter(job.source.checkpoint.path for job in remote)
    snapshots.drop_all(s.revision for s in sources if s.revision and not uses[s.checkpoint.path])
    with reporter.task("scoring checkpoints", len(sources)) as advance:

        def count(index: int, result: None) -> None:
            advance()

        advance(len(sources) - len(jobs))
        pool.map(score, [job for job in jobs if not job.source.revision], on_done=count)
        at_once = max(1, pool.workers)
        with Fetcher(snapshots) as fetcher:
            for group in grouped(_fetched(remote, fetcher, at_once), at_once):
                pool.map(score, group, on_done=count)
                uses.subtract(job.source.checkpoint.path for job in group)
                scored = [job.source for job in group if not uses[job.source.checkpoint.path]]
                snapshots.drop_all(source.revision for source in scored if source.revision)
    snapshots.drop_rest()


def _fetched(jobs: Sequence[Job], fetcher: Fetcher, ahead: int) -> Iterator[Job]:
    revisions = [job.source.revision for job in jobs if job.source.revision]
    arriving = fetcher.arrive(revisions, ahead=ahead)
    for job, (_, path) in zip(jobs, arriving, strict=True):
        assert path == job.source.checkpoint.path, "the cache is laid out otherwise"
        yield job


def fetch_and_score(job: Job, snapshots: Snapshots) -> None:
    """Score one checkpoint where nobody has fetched it: what one task of an executor does."""
    revision, job = job.source.revision, job.unscored()
    if job.missing:
        if revision:
            snapshots.fetch(revision)
        score(job)
    if revision:
        snapshots.drop(revision)


def _is_done(path: Path, fingerprint: str) -> bool:
    try:
        table = read_table(path)
    except (OSError, pa.ArrowException):
        return False
    told = (table.schema.metadata or {}).get(_REQUEST, b"").decode()
    return bool(table.schema.equals(ITEMS)) and told == fingerprint


def _fingerprint(request: SweepRequest, task: str) -> str:
    return content_id({"blocks": request.blocks(task), "token_budget": request.token_budget})


def score(job: Job) -> None:
    """Load a job's checkpoint from its folder and write the tables it lacks."""
    checkpoint = job.source.checkpoint
    where = Where(checkpoint.run, checkpoint.stage, checkpoint.step)
    with _threads(job.threads):
        model, tokenizer = load_model(checkpoint.path)
        for task, path, fingerprint in job.missing:
            table = score_blocks(
                model,
                tokenizer,
                job.request.blocks(task),
                where,
                token_budget=job.request.token_budget,
            )
            write_items(table.replace_schema_metadata({_REQUEST: fingerprint}), path)


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
