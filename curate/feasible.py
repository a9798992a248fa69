"""What a step would refuse only when its turn comes, hours later: refused before anything is made.

Whatever depends on the scores, such as which windows a label takes, can only be refused then.
"""

from collections.abc import Collection

from curate.given import check_optimizer_state, given_files
from curate.settings import MixtureSection
from curate.study import Study
from scoring.deltas import MIN_WINDOWS
from scoring.suite.registry import CONTROL, find
from scoring.suite.schema import SPLITS
from scoring.transfer import EXPECTED_RHO, windows_needed
from trainers.settings import MIN_CHECKPOINTS
from windows.errors import ConfigError, DataError
from windows.order import DataOrder
from windows.planted import file_sizes
from windows.run import tile


def check_feasible(study: Study, needs: Collection[str]) -> None:
    """Check that the steps which a command needs can be done, as far as the files tell.

    Parameters
    ----------
    needs
        Names of steps, as of `curate.study.ORDER`.

    Raises
    ------
    ConfigError
        One of them would fail.
    DataError
        A given run lacks the optimizer state that one of them goes on from.
    """
    _check_sections(study, needs)
    if "scores" in needs:
        _check_questions(study)
    if "labels" in needs:
        _check_windows(study)
    if "transfer" in needs:
        _check_threshold(study)
        check_optimizer_state(study, "transfer.checkpoint", study.transfer.checkpoint)
    if "exports" in needs:
        _check_manifest(study)
        held = _window_tokens(study)
        for name, mixture in study.config.mixtures.items():
            _check_mixture(study, name, mixture)
            _check_capacity(study, name, mixture, held)
    if "transfer" in needs or "arms" in needs:
        _check_learning_rate(study)
    if "arms" in needs:
        _check_heldout(study)
        _check_budgets(study)
        _check_checkpoints(study)
    if "verdict" in needs:
        _check_control(study)


def _check_sections(study: Study, needs: Collection[str]) -> None:
    aside = ("corpus", "nulls", "predictors")
    absent = [step for step in needs if step not in study.steps and step not in aside]
    if absent:
        raise ConfigError(
            f"the study says nothing of {absent[0].replace('_', ' ')}, which this needs",
            where=str(study.path),
            got=f"its steps are {', '.join(study.steps)}",
            do="add the sections (labels, transfer, mixtures, training, arms) of the README's "
            "study, or use a command that needs none, such as score",
        )
    if not study.has_data and {"transfer", "exports", "arms"} & set(needs):
        raise ConfigError(
            f"the token files of run {study.run.name} are not here",
            where=str(study.run_path),
            do="name their folder in data, or list them in files",
        )
    if study.released and {"transfer", "exports", "arms"} & set(needs):
        raise ConfigError(
            f"the checkpoints of run {study.run.name} are on the Hub, and these are trained on",
            where=f"{study.run_path}: released.hub",
            do="bring them to a folder, with their optimizer states, and name it in checkpoints",
        )


def _check_questions(study: Study) -> None:
    """Build the last block of every task that is here: a set that is too small shows in it."""
    suite = study.config.suite
    for key in study.tasks:
        task = find(key, sets=study.sets)
        for split in SPLITS if task.at_hand() else ():
            most = task.draws(split)
            last = suite.demo_seeds if most is None else min(suite.demo_seeds, most)
            try:
                task.build(split, task.wordings[split][0], last - 1)
            except ConfigError as error:
                where = f"{study.path}: {error.where}"
                raise ConfigError(error.what, where=where, got=error.got, do=error.do) from None


def _check_windows(study: Study) -> None:
    if study.config.sweep.coarse is not None:
        raise ConfigError(
            "a coarse sweep leaves most windows without scores, so they cannot be labelled",
            where=f"{study.path}: sweep.coarse",
            do="see the changes with modehop score, then label with --set sweep.coarse=null",
        )
    windows = len(study.edges) - 1
    if study.labels.rule == "innovation" and windows < MIN_WINDOWS:
        raise ConfigError(
            f"rule innovation needs at least {MIN_WINDOWS} windows",
            where=f"{study.path}: windows",
            got=f"{windows} of {study.config.windows.every} steps",
            do="shorten windows.every, widen the range, or write `rule: delta` under labels",
        )


