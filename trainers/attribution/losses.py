"""The loss of documents under a model, in the instance that they were trained in."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scoring.attribution.evidence import Documents
from scoring.engine import evaluating
from trainers.loop import token_loss

Array = NDArray[np.float64]

ROWS = 64
"""Instances of a forward pass, unless told otherwise."""


def document_losses(model: Any, documents: Documents, *, rows: int = ROWS) -> Array:
    """Return float64[D]: the mean loss of every document's tokens, in nats.

    A document's first token is left out: what comes before it belongs to another document. A
    document of one token has the mean loss of the others.

    Parameters
    ----------
    rows
        Instances of a forward pass.
    """
    with evaluating(model):
        parts = [
            token_loss(model, _inputs(model, documents.tokens[at : at + rows])).double().cpu()
            for at in range(0, len(documents.tokens), rows)
        ]
    return span_means(torch.cat(parts).numpy(), documents)


def span_means(losses: Array, documents: Documents) -> Array:
    """Average losses float64[I, L - 1] of predicted tokens over every document, float64[D]."""
    sums = np.concatenate([np.zeros((len(losses), 1)), np.cumsum(losses, axis=1)], axis=1)
    # The loss of token p stands at p - 1, and the document's second token is its first predicted.
    first, end = documents.start.astype(np.int64), documents.end.astype(np.int64) - 1
    count = end - first
    total = sums[documents.row, end] - sums[documents.row, first]
    mean = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
    unknown = np.isnan(mean)
    if unknown.all():
        return np.zeros(len(mean))
    filled: Array = np.where(unknown, mean[~unknown].mean(), mean)
    return filled


def _inputs(model: Any, tokens: NDArray[np.uint32]) -> torch.Tensor:
    return torch.from_numpy(tokens.astype(np.int64)).to(model.device)
