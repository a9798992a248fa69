import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from windows.checkpoints.folder import Checkpoint, catalog, layout, named_folders, validate
from windows.errors import DataError


def make_checkpoint(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    save_file({"weight": np.ones((3, 4), dtype=np.float32)}, path / "model.safetensors")
    return path


def test_a_checkpoint_is_named_by_stage_and_step():
    assert Checkpoint("toy", "stage1", 340, Path("x")).name == "stage1-step340"


def test_the_catalog_is_in_order_of_steps(tmp_path: Path):
    for name in ("stage1-step16", "stage1-step2", "stage1-step0", "stage2-step1"):
        (tmp_path / name).mkdir()
    for name in ("stage1-step3.part", "notes", "stage1-step007", "step-1"):
        (tmp_path / name).mkdir()
    (tmp_path / "stage1-step5").write_text("not a folder")
    found = catalog(tmp_path, "toy")
    assert [c.name for c in found] == [
        "stage1-step0",
        "stage1-step2",
        "stage1-step16",
        "stage2-step1",
    ]
    assert all(c.path == tmp_path / c.name and c.run == "toy" for c in found)


def test_a_catalog_of_nowhere_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="no folder of checkpoints"):
        catalog(tmp_path / "absent", "toy")


def test_checkpoints_sorted_into_folders_by_stage_are_found(tmp_path: Path):
    for name in ("step7", "stage2/step5", "stage2/ingredient1/step3", "stage2-ingredient1-step2"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("other/step1", "step9-unsharded", "stage2/.step8", "stage2/step6.1-ab.tmp"):
        (tmp_path / name).mkdir(parents=True)
    found = catalog(tmp_path, "toy", stage="stage0")
    assert [(c.stage, c.step, c.path.relative_to(tmp_path).as_posix()) for c in found] == [
        ("stage0", 7, "step7"),
        ("stage2", 5, "stage2/step5"),
        ("stage2-ingredient1", 2, "stage2-ingredient1-step2"),
        ("stage2-ingredient1", 3, "stage2/ingredient1/step3"),
    ]


def test_two_folders_of_one_checkpoint_are_refused(tmp_path: Path):
    for name in ("stage1-step5", "stage1/step5"):
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(DataError) as refused:
        catalog(tmp_path, "toy")
    assert str(refused.value) == (
        f"{tmp_path}: two folders claim to be checkpoint stage1-step5;"
        " got stage1/step5 and stage1-step5; take one of them away"
    )


def test_a_folder_that_leads_into_itself_ends(tmp_path: Path):
    (tmp_path / "stage1").symlink_to(tmp_path)
    (tmp_path / "step5").mkdir()
    names = [name for name, _ in named_folders(tmp_path, "toy")]
    assert sorted(names) == [
        "stage1-stage1-stage1",
        "stage1-stage1-step5",
        "stage1-step5",
        "step5",
    ]


def test_the_writer_of_a_checkpoint_is_told_by_its_files(tmp_path: Path):
    assert layout(make_checkpoint(tmp_path / "hf")) == "hf"
    (tmp_path / "hf" / "model_and_optim").mkdir()
    assert layout(tmp_path / "hf") == "hf"
    (tmp_path / "hf" / "model_and_optim" / ".metadata").write_bytes(b"")
    assert layout(tmp_path / "hf") == "olmo-core"
    for name, made in (("config.json", None), (".metadata", "olmo-core"), ("config.yaml", "olmo")):
        folder = tmp_path / f"with-{name}"
        folder.mkdir()
        (folder / name).write_text("{}")
        assert layout(folder) == made


def test_a_whole_checkpoint_is_valid(tmp_path: Path):
    validate(make_checkpoint(tmp_path / "c"))


def test_sharded_weights_are_valid_when_all_shards_are(tmp_path: Path):
    path = make_checkpoint(tmp_path / "c")
    (path / "model.safetensors").rename(path / "model-00001-of-00002.safetensors")
    save_file({"other": np.zeros(2)}, path / "model-00002-of-00002.safetensors")
    index = {
        "weight_map": {k: f"model-0000{n}-of-00002.safetensors" for n, k in enumerate("ab", 1)}
    }
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    validate(path)
    (path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(DataError, match="has no model-00002-of-00002"):
        validate(path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_checkpoint_without_a_part_is_refused(tmp_path: Path, name: str):
    path = make_checkpoint(tmp_path / "c")
    (path / name).unlink()
    with pytest.raises(DataError, match=f"has no {name}"):
        validate(path)


@pytest.mark.parametrize("kept", [0, 4, 8, 30, -48, -1])
def test_weights_cut_short_are_refused(tmp_path: Path, kept: int):
    path = make_checkpoint(tmp_path / "c") / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"model\.safetensors: checkpoint file is damaged or cut"):
        validate(path.parent)


def test_something_else_under_the_name_of_weights_is_refused(tmp_path: Path):
    path = make_checkpoint(tmp_path / "c")
    (path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n" * 4)
    with pytest.raises(DataError, match="without a whole header"):
        validate(path)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_damaged_configuration_is_refused(tmp_path: Path, text: str):
    path = make_checkpoint(tmp_path / "c")
    (path / "config.json").write_text(text)
    with pytest.raises(DataError, match=r"config\.json"):
        validate(path)
