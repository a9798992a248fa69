"""Gram matrices of a causal LM's activations and per-example gradients, layer by layer.

Gradients of n examples are held for as many parameters at a time as a budget allows, never for the
whole model: inner products add up over parameters, so a layer's n x n Gram matrix is the sum of its
parameters'. What one pass cannot hold costs another one over the examples.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from scoring.engine import evaluating
from windows.errors import ConfigError, DataError

Gram = NDArray[np.float64]

# Columns that are widened to float64 at a time.
_COLUMNS = 1 << 20


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and the answer whose log-probability is differentiated, as token ids."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.prompt or not self.answer:
            raise DataError(
                "an example needs a prompt and an answer of at least one token each",
                got=f"{len(self.prompt)} and {len(self.answer)} tokens",
            )


def decoder_layers(model: Any) -> Any:
    """Return the model's decoder layers, first to last.

    Raises
    ------
    DataError
        The model keeps no list of as many modules as its configuration has layers.
    """
    count = model.config.get_text_config().num_hidden_layers
    for module in model.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return module
    raise DataError(
        "this model's decoder layers were not found",
        where=type(model).__name__,
        got=f"no list of {count} modules",
        do="use a decoder-only causal language model",
    )


def chosen_layers(model: Any, layers: Sequence[int] | None) -> tuple[int, ...]:
    """Return the numbers of the layers that are meant, ascending; None means all.

    Raises
    ------
    ConfigError
        The model has no such layer, or none is named.
    """
    count = len(decoder_layers(model))
    chosen = tuple(range(count)) if layers is None else tuple(sorted(set(layers)))
    if not chosen or chosen[0] < 0 or chosen[-1] >= count:
        raise ConfigError(
            "no such layer",
            where="layers",
            got=", ".join(map(str, chosen)) or "none",
            do=f"choose from [0, {count})",
        )
    return chosen


def activation_grams(
    model: Any, examples: Sequence[Example], layers: Sequence[int]
) -> dict[int, Gram]:
    """Return float64[n, n] for each layer: inner products of the examples' activations.

    An example's activation is what the layer adds up to (the residual stream behind it) at the last
    token of the prompt, where the answer's first token is predicted. Nothing is centred.
    """
    held: dict[int, list[torch.Tensor]] = {layer: [] for layer in layers}
    blocks = decoder_layers(model)

    def keeper(layer: int) -> Callable[..., None]:
        def keep(_module: Any, _inputs: Any, output: Any) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            held[layer].append(hidden[0, -1].double().cpu())

        return keep

    hooks = [blocks[layer].register_forward_hook(keeper(layer)) for layer in layers]
    try:
        with evaluating(model):
            for example in examples:
                model(input_ids=_ids(model, example.prompt), use_cache=False, **_last(model, 1))
    finally:
        for hook in hooks:
            hook.remove()
    stacked = {layer: torch.stack(rows) for layer, rows in held.items()}
    return {layer: _checked((rows @ rows.T).numpy(), layer) for layer, rows in stacked.items()}


def gradient_grams(
    model: Any, examples: Sequence[Example], layers: Sequence[int], *, budget: int
) -> dict[int, Gram]:
    """Return float64[n, n] for each layer: inner products of the examples' gradients.

    An example's gradient is that of -log P(answer | prompt), in nats and summed over the answer's
    tokens, with respect to all parameters of the layer. The eigenvalues are those of the layer's
    empirical Fisher information, summed over examples.

    Parameters
    ----------
    budget
        Bytes that gradients may hold at a time; one parameter's are held whatever it is.
    """
    grams = {layer: np.zeros((len(examples), len(examples))) for layer in layers}
    for group in passes(model, len(examples), layers, budget=budget):
        rows = _gradients(model, examples, [parameter for _, parameter in group])
        for (layer, _), gradients in zip(group, rows, strict=True):
            grams[layer] += _gram(gradients)
    return {layer: _checked(gram, layer) for layer, gram in grams.items()}


def passes(
    model: Any, examples: int, layers: Sequence[int], *, budget: int
) -> Iterator[list[tuple[int, torch.Tensor]]]:
    """Yield for each pass over the examples the parameters it differentiates, with their layers.

    No value of a parameter is read: the model may lie on torch's ``meta`` device.
    """
    most = budget // (4 * examples)
    group: list[tuple[int, torch.Tensor]] = []
    held = 0
    for layer in layers:
        for parameter in decoder_layers(model)[layer].parameters():
            if group and held + parameter.numel() > most:
                yield group
                group, held = [], 0
            group.append((layer, parameter))
            held += parameter.numel()
    if group:
        yield group


def answer_loss(model: Any, example: Example) -> torch.Tensor:
    """Return float32[]: -log P(answer | prompt) in nats, summed over the answer's tokens."""
    count = len(example.answer)
    ids = _ids(model, example.prompt + example.answer)
    logits = model(input_ids=ids, use_cache=False, **_last(model, count + 1)).logits
    return cross_entropy(logits[0, -count - 1 : -1].float(), ids[0, -count:], reduction="sum")


def _gradients(
    model: Any, examples: Sequence[Example], parameters: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    """Return for each parameter float32[n, numel]: its gradients, one row an example."""
    rows = [torch.empty(len(examples), parameter.numel()) for parameter in parameters]
    with _differentiating(model, parameters):
        for index, example in enumerate(examples):
            loss = answer_loss(model, example)
            # An expert that no token was sent to has no gradient: zeros.
            found = torch.autograd.grad(loss, parameters, materialize_grads=True)
            for row, gradient in zip(rows, found, strict=True):
                row[index] = gradient.detach().float().flatten().cpu()
    return rows


def _gram(rows: torch.Tensor) -> Gram:
    total = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    for part in rows.split(_COLUMNS, dim=1):
        wide = part.double()
        total += wide @ wide.T
    found: Gram = total.numpy()
    return found


@contextmanager
def _differentiating(model: Any, parameters: Sequence[torch.Tensor]) -> Iterator[None]:
    """Let only these parameters ask for gradients, without dropout; then all is as it was."""
    training, asked = model.training, [(p, p.requires_grad) for p in model.parameters()]
    model.eval()
    model.requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        with torch.enable_grad():
            yield
    finally:
        for parameter, before in asked:
            parameter.requires_grad_(before)
        model.train(training)


def _ids(model: Any, tokens: Sequence[int]) -> torch.Tensor:
    known = model.get_input_embeddings().num_embeddings
    if max(tokens) >= known:
        raise DataError(
            f"an example holds a token id that the model, which knows {known}, does not",
            got=str(max(tokens)),
            do="encode the examples with the checkpoint's own tokenizer",
        )
    return torch.tensor([tokens], device=model.device)


def _last(model: Any, count: int) -> dict[str, int]:
    """Ask for the last logits only, where the model can leave the others out."""
    takes = "logits_to_keep" in inspect.signature(model.forward).parameters
    return {"logits_to_keep": count} if takes else {}


def _checked(gram: Gram, layer: int) -> Gram:
    if np.isfinite(gram).all() and np.trace(gram) > 0:
        return gram
    raise DataError(
        "activations or gradients of a layer are all zero or not finite",
        where=f"layer {layer}",
        got=f"a Gram matrix of trace {np.trace(gram):g}",
        do="look at the checkpoint's weights, or take examples whose answers are not certain",
    )
