"""A study: one YAML file that names a run and says everything that is done with it.

The file is composed of one section per layer, each defined in its own layer's ``settings``; what
concerns several sections at once is checked here, before anything is read, trained or written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, StringConstraints, model_validator

from curate.run_file import GivenRun, RunFile, find_run, load_run
from curate.settings import MixtureSection
from curate.settings_file import Override, overridden, read_mapping, validated
from curate.shipped import shipped
from curate.study_checks import check_study
from scoring.settings import LabelsSection, NullsSection, SuiteSection, SweepSection
from scoring.suite.registry import chosen
from scoring.suite.sets import Sets
from trainers.settings import (
    AttributionSection,
    PredictorsSection,
    TrainingSection,
    TransferSection,
    VerdictSection,
)
from windows.checkpoints.catalogs import CatalogEntry, hub_catalog
from windows.checkpoints.folder import catalog
from windows.errors import ConfigError
from windows.run import RunConfig
from windows.settings import Section, WindowsSection

T = TypeVar("T")

# Names become folder names, and parts of "study/arm/seed".
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


ORDER = (
    "corpus",
    "pretrain",
    "scores",
    "labels",
    "transfer",
    "exports",
    "arms",
    "arm_scores",
    "verdict",
    "report",
)
"""The steps of a study, as methods of `curate.chain.Chain`, each after those it needs."""


class StudyConfig(Section):
    """The study file.

    `seed` is that of everything drawn by the study, the making of an embedded run included.
    `run` is the name of a run file or its path relative to the study file. `workers` processes
    train and score at once; results do not depend on their number. A study may end early: with
    `suite` and `windows` alone it is scored, with `labels` it is labelled, and so on.
    """

    name: Name
    seed: int = Field(default=0, ge=0, lt=2**32)
    run: str = Field(min_length=1)
    suite: SuiteSection
    windows: WindowsSection
    sweep: SweepSection = SweepSection()
    labels: LabelsSection | None = None
    nulls: NullsSection = NullsSection()
    predictors: PredictorsSection = PredictorsSection()
    attribution: AttributionSection = AttributionSection()
    transfer: TransferSection | None = None
    mixtures: dict[Name, MixtureSection] = Field(default_factory=dict)
    training: TrainingSection | None = None
    arms: dict[Name, str] = Field(default_factory=dict)
    verdict: VerdictSection = VerdictSection()
    workers: int = Field(default=2, ge=0, le=1024)

    @model_validator(mode="after")
    def _has_what_it_builds_on(self) -> "StudyConfig":
        for section, needed in (
            ("transfer", ("labels", "training")),
            ("mixtures", ("labels",)),
            ("arms", ("labels", "transfer", "mixtures", "training")),
        ):
            if getattr(self, section):
                for name in needed:
                    if not getattr(self, name):
                        raise ValueError(f"{section} needs a section {name}")
        return self


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
    released
        The checkpoints of its stage where they are on the Hub, by step; else empty.
    """

    config: StudyConfig
    given: GivenRun
    path: Path
    checkpoint_steps: tuple[int, ...]
    released: tuple[CatalogEntry, ...] = ()

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
    def labels(self) -> LabelsSection:
        """The section of that name; refused, as `transfer` and `training` are, where absent."""
        return self._section("labels", self.config.labels)

    @property
    def transfer(self) -> TransferSection:
        """See `labels`."""
        return self._section("transfer", self.config.transfer)

    @property
    def training(self) -> TrainingSection:
        """See `labels`."""
        return self._section("training", self.config.training)

    def _section(self, name: str, section: T | None) -> T:
        if section is None:
            raise ConfigError(
                f"the study has no section {name}, which this needs",
                where=str(self.path),
                do=f"add {name}, or use a command that needs none, such as score",
            )
        return section

    @property
    def sets(self) -> Sets:
        """Where the suite's sets that do not come with the package are read from."""
        suite, named = self.config.suite, self.config.suite.released
        # A folder is found from the study file, as the run is.
        beside = self.path.parent / named.source if named else None
        source = str(beside) if beside and beside.is_dir() else named.source if named else ""
        revision = named.revision if named else None
        return Sets(source, revision, tuple(sorted(suite.revisions.items())))

    @property
    def tasks(self) -> tuple[str, ...]:
        """The keys of the suite's tasks, patterns resolved."""
        return chosen(self.config.suite.tasks, sets=self.sets, where=f"{self.path}: suite.tasks")

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
    def has_data(self) -> bool:
        """Whether the token files are made here, or lie here."""
        run = self.run
        return run.embedded or self.data_folder is not None or bool(run.files)

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps of `ORDER` that the study has sections for, in that order."""
        config = self.config
        there = {
            "corpus": self.has_data,
            "labels": config.labels is not None,
            "transfer": config.labels is not None and config.transfer is not None,
            "exports": bool(config.mixtures),
            **dict.fromkeys(("arms", "arm_scores", "verdict"), bool(config.arms)),
            "report": config.labels is not None,
        }
        return tuple(step for step in ORDER if there.get(step, True))

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
    released = _released(given)
    steps = tuple(entry.step for entry in released) or _checkpoint_steps(given)
    study = Study(config, given, path, steps, released)
    check_study(study)
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


def _released(given: GivenRun) -> tuple[CatalogEntry, ...]:
    """List the checkpoints of a run's stage on the Hub, if that is where they are."""
    run, repo = given.run, given.run.released.hub
    if run.embedded or run.checkpoints is not None or repo is None:
        return ()
    found = hub_catalog(repo, run=run.name, stage=run.stage).entries
    # Averages and other mixes have a suffix: they are not the run's own.
    own = {entry.step: entry for entry in found if entry.stage == run.stage and not entry.suffix}
    if not own:
        raise ConfigError(
            f"no revision here is called {run.stage}-step<number>",
            where=f"{given.path}: released.hub",
            got=repo,
            do="name the repository whose revisions are the run's checkpoints",
        )
    return tuple(own[step] for step in sorted(own))


def _checkpoint_steps(given: GivenRun) -> tuple[int, ...]:
    run, run_path = given.run, given.path
    if run.pretraining is not None:
        return run.pretraining.checkpoint_steps
    if run.checkpoints is None:
        raise ConfigError(
            f"run {run.name} has no checkpoints here, so no study can be made of it",
            where=f"{run_path}: checkpoints",
            do="name their folder in checkpoints, or their repository in released.hub; windows, "
            "what, when and checkpoints need none",
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
