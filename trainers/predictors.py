"""Generalization predictors: how complex a solution is, by activations and gradients of a layer.

Two are of the spectrum of the activations' Gram matrix on test examples, two of the spectrum of the
per-example gradients' (the empirical Fisher information), one of the gradients' directions. With
eigenvalues s_1 >= ... >= s_n, p_i = s_i / sum_j s_j, and gradients g_i:

=======================  ==================================  ===========
``rankme``               exp(-sum_i p_i log p_i)             activations
``participation_ratio``  (sum_i s_i)^2 / sum_i s_i^2         activations
``log_tr_f``             log sum_i |g_i|^2                   gradients
``sigma1_tr_f``          s_1 / sum_i s_i                     gradients
``abs_cosine``           mean over i < j of |cos(g_i, g_j)|  gradients
=======================  ==================================  ===========

Source: Wen, Wu, Song, Chen (2026), section 5.3, which leaves open where activations are read and
what is differentiated; see :mod:`trainers.representations`. RankMe as first published (Garrido et
al. 2023) takes singular values of the activations, the square roots of these eigenvalues.

How predictors go with a task's series, and how they would by chance, is said by
:mod:`scoring.predictor_null`. Importing this module does not import torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from scoring.encoding import encode_spans
from scoring.items import Where, checkpoint_folder, read_tables, task_file
from scoring.suite.schema import Block, Item
from scoring.sweep import SweepRequest
from windows.checkpoints.folder import Checkpoint
from windows.errors import ConfigError
from windows.identity import content_id

if TYPE_CHECKING:
    from trainers.representations import Example

PREDICTORS = ("rankme", "participation_ratio", "log_tr_f", "sigma1_tr_f", "abs_cosine")

PREDICTED = pa.schema(
    [
        *((name, pa.string()) for name in ("run", "stage")),
        ("step", pa.int64()),
        ("task", pa.string()),
        ("layer", pa.int32()),
        ("predictor", pa.string()),
        ("value", pa.float64()),
    ]
)
"""One value a checkpoint, task (``family/task``), layer (from 0) and predictor."""

FOLDER = "predictors"

BUDGET = 1 << 32
"""Bytes that gradients may hold at a time, unless told otherwise."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictorRequest:
    """The predictors that every checkpoint is asked for: a table of schema `PREDICTED` a task.

    It is handed to :func:`scoring.sweep.sweep`, which makes what is missing, checkpoint by
    checkpoint and task by task.

    Attributes
    ----------
    items
        Whose items are the examples: prompts with their right answers.
    examples
        How many of them for a task. They are the same at every checkpoint.
    layers
        Numbers of the layers, from 0; None for all.
    budget
        Bytes that gradients may hold at a time. Less costs more passes and changes no value but
        for rounding.
    """

    items: SweepRequest
    examples: int = 64
    layers: tuple[int, ...] | None = None
    budget: int = BUDGET

    def __post_init__(self) -> None:
        for name, least in (("examples", 2), ("budget", 1)):
            if getattr(self, name) < least:
                raise ConfigError(
                    "not a way to measure predictors",
                    where=f"predictors.{name}",
                    got=str(getattr(self, name)),
                    do=f"use at least {least}",
                )

    @property
    def tables(self) -> tuple[str, ...]:
        """One table a task."""
        return self.items.tables

    @property
    def schema(self) -> pa.Schema:
        """That of predictors."""
        return PREDICTED

    def path(self, out: Path, checkpoint: Checkpoint, name: str) -> Path:
        """Return where the predictors of a checkpoint on a task lie."""
        return checkpoint_folder(out, checkpoint) / FOLDER / task_file(name)

    def fingerprint(self, name: str) -> str:
        """Return the identity of a task's examples and of what is measured on them."""
        how = {"examples": self.examples, "layers": self.layers, "budget": self.budget}
        return content_id({"items": self.items.fingerprint(name), **how})

    def table(self, model: Any, tokenizer: Any, name: str, where: Where) -> pa.Table:
        """Measure a task's predictors under one checkpoint."""
        examples = examples_of(tokenizer, self.items.blocks(name), self.examples)
        found = predictor_table(model, examples, layers=self.layers, budget=self.budget)
        columns = {
            "run": [where.run] * found.height,
            "stage": [where.stage] * found.height,
            "step": [where.step] * found.height,
            "task": [name] * found.height,
            **{column: found[column].to_list() for column in found.columns},
        }
        return pa.table(columns, schema=PREDICTED)


def read_predictors(folder: Path) -> pl.DataFrame:
    """Read all predictors below a folder, sorted by checkpoint, task, layer and predictor.

    Raises
    ------
    DataError
        If there are none, or one is not a table of schema `PREDICTED`.
    """
    paths = folder.rglob(f"{FOLDER}/*.parquet")
    found = read_tables(paths, PREDICTED, "predictors", folder)
    return found.sort("run", "stage", "step", "task", "layer", "predictor")


