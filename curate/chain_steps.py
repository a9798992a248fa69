"""What each step of the chain writes into its artefact."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.export import ExportJob, export_mixture
from curate.made import plain_parameters
from curate.sources import Sources
from curate.study import Study
from scoring.hops import with_study_q
from scoring.labels import label_windows
from scoring.reduction import all_series
from scoring.series import POOLED, ClusterSeries, Metric, pooled, seed_series
from scoring.settings import LabelsSection
from scoring.state_space import Decomposition, decompose
from scoring.suite.registry import CONTROL, NO_LABELS
from scoring.suite.schema import SPLITS, Split
from scoring.sweep import SweepRequest, read_items
from scoring.transfer import TransferVerdict, transfer_verdict
from windows.errors import DataError
from windows.files import atomic_path, write_atomic
from windows.progress import Reporter
from windows.run import Window
from windows.store import Artefact, Recipe, Store
from windows.workers import WorkerPool

if TYPE_CHECKING:
    from trainers.plan import TrainingPlan
    from trainers.replay import ReplayJob

LABELS, SERIES, DECOMPOSITION = "labels.parquet", "series.parquet", "decomposition.json"
TRANSFER, EFFECTS = "transfer.json", "effects.parquet"
PROMPTS = "prompts.json"
VERDICT, RUNS, CURVES = "verdict.json", "runs.parquet", "curves.parquet"


def write_labels(
    scores: Path,
    windows: Sequence[Window],
    section: LabelsSection,
    part: Path,
    pool: WorkerPool,
    reporter: Reporter,
) -> None:
    """Write every window's labels on every task, pooled ones too, and the series they come from.

    Beside them stands what the series of the task that labels is made of.
    """
    both = all_series(scores, pool, reporter, metrics=("soft", "hard"))
    series = {task: one for task, one in both["soft"].items() if len(one.clusters) > 1}
    if len(alike := _alike(series)) > 1:
        series[POOLED] = pooled(alike)
    tables = {
        task: label_windows(
            one, windows, rule=section.rule, alpha=section.alpha, minimum=section.minimum
        )
        for task, one in series.items()
    }
    _write_frame(pl.concat(with_study_q(tables).values()), part / LABELS)
    _write_frame(_series_rows(both), part / SERIES)
    _write_json(asdict(decompose(series[section.task])), part / DECOMPOSITION)


def read_decomposition(folder: Path) -> Decomposition:
    """Return what `write_labels` found the series that labels to be made of."""
    return Decomposition(**json.loads((folder / DECOMPOSITION).read_text(encoding="utf-8")))


def _alike(series: Mapping[str, ClusterSeries]) -> list[ClusterSeries]:
    """Return the series that label and have the same demo seeds, those of the most tasks."""
    groups: dict[tuple[object, ...], list[ClusterSeries]] = {}
    for task, one in series.items():
        if task.partition("/")[0] not in NO_LABELS and one.unit == "demo seed":
            groups.setdefault(tuple(one.clusters.tolist()), []).append(one)
    return max(groups.values(), key=len, default=[])


def series_frame(items: pl.DataFrame) -> pl.DataFrame:
    """Return task, step, demo_seed, soft, hard: means over items, one row a demo seed."""
    keys = items.select("family", "task").unique(maintain_order=True).rows()
    names = [f"{family}/{name}" for family, name in keys]
    metrics: tuple[Metric, ...] = ("soft", "hard")
    return _series_rows(
        {
            metric: {task: seed_series(items, task, metric=metric) for task in names}
            for metric in metrics
        }
    )


def _series_rows(both: Mapping[Metric, Mapping[str, ClusterSeries]]) -> pl.DataFrame:
    parts = []
    for task, soft in both["soft"].items():
        named = soft.unit == "demo seed"
        clusters = soft.clusters if named else np.arange(len(soft.clusters))
        steps, seeds = np.meshgrid(soft.steps, clusters, indexing="ij")
        parts.append(
            pl.DataFrame(
                {
                    "task": [task] * soft.values.size,
                    "step": steps.ravel(),
                    "demo_seed": seeds.ravel(),
                    "soft": soft.values.ravel(),
                    "hard": both["hard"][task].values.ravel(),
                }
            )
        )
    return pl.concat(parts)


def replay_jobs(
    study: Study, sources: Sources, request: SweepRequest, lr: float, part: Path
) -> "list[ReplayJob]":
    """List the replays of a study: every window in every shuffled order, and the base itself."""
    from trainers.replay import ReplayJob

    section = study.transfer
    replays: list[tuple[Window | None, int]] = [(None, 0)]
    replays += [(w, k) for w in sources.windows() for k in range(section.shuffles)]
    return [
        ReplayJob(
            base=sources.checkpoint(section.checkpoint).path,
            run=sources.run,
            files=sources.token_files().paths,
            window=window,
            shuffle=shuffle,
            seed=study.config.seed,
            lr=lr,
            optimizer=study.training.optimizer,
            request=request,
            out=part,
            dose=section.dose,
        )
        for window, shuffle in replays
    ]


def run_replay(job: "ReplayJob") -> None:
    """Do one replay; a worker's entry."""
    from trainers.replay import replay

    replay(job)


