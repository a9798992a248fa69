"""Single steps on random batches: reproducible, growing with the learning rate, none at zero."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from scoring.items import read_items
from scoring.nulls import Hop, diffusion_null
from scoring.sweep import SweepRequest, Where, load_model, score_model
from trainers.local_stability import StabilityJob, perturb
from windows.manifest import data_files

TASK = "successive_answer/addition"
REQUEST = SweepRequest((TASK,), "label", 1, 1)


def job(tiny: Any, out: Path, **changes: Any) -> StabilityJob:
    fields: dict[str, Any] = {
        "base": tiny.checkpoint(5),
        "run": tiny.run,
        "files": tuple(Path(file.path) for file in data_files(tiny.data)),
        "step": 5,
        "lr": 1e-3,
        "draw": 0,
        "seed": 0,
        "optimizer": tiny.optimizer,
        "request": REQUEST,
        "out": out,
    }
    return StabilityJob(**(fields | changes))


def test_one_step_moves_and_none_does_not(tiny: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    jobs = [job(tiny, out, lr=lr, draw=draw) for lr in (1e-3, 1e-2) for draw in (0, 1)]
    jobs.append(job(tiny, out, lr=0.0))
    for each in jobs:
        perturb(each)
    items = read_items(out)
    runs = {run: rows["lp_right"].to_numpy() for (run,), rows in items.group_by("run")}
    plain = score_model(*load_model(tiny.checkpoint(5)), REQUEST, Where("r", "stage1", 5))
    rows = pl.from_arrow(plain).sort("wording", "demo_seed", "item_id")
    assert np.array_equal(runs["step5-lr0-draw0"], rows["lp_right"].to_numpy())

    def size(lr: str, draw: int) -> float:
        return float(np.abs(runs[f"step5-lr{lr}-draw{draw}"] - runs["step5-lr0-draw0"]).mean())

    assert 0 < size("0.001", 0) < size("0.01", 0)
    assert not np.array_equal(runs["step5-lr0.001-draw0"], runs["step5-lr0.001-draw1"])
    before = jobs[0].path.read_bytes()
    jobs[0].path.unlink()
    perturb(jobs[0])
    assert jobs[0].path.read_bytes() == before
    far, near = Hop(TASK, 5, 7, 0.9), Hop(TASK, 5, 7, 1e-6)
    assert diffusion_null(items, far).says == "survives"
    assert diffusion_null(items, near).says == "explains"
    assert diffusion_null(items, Hop(TASK, 7, 9, 0.1)).says == "untested"


def test_a_small_learning_rate_is_read_back(tiny: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for lr in (0.0, 2e-7):
        perturb(job(tiny, out, lr=lr))
    assert "2e-07" in diffusion_null(read_items(out), Hop(TASK, 5, 7, 0.1)).sentence


@pytest.mark.parametrize("missing", ["optimizer.safetensors"])
def test_without_its_adam_state_no_step_is_taken(tiny: Any, tmp_path: Path, missing: str) -> None:
    import shutil

    from windows.errors import DataError

    base = shutil.copytree(tiny.checkpoint(5), tmp_path / "base")
    (base / missing).unlink()
    with pytest.raises(DataError, match=missing):
        perturb(job(tiny, tmp_path, base=base))
