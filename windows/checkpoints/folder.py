"""The addresses of checkpoints, and the layout of a checkpoint folder.

A checkpoint folder holds a model as the Hugging Face libraries save it, and beside it what a
trainer needs to go on: `OPTIMIZER` and `TRAINER` (``{step, next_batch, rng}``). Its name is
``<stage>-step<step>``.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windows.errors import DataError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
OPTIMIZER = "optimizer.safetensors"
TRAINER = "trainer.json"

_NAME = re.compile(r"(?P<stage>[A-Za-z0-9][A-Za-z0-9_-]*)-step(?P<step>0|[1-9][0-9]*)")
# The format's own limit; a longer "header" means that the file is something else.
_HEADER_LIMIT = 100_000_000


@dataclass(frozen=True)
class Checkpoint:
    """Model weights after `step` optimizer steps of a `stage` of a `run`, in the folder `path`."""

    run: str
    stage: str
    step: int
    path: Path

    @property
    def name(self) -> str:
        """``<stage>-step<step>``, as the folder is called."""
        return f"{self.stage}-step{self.step}"


def catalog(folder: Path, run: str) -> list[Checkpoint]:
    """List the checkpoints in a folder, by stage and step.

    What is not named as a checkpoint is passed over; contents are not looked at (see `validate`).

    Raises
    ------
    DataError
        `folder` is not a folder.
    """
    if not folder.is_dir():
        raise DataError(
            "no folder of checkpoints",
            where=str(folder),
            do=f"point the run's checkpoints at {run}'s folder",
        )
    found = [
        Checkpoint(run, match["stage"], int(match["step"]), path)
        for path in folder.iterdir()
        if (match := _NAME.fullmatch(path.name)) and path.is_dir()
    ]
    return sorted(found, key=lambda checkpoint: (checkpoint.stage, checkpoint.step))


def validate(path: Path) -> None:
    """Check that a checkpoint folder can be loaded, without reading a tensor.

    Raises
    ------
    DataError
        ``config.json`` or the weights are absent, or one of the files is cut short.
    """
    _json_object(path / CONFIG)
    if (path / WEIGHTS_INDEX).exists():
        shards = _json_object(path / WEIGHTS_INDEX).get("weight_map", {})
        for name in sorted(set(shards.values())):
            check_safetensors(path / name)
    else:
        check_safetensors(path / WEIGHTS)


def check_safetensors(path: Path) -> None:
    """Check that a safetensors file is whole: header length, header, the bytes that it tells of.

    Raises
    ------
    DataError
        The file is absent, or its size is not the one its header tells.
    """
    if not path.is_file():
        raise DataError(
            f"checkpoint has no {path.name}",
            where=str(path.parent),
            do="fetch the checkpoint again, weights in safetensors format included",
        )
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        text = file.read(length) if length <= min(size - 8, _HEADER_LIMIT) else b""
    try:
        header = json.loads(text)
        ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
    except (ValueError, AttributeError, LookupError, TypeError) as error:
        raise _cut_short(path, f"{size} bytes without a whole header") from error
    if size != 8 + length + max(ends, default=0):
        raise _cut_short(
            path, f"{size} bytes where its header says {8 + length + max(ends, default=0)}"
        )


def _json_object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(
            f"checkpoint has no {path.name}",
            where=str(path.parent),
            do="fetch the checkpoint again",
        )
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise _cut_short(path, "something that is not JSON") from error
    if not isinstance(value, dict):
        raise _cut_short(path, f"a JSON {type(value).__name__}")
    return value


def _cut_short(path: Path, got: str) -> DataError:
    return DataError(
        "checkpoint file is damaged or cut short", where=str(path), got=got, do="fetch it again"
    )
