"""Checkpoints x tasks -> one table of item scores each.

Importing this module does not import torch: a process that only hands out the jobs needs none.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from scoring.items import ITEMS, Where, items_path, read_items, write_items
from scoring.jobs import Asked, Job, pending, score
from scoring.loading import FLOAT32_ON_CPU, Compute, load_model
from scoring.prefetch import (
    KEEP,
    Fetcher,
    Fetching,
    Snapshots,
    Source,
    Target,
    find_sources,
    grouped,
)
from scoring.suite.registry import blocks as suite_blocks
from scoring.suite.schema import Block, Split
from scoring.suite.sets import PINNED, Sets
from scoring.trie import ScoringPlan, plan_scoring
from windows.checkpoints.folder import Checkpoint
from windows.identity import content_id
from windows.progress import Reporter
from windows.workers import WorkerPool

if TYPE_CHECKING:
    from scoring.engine import PairScores

__all__ = [
    "ITEMS",
    "SweepRequest",
    "Where",
    "items_path",
    "load_model",
    "plan_blocks",
    "read_items",
    "score_blocks",
    "score_model",
    "sweep",
    "write_items",
]

TOKEN_BUDGET = 256


@dataclass(frozen=True, slots=True)
class SweepRequest:
    """The log-probabilities that every checkpoint is asked for: tables of schema `ITEMS`.

    Attributes
    ----------
    tasks
        Keys of the suite's tasks, one table each.
    split
        ``label`` or ``verify``.
    demo_seeds
        Draws of demonstrations for each task.
    wordings
        At most the first so many wordings of the split; None for all.
    sets
        Where questions are read from that do not come with the package.
    token_budget
        The most unique tokens of one forward. Attention is dense over them: small models, whose
        other work is small, want few; a GPU wants 1024 and more.
    """

    tasks: tuple[str, ...]
    split: Split
    demo_seeds: int
    wordings: int | None = None
    sets: Sets = PINNED
    token_budget: int = TOKEN_BUDGET

    @property
    def tables(self) -> tuple[str, ...]:
        """One table a task."""
        return tuple(dict.fromkeys(self.tasks))

    @property
    def schema(self) -> pa.Schema:
        """That of item scores."""
        return ITEMS

    def blocks(self, task: str) -> tuple[Block, ...]:
        """Return the blocks of one task."""
        return _blocks(self, task)

    def path(self, out: Path, checkpoint: Checkpoint, name: str) -> Path:
        """Return where the scores of a checkpoint on a task lie; see `items_path`."""
        return items_path(out, checkpoint, name)

    def fingerprint(self, name: str) -> str:
        """Return the identity of a task's blocks and of how they are packed."""
        return _fingerprint(self, name)

    def table(self, model: Any, tokenizer: Any, name: str, where: Where) -> pa.Table:
        """Score a task; see `score_blocks`."""
        asked = self.blocks(name)
        return score_blocks(model, tokenizer, asked, where, token_budget=self.token_budget)


@lru_cache(maxsize=64)
def _blocks(request: SweepRequest, task: str) -> tuple[Block, ...]:
    made = suite_blocks(
        task,
        split=request.split,
        demo_seeds=request.demo_seeds,
        wordings=request.wordings,
        sets=request.sets,
    )
    return tuple(made)


@lru_cache(maxsize=256)
def _fingerprint(request: SweepRequest, task: str) -> str:
    return content_id({"blocks": request.blocks(task), "token_budget": request.token_budget})


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

    Parameters
    ----------
    model
        A causal LM of transformers; or a scorer that runs plans, as `VllmScorer` does.

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
    ready = hasattr(model, "run")
    scorer = model if ready else PrefixScorer(model, tokenizer, token_budget=token_budget)
    scores = scorer.run(plan)
    return _table(blocks, plan, scores, where)


def score_model(model: Any, tokenizer: Any, request: SweepRequest, where: Where) -> pa.Table:
    """Score all that a request asks under one checkpoint, task after task; see `score_blocks`."""
    tables = [request.table(model, tokenizer, task, where) for task in request.tasks]
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


def sweep(
    checkpoints: Sequence[Target],
    asked: Asked,
    out: Path,
    pool: WorkerPool,
    reporter: Reporter,
    *,
    compute: Compute = FLOAT32_ON_CPU,
    fetching: Fetching = KEEP,
) -> None:
    """Ask every checkpoint everything, one file a table; what is there already stays.

    Item scores are ``<out>/<run>/<stage>-step<step>/<family>.<task>.parquet``, generations lie in
    folders beside them. Each file is written in one piece, so that a killed sweep goes on where it
    was. A file that cannot be read, or that answers another request, is made again; that a
    checkpoint's weights are still the ones that were scored is for the owner of `out` to know. A
    checkpoint is loaded once, whatever it is asked, and only if one of its files is missing.

    Revisions on the Hub are fetched to its own cache. As many are scored at a time as the pool has
    workers (at least one), and as many are fetched meanwhile.

    Parameters
    ----------
    checkpoints
        Whose weights to score: local folders, or a catalog's entries.
    asked
        A `SweepRequest`, or several requests (see `scoring.generation_requests`).
    out
        The folder to write to.
    pool
        Where to work: one job for each checkpoint.
    reporter
        Told of every checkpoint.
    compute
        Device and precision.
    fetching
        From which Hub, and whether what was fetched is dropped once scored. Let no two sweeps drop
        from one cache at a time.

    Raises
    ------
    ModehopError
        If a task, wording or checkpoint is not what it should be, or a worker died. What could not
        be fetched is told when its turn comes: the checkpoints before it have been scored.
    """
    sources = find_sources(checkpoints, fetching.hub)
    jobs = pending(sources, asked, out, compute.settled(), pool.threads)
    snapshots = fetching.snapshots(out)
    with reporter.task("scoring checkpoints", len(sources)) as advance:

        def count(index: int, result: None) -> None:
            advance()

        advance(len(sources) - len(jobs))
        pool.map(score, [job for job in jobs if not job.source.revision], on_done=count)
        _score_fetched(
            [job for job in jobs if job.source.revision], sources, snapshots, pool, count
        )
    snapshots.drop_rest()


def _score_fetched(
    jobs: Sequence[Job],
    sources: Sequence[Source],
    snapshots: Snapshots,
    pool: WorkerPool,
    count: Callable[[int, None], None],
) -> None:
    uses = Counter(job.source.checkpoint.path for job in jobs)
    snapshots.drop_all(s.revision for s in sources if s.revision and not uses[s.checkpoint.path])
    at_once = max(1, pool.workers)
    with Fetcher(snapshots) as fetcher:
        for group in grouped(_fetched(jobs, fetcher, at_once), at_once):
            pool.map(score, group, on_done=count)
            uses.subtract(job.source.checkpoint.path for job in group)
            scored = [job.source for job in group if not uses[job.source.checkpoint.path]]
            snapshots.drop_all(source.revision for source in scored if source.revision)


def _fetched(jobs: Sequence[Job], fetcher: Fetcher, ahead: int) -> Iterator[Job]:
    revisions = [job.source.revision for job in jobs if job.source.revision]
    arriving = fetcher.arrive(revisions, ahead=ahead)
    for job, (_, path) in zip(jobs, arriving, strict=True):
        assert path == job.source.checkpoint.path, "the cache is laid out otherwise"
        yield job
