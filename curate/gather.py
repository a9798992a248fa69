"""From a study's artefacts to the values that its report shows."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy import stats

from curate.chain_steps import (
    CURVES,
    EFFECTS,
    LABELS,
    SERIES,
    VERDICT,
    read_decomposition,
    read_transfer,
)
from curate.export import read_mixture
from curate.held import Held, held, name_for_commands
from curate.report import data as shown
from curate.report.html import render
from curate.report.summary import to_json
from curate.sources import Sources
from curate.study import Study
from curate.truth import COMPOSITION, check_truth
from scoring.labels import RULE_VERSION, may_label
from scoring.suite.registry import CONTROL
from trainers.arms import heldout_loss_of
from trainers.loop import read_log
from windows.files import write_atomic
from windows.run import RunConfig, Window
from windows.store import Artefact

_RULES = {
    "innovation": "A window is labelled by the change of the soft score over it, less what the "
    "level before it explains (residual of a straight line over the windows)",
    "delta": "A window is labelled by the change of the soft score over it",
}


@dataclass(frozen=True)
class Findings:
    """The artefacts of a study, as far as it has come.

    Attributes
    ----------
    labels, transfer, verdict
        Their folders; None for a step that has not been taken.
    exports
        Every mixture's artefact, by mixture and arm seed; those that the verdict rests on.
    truth
        What was planted; None for a run that was given.
    artefacts
        All that the report rests on.
    """

    study: Study
    sources: Sources
    labels: Path
    transfer: Path | None
    verdict: Path | None
    exports: Mapping[tuple[str, int], Artefact]
    truth: Artefact | None
    artefacts: Sequence[Artefact]


def write_report(found: Findings, part: Path) -> None:
    """Write `report.html` and `report.json`."""
    data = gather(found)
    write_atomic(part / "report.html", render(data))
    write_atomic(part / "report.json", to_json(data))


def gather(found: Findings) -> shown.ReportData:
    """Read the study's artefacts into one data object."""
    study, sources = found.study, found.sources
    windows = sources.windows()
    names, counts = held(sources, windows)
    labels = pl.read_parquet(found.labels / LABELS)
    return shown.ReportData(
        study=_study(found),
        primary_task=study.labels.task,
        series=_series(found.labels, sources),
        windows=_windows(labels, windows, counts),
        rule=_rule(found),
        loss=_loss(sources, windows),
        sources=names,
        transfer=_transfer(found, found.transfer, labels) if found.transfer else None,
        arms=_arms(found, found.verdict) if found.verdict else None,
        verdict=_verdict(found.verdict, study.config.verdict.alpha) if found.verdict else None,
        mixtures=_mixtures(found.exports) if found.exports else None,
        truth=_truth(found.truth, labels, windows, study.labels.task),
        provenance=tuple(
            shown.Provenance(
                kind=a.kind, label=a.label, id=a.id, content=a.content, parents=a.parents
            )
            for a in found.artefacts
        ),
    )


def _rule(found: Findings) -> shown.Rule:
    section = found.study.labels
    transfer = read_transfer(found.transfer).verdict if found.transfer else None
    allowed, ground = may_label(read_decomposition(found.labels), transfer)
    return shown.Rule(
        name=section.rule,
        words=_RULES[section.rule],
        alpha=section.alpha,
        minimum=section.minimum,
        version=RULE_VERSION,
        may_label=allowed,
        ground=ground,
    )


def _study(found: Findings) -> shown.Study:
    return shown.Study(
        name=found.study.config.name,
        run=found.sources.run.name,
        seed=found.study.config.seed,
        file=name_for_commands(found.study),
    )


