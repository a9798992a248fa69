"""Sweeps as tasks: what is submitted, what a task does, and a real Slurm on loopback."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from scoring import executors as module
from scoring.executors import Distributed, Resources, Slurm, run_ray, slurm_script, submit_slurm
from scoring.items import items_path
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


def test_the_script_and_nothing_written(split: Distributed, tmp_path: Path) -> None:
    split = replace(split, resources=Resources(cpus=3, gpus=1, memory_gb=5, at_once=2))
    text = slurm_script(
        split, replace(SLURM, qos="low", options={"account": "lab", "exclusive": ""})
    )
    assert list(tmp_path.iterdir()) == []
    lines = text.splitlines()
    assert lines[0] == "#!/bin/bash"
    for directive in (
        *("cpus-per-task=3", "mem-per-cpu=5G", "gpus=1", "partition=debug", "time=00:10:00"),
        *("array=0-2%2", "qos=low", "account=lab", "exclusive", "requeue"),
        *("kill-on-invalid-dep=yes", f"job-name=modehop-score-{split.id}"),
    ):
        assert f"#SBATCH --{directive}" in lines
    assert lines[-1] == f"srun  -l -n 1 launch_pickled_pipeline {split.folder}/executor.pik"
    assert f"export PATH={Path(sys.executable).parent}:$PATH" in lines
    assert "qos" not in slurm_script(split, SLURM)
    assert "module load python" in slurm_script(split, replace(SLURM, setup="module load python"))


def test_only_what_is_missing_is_a_task(
    split: Distributed, checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    swept([checkpoints[1]], tmp_path / "out")
    assert "#SBATCH --array=0-1\n" in slurm_script(split, SLURM)
    assert [job.source.checkpoint.step for job in split.tasks().jobs] == [1000, 3000]
    with pytest.raises(
        WorkerError, match="2 of 3 checkpoints are not scored; got stage1-step1000,"
    ):
        split.check_complete()
    before = split.id
    swept(checkpoints, tmp_path / "out")
    split.check_complete()
    assert slurm_script(split, SLURM) == "" and split.id == before


def test_another_sweep_has_another_folder(split: Distributed, tmp_path: Path) -> None:
    others = [
        replace(split, request=replace(REQUEST, demo_seeds=2)),
        replace(split, request=replace(REQUEST, token_budget=99)),
        replace(split, request=replace(REQUEST, tasks=("repetitive_answer/addition",))),
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
    split = Distributed(
        entries, REQUEST, tmp_path / "out", tmp_path / "logs", drop_scored=True, hub=hub
    )
    tasks = split.tasks()
    for rank in range(3):
        tasks(None, rank, 3)
        assert not list((tmp_path / "cache").rglob("*.safetensors"))
    assert content(tmp_path / "out") == swept(checkpoints, tmp_path / "direct")
    twin = replace(entries[2], address=entries[0].address)
    with pytest.raises(ConfigError, match="two checkpoints are one snapshot"):
        replace(split, checkpoints=(*entries[:2], twin)).tasks()


def test_refused_without_slurm_or_inside_its_arrays(
    split: Distributed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="Slurm is not installed here; got no sbatch"):
        submit_slurm(split, SLURM)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    with pytest.raises(ConfigError, match="a task of a Slurm array cannot submit"):
        submit_slurm(split, SLURM)
    assert list(tmp_path.iterdir()) == []


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


PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch")
WITHOUT = [
    name for name in PROGRAMS if not shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
]

CONF = """
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmctldPort={ctld}
SlurmdPort={slurmd}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=2000 State=UNKNOWN
PartitionName=debug Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def until(seen: Callable[[], object], what: str, seconds: float = 90) -> None:
    limit = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < limit, what
        time.sleep(0.1)


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


