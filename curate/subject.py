"""What a question about data is about: the run of a study, or a run by itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.run_file import GivenRun, load_run
from curate.settings_file import Override, read_mapping
from curate.shipped import shipped
from curate.study import Study, load_study
from windows.errors import ConfigError
from windows.run import RunConfig
from windows.settings import WindowsSection


@dataclass(frozen=True)
class Subject:
    """A run, and the study that asks about it, if there is one.

    Attributes
    ----------
    given
        The run file, and where it lies.
    run
        The run, with the seed of its data order.
    seed
        Of what is drawn.
    grid
        The windows that are meant where no steps are named: the study's, or the run's own.
    study
        None for a run by itself.
    """

    given: GivenRun
    run: RunConfig
    seed: int
    grid: WindowsSection | None
    study: Study | None = None

    @property
    def name(self) -> str:
        """The study's name, or the run's."""
        return self.study.config.name if self.study else self.run.name

    def resolved(self) -> dict[str, Any]:
        """Return what was read, with every default written out, as plain values."""
        return self.study.resolved() if self.study else {"run": self.given.resolved()}


def load_subject(path_or_name: str, overrides: Sequence[str] = ()) -> Subject:
    """Read a study, or a run file by itself.

    Parameters
    ----------
    path_or_name
        A file, or the name of a study or run that comes with the package.
    overrides
        Settings ``a.b=value`` put in the place of the file's own.

    Raises
    ------
    ConfigError, DataError
        As `curate.study.load_study`; a run that is made here is asked about by its study only.
    """
    run_path = _run_path(path_or_name)
    if run_path is None:
        study = load_study(path_or_name, overrides)
        section = study.config.windows.model_copy(update={"end_step": study.end_step})
        return Subject(study.given, study.run_config, study.config.seed, section, study)
    given = load_run(run_path, [Override.parse(text) for text in overrides])
    if given.run.embedded:
        raise ConfigError(
            f"run {given.run.name} is made by a study",
            where=str(run_path),
            do="name a study of it, such as demo",
        )
    return Subject(given, given.run.order_config, 0, given.run.windows)


def _run_path(path_or_name: str) -> Path | None:
    """Return the run file that is meant; None where a study is."""
    path = Path(path_or_name)
    if not path.exists():
        return None if path_or_name in shipped("studies") else shipped("runs").get(path_or_name)
    return path if "step_map" in read_mapping(path, "study") else None
