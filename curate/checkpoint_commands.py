"""The command that lists a run's checkpoints, wherever they lie, and audits what they are."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from rich.console import RenderableType

from curate.command import Answer, Ask
from curate.subject import Subject
from curate.tables import table
from windows.checkpoints.audit import Audit, audit
from windows.checkpoints.catalogs import (
    Address,
    Catalog,
    TokenCount,
    count_tokens,
    hub_catalog,
    local_catalog,
    resolve_revision,
)
from windows.checkpoints.core_csv import csv_catalog
from windows.checkpoints.hub import HubRevision
from windows.errors import ConfigError
from windows.order_cache import cache_folder
from windows.reading.whole import fetched

Source = Literal["local", "hub", "csv"]


def checkpoints(
    ask: Ask, source: Source | None, step: int | None, audited: bool, all_bytes: bool
) -> Answer:
    """List checkpoints, or the one of a step; with an audit, say which are not what they claim."""
    where = source or _nearest_source(ask.subject)
    if audited and where == "csv":
        raise ConfigError(
            "a table lists addresses, whose weights cannot be compared",
            where="--audit",
            do="use --from hub, or --from local with copies of the checkpoints",
        )
    catalog = _catalog(ask, where)
    shown_entries = catalog.entries
    if step is not None:
        shown_entries = (resolve_revision(catalog, ask.subject.run.stage, step),)
    rows = [
        {
            "name": entry.name,
            "stage": entry.stage,
            "step": entry.step,
            "tokens": entry.tokens,
            "kind": entry.kind,
            "suffix": entry.suffix,
            "address": _plain(entry.address),
        }
        for entry in shown_entries
    ]
    unknown = [item.name for item in catalog.unknown]
    data: dict[str, Any] = {
        "run": catalog.run,
        "checkpoints": rows,
        "unknown": unknown,
        "notes": list(catalog.notes),
    }
    shown: list[RenderableType] = [_table(catalog.run, rows), *catalog.notes]
    if unknown:
        shown.append(f"not checkpoints by their names: {', '.join(unknown)}")
    if not audited:
        return Answer(data, shown)
    found = _audit(ask, catalog, all_bytes)
    data["audit"] = {**asdict(found), "clean": found.clean}
    return Answer(data, [*shown, *_audit_words(found)], _refusal(found))


def _nearest_source(subject: Subject) -> Source:
    released = subject.given.run.released
    if subject.given.checkpoint_folder is not None or subject.given.run.embedded:
        return "local"
    if released.hub is not None:
        return "hub"
    if released.csv is not None:
        return "csv"
    raise ConfigError(
        f"the file of run {subject.run.name} does not say where its checkpoints are",
        where=str(subject.given.path),
        do="name a folder in checkpoints, or a repository in released.hub",
    )


def _catalog(ask: Ask, source: Source) -> Catalog:
    subject = ask.subject
    released, run = subject.given.run.released, subject.run
    tokens = _token_count(subject)
    if source == "local":
        return local_catalog(_folder(ask), run.name, tokens=tokens, stage=run.stage)
    if source == "hub":
        repository = _named(subject, released.hub, "released.hub")
        return hub_catalog(repository, run=run.name, tokens=tokens, stage=run.stage)
    address = _named(subject, released.csv, "released.csv")
    beside = subject.given.path.parent
    path = fetched(address, cache_folder() / "lists") if "://" in address else beside / address
    before = {
        name: stage.tokens_before
        for name, stage in released.stages.items()
        if stage.tokens_before is not None
    }
    return csv_catalog(path, run.name, tokens=tokens, stage=run.stage, starts=before)


def _token_count(subject: Subject) -> TokenCount:
    """Count tokens by the run's step map, and of later stages by their batch size."""
    own, stages = count_tokens([subject.run]), subject.given.run.released.stages

    def count(stage: str, step: int) -> int | None:
        later = stages.get(stage) or stages.get(stage.partition("-ingredient")[0])
        return step * later.batch_tokens if later else own(stage, step)

    return count


def _folder(ask: Ask) -> Path:
    folder = ask.subject.given.checkpoint_folder
    if folder is not None:
        return folder
    if ask.call is not None and ask.subject.given.run.embedded:
        trained = ask.call.looking().pretrain()
        if trained.id:
            return trained.path / "checkpoints"
    raise ConfigError(
        f"there are no checkpoints of run {ask.subject.run.name} here",
        where=str(ask.subject.given.path),
        do="name their folder in checkpoints"
        if not ask.subject.given.run.embedded
        else "make them: modehop score of the same study",
    )


def _named(subject: Subject, value: str | None, key: str) -> str:
    if value is None:
        raise ConfigError(
            f"run {subject.run.name} names none",
            where=f"{subject.given.path}: {key}",
            do=f"give --set {key}=..., or choose another --from",
        )
    return value


def _plain(address: Address) -> str:
    if isinstance(address, HubRevision):
        return f"{address.repo}@{address.commit}"
    return str(address)


def _audit(ask: Ask, catalog: Catalog, all_bytes: bool) -> Audit:
    count = len(catalog.entries)
    with ask.reporter.task("comparing weights", count) as advance:
        return audit(catalog, all_bytes=all_bytes, advance=advance)


def _table(run: str, rows: Sequence[dict[str, Any]]) -> RenderableType:
    columns = ("checkpoint", "stage", "step", "tokens", "form", "")
    cells = [
        (
            row["name"],
            row["stage"],
            f"{row['step']:,}",
            "" if row["tokens"] is None else f"{row['tokens']:,}",
            row["kind"],
            row["suffix"],
        )
        for row in rows
    ]
    return table(f"{len(rows)} checkpoints of run {run}", columns, cells)


def _audit_words(found: Audit) -> list[str]:
    how = "by some of their bytes" if found.sampled else "by all their bytes"
    lines = [f"{found.checked} checkpoints compared {how}"]
    lines += [str(each) for each in found.equal]
    lines += [f"damaged: {each}" for each in found.damaged]
    return lines + [f"not compared: {each}" for each in found.skipped]


def _refusal(found: Audit) -> str:
    if found.equal:
        return "checkpoints of different steps serve the same bytes"
    if found.damaged:
        return "files of the cache are damaged"
    return f"{len(found.skipped)} checkpoints could not be compared" if found.skipped else ""