@pytest.fixture
def slurm_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cluster of one node with a key and sockets of its own, as root and without systemd."""
    folder = tmp_path / "slurm"
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir(parents=True, mode=0o755)
    folder.chmod(0o755)
    host = socket.gethostname().split(".")[0]
    conf = CONF.format(
        host=host, folder=folder, ctld=free_port(), slurmd=free_port(), cpus=os.cpu_count()
    )
    (folder / "slurm.conf").write_text(conf)
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    monkeypatch.setenv("PATH", f"/usr/sbin:/usr/bin:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    munged = ["munged", "--foreground", "--force", f"--key-file={key}"]
    munged += [f"--socket={folder}/munge.socket", f"--pid-file={folder}/munge/pid"]
    munged += [f"--seed-file={folder}/munge/seed", f"--log-file={folder}/munge/log"]
    with ExitStack() as stack:
        for command in (munged, ["slurmctld", "-D", "-c"], ["slurmd", "-D", "-N", host]):
            log = stack.enter_context((folder / f"{command[0]}.out").open("wb"))
            process = subprocess.Popen(command, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.send_signal, signal.SIGKILL)
            if command is munged:
                until((folder / "munge.socket").exists, "munged did not start", 20)
        until(lambda: said("sinfo", "-h", "-o", "%t") == "idle", "the node did not become idle")
        yield folder
        said("scancel", "--partition=debug", "--signal=KILL")
        said("scancel", "--partition=debug")
        until(lambda: not said("squeue", "-h"), "jobs did not end", 30)


@pytest.mark.slow
@pytest.mark.skipif(
    bool(WITHOUT) or os.geteuid() != 0,
    reason=f"needs root and slurm-wlm and munge of Debian; absent: {', '.join(WITHOUT) or 'root'}",
)
def test_slurm_itself(
    slurm_here: Path, split: Distributed, checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    split = replace(split, resources=Resources(memory_gb=1, at_once=1))
    slurm = replace(SLURM, max_array=2)
    held = replace(slurm, options={"hold": ""})
    told = slurm_script(split, held)
    assert submit_slurm(split, held)
    assert (split.folder / "launch_script.slurm").read_text() == told, "dry run and run differ"
    written = content(split.folder)
    with pytest.raises(ConfigError, match="a job of this sweep is in the queue already"):
        submit_slurm(split, slurm)
    assert content(split.folder) == written, "waiting tasks read these"
    said("scancel", f"--name={split.name}")
    until(lambda: not said("squeue", "-h"), "the held job did not go")

    with pytest.raises(WorkerError, match=r"Slurm refuses|sbatch"):
        submit_slurm(split, replace(slurm, partition="none"))

    # Two arrays, the second of one task; a checkpoint that cannot be loaded fails alone.
    broken = Checkpoint("olmo3-7b", "stage1", 9, tmp_path / "none")
    faulty = replace(split, checkpoints=[broken, *checkpoints[:2]])
    assert submit_slurm(faulty, slurm)
    until(lambda: not said("squeue", "-h"), "the jobs did not end", 240)
    with pytest.raises(WorkerError, match="1 of 3 checkpoints are not scored; got stage1-step9;"):
        faulty.check_complete()
    kept = items_path(tmp_path / "out", checkpoints[0], TASK).stat().st_mtime_ns
    assert submit_slurm(split, slurm)
    until(lambda: not said("squeue", "-h"), "the jobs did not end", 240)
    split.check_complete()
    assert items_path(tmp_path / "out", checkpoints[0], TASK).stat().st_mtime_ns == kept

    # datatrove has marked rank 0 of this sweep as completed, which it is not any more.
    assert (split.folder / "completions" / "00000").exists()
    items_path(tmp_path / "out", checkpoints[1], TASK).unlink()
    assert submit_slurm(split, slurm)
    until(lambda: not said("squeue", "-h"), "the jobs did not end", 240)
    split.check_complete()
    assert submit_slurm(split, slurm) is None
    assert content(tmp_path / "out") == swept(checkpoints, tmp_path / "direct")
