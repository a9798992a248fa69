"""LoRA adapters in the layout of peft, merged into their base model by plain arithmetic.

An adapter folder holds ``adapter_config.json`` and ``adapter_model.safetensors``. For a layer of
weight W it has A of shape (r, in) and B of shape (out, r), and the layer's weight becomes
W + (alpha / r) B A (Hu et al. 2021), or with alpha / sqrt(r) under ``use_rslora`` (Kalajdzievski
2023). Whatever else an adapter may hold is refused rather than left out. The base that its
configuration names is not looked up: which one it is, the caller says.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scoring.loading import Device, Dtype, load_model
from windows.checkpoints.folder import check_safetensors
from windows.errors import DataError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
# Options by which an adapter is more, or its base is other, than W + (alpha / r) B A.
_PLAIN = ("use_dora", "use_qalora", "lora_bias", "layer_replication", "alora_invocation_tokens")
_PLAIN_STARTS = (None, True, False, "gaussian", "orthogonal", "eva")


def is_adapter(path: Path) -> bool:
    """Tell whether a folder holds an adapter."""
    return (path / CONFIG).is_file()


def load_adapted(
    base: Path, adapter: Path, *, dtype: Dtype = "float32", device: Device = "cpu"
) -> tuple[Any, Any]:
    """Load a base checkpoint with an adapter merged into it, and the base's tokenizer.

    Parameters
    ----------
    base
        Folder of the checkpoint that the adapter was trained on.
    adapter
        Folder of the adapter.
    dtype, device
        As of `scoring.loading.load_model`.

    Raises
    ------
    ModehopError
        As `load_model` and `merge_adapter` do.
    """
    model, tokenizer = load_model(base, dtype=dtype, device=device)
    merge_adapter(model, adapter)
    return model, tokenizer


def merge_adapter(model: Any, adapter: Path) -> None:
    """Add an adapter to the weights of the model that it was trained on, in place.

    Raises
    ------
    DataError
        If the adapter is absent, cut short, not LoRA alone, or does not fit the model; the model is
        then as it was.
    """
    import torch

    config = _config(adapter / CONFIG)
    found = []
    for name, sides in _pairs(adapter / WEIGHTS).items():
        weight, stored_across = _target(model, name, adapter)
        a, b = sides["A"].double(), sides["B"].double()
        change = _scale(config, name, len(a), adapter) * (b @ a)
        change = change.T if stored_across else change
        if change.shape != weight.shape or not torch.isfinite(change).all():
            raise _unfit(adapter, f"{name}: {tuple(change.shape)} for {tuple(weight.shape)}")
        found.append((weight, change.to(weight)))
    with torch.no_grad():
        for weight, change in found:
            weight += change


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_bytes())
        rank, alpha = int(config["r"]), float(config.get("lora_alpha", 8))
        sound = config["peft_type"] == "LORA" and rank > 0 and math.isfinite(alpha)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(
            "not an adapter's configuration",
            where=str(path),
            got=" ".join(str(error).split()),
            do="give the folder that peft saved a LoRA adapter to",
        ) from error
    odd = [name for name in _PLAIN if config.get(name)]
    if config.get("init_lora_weights") not in _PLAIN_STARTS:
        odd.append(f"init_lora_weights {config['init_lora_weights']}")
    if not sound or odd:
        raise _unfit(path.parent, ", ".join(odd) or f"{config['peft_type']} of rank {rank}")
    return dict(config)


def _pairs(path: Path) -> dict[str, dict[str, Any]]:
    """Return A and B by the name of the module that they change."""
    from safetensors.torch import load_file

    check_safetensors(path)
    pairs: dict[str, dict[str, Any]] = {}
    for key, tensor in load_file(path).items():
        match = _KEY.fullmatch(key)
        if match is None or tensor.ndim != 2:
            raise _unfit(path.parent, key)
        pairs.setdefault(match["module"], {})[match["side"]] = tensor
    for name, sides in pairs.items():
        if len(sides) < 2 or len(sides["A"]) != sides["B"].shape[1]:
            raise _unfit(path.parent, f"{name} without A and B of one rank")
    if not pairs:
        raise _unfit(path.parent, "no weights")
    return pairs


def _scale(config: Mapping[str, Any], name: str, rank: int, adapter: Path) -> float:
    """Return what B A is multiplied by, checking the rank."""
    told = _of_pattern(config, "rank_pattern", name, config["r"], adapter)
    if rank != told:
        raise _unfit(adapter, f"{name} of rank {rank}, configured as {told}")
    alpha = _of_pattern(config, "alpha_pattern", name, config.get("lora_alpha", 8), adapter)
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _of_pattern(
    config: Mapping[str, Any], option: str, name: str, otherwise: float, adapter: Path
) -> float:
    # peft matches ends of names by regular expressions; a name is taken as itself, no more.
    for ending, value in (config.get(option) or {}).items():
        if not re.fullmatch(r"[\w.]+", ending) or not isinstance(value, int | float):
            raise _unfit(adapter, f"{option} {ending!r}")
        if f".{name}".endswith(f".{ending}"):
            return value
    return otherwise


def _target(model: Any, name: str, adapter: Path) -> tuple[Any, bool]:
    """Return a module's weight, and whether it is stored as (in, out)."""
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    try:
        module = model.get_submodule(name)
    except AttributeError as error:
        raise _unfit(adapter, f"no module {name} in the model") from error
    if not isinstance(module, Linear | Conv1D):
        raise _unfit(adapter, f"{name}, a {type(module).__name__}")
    if module.weight is model.get_input_embeddings().weight:
        raise _unfit(adapter, f"{name}, whose weight the embedding shares")
    return module.weight, isinstance(module, Conv1D)


def _unfit(adapter: Path, got: str) -> DataError:
    return DataError(
        "not an adapter that can be merged into this model",
        where=str(adapter),
        got=got,
        do="give the base it was trained on and a plain LoRA adapter, or merge it with peft and "
        "give the whole checkpoint",
    )
