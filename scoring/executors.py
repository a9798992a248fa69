"""The sweep as tasks of datatrove's executors: a Slurm array, or Ray.

One task scores one checkpoint. datatrove marks a task as completed by an empty file that knows
nothing of what was asked or written, so its markers are never read: a sweep is done where its
tables are. On one machine `scoring.sweep.sweep` with a `WorkerPool` does the same; datatrove's own
local executor waits for ever for a worker that was killed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from scoring.jobs import Asked, Job, fetch_and_score, fingerprints, pending
from scoring.loading import FLOAT32_ON_CPU, Compute
from scoring.prefetch import KEEP, Fetching, Snapshots, Source, Target, find_sources
from windows.errors import ConfigError, WorkerError
from windows.identity import content_id


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
    checkpoints, asked, out
        As of `sweep`. All paths, the Hub's cache among them, must be seen alike by every machine.
    logs
        Folder for the executor's own files, outside `out`; this sweep's lie in `folder`.
    resources
        What each task may use.
    compute
        As of `sweep`; ``auto`` is a GPU where `resources` have one, whatever this machine has.
    fetching
        As of `sweep`: each task fetches its own checkpoint, and drops it.
    """

    checkpoints: Sequence[Target]
    asked: Asked
    out: Path
    logs: Path
    resources: Resources = field(default_factory=Resources)
    compute: Compute = FLOAT32_ON_CPU
    fetching: Fetching = KEEP

    @property
    def sources(self) -> tuple[Source, ...]:
        """Where the checkpoints lie.

        Raises
        ------
        ConfigError
            As `find_sources` does; or two of them, to be dropped, share one snapshot.
        """
        found = find_sources(self.checkpoints, self.fetching.hub)
        if self.fetching.drop_scored:
            _check_apart(found)
        return found

    @property
    def id(self) -> str:
        """Twelve digits of what is asked of which weights, and of where the tables go."""
        told = {
            "tables": [told for _, _, told in fingerprints(self.asked, self._settled)],
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

    @property
    def tables(self) -> int:
        """How many tables all checkpoints shall have together."""
        return len(self.sources) * len(fingerprints(self.asked, self._settled))

    def tasks(self) -> Tasks:
        """Return a job for each checkpoint of which a table is missing."""
        out = self.out.resolve()
        jobs = pending(self.sources, self.asked, out, self._settled, self.resources.cpus)
        return Tasks(tuple(jobs), self.fetching.snapshots(out))

    @property
    def _settled(self) -> Compute:
        return self.compute.settled(gpus=self.resources.gpus > 0)

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
