"""Averages of checkpoints against sums written out, sharded or not, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from trainers.merge import average
from windows.errors import ConfigError, DataError


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("model*.safetensors")):
        found |= load_file(path)
    return found


@pytest.mark.parametrize("weights", [None, [1, 2, 5]])
def test_a_mean_is_the_sum_written_out(tiny: Any, tmp_path: Path, weights: Any) -> None:
    folders = [tiny.checkpoint(step) for step in (3, 5, 7)]
    average(folders, tmp_path / "mean", weights=weights)
    shares = np.array(weights or [1, 1, 1]) / sum(weights or [1, 1, 1])
    given = [tensors(folder) for folder in folders]
    made = tensors(tmp_path / "mean")
    assert made.keys() == given[0].keys()
    for name, tensor in made.items():
        parts = zip(shares, given, strict=True)
        wanted = sum(share * each[name].double() for share, each in parts)
        torch.testing.assert_close(tensor.double(), wanted, rtol=1e-6, atol=1e-7)
    names = {path.name for path in (tmp_path / "mean").iterdir()}
    assert {"config.json", "tokenizer.json", "model.safetensors"} <= names
    assert not names & {"optimizer.safetensors", "trainer.json"}


def test_one_checkpoint_is_its_own_mean_to_the_bit(tiny: Any, tmp_path: Path) -> None:
    average([tiny.checkpoint(5)] * 2, tmp_path / "mean")
    given = tensors(tiny.checkpoint(5))
    assert all(torch.equal(t, given[name]) for name, t in tensors(tmp_path / "mean").items())


def test_shards_give_the_same_mean(tiny: Any, tmp_path: Path) -> None:
    sharded = shutil.copytree(tiny.checkpoint(7), tmp_path / "sharded")
    whole = load_file(sharded / "model.safetensors")
    (sharded / "model.safetensors").unlink()
    names = sorted(whole)
    files = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in set(files.values()):
        save_file({n: whole[n] for n in names if files[n] == file}, sharded / file)
    index = {"metadata": {}, "weight_map": files}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    average([tiny.checkpoint(5), tiny.checkpoint(7)], tmp_path / "one")
    average([tiny.checkpoint(5), sharded], tmp_path / "two")
    one, two = tensors(tmp_path / "one"), tensors(tmp_path / "two")
    assert one.keys() == two.keys() and all(torch.equal(one[n], two[n]) for n in one)
    assert len(list((tmp_path / "two").glob("model-*.safetensors"))) == 2


def test_bfloat16_is_summed_in_float32_and_rounded_once(tiny: Any, tmp_path: Path) -> None:
    for name, value in (("a", 1.0), ("b", 1.0078125), ("c", 1.0078125)):
        folder = shutil.copytree(tiny.checkpoint(5), tmp_path / name)
        save_file(
            {"w": torch.full((2,), value, dtype=torch.bfloat16)}, folder / "model.safetensors"
        )
    average([tmp_path / name for name in "abc"], tmp_path / "mean")
    (made,) = tensors(tmp_path / "mean").values()
    assert made.dtype == torch.bfloat16
    assert torch.equal(made, torch.full((2,), (1.0 + 2 * 1.0078125) / 3).bfloat16())


def test_what_is_no_mean_is_refused(tiny: Any, tmp_path: Path) -> None:
    for weights in ([1.0], [1.0, -1.0], [float("nan"), 1.0]):
        with pytest.raises(ConfigError, match="not a mean"):
            average([tiny.checkpoint(3), tiny.checkpoint(5)], tmp_path / "mean", weights=weights)
    other = shutil.copytree(tiny.checkpoint(5), tmp_path / "other")
    save_file({"w": torch.zeros(2)}, other / "model.safetensors")
    with pytest.raises(DataError, match="not of one architecture"):
        average([other, tiny.checkpoint(5)], tmp_path / "mean")
    assert not (tmp_path / "mean").exists()
