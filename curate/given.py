"""Whether a given run is what its file says, checked before a study of it makes anything."""

from collections.abc import Sequence
from pathlib import Path

from curate.study import Study
from windows.checkpoints.folder import OPTIMIZER, TRAINER, catalog, check_safetensors, validate
from windows.errors import DataError
from windows.manifest import data_files, read_manifest
from windows.order import DataOrder
from windows.run import DataFile, tile
from windows.tokens import TokenFiles


def check_given(study: Study) -> None:
    """Check a given run's token files and the checkpoints that the study needs.

    Sizes and headers are looked at, contents are not. An embedded run, which is made here, passes.

    Raises
    ------
    DataError
        A token file or a checkpoint is missing or cut short, or the manifest is not this run's.
    ConfigError
        The study's windows are not inside the data.
    """
    if study.checkpoint_folder is None:
        return
    if study.has_data:
        files = given_files(study)
        tokens = TokenFiles(
            [Path(file.path) for file in files],
            sequence_length=study.run.sequence_length,
            token_bytes=study.run.token_bytes,
            expected_bytes=[file.bytes for file in files],
        )
        _check_manifest(study)
        _check_windows(study, study.run.order(tokens.sizes))
    _check_checkpoints(study, study.checkpoint_folder)


def check_optimizer_state(study: Study, key: str, step: int) -> None:
    """Check that a given run's checkpoint can be trained on from where its optimizer stood.

    Parameters
    ----------
    key
        The setting that names the checkpoint.
    step
        Its step.

    Raises
    ------
    DataError
        The checkpoint has no optimizer state, or one that is cut short.
    """
    if study.checkpoint_folder is None:
        return
    named = f"{study.run.stage}-step{step}"
    found = catalog(study.checkpoint_folder, study.run.name, study.run.stage)
    here = [each.path for each in found if (each.stage, each.step) == (study.run.stage, step)]
    folder = here[0] if here else study.checkpoint_folder / named
    for name in (OPTIMIZER, TRAINER):
        if not (folder / name).is_file():
            raise DataError(
                f"checkpoint {folder.name} has no {name}",
                where=f"{study.path}: {key}",
                got=str(folder),
                do="name one that was saved with its optimizer state; arms, but not replays, can "
                "do without (training.init: weights)",
            )
    check_safetensors(folder / OPTIMIZER)


def given_files(study: Study) -> tuple[DataFile, ...]:
    """List a given run's token files, from its manifest or from its own list, with full paths."""
    if study.data_folder is not None:
        return data_files(study.data_folder)
    beside = study.run_path.parent
    return tuple(
        file.model_copy(update={"path": str(beside / file.path)}) for file in study.run.files
    )


def _check_manifest(study: Study) -> None:
    if study.data_folder is None:
        return
    manifest, run = read_manifest(study.data_folder), study.run
    for key, ours, theirs in (
        ("token_bytes", run.token_bytes, manifest.token_bytes),
        ("tokenizer.vocab_size", run.tokenizer.vocab_size, manifest.vocab_size),
        ("tokenizer.eos_id", run.tokenizer.eos_id, manifest.eos_id),
    ):
        if ours != theirs:
            raise DataError(
                "the run file and its data's manifest do not agree",
                where=f"{study.run_path}: {key}",
                got=f"{ours}, where the manifest says {theirs}",
                do="correct the run file, or point data at the run's own folder",
            )


def _check_windows(study: Study, order: DataOrder) -> None:
    windows = study.config.windows
    tile(study.run, order, windows.first_step, study.end_step, windows.every)


def _check_checkpoints(study: Study, folder: Path) -> None:
    needed: Sequence[int] = study.edges
    found = catalog(folder, study.run.name, study.run.stage)
    for checkpoint in found:
        if checkpoint.stage == study.run.stage and checkpoint.step in needed:
            validate(checkpoint.path)
