"""Checkpoints x tasks -> one table of item scores each.

Importing this module does not import torch: a process that only hands out the jobs needs none.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from scoring.items import ITEMS, Where, items_path, read_items, read_table, write_items
from scoring.suite.registry import blocks as suite_blocks
from scoring.suite.schema import Block, Split
from scoring.trie import ScoringPlan, plan_scoring
from windows.checkpoints.folder import Checkpoint, validate
from windows.errors import DataError
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
    "read_items",
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


def load_model(path: Path) -> tuple[Any, Any]:
    """Load a checkpoint folder's model, in float32 and evaluation mode, and its tokenizer.

    Raises
    ------
    DataError
        If a file is absent or cut short, or transformers cannot make a whole model of them.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    validate(path)
    logging.disable_progress_bar()
    try:
        model, told = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=torch.float32,
            attn_implementation="sdpa",
            local_files_only=True,
            # Left out, transformers asks on the terminal whether to run a checkpoint's own code.
            trust_remote_code=False,
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(
            path, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        raise DataError(
            "cannot load this checkpoint",
            where=str(path),
            got=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
            do="see that it holds a causal language model and its tokenizer as transformers "
            "saves them",
        ) from error
    # transformers draws what the file lacks at random, and only warns.
    if absent := sorted({*told["missing_keys"], *(key for key, *_ in told["mismatched_keys"])}):
        raise DataError(
            "checkpoint lacks weights of its model",
            where=str(path),
            got=", ".join(absent[:3]) + (f" and {len(absent) - 3} more" if absent[3:] else ""),
            do="fetch it again",
        )
    return model.eval(), tokenizer


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

    plan = _plan(_Tokenizer.of(tokenizer), tuple(blocks), token_budget)
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
class _Job:
    """One checkpoint with the tasks that are not scored yet."""

    checkpoint: Checkpoint
    request: SweepRequest
    missing: tuple[tuple[str, Path, str], ...]
    threads: int


def sweep(
    checkpoints: Sequence[Checkpoint],
    request: SweepRequest,
    out: Path,
    pool: WorkerPool,
    reporter: Reporter,
) -> None:
    """Score every checkpoint on every task, one file each; what is there already stays.

    The files are ``<out>/<run>/<stage>-step<step>/<family>.<task>.parquet`` (see `items_path`), of
    schema `ITEMS`. Each is written in one piece, so that a killed sweep goes on where it was. A
    file that cannot be read, or that answers another request, is made again; that a checkpoint's
    weights are still the ones that were scored is for the owner of `out` to know. A checkpoint is
    loaded once, and only if one of its files is missing.

    Parameters
    ----------
    checkpoints
        Whose weights to score.
    request
        What to ask.
    out
        The folder to write to.
    pool
        Where to work: one job for each checkpoint.
    reporter
        Told of every checkpoint.

    Raises
    ------
    ModehopError
        If a task, wording or checkpoint is not what it should be, or a worker died.
    """
    wanted = {task: _fingerprint(request, task) for task in request.tasks}
    jobs = []
    for checkpoint in checkpoints:
        paths = {task: items_path(out, checkpoint, task) for task in request.tasks}
        missing = tuple((t, p, wanted[t]) for t, p in paths.items() if not _is_done(p, wanted[t]))
        if missing:
            jobs.append(_Job(checkpoint, request, missing, pool.threads))
    with reporter.task("scoring checkpoints", len(checkpoints)) as advance:
        advance(len(checkpoints) - len(jobs))
        pool.map(_score_checkpoint, jobs, on_done=lambda index, result: advance())


def _is_done(path: Path, fingerprint: str) -> bool:
    try:
        table = read_table(path)
    except (OSError, pa.ArrowException):
        return False
    told = (table.schema.metadata or {}).get(_REQUEST, b"").decode()
    return bool(table.schema.equals(ITEMS)) and told == fingerprint


def _fingerprint(request: SweepRequest, task: str) -> str:
    return content_id({"blocks": request.blocks(task), "token_budget": request.token_budget})


def _score_checkpoint(job: _Job) -> None:
    checkpoint = job.checkpoint
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
