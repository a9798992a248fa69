"""The sweep as an array of Slurm: submitted, and followed to its end by whoever waits for it.

The jobs do not depend on the process that submitted them: one that was killed is started again and
takes up the waiting.
"""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from scoring.executors import Distributed, Tasks
from windows.errors import ConfigError, WorkerError
from windows.progress import Reporter

if TYPE_CHECKING:
    from datatrove.executor.slurm import SlurmPipelineExecutor


@dataclass(frozen=True)
class Slurm:
    """Where and how to submit.

    Attributes
    ----------
    partition, time
        As ``sbatch`` has them.
    qos
        Left to the cluster where empty.
    setup
        Shell lines that make the environment; by default this interpreter's own goes first on the
        path. They are the user's own and are run as they stand.
    options
        More ``#SBATCH`` directives by name, without dashes; an empty value makes a flag.
    max_array
        The most tasks of one array (the cluster's ``MaxArraySize``); more make several arrays.
    """

    partition: str
    time: str
    qos: str = ""
    setup: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    max_array: int = 1001


def slurm_script(sweep: Distributed, slurm: Slurm) -> str:
    """Return the text that `submit_slurm` would give to ``sbatch``; nothing is written.

    Empty where nothing is left to score.
    """
    tasks = sweep.tasks()
    if not tasks.jobs:
        return ""
    with _as_it_was(sweep.folder):
        return _script(_slurm_executor(sweep, slurm, tasks))


def submit_slurm(sweep: Distributed, slurm: Slurm) -> str | None:
    """Submit an array with one task for each checkpoint that is not scored yet.

    A second job of the same sweep is refused while the first is queued or runs: it would rewrite
    the list from which waiting tasks read what is theirs.

    Returns
    -------
    str or None
        The job's id, of the last array where there are several; None where all is scored.

    Raises
    ------
    ConfigError
        There is no Slurm here, this is itself a task of an array, or a job of this sweep is queued.
    WorkerError
        Slurm refuses the job.
    """
    _check_outside()
    tasks = sweep.tasks()
    if not tasks.jobs:
        return None
    sweep.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(sweep.folder / "submit.lock"):
        if queued := _queued(sweep.name):
            raise ConfigError(
                "a job of this sweep is in the queue already",
                where=sweep.name,
                got=", ".join(queued[:5]),
                do="wait for it, or cancel it (scancel) and run the same command again",
            )
        executor = _slurm_executor(sweep, slurm, tasks)
        _ask_slurm(executor.launch_job)
    return str(executor.job_id)


def wait_slurm(sweep: Distributed, reporter: Reporter, poll_seconds: float = 10.0) -> None:
    """Follow the queued jobs of a sweep, table by table, until none is left.

    Parameters
    ----------
    sweep
        What was submitted, by this process or another.
    reporter
        Told of every table.
    poll_seconds
        How long to wait before the queue and the folder are looked at again.

    Raises
    ------
    ConfigError
        There is no Slurm here.
    WorkerError
        Slurm does not answer; or its jobs have ended and a checkpoint is not scored.
    """
    _check_programs()
    name, jobs = sweep.name, sweep.tasks().jobs
    left, queued = sweep.tables, True
    with reporter.task("scoring tables on Slurm", left) as advance:
        while queued:
            queued = bool(_queued(name))
            jobs = tuple(job.unscored() for job in jobs)
            before, left = left, sum(len(job.missing) for job in jobs)
            advance(before - left)
            if queued:
                time.sleep(poll_seconds)
    sweep.check_complete()


def run_slurm(
    sweep: Distributed, slurm: Slurm, reporter: Reporter, *, poll_seconds: float = 10.0
) -> None:
    """Score on a cluster and wait; where a job of this sweep is queued already, only wait.

    Raises
    ------
    ConfigError, WorkerError
        As `submit_slurm` and `wait_slurm` do.
    """
    _check_outside()
    if queued := _queued(sweep.name):
        reporter.note(f"{sweep.name} is in the queue already ({', '.join(queued[:5])}): waiting")
    elif job := submit_slurm(sweep, slurm):
        reporter.note(f"{sweep.name} is submitted as job {job}: waiting; logs in {sweep.folder}")
    wait_slurm(sweep, reporter, poll_seconds)


def _slurm_executor(sweep: Distributed, slurm: Slurm, tasks: Tasks) -> "SlurmPipelineExecutor":
    from datatrove.executor.slurm import SlurmPipelineExecutor

    resources = sweep.resources
    beside = shlex.quote(str(Path(sys.executable).parent))
    return SlurmPipelineExecutor(
        [tasks],
        tasks=len(tasks.jobs),
        time=slurm.time,
        partition=slurm.partition,
        cpus_per_task=resources.cpus,
        gpus_per_task=resources.gpus,
        mem_per_cpu_gb=resources.memory_gb,
        workers=resources.at_once or -1,
        job_name=sweep.name,
        qos=slurm.qos,
        env_command=slurm.setup or f"export PATH={beside}:$PATH",
        # A merge of statistics that waits for a failed task would wait in the queue for ever.
        sbatch_args={"kill-on-invalid-dep": "yes", **slurm.options},
        max_array_size=slurm.max_array,
        logging_dir=str(sweep.folder),
        skip_completed=False,
    )


def _script(executor: Any) -> str:
    array = min(executor.tasks, executor.max_array_size)
    pickle = executor.logging_dir.resolve_paths("executor.pik")
    text: str = executor.get_launch_file_contents(
        executor.get_sbatch_args(array), f"srun  -l -n 1 launch_pickled_pipeline {pickle}"
    )
    return text


@contextmanager
def _as_it_was(folder: Path) -> Iterator[None]:
    """Remove the empty folders again that datatrove makes for logs of which there are none yet."""
    logs = folder / "slurm_logs"
    absent = [path for path in (logs, *logs.parents) if not path.exists()]
    try:
        yield
    finally:
        with suppress(OSError):
            for path in absent:
                path.rmdir()


def _check_outside() -> None:
    if "SLURM_ARRAY_TASK_ID" in os.environ:
        raise ConfigError(
            "a task of a Slurm array cannot submit a sweep",
            where="SLURM_ARRAY_TASK_ID",
            got=os.environ["SLURM_ARRAY_TASK_ID"],
            do="submit from a login node",
        )
    _check_programs()


def _check_programs() -> None:
    for program in ("sbatch", "squeue"):
        if shutil.which(program) is None:
            raise ConfigError(
                "Slurm is not installed here",
                where="executor",
                got=f"no {program} on the path",
                do="submit from a node of the cluster, or score in this process",
            )


def _queued(name: str) -> list[str]:
    command = ["squeue", "--noheader", f"--name={name}", "--format=%i"]
    done = _ask_slurm(lambda: subprocess.run(command, capture_output=True, text=True, check=True))
    return str(done.stdout).split()


def _ask_slurm(call: Any) -> Any:
    try:
        return call()
    except subprocess.CalledProcessError as error:
        said = error.stderr or error.output or ""
        said = said if isinstance(said, str) else said.decode(errors="replace")
        raise WorkerError(
            "Slurm refuses",
            where=" ".join(map(str, error.cmd[:1])),
            got=" ".join(said.split())[:200] or f"exit code {error.returncode}",
            do="see what it wrote above, and check partition, time and options",
        ) from error
