"""A study: one YAML file that names a run and says everything that is done with it.

The file is composed of one section per layer, each defined in its own layer's ``settings``; what
concerns several sections at once is checked here, before anything is read, trained or written.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from curate.run_file import GivenRun, RunFile, find_run, load_run
from curate.settings import MixtureSection
from curate.settings_file import Override, nearest, overridden, read_mapping, validated
from curate.shipped import shipped
from scoring.settings import LabelsSection, SuiteSection
from scoring.suite.registry import NO_LABELS, find
from trainers.settings import (
    CONTROLLED,
    REFERENCES,
    TrainingSection,
    TransferSection,
    VerdictSection,
)
from windows.checkpoints.folder import catalog
from windows.errors import ConfigError
from windows.run import RunConfig
from windows.settings import Section, WindowsSection

# Names become folder names, and parts of "study/arm/seed".
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class StudyConfig(Section):
    """The study file.

    `seed` is that of everything drawn by the study, the making of an embedded run included.
    `run` is the name of a run file or its path relative to the study file. `workers` processes
    train and score at once; results do not depend on their number.
    """

    name: Name
    seed: int = Field(default=0, ge=0, lt=2**32)
    run: str = Field(min_length=1)
    suite: SuiteSection
    windows: WindowsSection
    labels: LabelsSection
    transfer: TransferSection
    mixtures: dict[Name, MixtureSection]
    training: TrainingSection
    arms: dict[Name, str]
    verdict: VerdictSection = VerdictSection()
    workers: int = Field(default=2, ge=0, le=1024)


@dataclass(frozen=True)
class Study:
    """A study that may be begun: its file and its run's file, checked against each other.

    Attributes
    ----------
    config
        The study file, overrides put in.
    given
        The run file, and where it lies.
    path
        Where the study file lies.
    checkpoint_steps
        Steps at which the run has, or will have, a checkpoint of its stage; ascending.
    """

    config: StudyConfig
    given: GivenRun
    path: Path
    checkpoint_steps: tuple[int, ...]

    @property
    def run(self) -> RunFile:
        """The run file."""
        return self.given.run

    @property
    def run_path(self) -> Path:
        """Where the run file lies."""
        return self.given.path

    @property
    def run_config(self) -> RunConfig:
        """The run alone; an embedded run's data order is seeded anew by every study seed."""
        run = self.run.order_config
        seed = run.seed + self.config.seed if self.run.embedded else run.seed
        return run.model_copy(update={"seed": seed})

    @property
    def end_step(self) -> int:
        """The step at which the study's last window ends."""
        end = self.config.windows.end_step
        return self.checkpoint_steps[-1] if end is None else end

    @property
    def edges(self) -> tuple[int, ...]:
        """The steps between which the windows lie; one more than there are windows."""
        windows = self.config.windows
        return (*range(windows.first_step, self.end_step, windows.every), self.end_step)

    @property
    def data_folder(self) -> Path | None:
        """The folder of a given run's token files."""
        return self.given.data_folder

    @property
    def checkpoint_folder(self) -> Path | None:
        """The folder of a given run's checkpoints."""
        return self.given.checkpoint_folder

    def resolved(self) -> dict[str, Any]:
        """Return the study and its run with every default written out, as plain values."""
        return {
            "study": self.config.model_dump(mode="json"),
            "run": self.given.resolved(),
        }


def load_study(path_or_name: Path | str, overrides: Sequence[str] = ()) -> Study:
    """Read a study and its run, and check that they can be carried out together.

    Parameters
    ----------
    path_or_name
        A study file, or the name of one that comes with the package.
    overrides
        Settings ``a.b=value`` put in the place of the file's own.

    Raises
    ------
    ConfigError
        In one line: what is wrong, where, what was found and what to do.
    DataError
        A given run's folder of checkpoints is missing.
    """
    path = _study_path(path_or_name)
    settings = [Override.parse(text) for text in overrides]
    data = overridden(read_mapping(path, "study"), settings, StudyConfig)
    config = validated(StudyConfig, data, str(path), settings)
    given = load_run(find_run(config.run, path))
    study = Study(config, given, path, _checkpoint_steps(given))
    _check(study)
    return study


def _study_path(path_or_name: Path | str) -> Path:
    path = Path(path_or_name)
    known = shipped("studies")
    if not path.exists() and str(path_or_name) in known:
        return known[str(path_or_name)]
    if not path.exists() and known:
        raise ConfigError(
            "no such study file",
            where=str(path),
            do=f"give the path of a YAML file, or a study that is shipped: {', '.join(known)}",
        )
    return path