def _series(labels: Path, sources: Sources) -> tuple[shown.Series, ...]:
    frame = pl.read_parquet(labels / SERIES)
    found = []
    for (task,), part in frame.partition_by("task", maintain_order=True, as_dict=True).items():
        control = str(task).startswith(CONTROL)
        measure = "hard" if control else "soft"
        points = part.group_by("step", maintain_order=True).agg(
            mean=pl.col(measure).mean(),
            se=pl.col(measure).std() / pl.len().sqrt(),
            hard=pl.col("hard").mean(),
            seeds=pl.len(),
        )
        half = points["se"].to_numpy() * stats.t.ppf(0.975, points["seeds"].to_numpy() - 1)
        mean = points["mean"].to_numpy()
        steps = points["step"].to_list()
        found.append(
            shown.Series(
                task=str(task),
                steps=tuple(steps),
                tokens=tuple(_tokens(sources.run, step) for step in steps),
                mean=tuple(mean.tolist()),
                lo=tuple((mean - half).tolist()),
                hi=tuple((mean + half).tolist()),
                hard=tuple(points["hard"].to_list()),
                measure=measure,
                control=control,
            )
        )
    return tuple(found)


def _tokens(run: RunConfig, step: int) -> int:
    """Tokens trained on by a checkpoint; by the step map, wherever the run's data lie."""
    instances = run.batch_sizes.position(run.batch_of_step(step))
    return instances * (run.sequence_length - run.overlap)


def _windows(
    labels: pl.DataFrame, windows: Sequence[Window], counts: Sequence[Held]
) -> tuple[shown.Window, ...]:
    by_window = {
        str(name): part.to_dicts()
        for (name,), part in labels.partition_by("window", as_dict=True).items()
    }
    keep = (
        "task",
        "label",
        "delta",
        "innovation",
        "se",
        "lo",
        "hi",
        "p",
        "q",
        "strength",
        "q_study",
    )
    return tuple(
        shown.Window(
            name=w.name,
            first_step=w.first_step,
            end_step=w.end_step,
            first_batch=w.first_batch,
            end_batch=w.end_batch,
            tokens=w.tokens,
            labels=tuple(
                shown.Label(**{k: row[k] for k in keep}, hop=row["hop"] in ("up", "down"))
                for row in by_window[w.name]
            ),
            held=instances,
        )
        for w, instances in zip(windows, counts, strict=True)
    )


def _loss(sources: Sources, windows: Sequence[Window]) -> shown.Loss | None:
    if not sources.study.run.embedded:
        return None
    log = read_log(sources.pretrain().path)
    means = [
        log.filter(pl.col("step").is_between(w.first_step, w.end_step, closed="left"))["loss"]
        for w in windows
    ]
    return shown.Loss(
        steps=tuple(w.end_step for w in windows),
        loss=tuple(float(np.mean(values.to_numpy())) for values in means),
        smoothing="mean over each window's steps",
    )


def _transfer(found: Findings, folder: Path, labels: pl.DataFrame) -> shown.Transfer:
    study = found.study
    verdict = read_transfer(folder)
    effects = pl.read_parquet(folder / EFFECTS)
    names = dict(
        labels.filter(pl.col("task") == study.labels.task).select("window", "label").iter_rows()
    )
    points = []
    for row in effects.to_dicts():
        shuffles = tuple(v for k, v in row.items() if k.startswith("shuffle"))
        points.append(
            shown.TransferPoint(
                window=row["window"],
                label=names[row["window"]],
                strength=row["strength"],
                effect=float(np.mean(shuffles)),
                per_shuffle=shuffles,
            )
        )
    return shown.Transfer(
        verdict=verdict.verdict,
        rho=verdict.rho,
        lo=verdict.lo,
        hi=verdict.hi,
        p=verdict.p,
        windows=verdict.windows,
        shuffles=verdict.shuffles,
        reliability=verdict.reliability,
        lower_bound=verdict.lower_bound,
        mean_effect=verdict.mean_effect,
        sign_agreement=verdict.sign_agreement,
        sentence=verdict.sentence,
        points=tuple(points),
        threshold=study.transfer.threshold,
        checkpoint=f"{found.sources.run.stage}-step{study.transfer.checkpoint}",
    )


