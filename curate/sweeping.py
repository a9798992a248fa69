"""The sweep as a study has it: what checkpoints are asked, where it runs, and what it will cost."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from curate.study import Study
from scoring.bisect import Search, sweep_coarse_to_fine
from scoring.executors import Distributed, Resources, run_ray
from scoring.generation_requests import AnswersRequest, PersonaRequest, Sampling
from scoring.jobs import Asked, Questionnaire
from scoring.loading import Compute, Dtype
from scoring.prefetch import Fetching, Target
from scoring.settings import SlurmSection
from scoring.slurm import Slurm, run_slurm, slurm_script
from scoring.suite.registry import NO_LABELS
from scoring.suite.schema import Split
from scoring.sweep import SweepRequest, sweep
from trainers.predictors import PredictorRequest
from windows.checkpoints.folder import CONFIG, Checkpoint
from windows.checkpoints.hub import HubRevision
from windows.checkpoints.weights import count_parameters
from windows.files import write_atomic
from windows.progress import Reporter
from windows.workers import WorkerPool

if TYPE_CHECKING:
    from curate.chain import Chain

CHANGES = "changes.json"


def items_request(study: Study, split: Split) -> SweepRequest:
    """Return what log-probabilities the study's checkpoints are asked for in a split."""
    suite = study.config.suite
    return SweepRequest(
        study.tasks,
        split,
        suite.demo_seeds,
        suite.wordings,
        study.sets,
        token_budget=suite.token_budget,
    )


def questionnaires(study: Study, split: Split) -> tuple[Questionnaire, ...]:
    """Return all that the run's checkpoints are asked, generations after log-probabilities."""
    items, generate = items_request(study, split), study.config.suite.generate
    asked: list[Questionnaire] = [items]
    if generate.personas:
        sampling = Sampling(
            samples=generate.samples,
            temperature=generate.temperature,
            max_new_tokens=generate.max_new_tokens,
        )
        personas = tuple(dict.fromkeys(generate.personas))
        asked.append(PersonaRequest(split, items.demo_seeds, personas, items.wordings, sampling))
    if generate.answers:
        asked.append(AnswersRequest(replace(items, tasks=tuple(dict.fromkeys(generate.answers)))))
    return tuple(asked)


def predictor_request(study: Study) -> PredictorRequest:
    """Return the predictors that checkpoints are asked for, on the tasks that have a parrot."""
    section, items = study.config.predictors, items_request(study, "label")
    tasks = tuple(key for key in items.tasks if key.partition("/")[0] not in NO_LABELS)
    return PredictorRequest(
        items=replace(items, tasks=tasks),
        examples=section.examples,
        layers=section.layers,
        budget=section.budget,
    )


def identity(study: Study, asked: Sequence[Questionnaire]) -> dict[str, Any]:
    """Return what decides the tables' content beside the weights: questions and precision."""
    tables = [[name, each.fingerprint(name)] for each in asked for name in each.tables]
    return {"tables": tables, "dtype": study.config.suite.dtype}


def run_sweep(
    study: Study,
    targets: Sequence[Target],
    asked: Asked,
    out: Path,
    logs: Path,
    pool: WorkerPool,
    reporter: Reporter,
) -> None:
    """Score checkpoints as the study says: by this machine's workers, or on a cluster.

    Parameters
    ----------
    targets, asked, out, pool, reporter
        As of `scoring.sweep.sweep`.
    logs
        Folder for what a cluster writes.
    """
    section = study.config.sweep
    if section.executor == "local":
        compute, fetching = _how(study)
        sweep(targets, asked, out, pool, reporter, compute=compute, fetching=fetching)
        return
    distributed = _distributed(study, targets, asked, out, logs)
    if section.slurm is None:
        run_ray(distributed)
        return
    slurm, poll = _slurm(section.slurm), section.slurm.poll_seconds
    run_slurm(distributed, slurm, reporter, poll_seconds=poll)


def rescore(
    chain: "Chain", targets: Sequence[Target], asked: Asked, out: Path, *, dtype: str | None = None
) -> None:
    """Score checkpoints once more, by this machine's workers, perhaps in another precision."""
    compute, fetching = _how(chain.study)
    if dtype is not None:
        compute = replace(compute, dtype=cast(Dtype, dtype))
    sweep(targets, asked, out, chain.pool, chain.reporter, compute=compute, fetching=fetching)


def sweep_script(study: Study, targets: Sequence[Target], root: Path) -> str:
    """Return what ``sbatch`` would be given; empty where the sweep is not for Slurm."""
    section = study.config.sweep.slurm
    if section is None or not targets:
        return ""
    asked = questionnaires(study, "label")
    # Stands for the folder of an artefact whose name is known once it is begun.
    out = root / "scores"
    return slurm_script(_distributed(study, targets, asked, out, root / "logs"), _slurm(section))


def _how(study: Study) -> tuple[Compute, Fetching]:
    section = study.config.sweep
    options = tuple(sorted(section.vllm.items()))
    compute = Compute(section.device, study.config.suite.dtype, section.backend, options)
    return compute, Fetching(drop_scored=section.drop_scored)


def _distributed(
    study: Study, targets: Sequence[Target], asked: Asked, out: Path, logs: Path
) -> Distributed:
    resources = Resources(**study.config.sweep.resources.model_dump())
    return Distributed(targets, asked, out, logs, resources, *_how(study))


def _slurm(section: SlurmSection) -> Slurm:
    return Slurm(**section.model_dump(exclude={"poll_seconds"}))


def run_coarse(
    study: Study,
    targets: Sequence[Target],
    asked: Asked,
    out: Path,
    logs: Path,
    pool: WorkerPool,
    reporter: Reporter,
) -> None:
    """Score from coarse to fine, and write the changes that were found to `CHANGES`."""
    coarse = study.config.sweep.coarse
    assert coarse is not None
    found = sweep_coarse_to_fine(
        targets,
        lambda chosen: run_sweep(study, chosen, asked, out, logs, pool, reporter),
        out,
        coarse.task,
        Search(coarse.threshold, coarse.every, coarse.z),
    )
    told = {
        "task": coarse.task,
        "available": len(targets),
        "scored": sorted(found.levels),
        "changes": [change._asdict() for change in found.changes],
    }
    write_atomic(out / CHANGES, json.dumps(told, indent=2) + "\n")


def sweep_cost(
    study: Study, targets: Sequence[Target], folder: Path | None, checkpoints: int
) -> dict[str, Any]:
    """Tell what the sweep will cost, before a checkpoint is loaded.

    Parameters
    ----------
    targets
        The checkpoints, as far as they exist; `checkpoints` is how many there will be.
    folder
        A checkpoint, or another folder with a tokenizer, to count tokens with; None if there is
        none here.
    """
    from scoring.cost import cost

    tokenizer, parameters = None, None
    if folder is not None:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        parameters = count_parameters(folder)
    found = cost(questionnaires(study, "label"), tokenizer, checkpoints=checkpoints)
    flops = None if parameters is None else found.flops(parameters)
    absent = sum(place(target) is None for target in targets)
    return {**asdict(found), "flops": flops, "to_fetch": absent}


def local_checkpoint(targets: Sequence[Target]) -> Path | None:
    """Return the folder of the first of the checkpoints that is here."""
    places = filter(None, map(place, targets))
    return next((place for place in places if (place / CONFIG).is_file()), None)


def place(target: Target) -> Path | None:
    """Return the folder of a checkpoint; None where it is not here."""
    if isinstance(target, Checkpoint):
        return target.path
    address = target.address
    if isinstance(address, HubRevision):
        return address.snapshot
    return address if isinstance(address, Path) else None
