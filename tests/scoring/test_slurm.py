"""Sweeps as arrays of Slurm: the script, refusals, and a real Slurm on loopback."""

import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from scoring.executors import Distributed, Resources
from scoring.generation_requests import AnswersRequest
from scoring.items import items_path
from scoring.slurm import Slurm, run_slurm, slurm_script, submit_slurm
from scoring.sweep import SweepRequest, sweep
from windows.checkpoints.folder import Checkpoint
from windows.errors import ConfigError, WorkerError
from windows.progress import Advance, Reporter
from windows.workers import WorkerPool

TASK = "normal_control/addition"
REQUEST = SweepRequest((TASK,), "label", 1)
ANSWERS = AnswersRequest(REQUEST, max_new_tokens=2)
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
    return Distributed(checkpoints, (REQUEST, ANSWERS), tmp_path / "out", tmp_path / "logs")


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def swept(checkpoints: list[Checkpoint], out: Path) -> dict[str, bytes]:
    with WorkerPool(0) as pool:
        sweep(checkpoints, (REQUEST, ANSWERS), out, pool, Reporter(quiet=True))
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


def test_only_what_is_missing_is_in_the_array(
    split: Distributed, checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    swept([checkpoints[1]], tmp_path / "out")
    assert "#SBATCH --array=0-1\n" in slurm_script(split, SLURM)
    swept(checkpoints, tmp_path / "out")
    assert slurm_script(split, SLURM) == ""


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


def needs_slurm(test: Callable[..., None]) -> Callable[..., None]:
    absent = ", ".join(WITHOUT) or "root"
    reason = f"needs root and slurm-wlm and munge of Debian; absent: {absent}"
    able = pytest.mark.skipif(bool(WITHOUT) or os.geteuid() != 0, reason=reason)(test)
    # Its one node is the whole machine: one test at a time.
    return pytest.mark.xdist_group("slurm")(pytest.mark.slow(able))


@needs_slurm
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


FOLLOW = """
import pickle, sys
from pathlib import Path
from scoring.slurm import run_slurm
from windows.progress import Reporter

sweep, slurm = pickle.loads(Path(sys.argv[1]).read_bytes())
run_slurm(sweep, slurm, Reporter(), poll_seconds=0.1)
"""


class Told(Reporter):
    """What a waiting user would see."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.notes: list[str] = []
        self.done: list[int] = []
        self.total: int | None = None

    @contextmanager
    def task(self, description: str, total: int | None) -> Iterator[Advance]:
        self.total = total
        yield lambda n=1: self.done.append(n)

    def note(self, text: str) -> None:
        self.notes.append(text)


@needs_slurm
def test_the_waiting_is_taken_up_after_a_kill(
    slurm_here: Path, split: Distributed, checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    split = replace(split, resources=Resources(memory_gb=1, at_once=1))
    swept(checkpoints[:1], tmp_path / "out")
    asked = tmp_path / "asked.pickle"
    asked.write_bytes(pickle.dumps((split, replace(SLURM, options={"hold": ""}))))
    process = subprocess.Popen([sys.executable, "-c", FOLLOW, str(asked)], stderr=subprocess.PIPE)
    until(lambda: said("squeue", "-h") and (split.folder / "submit.lock").exists(), "no job")
    until(lambda: "held" in said("squeue", "-h", "-o", "%r").lower(), "the job is not held")
    process.kill()
    assert b"is submitted as job" in process.communicate()[1]
    # The other is datatrove's merge of statistics, which waits for the array.
    held = array, _ = sorted(said("squeue", "-h", "-o", "%i").split())
    written = content(split.folder)

    for job in held:
        said("scontrol", "release", job.partition("_")[0])
    told = Told()
    run_slurm(split, SLURM, told, poll_seconds=0.1)
    assert f"{split.name} is in the queue already (" in told.notes[0] and array in told.notes[0]
    assert len(told.notes) == 1
    assert told.total == sum(told.done) == 6 and told.done[0] == 2
    assert not said("squeue", "-h"), "returned before the jobs had ended"
    assert content(tmp_path / "out") == swept(checkpoints, tmp_path / "direct")
    assert content(split.folder).items() >= written.items(), "submitted a second time"

    # All is scored: nothing is submitted. A checkpoint that cannot be loaded is told at the end.
    run_slurm(split, SLURM, told)
    broken = Checkpoint("olmo3-7b", "stage1", 9, tmp_path / "none")
    faulty, told = replace(split, checkpoints=[*checkpoints, broken]), Told()
    with pytest.raises(WorkerError, match="1 of 4 checkpoints are not scored; got stage1-step9;"):
        run_slurm(faulty, SLURM, told, poll_seconds=0.1)
    assert (told.total, sum(told.done)) == (8, 6) and "is submitted as job" in told.notes[0]