def write_transfer(
    labels: Path, replay: Path, windows: Sequence[Window], parameters: dict[str, Any], part: Path
) -> None:
    """Compare label strength with the replays' levels, and write verdict and effects."""
    from trainers.replay import BASE, replay_name

    task = parameters["task"]
    table = pl.read_parquet(labels / LABELS).filter(pl.col("task") == task)
    strength = dict(table.select("window", "strength").iter_rows())
    items = read_items(replay)
    levels = {
        run: float(seed_series(rows, task).values.mean())
        for (run,), rows in items.partition_by("run", as_dict=True).items()
    }
    base = levels.pop(BASE)
    shuffles = len(levels) // len(windows)
    effects = np.array(
        [[levels[replay_name(w, k)] - base for k in range(shuffles)] for w in windows]
    )
    verdict = transfer_verdict(
        np.array([strength[w.name] for w in windows]),
        effects,
        threshold=parameters["threshold"],
        seed=0,
    )
    frame = pl.DataFrame(
        {
            "window": [w.name for w in windows],
            "strength": [strength[w.name] for w in windows],
            **{f"shuffle{k}": effects[:, k] for k in range(shuffles)},
        }
    )
    _write_frame(frame, part / EFFECTS)
    _write_json(asdict(verdict), part / TRANSFER)


def read_transfer(folder: Path) -> TransferVerdict:
    """Return the verdict that `write_transfer` left."""
    return TransferVerdict(**json.loads((folder / TRANSFER).read_text(encoding="utf-8")))


def write_prompts(checkpoint: Path, request: Callable[[Split], SweepRequest], part: Path) -> None:
    """Write the token ids of the suite's prompts, in both splits, each once.

    Of a prompt it is the demonstrations and the question: a wording's own frame, or a token that
    the tokenizer puts in front, stands in no document beside them.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        checkpoint, local_files_only=True, trust_remote_code=False
    )
    texts = {
        block.prefix.removeprefix(block.frame) + item.prompt
        for split in SPLITS
        for task in request(split).tasks
        for block in request(split).blocks(task)
        for item in block.items
    }
    ids = tokenizer(sorted(texts), add_special_tokens=False)["input_ids"]
    write_atomic(part / PROMPTS, json.dumps(ids, separators=(",", ":")) + "\n")


def build_export(work: tuple[Path, Recipe, ExportJob]) -> None:
    """Make one export; a worker's entry."""
    root, recipe, job = work
    Store(root).build(
        recipe, lambda part: export_mixture(job, part), config=plain_parameters(recipe)
    )


def build_arm(
    work: "tuple[Path, Recipe, tuple[TrainingPlan, Path, Path, NDArray[np.uint32]]]",
) -> None:
    """Train one arm; a worker's entry."""
    from trainers.arms import ArmJob, train_arm

    root, recipe, (plan, base, shards, heldout) = work
    job = ArmJob(plan=plan, base=base, shards=shards, heldout=heldout)
    Store(root).build(recipe, lambda part: train_arm(job, part), config=plain_parameters(recipe))


def arm_run(study: str, arm: Path) -> str:
    """Name the run that an arm with a seed is: `study/arm/seed`."""
    from trainers.plan import read_plan

    plan = read_plan(arm)
    return f"{study}/{plan.arm}/{plan.seed}"


def write_verdict(
    scores: Path, transfer: Path, arms: Sequence[Artefact], study: Study, part: Path
) -> None:
    """Reduce every arm's run to its endpoints, judge them, and write curves, runs and verdict."""
    from trainers.arms import read_heldout_loss
    from trainers.plan import read_plan
    from trainers.stabilization import stabilization, summarize_runs

    curves = arm_curves(read_items(scores), study.labels.task)
    rows = [(read_plan(arm.path), read_heldout_loss(arm.path)) for arm in arms]
    loss = pl.DataFrame(
        [{"arm": plan.arm, "seed": plan.seed, "loss": value} for plan, value in rows]
    )
    section = study.config.verdict
    of_arms = curves.filter(pl.col("arm") != "base")
    runs = summarize_runs(of_arms, loss, threshold=section.switch_threshold)
    judged = stabilization(
        runs,
        read_transfer(transfer),
        endpoint=section.endpoint,
        contrast=section.contrast,
        alpha=section.alpha,
    )
    _write_frame(curves, part / CURVES)
    _write_frame(runs, part / RUNS)
    _write_json(asdict(judged), part / VERDICT)


def arm_curves(items: pl.DataFrame, task: str) -> pl.DataFrame:
    """Return arm, seed, step, soft (of `task`), control (accuracy on the normal control).

    The base checkpoint is arm `base`, seed 0.

    Raises
    ------
    DataError
        The suite has no normal control, which every verdict is read beside.
    """
    controls = items.filter(pl.col("family") == CONTROL)
    if controls.is_empty():
        raise DataError(
            "the suite has no normal control", where="suite.tasks", do=f"add a {CONTROL} task"
        )
    rows = []
    for (run,), part in items.partition_by("run", as_dict=True).items():
        names = [*str(run).split("/")[1:], "0"]
        soft = seed_series(part, task)
        family, name = controls.select("family", "task").row(0)
        control = seed_series(part, f"{family}/{name}", metric="hard")
        for index, step in enumerate(soft.steps):
            rows.append(
                {
                    "arm": names[0],
                    "seed": int(names[1]),
                    "step": int(step),
                    "soft": float(soft.values[index].mean()),
                    "control": float(control.values[index].mean()),
                }
            )
    return pl.DataFrame(rows).sort("arm", "seed", "step")


def _write_frame(frame: pl.DataFrame, path: Path) -> None:
    with atomic_path(path) as aside:
        frame.write_parquet(aside)


def _write_json(value: Any, path: Path) -> None:
    write_atomic(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")
