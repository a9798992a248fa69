"""What a sweep will cost, before a checkpoint is loaded."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from scoring.sweep import SweepRequest, plan_blocks
from scoring.trie import ScoringPlan


@dataclass(frozen=True, slots=True)
class SweepCost:
    """The size of a sweep; all but `checkpoints` are of one checkpoint.

    Attributes
    ----------
    checkpoints
        How many are scored.
    tasks
        How many tables each gets.
    prompts
        Items over all tasks, wordings and demo seeds.
    unique_tokens
        Tokens that the forwards read, shared prefixes once; None without a tokenizer.
    tokens
        Tokens that scoring every answer by itself would read; None without a tokenizer.
    """

    checkpoints: int
    tasks: int
    prompts: int
    unique_tokens: int | None = None
    tokens: int | None = None

    @property
    def total_unique_tokens(self) -> int | None:
        """Tokens that all checkpoints' forwards read."""
        return None if self.unique_tokens is None else self.checkpoints * self.unique_tokens


def cost(request: SweepRequest, tokenizer: Any = None, *, checkpoints: int = 1) -> SweepCost:
    """Count what a request asks of each checkpoint.

    Parameters
    ----------
    request
        What is asked.
    tokenizer
        A tokenizer of transformers, to count tokens with; the plans made are those that scoring
        with an equal tokenizer uses.
    checkpoints
        How many there are to score.

    Raises
    ------
    ModehopError
        If a task or wording is unknown, or a prompt has no token.
    """
    blocks = {task: request.blocks(task) for task in request.tasks}
    prompts = sum(len(block.items) for made in blocks.values() for block in made)
    if tokenizer is None:
        return SweepCost(checkpoints, len(blocks), prompts)
    plans = [
        plan_blocks(tokenizer, made, token_budget=request.token_budget) for made in blocks.values()
    ]
    unique = sum(plan.tokens_read for plan in plans)
    return SweepCost(checkpoints, len(blocks), prompts, unique, sum(map(_apart, plans)))


def _apart(plan: ScoringPlan) -> int:
    """Return how many tokens the pairs of a plan have together, the last of each not being read."""
    if not plan.packs:
        return 0
    depths = np.concatenate([pack.depths[pack.reads[pack.rows]] for pack in plan.packs])
    lengths = depths[plan.bounds[1:] - 1] + 1
    return int(lengths[plan.pairs].sum())
