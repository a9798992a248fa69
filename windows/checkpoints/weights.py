"""What identifies a weight file: all of its bytes, or some at fixed places."""

import hashlib
import re
from math import prod
from pathlib import Path

from windows.checkpoints.folder import OPTIMIZER
from windows.identity import hash_file

SAMPLES, SPAN = 64, 4096
"""A sampled file is read at this many places, this many bytes at each."""

# Optimizer and trainer states differ where weights are equal, and the other way round.
_WEIGHTS = re.compile(
    r"(?:model_and_optim/)?(?!optim|train|scheduler|rng)[^/]+\.(?:safetensors|bin|distcp)|model\.pt"
)
_BLOB = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")
_LONGEST_HEADER = 1 << 24


def is_weights(name: str) -> bool:
    """Return whether a file of a checkpoint, named from its folder, holds weights."""
    return _WEIGHTS.fullmatch(name) is not None


def weight_files(folder: Path) -> dict[str, Path]:
    """Return the weight files of a checkpoint's folder by their names, in order."""
    found = {
        path.relative_to(folder).as_posix(): path
        for inner in (folder, folder / "model_and_optim")
        if inner.is_dir()
        for path in inner.iterdir()
    }
    return {name: found[name] for name in sorted(found) if is_weights(name)}


def count_parameters(folder: Path) -> int:
    """Count the weights of a checkpoint in safetensors, embeddings and output layer left out.

    Only headers are read.
    """
    from safetensors import safe_open

    count = 0
    for path in sorted(folder.glob("*.safetensors")):
        if path.name == OPTIMIZER:
            continue
        with safe_open(path, framework="numpy") as file:
            names = [n for n in file.keys() if "embed" not in n and "lm_head" not in n]  # noqa: SIM118
            count += sum(prod(file.get_slice(name).get_shape()) for name in names)
    return count


def blob_name(path: Path) -> str | None:
    """Return how the Hub identifies a file that lies in its cache; None for any other file.

    The cache keeps a file under the name that the Hub gives its bytes (their SHA-256, or for small
    files git's name), and every revision that serves these bytes links to it.
    """
    if not path.is_symlink():
        return None
    target = path.readlink()
    if target.parent.name != "blobs" or not _BLOB.fullmatch(target.name):
        return None
    return f"{'sha256' if len(target.name) == 64 else 'git'}:{target.name}"


def all_bytes(path: Path) -> str:
    """Return the SHA-256 of the whole file, as the Hub has it."""
    return f"sha256:{hash_file(path)}"


def sampled_bytes(path: Path) -> str:
    """Return a hash over a file's size, its safetensors header and bytes at fixed places.

    The places follow from the size alone: `SAMPLES` spans of `SPAN` bytes, evenly spread from the
    first byte after the header to the last of the file. Files with different hashes differ; equal
    hashes say that size, header and all sampled bytes are equal, and a step of training changes
    nearly every weight.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(f"{size}:".encode())
    with path.open("rb") as file:
        start = 0
        if path.suffix == ".safetensors":
            length = int.from_bytes(file.read(8), "little")
            start = min(8 + min(length, _LONGEST_HEADER), size)
            file.seek(0)
            digest.update(file.read(start))
        for offset in _places(start, size):
            file.seek(offset)
            digest.update(file.read(SPAN))
    return f"sampled:{digest.hexdigest()}"


def _places(start: int, size: int) -> list[int]:
    room = size - start - SPAN
    if room <= SAMPLES * SPAN:
        return list(range(start, size, SPAN))
    return [start + room * index // (SAMPLES - 1) for index in range(SAMPLES)]
