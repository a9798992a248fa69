"""The run file: what a pre-training run read, and where its data and checkpoints lie."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import model_validator

from curate.settings_file import Override, overridden, read_mapping, validated
from curate.shipped import shipped
from trainers.settings import PretrainingSection
from windows.errors import ConfigError
from windows.mixes import MixSection
from windows.mixture_section import SourceMixtureSection
from windows.planted import PlantedSection, check_run
from windows.repetition import RepetitionFilter
from windows.run import RunConfig
from windows.settings import ReleasedSection, Remark, WindowsSection
from windows.source_mixture import MIXTURE_CLASS, check_dataset_class


class RunFile(RunConfig):
    """A run that is made here (embedded), or one that was given.

    An embedded run has a `corpus` and a `pretraining`. The token files of a given one are in `data`
    (a folder with a manifest), listed in `files`, or those of a `mix` or a `source_mixture` of
    OLMo-core; none are needed where the loader is unknown. Its `checkpoints` are in a folder, if
    they are local. Folders are relative to the run file.

    Attributes
    ----------
    windows
        The grid of the run's checkpoints.
    repetition_filter
        The filter that masked the loss of instances with a repeated pattern, if the run had one.
    text_tokenizer
        What turns the run's ids into text: a repository of the Hugging Face Hub, or a folder with
        a ``tokenizer.json``, written with a leading ``./`` or ``/``.
    released
        Where the checkpoints were released.
    remarks
        What a reader must know of the run, or of a part of it.
    """

    corpus: PlantedSection | None = None
    pretraining: PretrainingSection | None = None
    mix: MixSection | None = None
    source_mixture: SourceMixtureSection | None = None
    windows: WindowsSection | None = None
    repetition_filter: RepetitionFilter | None = None
    text_tokenizer: str | None = None
    released: ReleasedSection = ReleasedSection()
    remarks: tuple[Remark, ...] = ()

    @property
    def embedded(self) -> bool:
        """Whether the run is made here."""
        return self.corpus is not None

    @property
    def order_config(self) -> RunConfig:
        """What decides which instances were read, and when."""
        return RunConfig.model_validate(self.model_dump(include=set(RunConfig.model_fields)))

    @model_validator(mode="after")
    def _made_or_given(self) -> "RunFile":
        made = (self.corpus is not None, self.pretraining is not None)
        ways = (self.data, self.mix, self.source_mixture)
        data = bool(self.files) + sum(way is not None for way in ways)
        here = all(made) and not data and self.checkpoints is None
        given = not any(made) and data == (self.loader != "unknown")
        if not (here or given):
            raise ValueError(
                "a run has either corpus and pretraining, or data, files, mix or source_mixture,"
                " one of these (none where the loader is unknown)"
            )
        if (self.source_mixture is not None) != (self.dataset_class == MIXTURE_CLASS):
            raise ValueError(f"source_mixture and dataset_class: {MIXTURE_CLASS} go together")
        if self.corpus and self.pretraining and self.pretraining.steps > self.corpus.trained_steps:
            raise ValueError(
                f"pretraining has {self.pretraining.steps} steps, but the corpus has data for "
                f"{self.corpus.trained_steps}"
            )
        return self


@dataclass(frozen=True)
class GivenRun:
    """A run file and where it lies."""

    run: RunFile
    path: Path

    @property
    def data_folder(self) -> Path | None:
        """The folder of the token files with their manifest."""
        return self.path.parent / self.run.data if self.run.data else None

    @property
    def checkpoint_folder(self) -> Path | None:
        """The folder of local checkpoints."""
        return self.path.parent / self.run.checkpoints if self.run.checkpoints else None

    def resolved(self) -> dict[str, Any]:
        """Return the run with every default written out, as plain values."""
        return self.run.model_dump(mode="json")


# Settings that name a file or folder; in the run file, they are relative to it.
_PLACES = (
    "data",
    "checkpoints",
    "mix.base",
    "mix.list",
    "mix.sizes",
    "source_mixture.sizes",
    "released.csv",
    "released.trainer_state",
)


def load_run(path: Path, overrides: Sequence[Override] = ()) -> GivenRun:
    """Read a run file.

    Parameters
    ----------
    overrides
        Settings put in the place of the file's own. Files and folders that they name are relative
        to where the user is, not to the run file.

    Raises
    ------
    ConfigError
        In one line: what is wrong, where, what was found and what to do.
    """
    settings = [_from_here(each) for each in overrides]
    data = overridden(read_mapping(path, "run"), settings, RunFile)
    run = validated(RunFile, data, str(path), settings)
    try:
        check_dataset_class(run.dataset_class)
        if run.corpus is not None:
            check_run(run)
    except ConfigError as error:
        where = f"{path}: {error.where}"
        raise ConfigError(error.what, where=where, got=error.got, do=error.do) from None
    return GivenRun(run, path)


def _from_here(override: Override) -> Override:
    value, known = override.value, override.dotted in _PLACES
    if not isinstance(value, str) or "://" in value or not (known or value.startswith("./")):
        return override
    return replace(override, value=str(Path.cwd() / value))


def find_run(run: str, study: Path) -> Path:
    """Return the run file that a study means: a path beside it, or the name of a shipped run.

    Raises
    ------
    ConfigError
        There is no run of that name.
    """
    if "/" in run or run.endswith((".yaml", ".yml")):
        return study.parent / run
    beside = study.parent.parent / "runs" / f"{run}.yaml"
    if beside.is_file():
        return beside
    known = shipped("runs")
    if run in known:
        return known[run]
    raise ConfigError(
        "no run of that name",
        where=f"{study}: run",
        got=repr(run),
        do=f"write {beside}, give a path, or use a run that is shipped: {', '.join(known)}",
    )