def _check_threshold(study: Study) -> None:
    threshold = study.transfer.threshold
    try:
        windows_needed(EXPECTED_RHO, threshold, confidence=0.95)
    except (ConfigError, DataError) as error:
        where = f"{study.path}: transfer.threshold"
        raise ConfigError(
            error.what, where=where, got=str(threshold), do=f"use one below {EXPECTED_RHO}"
        ) from None


def _check_manifest(study: Study) -> None:
    if not study.run.embedded and study.data_folder is None:
        raise ConfigError(
            "the run lists its files without a manifest, and curated shards quote it",
            where=f"{study.run_path}: files",
            do="write data instead: the folder that holds the files and their manifest.json",
        )


def _check_checkpoints(study: Study) -> None:
    training = study.training
    if training.steps // training.every < MIN_CHECKPOINTS:
        raise ConfigError(
            f"an arm needs {MIN_CHECKPOINTS} checkpoints to have a spread within its run",
            where=f"{study.path}: training.every",
            got=f"{training.every}, of {training.steps} steps",
            do=f"use at most {training.steps // MIN_CHECKPOINTS}",
        )
    if training.init == "weights+optimizer":
        check_optimizer_state(study, "training.base_step", training.base_step)


def _check_mixture(study: Study, name: str, mixture: MixtureSection) -> None:
    length, windows = study.run.sequence_length, len(study.edges) - 1
    if below := mixture.tokens % length:
        less = mixture.tokens - below
        raise ConfigError(
            f"the budget is no whole number of instances of {length} tokens",
            where=f"{study.path}: mixtures.{name}.tokens",
            got=str(mixture.tokens),
            do=f"use {less} or {less + length}" if less else f"use {length}",
        )
    if mixture.select.by == "placebo" and (mixture.select.windows or 0) > windows:
        raise ConfigError(
            "a placebo cannot take more windows than there are",
            where=f"{study.path}: mixtures.{name}.select.windows",
            got=f"{mixture.select.windows}, with {windows} windows",
            do=f"ask for at most {windows}",
        )


def _window_tokens(study: Study) -> list[int]:
    """Return the tokens of every window, most first."""
    section = study.config.windows
    windows = tile(study.run, _order(study), section.first_step, study.end_step, section.every)
    return sorted((window.tokens for window in windows), reverse=True)


def _check_capacity(study: Study, name: str, mixture: MixtureSection, held: list[int]) -> None:
    most = sum(held[: mixture.select.windows]) * mixture.repetitions
    if mixture.tokens > most:
        raise ConfigError(
            "the windows hold too few tokens for this budget",
            where=f"{study.path}: mixtures.{name}.tokens",
            got=f"{mixture.tokens}, of at most {most} in {mixture.repetitions} passes",
            do="choose more windows, allow more repetitions, or ask for fewer tokens",
        )


def _order(study: Study) -> DataOrder:
    if study.run.corpus is not None:
        return study.run_config.order(file_sizes(study.run.corpus, study.run))
    return study.run_config.order([file.bytes for file in given_files(study)])


def _check_learning_rate(study: Study) -> None:
    if study.training.lr is None and study.run.pretraining is None:
        raise ConfigError(
            "a given run does not tell its learning rate",
            where=f"{study.path}: training.lr",
            do="write the run's own at training.base_step",
        )


def _check_budgets(study: Study) -> None:
    training, run = study.training, study.run
    batch = run.instances_per_batch(training.base_step) * run.sequence_length
    needed = training.steps * batch
    for arm, name in study.config.arms.items():
        tokens = study.config.mixtures[name].tokens
        if tokens < needed:
            raise ConfigError(
                f"arm {arm} would run out of data",
                where=f"{study.path}: mixtures.{name}.tokens",
                got=f"{tokens}, where {training.steps} steps of {batch} tokens need {needed}",
                do="raise it, or lower training.steps",
            )


def _check_heldout(study: Study) -> None:
    end = study.run.batch_of_step(study.end_step)
    if end >= _order(study).num_batches:
        raise ConfigError(
            "no batch of the run is left to hold out",
            where=f"{study.path}: windows.end_step",
            got=str(study.end_step),
            do="end the windows before the run's last batch",
        )


def _check_control(study: Study) -> None:
    tasks = study.tasks
    if not any(task.startswith(f"{CONTROL}/") for task in tasks):
        raise ConfigError(
            "the suite has no normal control, which every verdict is read beside",
            where=f"{study.path}: suite.tasks",
            got=", ".join(tasks),
            do=f"add a {CONTROL} task",
        )
