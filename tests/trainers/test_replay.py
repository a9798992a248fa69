"""A replay is the base checkpoint, a window's data in a shuffled order, and the suite after it."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from scoring.items import ITEMS, Where, read_items
from scoring.sweep import SweepRequest, load_model, score_model
from trainers.batches import shuffled_window
from trainers.loop import take_step
from trainers.replay import BASE, ReplayJob, replay, replay_name
from trainers.state import load_state
from windows.checkpoints.folder import OPTIMIZER
from windows.errors import DataError

REQUEST = SweepRequest(("successive_answer/addition", "normal_control/addition"), "verify", 2)
LR = 2e-3


@pytest.fixture
def job(tiny: Any, tmp_path: Path) -> ReplayJob:
    return ReplayJob(
        base=tiny.checkpoint(5),
        run=tiny.run,
        files=tiny.files.paths,
        window=tiny.windows[2],
        shuffle=0,
        seed=8,
        lr=LR,
        optimizer=tiny.optimizer,
        request=REQUEST,
        out=tmp_path / "out",
    )


def scores_of(job: ReplayJob) -> np.ndarray[Any, Any]:
    table = pl.read_parquet(job.path)
    return table.select("lp_right", "lp_parrot").to_numpy()


def test_it_is_the_window_in_its_shuffled_order_from_the_base(tiny: Any, job: ReplayJob):
    replay(job)
    state = load_state(job.base, tiny.optimizer)
    window = tiny.windows[2]
    batches = shuffled_window(tiny.files, tiny.order, (7, 9), seed=(8, window.first_batch, 0))
    for index in range(2):
        take_step(state, batches.batch(index)[1], lr=LR, clip=tiny.optimizer.clip)
    tokenizer = load_model(job.base)[1]
    where = Where("replay-7-9-shuffle0", "stage1", 7)
    expected = score_model(state.model.eval(), tokenizer, REQUEST, where)
    found = pl.read_parquet(job.path)
    assert found.equals(pl.from_arrow(expected))
    assert set(found["run"]) == {job.name} and set(found["step"]) == {5 + 2}


def test_the_base_trains_nothing(tiny: Any, job: ReplayJob):
    base = replace(job, window=None)
    replay(base)
    found = pl.read_parquet(base.path)
    model, tokenizer = load_model(tiny.checkpoint(5))
    expected = score_model(model, tokenizer, REQUEST, Where(BASE, "stage1", 5))
    assert found.equals(pl.from_arrow(expected))
    assert base.path.name == f"{BASE}.parquet"


def test_it_is_deterministic(job: ReplayJob, tmp_path: Path):
    again = replace(job, out=tmp_path / "again")
    for each in (job, again):
        replay(each)
    assert job.path.read_bytes() == again.path.read_bytes()


def test_a_replay_that_is_there_is_not_done_again(job: ReplayJob):
    replay(job)
    before = job.path.stat()
    # A base that cannot be loaded shows that nothing is.
    replay(replace(job, base=job.out / "absent"))
    assert (job.path.stat().st_ino, job.path.stat().st_mtime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
    )
    other = replace(job, shuffle=1)
    replay(other)
    assert other.path.exists() and job.path.stat().st_mtime_ns == before.st_mtime_ns


def test_windows_and_shuffles_are_told_apart(tiny: Any, job: ReplayJob):
    jobs = [replace(job, window=w, shuffle=k) for w in tiny.windows for k in range(2)]
    jobs.append(replace(job, window=None))
    for each in jobs:
        replay(each)
    assert len({each.path for each in jobs}) == 7
    assert [replay_name(w, 1) for w in tiny.windows] == [
        f"replay-{first}-{first + 2}-shuffle1" for first in (3, 5, 7)
    ]
    items = read_items(job.out)
    assert items.columns == ITEMS.names and set(items["run"]) == {each.name for each in jobs}
    levels = [tuple(scores_of(each).ravel().tolist()) for each in jobs]
    assert len(set(levels)) == 7, "another window or another order is another model"


def test_a_base_without_its_optimizer_is_refused(job: ReplayJob, tmp_path: Path):
    base = shutil.copytree(job.base, tmp_path / "stage1-step5")
    (base / OPTIMIZER).unlink()
    with pytest.raises(DataError, match=f"no {OPTIMIZER}"):
        replay(replace(job, base=base))
    assert not job.out.exists()
