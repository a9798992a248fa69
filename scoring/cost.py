"""What a sweep will cost, before a checkpoint is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

from scoring.generation_requests import AnswersRequest, PersonaRequest
from scoring.jobs import Asked, Questionnaire
from scoring.sweep import SweepRequest, plan_blocks
from scoring.trie import ScoringPlan


@dataclass(frozen=True, slots=True)
class SweepCost:
    """The size of a sweep; all but `checkpoints` are of one checkpoint.

    Attributes
    ----------
    checkpoints
        How many are scored.
    tables
        How many tables each gets.
    prompts
        Items over all tasks, wordings and demo seeds.
    unique_tokens
        Tokens that the forwards read, shared prefixes once; None without a tokenizer.
    tokens
        Tokens that scoring every answer by itself would read; None without a tokenizer.
    answers
        Answers that are generated.
    generated_tokens
        The most tokens that generating them can read, prompts included: it is so many where no
        answer ends before its longest. None without a tokenizer.
    """

    checkpoints: int
    tables: int
    prompts: int
    unique_tokens: int | None = None
    tokens: int | None = None
    answers: int = 0
    generated_tokens: int | None = None

    @property
    def total_unique_tokens(self) -> int | None:
        """Tokens that all checkpoints' forwards read, those of generations left out."""
        return None if self.unique_tokens is None else self.checkpoints * self.unique_tokens

    def flops(self, parameters: int) -> float | None:
        """Estimate the floating-point operations of the whole sweep; None without a tokenizer.

        Two for each parameter and token read, what attention adds left out. Source: Kaplan et al.,
        "Scaling Laws for Neural Language Models" (2020), section 2.1, forward pass.

        Parameters
        ----------
        parameters
            Of the model, those of its embeddings left out.
        """
        if self.unique_tokens is None or self.generated_tokens is None:
            return None
        read = self.unique_tokens + self.generated_tokens
        return 2.0 * parameters * read * self.checkpoints


def cost(asked: Asked, tokenizer: Any = None, *, checkpoints: int = 1) -> SweepCost:
    """Count what is asked of each checkpoint.

    Parameters
    ----------
    asked
        As of `scoring.sweep.sweep`.
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
    several = asked if isinstance(asked, Sequence) else (asked,)
    generations = [group for each in several for group in _generations(each)]
    items = [each for each in several if isinstance(each, SweepRequest)]
    blocks = [(request, request.blocks(task)) for request in items for task in request.tables]
    counted = SweepCost(
        checkpoints,
        tables=sum(len(each.tables) for each in several),
        prompts=sum(len(block.items) for _, made in blocks for block in made),
        answers=sum(len(group.prompts) * group.samples for group in generations),
    )
    if tokenizer is None:
        return counted
    plans = [
        plan_blocks(tokenizer, made, token_budget=request.token_budget) for request, made in blocks
    ]
    return replace(
        counted,
        unique_tokens=sum(plan.tokens_read for plan in plans),
        tokens=sum(map(_apart, plans)),
        generated_tokens=sum(_most_read(group, tokenizer) for group in generations),
    )


@dataclass(frozen=True, slots=True)
class _Generation:
    """Prompts that are continued by one call, and how; see `scoring.generation.generate`."""

    prompts: tuple[str, ...]
    samples: int
    max_new_tokens: int
    batch: int


def _generations(asked: Questionnaire) -> list[_Generation]:
    if isinstance(asked, PersonaRequest):
        how = asked.sampling
        made = [prompt for name in asked.tables for prompt in asked.prompts(name)]
        groups = groupby(made, key=lambda one: (one.prefix, one.stop))
        return [
            _Generation(
                tuple(one.prompt for one in own), how.samples, how.max_new_tokens, how.batch
            )
            for _, own in groups
        ]
    if isinstance(asked, AnswersRequest):
        return [
            _Generation(
                tuple(block.prefix + item.prompt for item in block.items),
                1,
                asked.max_new_tokens,
                asked.batch,
            )
            for name in asked.tables
            for block in asked.items.blocks(name)
        ]
    return []


def _most_read(group: _Generation, tokenizer: Any) -> int:
    """Return the most tokens that `generate` reads: shared ones once, then every batch its own."""
    from scoring.generation import shared_tokens

    encoded = tokenizer(list(group.prompts), verbose=False)["input_ids"]
    shared = shared_tokens(encoded)
    # A prompt's samples stand in a row, which batches cut anywhere.
    batches = (group.samples + group.batch - 2) // group.batch + 1
    prompts = batches * sum(len(tokens) - shared for tokens in encoded)
    answers = len(encoded) * group.samples * (group.max_new_tokens - 1)
    return shared + prompts + answers


def _apart(plan: ScoringPlan) -> int:
    """Return how many tokens the pairs of a plan have together, the last of each not being read."""
    if not plan.packs:
        return 0
    depths = np.concatenate([pack.depths[pack.reads[pack.rows]] for pack in plan.packs])
    lengths = depths[plan.bounds[1:] - 1] + 1
    return int(lengths[plan.pairs].sum())