def examples_of(tokenizer: Any, blocks: Sequence[Block], count: int) -> "list[Example]":
    """Encode up to `count` items of a task, each with its right answer.

    Which ones is drawn at random from the items behind all demonstrations, and depends on these
    alone: at every checkpoint they are the same.

    Raises
    ------
    ConfigError
        If there are fewer than two items.
    """
    from trainers.representations import Example

    asked = [(block, item) for block in blocks for item in block.items]
    chosen = sorted(asked, key=_draw)[:count]
    if len(chosen) < 2:
        raise ConfigError("predictors need at least two items", got=str(len(chosen)))
    spans = encode_spans(
        tokenizer,
        [block.prefix + item.prompt for block, item in chosen],
        [(item.right,) for _, item in chosen],
        [block.terminator for block, _ in chosen],
    )
    tokens = [(np.frombuffer(span.key, ">u4").tolist(), span.n_prompt) for (span,) in spans]
    return [Example(tuple(ids[:cut]), tuple(ids[cut:])) for ids, cut in tokens]


def _draw(asked: tuple[Block, Item]) -> str:
    block, item = asked
    return content_id([item.item_id, block.demo_seed, block.wording])


def predictor_table(
    model: Any,
    examples: "Sequence[Example]",
    *,
    layers: Sequence[int] | None = None,
    budget: int = BUDGET,
) -> pl.DataFrame:
    """Measure all predictors of a model's layers on examples.

    Parameters
    ----------
    model
        A causal LM of transformers.
    examples
        At least two.
    layers
        Numbers of decoder layers, from 0; None for all.
    budget
        Bytes that gradients may hold at a time.

    Returns
    -------
    polars.DataFrame
        `layer` i32, `predictor` str, `value` f64; by layer, in the order of `PREDICTORS`.

    Raises
    ------
    ConfigError
        There is no such layer, or fewer than two examples.
    DataError
        A layer's activations or gradients are all zero or not finite, or an example has a token
        that the model does not know.
    """
    from trainers.representations import activation_grams, chosen_layers, gradient_grams

    if len(examples) < 2:
        raise ConfigError("predictors need at least two examples", got=str(len(examples)))
    chosen = chosen_layers(model, layers)
    activations = activation_grams(model, examples, chosen)
    gradients = gradient_grams(model, examples, chosen, budget=budget)
    rows = [
        (layer, name, value)
        for layer in chosen
        for name, value in layer_predictors(activations[layer], gradients[layer]).items()
    ]
    schema = {"layer": pl.Int32, "predictor": pl.String, "value": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


@dataclass(frozen=True, slots=True)
class PredictorCost:
    """What measuring predictors costs.

    Attributes
    ----------
    checkpoints
        How many are measured.
    tokens
        Of all examples of all tasks, under one checkpoint.
    passes
        How often the examples of each task are differentiated, because of the budget.
    flops
        Of all checkpoints. Two for each parameter and token for the activations, six for each of
        them and pass, what attention adds left out: Kaplan et al. (2020), section 2.1. Too much
        rather than too little: a backward pass ends at the first layer that is asked for.
    """

    checkpoints: int
    tokens: int
    passes: int
    flops: float


def predictor_cost(
    model: Any, tokenizer: Any, request: PredictorRequest, *, checkpoints: int = 1
) -> PredictorCost:
    """Price predictors before a checkpoint is loaded.

    Parameters
    ----------
    model
        Of the checkpoints' architecture; it may lie on torch's ``meta`` device.
    tokenizer
        Theirs.
    request
        What is asked.
    checkpoints
        How many there are to measure.
    """
    from trainers.representations import chosen_layers, passes

    encoded = [
        examples_of(tokenizer, request.items.blocks(name), request.examples)
        for name in request.tables
    ]
    tokens = sum(len(one.prompt) + len(one.answer) for own in encoded for one in own)
    layers = chosen_layers(model, request.layers)
    count = sum(1 for _ in passes(model, request.examples, layers, budget=request.budget))
    parameters = sum(p.numel() for p in model.parameters())
    flops = (2.0 + 6.0 * count) * parameters * tokens * checkpoints
    return PredictorCost(checkpoints, tokens, count, flops)


def layer_predictors(activations: Array, gradients: Array) -> dict[str, float]:
    """Compute a layer's predictors from two Gram matrices, float64[n, n], by name."""
    active, fisher = spectrum(activations), spectrum(gradients)
    return {
        "rankme": rankme(active),
        "participation_ratio": participation_ratio(active),
        "log_tr_f": float(np.log(np.trace(gradients))),
        "sigma1_tr_f": float(fisher[0] / fisher.sum()),
        "abs_cosine": abs_cosine(gradients),
    }


def spectrum(gram: Array) -> Array:
    """Eigenvalues of a Gram matrix float64[n, n], descending; rounding below zero is zero."""
    values: Array = np.clip(np.linalg.eigvalsh(gram)[::-1], 0.0, None)
    return values


def rankme(values: Array) -> float:
    """Effective rank: exp of the entropy, in nats, of a spectrum float64[n] that is normalised."""
    shares = values / values.sum()
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def participation_ratio(values: Array) -> float:
    """Square of the sum of a spectrum float64[n], divided by the sum of squares."""
    shares = values / values.sum()
    return float(1 / (shares**2).sum())


def abs_cosine(gram: Array) -> float:
    """Mean absolute cosine over pairs of different examples, from their Gram matrix float64[n, n].

    An example whose gradient is zero is aligned with none: its cosines are 0.
    """
    norms = np.sqrt(np.diag(gram))
    scale = np.outer(norms, norms)
    cosines = np.divide(np.abs(gram), scale, out=np.zeros_like(gram), where=scale > 0)
    return float(cosines[np.triu_indices(len(gram), k=1)].mean())
