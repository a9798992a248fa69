import hashlib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from windows.checkpoints.weights import (
    SAMPLES,
    SPAN,
    all_bytes,
    blob_name,
    is_weights,
    sampled_bytes,
    weight_files,
)


@pytest.mark.parametrize(
    ("name", "held"),
    [
        ("model.safetensors", True),
        ("model-00001-of-00003.safetensors", True),
        ("pytorch_model.bin", True),
        ("pytorch_model-00002-of-00003.bin", True),
        ("model_and_optim/__0_0.distcp", True),
        ("model.pt", True),
        ("optimizer.safetensors", False),
        ("optim.safetensors", False),
        ("train.safetensors", False),
        ("training_args.bin", False),
        ("scheduler.bin", False),
        ("rng_state.bin", False),
        ("model.safetensors.index.json", False),
        ("model_and_optim/.metadata", False),
        ("train/rank0.pt", False),
        ("onnx/model.bin", False),
        ("config.json", False),
    ],
)
def test_only_weights_are_weights(tmp_path: Path, name: str, held: bool):
    assert is_weights(name) is held
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")
    assert weight_files(tmp_path) == ({name: path} if held else {})


def test_all_bytes_is_the_sha256_of_the_file(tmp_path: Path):
    data = np.random.default_rng(0).bytes(100_000)
    (tmp_path / "a.bin").write_bytes(data)
    assert all_bytes(tmp_path / "a.bin") == f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.mark.parametrize("size", [0, 1, SPAN, SPAN + 1, SAMPLES * SPAN, SAMPLES * SPAN + SPAN])
def test_of_a_small_file_every_byte_is_looked_at(tmp_path: Path, size: int):
    data = bytearray(np.random.default_rng(1).bytes(size))
    path = tmp_path / "a.bin"
    path.write_bytes(data)
    first = sampled_bytes(path)
    for place in {0, size // 3, size - 1} if size else ():
        data[place] ^= 1
        path.write_bytes(data)
        assert sampled_bytes(path) != first
        data[place] ^= 1


def test_of_a_large_file_ends_and_size_are_looked_at(tmp_path: Path):
    size = 3 * SAMPLES * SPAN
    data = bytearray(np.random.default_rng(2).bytes(size))
    path = tmp_path / "a.bin"
    path.write_bytes(data)
    first = sampled_bytes(path)
    path.write_bytes(data)
    assert sampled_bytes(path) == first
    for place in (0, SPAN - 1, size - SPAN, size - 1):
        changed = bytearray(data)
        changed[place] ^= 1
        path.write_bytes(changed)
        assert sampled_bytes(path) != first
    path.write_bytes(data + b"\0")
    assert sampled_bytes(path) != first


def test_weights_of_different_steps_differ_in_their_samples(tmp_path: Path):
    generator = np.random.default_rng(3)
    weights = generator.normal(size=(1024, 1024)).astype(np.float32)
    hashes = set()
    for step in range(5):
        save_file({"w": weights}, tmp_path / "model.safetensors")
        hashes.add(sampled_bytes(tmp_path / "model.safetensors"))
        weights += generator.normal(size=weights.shape, scale=1e-6).astype(np.float32)
        assert len(hashes) == step + 1


def test_the_safetensors_header_is_looked_at_in_whole(tmp_path: Path):
    tensors = {f"layer{n}.weight": np.zeros((64, 64), np.float32) for n in range(400)}
    save_file(tensors, tmp_path / "a.safetensors")
    tensors["layer399.other"] = tensors.pop("layer399.weight")
    save_file(tensors, tmp_path / "b.safetensors")
    assert sampled_bytes(tmp_path / "a.safetensors") != sampled_bytes(tmp_path / "b.safetensors")


@pytest.mark.parametrize("data", [b"", b"\xff" * 7, b"\xff" * 200, b"\0" * 200])
def test_what_has_no_header_is_hashed_all_the_same(tmp_path: Path, data: bytes):
    (tmp_path / "a.safetensors").write_bytes(data)
    assert sampled_bytes(tmp_path / "a.safetensors").startswith("sampled:")


@pytest.mark.parametrize(("digits", "kind"), [(64, "sha256"), (40, "git")])
def test_a_file_of_the_hubs_cache_is_known_by_its_name(tmp_path: Path, digits: int, kind: str):
    blob = tmp_path / "blobs" / ("0a" * (digits // 2))
    blob.parent.mkdir()
    blob.write_bytes(b"weights")
    link = tmp_path / "model.safetensors"
    link.symlink_to(f"blobs/{blob.name}")
    assert blob_name(link) == f"{kind}:{blob.name}"
    assert blob_name(blob) is None


@pytest.mark.parametrize("target", ["blobs/readme", "other/" + "0a" * 32, "0a" * 32])
def test_other_links_are_only_links(tmp_path: Path, target: str):
    (tmp_path / "link").symlink_to(target)
    assert blob_name(tmp_path / "link") is None