def _arms(found: Findings, folder: Path) -> shown.Arms:
    study, sources = found.study, found.sources
    curves = pl.read_parquet(folder / CURVES)
    judged = _read(folder / VERDICT)
    base = curves.filter(pl.col("arm") == "base").row(0, named=True)
    of_arms = curves.filter(pl.col("arm") != "base")
    first = base["step"]
    return shown.Arms(
        base=f"{sources.run.stage}-step{first}",
        base_step=first,
        task=study.labels.task,
        base_soft=base["soft"],
        base_control=base["control"],
        base_loss=heldout_loss_of(sources.checkpoint(first).path, sources.heldout_tokens()),
        curves=tuple(
            shown.ArmCurve(
                arm=str(arm),
                seed=int(seed),
                steps=(0, *(int(step) - first for step in part["step"])),
                soft=(base["soft"], *part["soft"]),
                control=(base["control"], *part["control"]),
            )
            for (arm, seed), part in of_arms.partition_by("arm", "seed", as_dict=True).items()
        ),
        summaries=tuple(
            shown.ArmSummary(arm=arm, **judged["arms"][arm]) for arm in study.config.arms
        ),
    )


def _verdict(folder: Path, alpha: float) -> shown.Verdict:
    judged = _read(folder / VERDICT)
    return shown.Verdict(
        name=judged["verdict"],
        sentences=tuple(judged["sentences"]),
        primary=_endpoint({**judged["primary"], "p_holm": None}),
        secondary=tuple(_endpoint(row) for row in judged["secondary"]),
        alpha=alpha,
    )


def _endpoint(row: dict[str, Any]) -> shown.Endpoint:
    names = {field.name for field in fields(shown.Endpoint)}
    return shown.Endpoint(**{name: value for name, value in row.items() if name in names})


def _mixtures(exports: Mapping[tuple[str, int], Artefact]) -> shown.Mixtures:
    rows, words = [], ""
    for (name, seed), artefact in exports.items():
        facts = read_mixture(artefact.path)
        rule, balance = facts["decontamination"], facts["balance"]
        words = _decontamination_words(rule)
        rows.append(
            shown.Mixture(
                mixture=name,
                seed=seed,
                windows=tuple(w["window"] for w in facts["windows"] if w["instances"]),
                tokens=facts["tokens"],
                instances=facts["instances"],
                repeats=facts["max_repetition"],
                decontaminated_documents=rule["rejected_documents"],
                decontaminated_instances=rule["rejected_instances"],
                balance=(
                    ("documents per instance", balance["mean_documents"]),
                    ("mean document length", balance["mean_document_length"]),
                    *((f"share of {k}", v) for k, v in sorted(balance["source_shares"].items())),
                ),
            )
        )
    return shown.Mixtures(decontamination=words, rows=tuple(rows))


def _decontamination_words(rule: dict[str, Any]) -> str:
    what = (
        "a whole eval prompt" if rule["match"] == "prompt" else f"{rule['ngram']} tokens in a row"
    )
    return (
        f"an instance is left out where {what} of the suite's {rule['prompts']:,} prompts "
        "occurs in it"
    )


def _truth(
    artefact: Artefact | None, labels: pl.DataFrame, windows: Sequence[Window], task: str
) -> shown.Truth | None:
    if artefact is None:
        return None
    rows = labels.filter(pl.col("task") == task)
    found = {row["window"]: row for row in rows.to_dicts()}
    strength = np.array([found[w.name]["strength"] for w in windows])
    check = check_truth(artefact.path, windows, strength)
    return shown.Truth(
        composition=COMPOSITION,
        rho=check.rho,
        rho_previous=check.rho_previous,
        autocorrelation=check.autocorrelation,
        points=tuple(
            shown.TruthPoint(
                window=w.name,
                composition=float(check.composition[index]),
                strength=float(strength[index]),
                label=found[w.name]["label"],
            )
            for index, w in enumerate(windows)
        ),
    )


def _read(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded
