"""The mean margin of eval items under a model, to be differentiated or looked at item by item."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from scoring.encoding import encode_spans
from scoring.engine import evaluating
from scoring.suite.schema import Block
from windows.errors import DataError
from windows.identity import content_id

Array = NDArray[np.float64]

ITEMS = 32
"""Items of a forward pass, unless told otherwise."""


@dataclass(frozen=True)
class Answers:
    """One item as token ids: its answers behind the prompt, the right one first.

    Attributes
    ----------
    texts
        Prompt and answer, for each answer.
    prompts
        How many tokens of each are the prompt.
    """

    texts: tuple[tuple[int, ...], ...]
    prompts: tuple[int, ...]


def answers(tokenizer: Any, blocks: Sequence[Block], count: int) -> tuple[Answers, ...]:
    """Encode at most `count` items of a task with their right answers and all rivals.

    Which ones is drawn by hash, and the same for every checkpoint.

    Raises
    ------
    DataError
        There is none.
    """
    asked = [(block, item) for block in blocks for item in block.items]
    asked.sort(key=lambda pair: content_id([pair[1].item_id, pair[0].demo_seed, pair[0].wording]))
    chosen = asked[:count]
    if not chosen:
        raise DataError("a margin needs items", do="name a task that has some")
    encoded = encode_spans(
        tokenizer,
        [block.prefix + item.prompt for block, item in chosen],
        [(item.right, *item.rivals) for _, item in chosen],
        [block.terminator for block, _ in chosen],
    )
    return tuple(
        Answers(
            tuple(tuple(np.frombuffer(span.key, ">u4").tolist()) for span in own),
            tuple(span.n_prompt for span in own),
        )
        for own in encoded
    )


def item_scores(model: Any, items: Sequence[Answers]) -> tuple[Array, Array]:
    """Return the margin of every item, in nats, and P(right), both float64[Q]."""
    with evaluating(model):
        parts = [(_margins(found), found[0]) for found in _found(model, items)]
    margins, right = (torch.cat(each).double().cpu().numpy() for each in zip(*parts, strict=True))
    return margins, np.exp(right)


def margin_gradient(model: Any, items: Sequence[Answers]) -> list[torch.Tensor]:
    """Return the gradient of the mean margin, a tensor for each of the model's parameters.

    The margin is log P(right) less log P of the likeliest rival, summed over an answer's tokens.
    """
    parameters = list(model.parameters())
    total = [torch.zeros_like(parameter) for parameter in parameters]
    training = model.training
    model.eval()
    try:
        for found in _found(model, items):
            mean = _margins(found).sum() / len(items)
            parts = torch.autograd.grad(mean, parameters, materialize_grads=True)
            torch._foreach_add_(total, parts)
    finally:
        model.train(training)
    return total


def _margins(logprobs: list[torch.Tensor]) -> torch.Tensor:
    return logprobs[0] - logprobs[1]


def _found(model: Any, items: Sequence[Answers]) -> Iterator[list[torch.Tensor]]:
    """Yield log P(right) and log P of the likeliest rival of some items at a time."""
    for at in range(0, len(items), ITEMS):
        part = items[at : at + ITEMS]
        counts = [len(item.texts) for item in part]
        logprobs = _logprobs(model, part).split(counts)
        yield [
            torch.stack([own[0] for own in logprobs]),
            torch.stack([own[1:].max() for own in logprobs]),
        ]


def _logprobs(model: Any, items: Sequence[Answers]) -> torch.Tensor:
    """Return float32[n]: the log-probability of every answer of every item."""
    texts = [text for item in items for text in item.texts]
    starts = torch.tensor([start for item in items for start in item.prompts])
    lengths = torch.tensor([len(text) for text in texts])
    # What stands behind a text cannot be seen from within it: any id fills up.
    padded = torch.zeros(len(texts), int(lengths.max()), dtype=torch.long)
    for row, text in zip(padded, texts, strict=True):
        row[: len(text)] = torch.tensor(text)
    place = torch.arange(padded.shape[1] - 1)[None, :] + 1
    counted = (place >= starts[:, None]) & (place < lengths[:, None])
    inputs = padded.to(model.device)
    logits = model(input_ids=inputs, use_cache=False).logits[:, :-1].float()
    losses = cross_entropy(logits.flatten(0, 1), inputs[:, 1:].flatten(), reduction="none")
    logprobs: torch.Tensor = -(losses.view(len(texts), -1) * counted.to(model.device)).sum(dim=1)
    return logprobs
