"""A state that is written and read is the same state, or is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from trainers.loop import take_step
from trainers.settings import OptimizerSection
from trainers.state import TrainingState, load_state, new_state, save_state
from windows.checkpoints.folder import OPTIMIZER, TRAINER, WEIGHTS, validate
from windows.errors import DataError

OPTIMIZATION = OptimizerSection(clip=0.5)


def fresh(tiny: Any, seed: int = 1) -> TrainingState:
    return new_state(tiny.pretraining.model, OPTIMIZATION, tiny.run.tokenizer, seed=seed)


def trained(tiny: Any, steps: int = 2) -> TrainingState:
    state = fresh(tiny)
    for batch in range(steps):
        tokens = tiny.files.instances(tiny.order, tiny.order.instances(batch, batch + 1))
        take_step(state, tokens, lr=1e-3, clip=0.5)
    return state


def tensors(state: TrainingState) -> dict[str, torch.Tensor]:
    """Everything that decides the next step, by name."""
    found = {}
    for name, parameter in state.model.named_parameters():
        found[name] = parameter.detach()
        for moment, value in state.optimizer.state[parameter].items():
            found[f"{name}/{moment}"] = value
    return found


def same(a: TrainingState, b: TrainingState) -> bool:
    ours, theirs = tensors(a), tensors(b)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.fixture
def checkpoint(tiny: Any, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return shutil.copytree(tiny.checkpoint(5), tmp_path / "stage1-step5")


def test_weights_follow_from_the_seed(tiny: Any):
    one = fresh(tiny)
    torch.rand(3)
    assert same(one, fresh(tiny))
    assert not same(one, fresh(tiny, seed=2))
    assert (one.step, one.next_batch) == (0, 0)


def test_what_was_saved_is_loaded(tiny: Any, tmp_path: Path):
    state = trained(tiny)
    state.next_batch = 7
    torch.manual_seed(99)
    rng = torch.get_rng_state()
    save_state(state, tmp_path / "c", tokenizer=tiny.data)
    torch.manual_seed(0)
    loaded = load_state(tmp_path / "c", OPTIMIZATION)
    assert same(state, loaded)
    assert (loaded.step, loaded.next_batch) == (2, 7)
    assert torch.equal(torch.get_rng_state(), rng)
    assert loaded.model.training
    save_state(loaded, tmp_path / "again", tokenizer=tiny.data)
    assert tiny.contents(tmp_path / "c") == tiny.contents(tmp_path / "again")


def test_the_next_step_is_the_same_after_loading(tiny: Any, tmp_path: Path):
    state = trained(tiny)
    save_state(state, tmp_path / "c", tokenizer=tiny.data)
    loaded = load_state(tmp_path / "c", OPTIMIZATION)
    for each in (state, loaded):
        take_step(each, tiny.heldout, lr=2e-3, clip=0.5)
    assert same(state, loaded)


def test_a_state_before_its_first_step_is_a_checkpoint_too(tiny: Any, tmp_path: Path):
    save_state(fresh(tiny), tmp_path / "c", tokenizer=tiny.data)
    loaded = load_state(tmp_path / "c", OPTIMIZATION)
    assert same(fresh(tiny), loaded) and loaded.step == 0


def test_weights_alone_start_anew(tiny: Any, checkpoint: Path):
    for name in (OPTIMIZER, TRAINER):
        (checkpoint / name).unlink()
    torch.manual_seed(4)
    rng = torch.get_rng_state()
    loaded = load_state(checkpoint, OPTIMIZATION, with_optimizer=False)
    weights = load_file(checkpoint / WEIGHTS)
    assert {name: value for name, value in tensors(loaded).items() if "/" not in name}.keys() == (
        weights.keys()
    )
    assert all(torch.equal(tensors(loaded)[name], value) for name, value in weights.items())
    assert not any(loaded.optimizer.state.values())
    assert (loaded.step, loaded.next_batch) == (0, 0)
    assert torch.equal(torch.get_rng_state(), rng)


def test_the_optimizer_is_the_sections(tiny: Any):
    section = OptimizerSection(betas=(0.8, 0.9), weight_decay=0.25)
    loaded = load_state(tiny.checkpoint(3), section)
    (group,) = loaded.optimizer.param_groups
    assert (group["betas"], group["weight_decay"]) == ((0.8, 0.9), 0.25)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def without_a_moment(path: Path) -> None:
    moments = load_file(path)
    moments.pop(min(moments))
    save_file(moments, path)


def with_anothers_moment(path: Path) -> None:
    save_file({**load_file(path), "model.other.weight/step": torch.zeros(())}, path)


def with_another_shape(path: Path) -> None:
    moments = load_file(path)
    save_file({**moments, min(moments): torch.zeros(3)}, path)


def without_a_key(path: Path) -> None:
    record = json.loads(path.read_text())
    record.pop("next_batch")
    path.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("name", "damage", "says"),
    [
        (OPTIMIZER, Path.unlink, f"no {OPTIMIZER}.*training.init: weights"),
        (OPTIMIZER, cut, "cut short"),
        (OPTIMIZER, without_a_moment, "not that of this checkpoint's model"),
        (OPTIMIZER, with_anothers_moment, "moments of model.other.weight/step"),
        (OPTIMIZER, with_another_shape, "not that of this checkpoint's model"),
        (TRAINER, Path.unlink, f"no {TRAINER}"),
        (TRAINER, cut, "cut short"),
        (TRAINER, without_a_key, "next_batch"),
        (
            TRAINER,
            lambda path: path.write_text('{"step":1,"next_batch":1,"rng":"AAAA"}'),
            "damaged",
        ),
        (WEIGHTS, Path.unlink, f"no {WEIGHTS}"),
        (WEIGHTS, cut, "cut short"),
        ("config.json", cut, "cut short"),
        ("tokenizer.json", Path.unlink, "cannot load"),
    ],
)
def test_a_damaged_checkpoint_is_refused_in_one_line(
    checkpoint: Path, name: str, damage: Any, says: str
):
    damage(checkpoint / name)
    with pytest.raises(DataError, match=says) as caught:
        load_state(checkpoint, OPTIMIZATION)
    assert "\n" not in str(caught.value) and str(checkpoint) in str(caught.value)


def test_a_checkpoint_without_some_weights_is_refused(checkpoint: Path):
    weights = load_file(checkpoint / WEIGHTS)
    weights.pop("model.norm.weight")
    save_file(weights, checkpoint / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"lacks weights.*model\.norm\.weight"):
        load_state(checkpoint, OPTIMIZATION)


def test_code_in_a_checkpoint_is_never_run(checkpoint: Path, tmp_path: Path):
    marker = tmp_path / "was-run"
    (checkpoint / "modeling_own.py").write_text(f"open({str(marker)!r}, 'w')\nclass Own: ...\n")
    config = json.loads((checkpoint / "config.json").read_text())
    config |= {"auto_map": {"AutoModelForCausalLM": "modeling_own.Own"}}
    (checkpoint / "config.json").write_text(json.dumps(config))
    load_state(checkpoint, OPTIMIZATION)
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "modeling_own.Own"}}
    (checkpoint / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match="cannot load"):
        load_state(checkpoint, OPTIMIZATION)
    assert not marker.exists()


def test_nothing_is_pickled(tiny: Any):
    contents = tiny.contents(tiny.folder)
    assert {Path(name).suffix for name in contents} == {".json", ".safetensors", ".parquet"}
    # Torch's own format is a zip of pickles, and a pickle begins with its protocol.
    assert not any(data.startswith((b"PK", b"\x80")) for data in contents.values())


def test_a_failed_save_leaves_nothing(tiny: Any, tmp_path: Path):
    with pytest.raises(DataError):
        save_state(fresh(tiny), tmp_path / "c", tokenizer=tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []


def test_the_folder_is_what_its_readers_expect(tiny: Any):
    folder = tiny.checkpoint(7)
    validate(folder)
    assert json.loads((folder / TRAINER).read_text()).keys() == {"step", "next_batch", "rng"}
    moments = load_file(folder / OPTIMIZER)
    steps = {name: float(value) for name, value in moments.items() if name.endswith("/step")}
    assert set(steps.values()) == {7.0}
    assert {name.rsplit("/", 1)[0] for name in moments} == set(load_file(folder / WEIGHTS))
    assert all(np.isfinite(value.numpy()).all() for value in moments.values())
