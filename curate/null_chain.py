"""The named nulls of a study: which hops are asked about, what is scored again, what it says."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from curate.chain_steps import LABELS, read_transfer
from curate.sweeping import identity, place, rescore
from scoring.items import read_items, read_task
from scoring.nulls import (
    OF_TABLES,
    Criteria,
    Finding,
    Hop,
    Null,
    diffusion_null,
    hop_verdict,
    identity_null,
    noise_null,
    order_null,
    rescored_null,
)
from scoring.suite.registry import CONTROL
from scoring.sweep import SweepRequest
from windows.checkpoints.folder import Checkpoint
from windows.checkpoints.weights import blob_name, sampled_bytes, weight_files
from windows.errors import ConfigError
from windows.files import atomic_path, remove
from windows.identity import content_id
from windows.store import Artefact, Recipe

if TYPE_CHECKING:
    from curate.chain import Chain
    from curate.study import Study

FINDINGS, VERDICTS = "findings.parquet", "verdicts.parquet"
DEAR: tuple[Null, ...] = ("numerics", "averaging", "stability")
"""Nulls that score checkpoints again; they are asked where they are named."""


def nulls(chain: "Chain", checks: Sequence[str] = ()) -> Artefact:
    """Ask every null that the tables can answer, and those of `checks` that cost scoring, of hops.

    The hops are the strongest of the task that labels, `nulls.hops` of them.
    """
    scores, labels = chain.scores(), chain.labels()
    hops = hops_of(labels.path, chain.study.labels.task, chain.config.nulls.hops)
    made = {name: _rescored(chain, name, hops) for name in DEAR if name in checks}
    transfer = chain.look().transfer() if "transfer" in chain.study.steps else None
    judged = [transfer] if transfer is not None and transfer.id else []
    parameters = {"nulls": chain.config.nulls, "labels": chain.study.labels}
    parents = (scores, labels, *made.values(), *judged)
    recipe = Recipe("nulls", "hops", 1, parameters, parents)
    return chain.made.artefact(
        "nulls",
        recipe,
        lambda part: _write(
            chain, hops, scores, {name: each.path for name, each in made.items()}, judged, part
        ),
    )


def check_local(study: "Study", checks: Sequence[str]) -> None:
    """Refuse a null for which a study has not what it takes.

    Raises
    ------
    ConfigError
        There is no such null; the checkpoints are on the Hub; or a step cannot be taken without
        data and an optimizer.
    """
    if unknown := [name for name in checks if name not in DEAR]:
        raise ConfigError(
            "no null of that name scores again",
            where="--check",
            got=", ".join(map(repr, unknown)),
            do=f"use {', '.join(DEAR)}; the others are always asked",
        )
    local = study.run.embedded or study.checkpoint_folder is not None
    needed = {"averaging": local, "stability": local and study.has_data}
    for name in checks:
        if not needed.get(name, True):
            raise ConfigError(
                f"null {name} reads weights and data that are not here",
                where=f"{study.run_path}",
                do="bring the checkpoints (and for stability the token files) to local folders",
            )
    if "stability" in checks and study.config.training is None:
        raise ConfigError(
            "null stability takes a step with the run's optimizer, which no section describes",
            where=f"{study.path}: training",
            do="add a section training",
        )


def hops_of(labels: Path, task: str, count: int) -> tuple[Hop, ...]:
    """Return the strongest hops of a task, by size of the delta; none where labels are not made."""
    if not (labels / LABELS).is_file():
        return ()
    frame = pl.read_parquet(labels / LABELS).filter(
        (pl.col("task") == task) & pl.col("hop").is_in(["up", "down"])
    )
    strongest = frame.sort(pl.col("delta").abs(), descending=True).head(count)
    found = []
    for window, delta in strongest.select("window", "delta").iter_rows():
        first, _, end = window.rpartition("-")[2].partition(":")
        found.append(Hop(task, int(first), int(end), float(delta)))
    return tuple(sorted(found, key=lambda hop: hop.first_step))


def _rescored(chain: "Chain", name: Null, hops: Sequence[Hop]) -> Artefact:
    """Make the tables of one dear null, for the hops at hand."""
    section, run = chain.config.nulls, chain.pretrain()
    request = replace(chain.request("label"), tasks=(chain.study.labels.task,))
    ends = sorted({step for hop in hops for step in (hop.first_step, hop.end_step)})
    how: Mapping[str, Any] = {"averaging": {"count": section.averaging}}.get(name, {})
    if name == "stability":
        how = {"lrs": section.learning_rates, "draws": section.draws, "seed": chain.config.seed}
    parameters = {**identity(chain.study, (request,)), "steps": ends, **how}
    parents = (run, chain.corpus()) if name == "stability" else (run,)
    recipe = Recipe("rescored", name, 1, parameters, parents)
    make = {"numerics": _numerics, "averaging": _averaging, "stability": _stability}[name]
    return chain.made.artefact("nulls", recipe, lambda part: make(chain, request, ends, part))


def _numerics(chain: "Chain", request: SweepRequest, ends: Sequence[int], part: Path) -> None:
    """Score in the other precision, and in batches of another size."""
    targets = [each for each in chain.sources.targets() if each.step in ends]
    other = "bfloat16" if chain.config.suite.dtype == "float32" else "float32"
    smaller = replace(request, token_budget=max(64, request.token_budget // 2))
    rescore(chain, targets, request, part / other, dtype=other)
    rescore(chain, targets, smaller, part / "another batch size")


def _averaging(chain: "Chain", request: SweepRequest, ends: Sequence[int], part: Path) -> None:
    """Score means of consecutive checkpoints: up to a hop's first, from its second on."""
    from trainers.merge import average

    count, local = chain.config.nulls.averaging, chain.sources.checkpoints()
    by_step = {each.step: index for index, each in enumerate(local)}
    folder = part / "weights"
    folder.mkdir()
    for side, first in (("until", 1 - count), ("from", 0)):
        made = []
        for step in ends:
            at = by_step[step] + first
            group = local[at : at + count] if at >= 0 else []
            if len(group) == count:
                path = folder / f"{side}-{local[0].stage}-step{step}"
                average([each.path for each in group], path)
                made.append(Checkpoint(local[0].run, local[0].stage, step, path))
        rescore(chain, made, request, part / side)
    remove(folder)


