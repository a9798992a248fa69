"""What a sweep is said to cost, against what a model is really given."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from scoring.cost import SweepCost, cost
from scoring.generation_requests import AnswersRequest, PersonaRequest, Sampling
from scoring.items import Where
from scoring.loading import load_model
from scoring.sweep import SweepRequest, score_model

TASK = "successive_answer/addition"
REQUEST = SweepRequest((TASK,), "label", 2)
WHERE = Where("r", "s", 1)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def counted(tiny: Callable[[int], Path]) -> tuple[Any, Any, list[int]]:
    """A model, its tokenizer, and the tokens of each forward from now on."""
    model, tokenizer = load_model(tiny(1000))
    model.config.max_position_embeddings = 8192
    read: list[int] = []
    forward = model.forward

    def counting(**inputs: Any) -> Any:
        read.append(inputs["input_ids"].numel())
        return forward(**inputs)

    counting.__signature__ = inspect.signature(forward)  # type: ignore[attr-defined]
    model.forward = counting
    return model, tokenizer, read


def test_scoring_is_counted_to_the_token(counted: Any) -> None:
    model, tokenizer, read = counted
    told = cost(REQUEST, tokenizer, checkpoints=700)
    blocks = REQUEST.blocks(TASK)
    asked = [
        tokenizer(block.prefix + item.prompt + answer)["input_ids"][:-1]
        for block in blocks
        for item in block.items
        for answer in (item.right, *item.rivals)
    ]
    assert told.tokens == sum(map(len, asked))
    assert (told.checkpoints, told.tables, told.answers) == (700, 1, 0)
    assert told.prompts == sum(len(block.items) for block in blocks)
    assert cost(REQUEST, checkpoints=700) == SweepCost(700, 1, told.prompts)
    assert cost(REQUEST).flops(7) is None
    score_model(model, tokenizer, REQUEST, WHERE)
    assert told.unique_tokens == sum(read) < told.tokens
    assert told.total_unique_tokens == 700 * sum(read)
    assert told.generated_tokens == 0 and told.flops(10**9) == 2e9 * 700 * sum(read)


PERSONA = PersonaRequest("label", 1, ("wolf",), 1, Sampling(samples=3, max_new_tokens=2, batch=7))
GREEDY = AnswersRequest(replace(REQUEST, demo_seeds=1), max_new_tokens=1, batch=5)


@pytest.mark.parametrize(
    ("request_", "exactly"),
    # One token each: nothing can end early, and no prompt is cut by two batches.
    [(GREEDY, True), (replace(GREEDY, max_new_tokens=3), False), (PERSONA, False)],
)
def test_generation_reads_so_much_at_most(counted: Any, request_: Any, exactly: bool) -> None:
    model, tokenizer, read = counted
    told = cost([request_], tokenizer)
    for name in request_.tables:
        request_.table(model, tokenizer, name, WHERE)
    assert told.generated_tokens is not None
    assert sum(read) <= told.generated_tokens < 2 * sum(read)
    assert not exactly or sum(read) == told.generated_tokens
    assert told.unique_tokens == told.prompts == 0


def test_answers_are_counted_without_a_tokenizer() -> None:
    assert cost(PERSONA).answers == 3 * len(PERSONA.prompts("wolf"))
    both = cost([GREEDY.items, GREEDY])
    assert both.answers == both.prompts > 0 and both.tables == 2
