"""The commands that make a study's artefacts, and say what is in them."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import RenderableType

from curate.chain_steps import LABELS, TRANSFER, VERDICT, read_decomposition, read_transfer
from curate.command import Answer, Call
from curate.export import balance
from curate.tables import plain, table
from scoring.extraction import agreement, answer_mass, persona_shares, read_answers, read_persona
from scoring.labels import may_label
from scoring.metrics import metrics
from scoring.reduction import concatenated
from scoring.sweep import read_items
from windows.files import write_atomic
from windows.store import Artefact

REPORT, SUMMARY = "report.html", "summary.json"
METRICS = ("soft", "hard", "margin", "auc", "mean_p_soft", "mean_p_hard")
_TASK_AND_STEP = ["family", "task", "step"]
STABILIZED = ("controlled", "stabilized-only")
"""Verdicts by which `modehop verify` says yes."""


def run_study(call: Call) -> Answer:
    """Do all that the study has sections for, and report it where windows are labelled."""
    steps = call.study.steps
    if "labels" not in steps:
        return score(call, "soft")
    return run_all(call, so_far="verdict" not in steps)


def run_all(call: Call, *, so_far: bool = False) -> Answer:
    """Make everything, and leave `report.html` and `summary.json` in the study's folder.

    With `so_far` only the labels are made, and the report shows what else there is.

    `wall_seconds` of the summary is the time of the command that last made something: one that
    found everything made leaves it as it was.
    """
    started = time.monotonic()
    with call.making() as chain:
        findings = chain.findings(so_far=so_far)
        made = chain.report(findings)
        summary = json.loads((made.path / "report.json").read_text(encoding="utf-8"))
        wall = round(time.monotonic() - started, 3)
        earlier = None if chain.made.made_any else _earlier_wall_seconds(call.out / SUMMARY)
        summary["wall_seconds"] = wall if earlier is None else earlier
        write_atomic(call.out / REPORT, (made.path / REPORT).read_bytes())
        write_atomic(call.out / SUMMARY, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")

    def shown() -> tuple[RenderableType, ...]:
        from curate.gather import gather
        from curate.report.table import overview

        lines = f"report: {call.out / REPORT}\nsummary: {call.out / SUMMARY}"
        return overview(gather(findings)), lines

    return Answer(summary, shown)


def _earlier_wall_seconds(path: Path) -> float | None:
    try:
        found = json.loads(path.read_bytes())["wall_seconds"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return float(found) if isinstance(found, int | float) else None


def score(call: Call, metric: str) -> Answer:
    """Score every checkpoint; tell every metric of every task, and show one of them."""
    with call.making() as chain:
        made = chain.scores()
        found, mass = (
            concatenated(made.path, reduce, chain.pool, chain.reporter)
            for reduce in (metrics, answer_mass)
        )
    means = (
        found.group_by(_TASK_AND_STEP, maintain_order=True)
        .agg(pl.col(*METRICS).mean(), pl.col("demo_seed").n_unique().alias("demo_seeds"))
        .join(mass.select(*_TASK_AND_STEP, "mass"), on=_TASK_AND_STEP)
        .with_columns(task=pl.concat_str("family", "task", separator="/"))
        .drop("family")
    )
    wide = means.pivot("task", index="step", values=metric).sort("step")
    data: dict[str, Any] = {**_made(made), "scores": _rows(means)}
    title = f"{metric} of every checkpoint"
    shown: list[RenderableType] = [table(title, wide.columns, wide.rows())]
    for name, title, frame in _beside(call, made):
        data[name] = _rows(frame)
        shown.append(table(title, frame.columns, frame.rows()))
    return Answer(data, (*shown, _where(made)))


def _beside(call: Call, made: Artefact) -> Iterator[tuple[str, str, pl.DataFrame]]:
    """Yield what else a sweep found, as it was asked: changes, personas, extracted answers."""
    from curate.sweeping import CHANGES

    generate = call.study.config.suite.generate
    if call.study.config.sweep.coarse:
        found = json.loads((made.path / CHANGES).read_text(encoding="utf-8"))
        title = f"changes of {found['task']}; {len(found['scored'])} of {found['available']} scored"
        schema = {"first_step": pl.Int64, "end_step": pl.Int64, "change": float, "se": float}
        yield "changes", title, pl.DataFrame(found["changes"], schema=schema, orient="row")
    if generate.personas:
        title = "personas: share of sampled answers that match"
        yield "personas", title, persona_shares(read_persona(made.path))
    if generate.answers:
        answers = read_answers(made.path)
        asked = answers.select("family", "task").unique()
        items = read_items(made.path).join(asked, on=["family", "task"], how="semi")
        title = "the same items by log-probability and by generation"
        yield "answers", title, agreement(items, answers)


def label(call: Call) -> Answer:
    """Label the windows, and tell the labels that mixtures select by."""
    with call.making() as chain:
        made = chain.labels()
        known = chain.is_made("transfer")
        verdict = read_transfer(chain.transfer().path).verdict if known else None
    allowed, sentence = may_label(read_decomposition(made.path), verdict)
    labels = pl.read_parquet(made.path / LABELS)
    task = call.study.labels.task
    names = [
        "window",
        "label",
        "hop",
        "delta",
        "innovation",
        "strength",
        "lo",
        "hi",
        "q",
        "q_study",
    ]
    of_task = labels.filter(pl.col("task") == task).select(names)
    counts = labels.group_by("task", "label", maintain_order=True).len()
    wide = counts.pivot("label", index="task", values="len").fill_null(0)
    shown = (
        table(f"windows on {task}", names, of_task.rows()),
        table("labels", wide.columns, wide.rows()),
        sentence,
        _where(made),
    )
    data = {**_made(made), "task": task, "may_label": allowed, "grounds": sentence}
    return Answer({**data, "labels": _rows(labels)}, shown)


def transfer(call: Call) -> Answer:
    """Check that the labels transfer to the windows' data in shuffled orders."""
    with call.making() as chain:
        made = chain.transfer()
    found = json.loads((made.path / TRANSFER).read_text(encoding="utf-8"))
    names = ["verdict", "rho", "lower_bound", "lo", "hi", "p", "mean_effect", "sign_agreement"]
    names += ["windows", "shuffles", "reliability"]
    rows = [(name, found[name]) for name in names]
    shown = table("do the labels transfer", ["quantity", "value"], rows)
    no = "" if found["verdict"] == "transferable" else f"do the labels transfer: {found['verdict']}"
    return Answer({**_made(made), **found}, (shown, found["sentence"], _where(made)), no)


