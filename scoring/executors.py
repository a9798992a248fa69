"""The sweep as tasks of datatrove's executors: a Slurm array, or Ray.

One task scores one checkpoint. datatrove marks a task as completed by an empty file that knows
nothing of what was asked or written, so its markers are never read: a sweep is done where its
tables are. On one machine `scoring.sweep.sweep` with a `WorkerPool` does the same; datatrove's own
local executor waits for ever for a worker that was killed.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from scoring.prefetch import FETCHED, Snapshots, Source, Target, find_sources
from scoring.sweep import Job, SweepRequest, fetch_and_score, pending
from windows.checkpoints.hub import Hub
from windows.errors import ConfigError, WorkerError
from windows.identity import content_id

if TYPE_CHECKING:
    from datatrove.executor.slurm import SlurmPipelineExecutor


@dataclass(frozen=True)
class Resources:
    """What each task may use.

    Attributes
    ----------
    cpus, gpus
        Of one task; it computes with as many threads as it has CPUs.
    memory_gb
        For each CPU.
    at_once
        The most tasks that run together; None for all.
    """

    cpus: int = 1
    gpus: int = 0
    memory_gb: int = 4
    at_once: int | None = None


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


@dataclass(frozen=True)
class Tasks:
    """The step that every rank runs; what has been scored meanwhile is not scored again."""

    jobs: tuple[Job, ...] = field(repr=False)
    snapshots: Snapshots

    def __call__(self, data: object, rank: int, world_size: int) -> None:
        """Score the checkpoint of a rank."""
        fetch_and_score(self.jobs[rank], self.snapshots)


@dataclass(frozen=True)
class Distributed:
    """A sweep that is cut into tasks.

    Attributes
    ----------
    checkpoints, request, out
        As of `sweep`. All paths, the Hub's cache among them, must be seen alike by every machine.
    logs
        Folder for the executor's own files, outside `out`; this sweep's lie in `folder`.
    resources
        What each task may use.
    drop_scored, hub
        As of `sweep`: each task fetches its own checkpoint, and drops it.
    """

    checkpoints: Sequence[Target]
    request: SweepRequest
    out: Path
    logs: Path
    resources: Resources = field(default_factory=Resources)
    drop_scored: bool = False
    hub: Hub = field(default_factory=Hub)

    @property
    def sources(self) -> tuple[Source, ...]:
        """Where the checkpoints lie.

        Raises
        ------
        ConfigError
            As `find_sources` does; or two of them, to be dropped, share one snapshot.
        """
        found = find_sources(self.checkpoints, self.hub)
        if self.drop_scored:
            _check_apart(found)
        return found

    @property
    def id(self) -> str:
        """Twelve digits of what is asked of which weights, and of where the tables go."""
        told = {
            "request": self.request,
            "blocks": [self.request.blocks(task) for task in self.request.tasks],
            "out": str(self.out.resolve()),
            "checkpoints": [
                (s.checkpoint.run, s.checkpoint.name, str(s.checkpoint.path.resolve()))
                for s in self.sources
            ],
        }
        return content_id(told)[:12]

    @property
    def name(self) -> str:
        """The name of the job."""
        return f"modehop-score-{self.id}"

    @property
    def folder(self) -> Path:
        """Where logs and the executor's own files go; no other sweep has this folder."""
        return self.logs.resolve() / self.name

    def tasks(self) -> Tasks:
        """Return a job for each checkpoint of which a table is missing."""
        out = self.out.resolve()
        jobs = pending(self.sources, self.request, out, self.resources.cpus)
        return Tasks(tuple(jobs), Snapshots(self.hub, out / FETCHED if self.drop_scored else None))

    def check_complete(self) -> None:
        """See that every table is there, whatever an executor says of its tasks.

        Raises
        ------
        WorkerError
            One is missing.
        """
        names = [job.source.checkpoint.name for job in self.tasks().jobs]
        if names:
            more = f" and {len(names) - 3} more" if names[3:] else ""
            raise WorkerError(
                f"{len(names)} of {len(self.checkpoints)} checkpoints are not scored",
                where=str(self.out),
                got=", ".join(names[:3]) + more,
                do=f"see the logs in {self.folder}, then run the same command again to go on",
            )


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
        _run_slurm(executor.launch_job)
    return str(executor.job_id)


def run_ray(sweep: Distributed, *, seconds: int | None = None) -> None:
    """Score on the Ray cluster that is set up, or on a new one on this machine, and wait.

    Parameters
    ----------
    sweep
        What to score.
    seconds
        The longest that a task may take. Without a limit, the executor waits for ever for a task
        whose process was killed.

    Raises
    ------
    ConfigError
        Ray is not installed.
    WorkerError
        A checkpoint was not scored: the executor itself returns as if all were well.
    """
    if find_spec("ray") is None:
        raise ConfigError(
            "ray is not installed", where="executor", got="ray", do="pip install 'ray[default]'"
        )
    tasks = sweep.tasks()
    if not tasks.jobs:
        return
    from datatrove.executor.ray import RayPipelineExecutor

    resources = sweep.resources
    executor = RayPipelineExecutor(
        [tasks],
        tasks=len(tasks.jobs),
        workers=resources.at_once or -1,
        logging_dir=str(sweep.folder),
        skip_completed=False,
        cpus_per_task=resources.cpus,
        gpus_per_task=resources.gpus,
        mem_per_cpu_gb=resources.memory_gb,
        time=seconds,
    )
    try:
        executor.run()
    except Exception as error:
        raise WorkerError(
            "Ray failed",
            where=sweep.name,
            got=" ".join(f"{type(error).__name__} {error}".split())[:200],
            do=f"see the logs in {sweep.folder}, then run the same command again to go on",
        ) from error
    sweep.check_complete()


def _check_apart(sources: Sequence[Source]) -> None:
    names: dict[Path, str] = {}
    for source in sources:
        path, name = source.checkpoint.path, source.checkpoint.name
        if source.revision and (other := names.setdefault(path, name)) != name:
            raise ConfigError(
                "two checkpoints are one snapshot, which the first to be scored would drop",
                where="drop_scored",
                got=f"{other} and {name} at commit {source.revision.commit[:12]}",
                do="leave one of them out, or do not drop",
            )


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
    done = _run_slurm(lambda: subprocess.run(command, capture_output=True, text=True, check=True))
    return str(done.stdout).split()


def _run_slurm(call: Any) -> Any:
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
