"""What concerns several sections of a study at once, checked before anything is read or made."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from curate.settings_file import nearest
from scoring.suite.persona import PERSONAS
from scoring.suite.registry import NO_LABELS, find
from trainers.settings import CONTROLLED, REFERENCES
from windows.errors import ConfigError

if TYPE_CHECKING:
    from curate.study import Study, StudyConfig


def check_study(study: "Study") -> None:
    """Check what concerns several sections of a study at once.

    Raises
    ------
    ConfigError
        In one line: what does not fit, where, what was found and what to do.
    """
    where = str(study.path)
    _check_suite(study, where)
    _check_windows(study, where)
    if study.config.arms:
        _check_arms(study.config, where)


def _check_suite(study: "Study", where: str) -> None:
    config, tasks = study.config, study.tasks
    named: dict[str, str] = {}
    if config.labels is not None:
        named["labels.task"] = config.labels.task
    if config.sweep.coarse is not None:
        named["sweep.coarse.task"] = config.sweep.coarse.task
    for key, task in named.items():
        _check_known(task, tasks, "not a task of this suite", f"{where}: {key}")
        if find(task, sets=study.sets).family in NO_LABELS:
            raise ConfigError(
                "a control, which has no pattern to follow, labels no window",
                where=f"{where}: {key}",
                got=repr(task),
                do="name a task of another family",
            )
    generate = config.suite.generate
    if config.sweep.backend == "vllm" and (generate.personas or generate.answers):
        raise ConfigError(
            "vLLM scores log-probabilities only",
            where=f"{where}: sweep.backend",
            got="suite.generate asks for generations",
            do="generate in a study of its own, with backend: transformers",
        )
    for task in config.suite.generate.answers:
        _check_known(task, tasks, "not a task of this suite", f"{where}: suite.generate.answers")
    for persona in config.suite.generate.personas:
        _check_known(persona, PERSONAS, "no such persona", f"{where}: suite.generate.personas")


def _check_windows(study: "Study", where: str) -> None:
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
    begun: dict[str, int] = {}
    if study.config.transfer is not None:
        begun["transfer.checkpoint"] = study.config.transfer.checkpoint
    if study.config.training is not None:
        begun["training.base_step"] = study.config.training.base_step
    for key, at in begun.items():
        _check_step(at, study.edges, f"{where}: {key}", "no window begins or ends here")


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


def _check_arms(config: "StudyConfig", where: str) -> None:
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