def export(call: Call, mixture: str) -> Answer:
    """Export a mixture for every arm seed, and tell what the shards hold."""
    call.refuse_unknown(lambda chain: chain.exports(mixture))
    with call.making() as chain:
        made = chain.exports(mixture)
    held = balance([each.path for each in made])
    names = ["seed", "tokens", "instances", "windows", "passes", "max_repetition"]
    names += ["rejected_instances", *(name for name in held.columns if name.startswith("share"))]
    shown = table(f"mixture {mixture}", names, held.select(names).rows())
    exports = [
        {**_made(each), **row} for each, row in zip(made, held.iter_rows(named=True), strict=True)
    ]
    return Answer({"mixture": mixture, "exports": exports}, (shown, *map(_where, made)))


def train(call: Call, arm: str, seed: int) -> Answer:
    """Train one run of an arm, and tell how it ended."""
    call.refuse_unknown(lambda chain: chain.arms(arm, seed))
    with call.making() as chain:
        (made,) = chain.arms(arm, seed)
    from trainers.arms import read_heldout_loss
    from trainers.loop import read_log

    log = read_log(made.path)
    last = {
        "arm": arm,
        "seed": seed,
        "steps": log.height,
        "training_loss": log["loss"][-1],
        "heldout_loss": read_heldout_loss(made.path),
    }
    shown = table("one run", list(last), [list(last.values())])
    return Answer({**_made(made), **last}, (shown, _where(made)))


def verify(call: Call) -> Answer:
    """Judge whether the arms stabilized."""
    with call.making() as chain:
        made = chain.verdict()
    found = json.loads((made.path / VERDICT).read_text(encoding="utf-8"))
    arms = [{"arm": name, **numbers} for name, numbers in found["arms"].items()]
    tests = [found["primary"], *found["secondary"]]
    arm_names = ["arm", "runs", "mean_soft", "lo", "hi", "within_sd", "switches", "control", "loss"]
    test_names = ["endpoint", "arm", "direction", "reference", "difference", "lo", "hi", "p"]
    shown = (
        f"verdict: {found['verdict']}",
        *found["sentences"],
        table("arms, over their runs", arm_names, _cells(arms, arm_names)),
        table(
            "tests, the primary one first",
            [*test_names, "p_holm"],
            _cells(tests, [*test_names, "p_holm"]),
        ),
        _where(made),
    )
    no = "" if found["verdict"] in STABILIZED else f"did the arms stabilize: {found['verdict']}"
    return Answer({**_made(made), **found}, shown, no)


def _made(artefact: Artefact) -> dict[str, Any]:
    return {"artefact": str(artefact.path), "id": artefact.id}


def _where(artefact: Artefact) -> str:
    return f"artefact: {artefact.path}"


def _rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    return [plain(row) for row in frame.to_dicts()]


def _cells(records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[list[Any]]:
    return [[record[name] for name in names] for record in records]
