"""Averages of checkpoints: weights added up tensor by tensor, one shard in memory at a time."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from windows.checkpoints.folder import CONFIG, OPTIMIZER, TRAINER, WEIGHTS, WEIGHTS_INDEX, validate
from windows.errors import ConfigError, DataError
from windows.files import atomic_path


def average(folders: Sequence[Path], out: Path, *, weights: Sequence[float] | None = None) -> None:
    """Write the weighted mean of checkpoints as a checkpoint folder, without optimizer state.

    Sums are taken in float32 (float64 for float64 weights) and rounded once, to the weights' own
    type. Shards, configuration and tokenizer are laid out as in the last folder.

    Parameters
    ----------
    folders
        Checkpoints of one architecture, in safetensors.
    out
        Must not exist yet; it appears whole or not at all.
    weights
        One for each, finite and with a positive sum, to which they are scaled; by default all
        alike.

    Raises
    ------
    ConfigError
        There is no checkpoint, or the weights are not what they should be.
    DataError
        A checkpoint is not whole, or has other tensors than the last.
    """
    shares = _shares(folders, weights)
    for folder in folders:
        validate(folder)
    template = folders[-1]
    with atomic_path(out) as aside:
        aside.mkdir()
        for path in sorted(template.iterdir()):
            if path.is_file() and path.suffix != ".safetensors" and path.name != TRAINER:
                shutil.copyfile(path, aside / path.name)
        for shard in sorted({*_layout(template).values()}):
            names = [name for name, where in _layout(template).items() if where == shard]
            mean = {name: _mean(name, folders, shares) for name in names}
            save_file(mean, aside / shard, metadata={"format": "pt"})


def _shares(folders: Sequence[Path], weights: Sequence[float] | None) -> list[float]:
    given = [1.0] * len(folders) if weights is None else [float(weight) for weight in weights]
    total = sum(given)
    if not folders or len(given) != len(folders) or not 0 < total < float("inf"):
        raise ConfigError(
            "not a mean of checkpoints",
            where="weights",
            got=f"{len(folders)} checkpoints, weights {given}",
            do="name checkpoints, and as many weights with a positive sum",
        )
    return [weight / total for weight in given]


def _layout(folder: Path) -> dict[str, str]:
    """Return which file of a checkpoint holds each tensor."""
    if (folder / WEIGHTS_INDEX).is_file():
        found = json.loads((folder / WEIGHTS_INDEX).read_bytes())["weight_map"]
        return {str(name): str(file) for name, file in found.items()}
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        return dict.fromkeys(file.keys(), WEIGHTS)


def _mean(name: str, folders: Sequence[Path], shares: Sequence[float]) -> torch.Tensor:
    total: torch.Tensor | None = None
    for folder, share in zip(folders, shares, strict=True):
        tensor = _tensor(folder, name)
        if total is not None and total.shape != tensor.shape:
            raise _other_tensors(folder, f"{name} of shape {list(tensor.shape)}")
        wide = tensor.to(torch.promote_types(tensor.dtype, torch.float32)) * share
        total = wide if total is None else total + wide
    assert total is not None
    return total.to(tensor.dtype)


def _tensor(folder: Path, name: str) -> torch.Tensor:
    file = _layout(folder).get(name)
    if file is None:
        raise _other_tensors(folder, f"no {name}")
    with safe_open(folder / file, framework="pt") as opened:
        tensor: torch.Tensor = opened.get_tensor(name)
        return tensor


def _other_tensors(folder: Path, got: str) -> DataError:
    return DataError(
        "these checkpoints are not of one architecture",
        where=str(folder / CONFIG),
        got=got,
        do=f"average checkpoints of one run ({OPTIMIZER} is left out)",
    )