def _stability(chain: "Chain", request: SweepRequest, ends: Sequence[int], part: Path) -> None:
    """Take single steps from each hop's first checkpoint."""
    from trainers.local_stability import StabilityJob, perturb

    section, jobs = chain.config.nulls, []
    for step in ends:
        own = chain.learning_rate(step)
        for lr in (0.0, *(own * factor for factor in section.learning_rates)):
            for draw in range(section.draws if lr else 1):
                jobs.append(
                    StabilityJob(
                        base=chain.sources.checkpoint(step).path,
                        run=chain.sources.run,
                        files=chain.sources.token_files().paths,
                        step=step,
                        lr=lr,
                        draw=draw,
                        seed=chain.config.seed,
                        optimizer=chain.study.training.optimizer,
                        request=request,
                        out=part,
                    )
                )
    with chain.reporter.task("single steps", len(jobs)) as advance:
        chain.pool.map(perturb, jobs, on_done=lambda index, result: advance())


def _write(
    chain: "Chain",
    hops: Sequence[Hop],
    scores: Artefact,
    made: Mapping[str, Path],
    judged: Sequence[Artefact],
    part: Path,
) -> None:
    labels = chain.study.labels
    criteria = Criteria(labels.alpha, labels.minimum)
    items = read_task(scores.path, labels.task)
    controls = [read_task(scores.path, key) for key in chain.study.tasks if _is_control(key)]
    normal = pl.concat(controls) if controls else items.clear()
    digests = weight_digests(chain) if hops else {}
    rows, verdicts = [], []
    for hop in hops:
        found = [ask(items, hop, criteria) for ask in OF_TABLES.values()]
        found.append(noise_null(normal, hop, criteria, control=CONTROL))
        found.append(identity_null(digests, hop))
        found += [_dear(name, folder, hop, criteria) for name, folder in made.items()]
        if judged:
            found.append(order_null(read_transfer(judged[0].path).verdict))
        verdicts.append({**asdict(hop), "verdict": hop_verdict(found)})
        rows += [{**asdict(hop), "null": f.null, "says": f.says, "why": f.sentence} for f in found]
    for name, told in ((FINDINGS, rows), (VERDICTS, verdicts)):
        with atomic_path(part / name) as aside:
            pl.DataFrame(told, schema=_SCHEMAS[name]).write_parquet(aside)


_HOP = {"task": pl.String, "first_step": pl.Int64, "end_step": pl.Int64, "delta": pl.Float64}
_SCHEMAS: Mapping[str, Any] = {
    FINDINGS: {**_HOP, "null": pl.String, "says": pl.String, "why": pl.String},
    VERDICTS: {**_HOP, "verdict": pl.String},
}


def _is_control(key: str) -> bool:
    return key.startswith(f"{CONTROL}/")


def _dear(name: str, folder: Path, hop: Hop, criteria: Criteria) -> Finding:
    if name == "numerics":
        tables = {each.name: read_items(each) for each in sorted(folder.iterdir()) if each.is_dir()}
        return rescored_null("numerics", tables, hop, criteria)
    if name == "averaging":
        before = _at(folder / "until", hop.first_step)
        after = _at(folder / "from", hop.end_step)
        whole = {} if before is None or after is None else {"means": pl.concat([before, after])}
        return rescored_null("averaging", whole, hop, criteria)
    return diffusion_null(read_items(folder), hop)


def _at(folder: Path, step: int) -> pl.DataFrame | None:
    if not folder.is_dir():
        return None
    found = read_items(folder).filter(pl.col("step") == step)
    return None if found.is_empty() else found


def weight_digests(chain: "Chain") -> dict[int, str]:
    """Name the weights of every scored checkpoint that is here, by step."""
    found = {}
    for target in chain.sources.targets():
        folder = place(target)
        if folder is not None:
            files = weight_files(folder)
            named = {name: blob_name(path) or sampled_bytes(path) for name, path in files.items()}
            found[target.step] = content_id(named)
    return found
