"""Sweeps as tasks: what is submitted, what a task does, and a real Slurm on loopback."""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from scoring import executors as module
from scoring.executors import Distributed, Resources, run_ray
from scoring.prefetch import Fetching
from scoring.slurm import Slurm
from scoring.sweep import SweepRequest, sweep
from windows.checkpoints.catalogs import hub_catalog
from windows.checkpoints.folder import Checkpoint
from windows.checkpoints.hub import Hub
from windows.errors import ConfigError, WorkerError
from windows.progress import Reporter
from windows.workers import WorkerPool

TASK = "normal_control/addition"
REQUEST = SweepRequest((TASK,), "label", 1)
STEPS = (1000, 2000, 3000)
SLURM = Slurm("debug", "00:10:00")
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def loguru_as_it_was() -> Iterator[None]:
    yield
    # datatrove replaces all of its handlers, by one for the stderr of the test that is running.
    from loguru import logger

    logger.remove()


@pytest.fixture
def checkpoints(tiny: Callable[[int], Path]) -> list[Checkpoint]:
    return [Checkpoint("olmo3-7b", "stage1", step, tiny(step)) for step in STEPS]


@pytest.fixture
def split(checkpoints: list[Checkpoint], tmp_path: Path) -> Distributed:
    return Distributed(checkpoints, REQUEST, tmp_path / "out", tmp_path / "logs")


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def swept(checkpoints: list[Checkpoint], out: Path) -> dict[str, bytes]:
    with WorkerPool(0) as pool:
        sweep(checkpoints, REQUEST, out, pool, Reporter(quiet=True))
    return content(out)


def test_only_what_is_missing_is_a_task(
    split: Distributed, checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    swept([checkpoints[1]], tmp_path / "out")
    assert [job.source.checkpoint.step for job in split.tasks().jobs] == [1000, 3000]
    with pytest.raises(
        WorkerError, match="2 of 3 checkpoints are not scored; got stage1-step1000,"
    ):
        split.check_complete()
    before = split.id
    swept(checkpoints, tmp_path / "out")
    split.check_complete()
    assert split.tasks().jobs == () and split.id == before


def test_another_sweep_has_another_folder(split: Distributed, tmp_path: Path) -> None:
    others = [
        replace(split, asked=replace(REQUEST, demo_seeds=2)),
        replace(split, asked=replace(REQUEST, token_budget=99)),
        replace(split, asked=replace(REQUEST, tasks=("repetitive_answer/addition",))),
        replace(split, checkpoints=split.checkpoints[:2]),
        replace(split, out=tmp_path / "elsewhere"),
    ]
    assert len({each.folder for each in [split, *others]}) == 6
    assert replace(split, resources=Resources(cpus=9)).folder == split.folder
    assert replace(split, out=tmp_path / "x" / ".." / "out").folder == split.folder


def test_a_task_scores_its_checkpoint_whatever_datatrove_has_marked(
    split: Distributed, checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    from datatrove.executor.local import LocalPipelineExecutor

    tasks = split.tasks()
    completions = tmp_path / "logs" / "completions"
    completions.mkdir(parents=True)
    (completions / "00001").touch()
    # As one rank of the Slurm executor runs, which is built with the same options.
    executor = LocalPipelineExecutor(
        [tasks], tasks=3, logging_dir=str(tmp_path / "logs"), skip_completed=False
    )
    for rank in (2, 1):
        executor._run_for_rank(rank, 1)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.parquet")}
    assert len(kept) == 2
    for rank in (2, 1, 0):
        executor._run_for_rank(rank, 1)
    assert all(path.stat().st_mtime_ns == at for path, at in kept.items()), "scored again"
    assert content(tmp_path / "out") == swept(checkpoints, tmp_path / "direct")
    split.check_complete()


def test_a_task_fetches_and_drops_its_own(
    olmo_hub: Any, tiny: Callable[[int], Path], checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    olmo_hub.revisions = {
        f"stage1-step{step}": {path.name: path.read_bytes() for path in tiny(step).iterdir()}
        for step in STEPS
    }
    hub = Hub(olmo_hub.url, tmp_path / "cache")
    entries = hub_catalog(olmo_hub.repo, run="olmo3-7b", hub=hub).entries
    dropping = Fetching(hub, drop_scored=True)
    split = Distributed(entries, REQUEST, tmp_path / "out", tmp_path / "logs", fetching=dropping)
    tasks = split.tasks()
    for rank in range(3):
        tasks(None, rank, 3)
        assert not list((tmp_path / "cache").rglob("*.safetensors"))
    assert content(tmp_path / "out") == swept(checkpoints, tmp_path / "direct")
    twin = replace(entries[2], address=entries[0].address)
    with pytest.raises(ConfigError, match="two checkpoints are one snapshot"):
        replace(split, checkpoints=(*entries[:2], twin)).tasks()


def test_ray_absent_is_one_line(split: Distributed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="ray is not installed; got ray; pip install"):
        run_ray(split)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed: pip install ray")
def test_ray_itself(
    split: Distributed, checkpoints: list[Checkpoint], tmp_path: Path, monkeypatch: Any
) -> None:
    import ray

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *sys.path]))
    broken = Checkpoint("olmo3-7b", "stage1", 9, tmp_path / "none")
    small = Resources(memory_gb=1)
    ray.init(num_cpus=2, include_dashboard=False)
    try:
        run_ray(replace(split, resources=small), seconds=120)
        assert content(tmp_path / "out") == swept(checkpoints, tmp_path / "direct")
        faulty = replace(split, checkpoints=[*checkpoints, broken], resources=small)
        with pytest.raises(
            WorkerError, match="1 of 4 checkpoints are not scored; got stage1-step9"
        ):
            run_ray(faulty, seconds=120)
    finally:
        ray.shutdown()
