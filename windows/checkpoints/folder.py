"""The addresses of checkpoints, and the layout of a checkpoint folder.

A checkpoint folder holds a model as the Hugging Face libraries save it, and beside it what a
trainer needs to go on: `OPTIMIZER` and `TRAINER` (``{step, next_batch, rng}``). Its name is
``<stage>-step<step>``; folders written elsewhere may be called as `windows.checkpoints.revisions`
knows, and may be sorted into folders by stage.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from windows.checkpoints.revisions import parse_revision
from windows.errors import DataError

Layout = Literal["hf", "olmo-core", "olmo"]
"""Who wrote a checkpoint's folder: the Hugging Face libraries, OLMo-core, or the OLMo trainer
before it (``stepN-unsharded``)."""

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
OPTIMIZER = "optimizer.safetensors"
TRAINER = "trainer.json"

# Folders that sort checkpoints: stage2/ingredient1/step1000 is stage2-ingredient1-step1000.
_SORTED = re.compile(r"(?:stage|ingredient)[0-9]+")
_UNFINISHED = (".part", ".tmp")
_HF_WEIGHTS = (WEIGHTS, WEIGHTS_INDEX, "pytorch_model.bin", "pytorch_model.bin.index.json")
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


def catalog(folder: Path, run: str, stage: str = "stage1") -> list[Checkpoint]:
    """List the checkpoints in a folder, by stage and step.

    What is not named as a checkpoint, or has more in its name than stage and step, is passed over;
    contents are not looked at (see `validate`). `windows.checkpoints.catalogs.local_catalog` lists
    everything.

    Parameters
    ----------
    stage
        Of the folders whose names tell none (``step1000``).

    Raises
    ------
    DataError
        `folder` is not a folder, or two folders in it claim to be the same checkpoint.
    """
    found: dict[tuple[str, int], Checkpoint] = {}
    for name, path in named_folders(folder, run):
        revision = parse_revision(name)
        if revision is None or revision.suffix:
            continue
        checkpoint = Checkpoint(run, revision.stage_or(stage), revision.step, path)
        other = found.setdefault((checkpoint.stage, checkpoint.step), checkpoint)
        if other is not checkpoint:
            raise DataError(
                f"two folders claim to be checkpoint {checkpoint.name}",
                where=str(folder),
                got=f"{other.path.relative_to(folder)} and {path.relative_to(folder)}",
                do="take one of them away",
            )
    return [found[key] for key in sorted(found)]


def named_folders(folder: Path, run: str) -> list[tuple[str, Path]]:
    """List the folders that may be checkpoints, each with its name as a revision would have it.

    Folders called ``stage<number>`` or ``ingredient<number>`` are opened, and their names put
    before those within: ``stage2/step10`` is ``stage2-step10``. Unfinished and hidden ones are
    left out.

    Raises
    ------
    DataError
        `folder` is not a folder, or cannot be read.
    """
    if not folder.is_dir():
        raise DataError(
            "no folder of checkpoints",
            where=str(folder),
            do=f"point the run's checkpoints at {run}'s folder",
        )
    try:
        return sorted(_named(folder, depth=2))
    except OSError as error:
        raise DataError(
            "a folder of checkpoints cannot be read",
            where=str(error.filename or folder),
            got=error.strerror or "",
            do="check its permissions",
        ) from error


def _named(folder: Path, *, depth: int) -> Iterator[tuple[str, Path]]:
    for path in folder.iterdir():
        if path.name.startswith(".") or path.name.endswith(_UNFINISHED) or not path.is_dir():
            continue
        if depth and _SORTED.fullmatch(path.name):
            yield from (
                (f"{path.name}-{name}", inner) for name, inner in _named(path, depth=depth - 1)
            )
        else:
            yield path.name, path


def layout(path: Path) -> Layout | None:
    """Tell who wrote a checkpoint's folder, by the files in it; None if it is not one."""
    # OLMo-core writes a config.json too, so it has to be looked for first. Source of its layout:
    # olmo_core.train.checkpoint.Checkpointer.dir_is_checkpoint of ai2-olmo-core 3.0.
    if (path / "model_and_optim" / ".metadata").is_file() or (path / ".metadata").is_file():
        return "olmo-core"
    if (path / CONFIG).is_file() and any((path / name).is_file() for name in _HF_WEIGHTS):
        return "hf"
    return "olmo" if (path / "config.yaml").is_file() else None


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