def _checkpoint_steps(given: GivenRun) -> tuple[int, ...]:
    run, run_path = given.run, given.path
    if run.pretraining is not None:
        return run.pretraining.checkpoint_steps
    if run.checkpoints is None:
        raise ConfigError(
            f"run {run.name} has no checkpoints here, so no study can be made of it",
            where=f"{run_path}: checkpoints",
            do="name the folder that holds them; windows, what, when and checkpoints need none",
        )
    if run.mix is not None:
        raise ConfigError(
            f"the data of run {run.name} are not here, so no study can be made of it",
            where=f"{run_path}: mix",
            do="name the folder of its token files in data, or list them in files",
        )
    found = catalog(run_path.parent / run.checkpoints, run.name, run.stage)
    steps = tuple(checkpoint.step for checkpoint in found if checkpoint.stage == run.stage)
    if not steps:
        raise ConfigError(
            f"no folder here is called {run.stage}-step<number>",
            where=f"{run_path}: checkpoints",
            got=repr(run.checkpoints),
            do="point it at the folder that holds the run's checkpoints",
        )
    return steps


def _check(study: Study) -> None:
    where = str(study.path)
    _check_suite(study.config, where)
    _check_windows(study, where)
    _check_arms(study.config, where)


def _check_suite(config: StudyConfig, where: str) -> None:
    for task in config.suite.tasks:
        find(task, where=f"{where}: suite.tasks")
    if len(set(config.suite.tasks)) < len(config.suite.tasks):
        raise ConfigError(
            "a task occurs twice", where=f"{where}: suite.tasks", do="name each task once"
        )
    _check_known(
        config.labels.task, config.suite.tasks, "not a task of this suite", f"{where}: labels.task"
    )
    if find(config.labels.task).family in NO_LABELS:
        raise ConfigError(
            "a control, which has no pattern to follow, labels no window",
            where=f"{where}: labels.task",
            got=repr(config.labels.task),
            do="name a task of another family",
        )


def _check_windows(study: Study, where: str) -> None:
    windows, steps = study.config.windows, study.checkpoint_steps
    if windows.stage != study.run.stage:
        raise ConfigError(
            f"run {study.run.name} is at another stage",
            where=f"{where}: windows.stage",
            got=repr(windows.stage),
            do=f"write {study.run.stage}",
        )
    if windows.first_step < steps[0] or study.end_step > steps[-1]:
        raise ConfigError(
            f"these windows are not inside run {study.run.name}",
            where=f"{where}: windows",
            got=f"steps {windows.first_step}:{study.end_step}",
            do=f"choose first_step and end_step within {steps[0]}:{steps[-1]}",
        )
    no_checkpoint = "a window begins or ends where the run has no checkpoint"
    for step in study.edges:
        _check_step(step, steps, f"{where}: windows", no_checkpoint)
    for key, step in (
        ("transfer.checkpoint", study.config.transfer.checkpoint),
        ("training.base_step", study.config.training.base_step),
    ):
        _check_step(step, study.edges, f"{where}: {key}", "no window begins or ends here")


def _check_step(step: int, allowed: Sequence[int], where: str, what: str) -> None:
    if step in allowed:
        return
    near = min(allowed, key=lambda other: abs(other - step))
    raise ConfigError(
        what,
        where=where,
        got=f"step {step}",
        do=f"the nearest is {near}",
    )


def _check_arms(config: StudyConfig, where: str) -> None:
    for arm, mixture in config.arms.items():
        _check_known(mixture, config.mixtures, "no mixture of that name", f"{where}: arms.{arm}")
    for arm in config.verdict.contrast:
        _check_known(arm, config.arms, "no arm of that name", f"{where}: verdict.contrast")
    if config.verdict.contrast[0] == config.verdict.contrast[1]:
        raise ConfigError(
            "an arm cannot be compared with itself",
            where=f"{where}: verdict.contrast",
            got=repr(config.verdict.contrast[0]),
            do="name two arms",
        )
    for arm in (*CONTROLLED, *REFERENCES):
        if arm not in config.arms:
            raise ConfigError(
                f"there is no arm {arm!r}, which the registered tests compare",
                where=f"{where}: arms",
                got=", ".join(config.arms),
                do=f"add `{arm}: MIXTURE`",
            )


def _check_known(word: str, known: Iterable[str], what: str, where: str) -> None:
    names = list(known)
    if word in names:
        return
    do = f"did you mean {nearest(word, names)!r}?" if names else "there are none to choose from"
    raise ConfigError(what, where=where, got=repr(word), do=do)
