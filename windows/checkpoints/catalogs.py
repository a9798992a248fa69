"""Which checkpoints a run has, wherever they lie: on the Hub, behind URLs, in a local folder."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from windows.checkpoints.folder import layout, named_folders
from windows.checkpoints.hub import Hub, HubRevision
from windows.checkpoints.revisions import Revision, label_fits, parse_revision
from windows.errors import ConfigError
from windows.run import RunConfig

Kind = Literal["hf", "olmo-core", "olmo", "hub"]
Address = HubRevision | Path | str
TokenCount = Callable[[str, int], int | None]
"""Tokens that a stage had consumed at a step, or None where nobody knows."""


@dataclass(frozen=True)
class CatalogEntry:
    """One checkpoint of a run, and where it lies.

    Attributes
    ----------
    run, stage, step
        What it is; an ingredient is part of the stage (``stage2-ingredient1``).
    name
        What it is called where it lies.
    address
        A revision on the Hub, a local folder, or the URL of a folder.
    kind
        How it is stored.
    tokens
        Tokens consumed since the stage began, computed from `step`; None where the run's step map
        does not tell.
    suffix
        What else the name says: a mix, an average of several checkpoints, a form of storage.
    """

    run: str
    stage: str
    step: int
    name: str
    address: Address
    kind: Kind
    tokens: int | None
    suffix: str = ""


@dataclass(frozen=True)
class Unknown:
    """Something beside the checkpoints whose name tells no step, such as ``main``."""

    name: str
    address: Address


@dataclass(frozen=True)
class Catalog:
    """The checkpoints of a run.

    Attributes
    ----------
    run
        The run's name.
    entries
        By stage, step and name.
    unknown
        What else lies there, by name: nothing is dropped.
    notes
        What was found wrong and corrected, or left open; one line each.
    """

    run: str
    entries: tuple[CatalogEntry, ...]
    unknown: tuple[Unknown, ...] = ()
    notes: tuple[str, ...] = ()


def count_tokens(runs: Iterable[RunConfig]) -> TokenCount:
    """Return how many tokens each stage had consumed at a step, by the runs' step maps.

    Every step counts the batch size of its time, whether its batch was new or repeated. The stage
    of an ingredient that has no configuration of its own is taken from the whole stage's.
    """
    by_stage = {run.stage: run for run in runs}

    def tokens(stage: str, step: int) -> int | None:
        run = by_stage.get(stage) or by_stage.get(stage.partition("-ingredient")[0])
        if run is None or step < run.step_map[0].first_step:
            return None
        starts = [entry.first_step for entry in run.step_map]
        spans = zip(run.step_map, starts, [*starts[1:], step], strict=True)
        return sum(
            max(min(end, step) - start, 0) * entry.batch_tokens for entry, start, end in spans
        )

    return tokens


def no_tokens(stage: str, step: int) -> None:
    """Know of no step map."""


def assemble(
    run: str,
    entries: Iterable[CatalogEntry],
    unknown: Iterable[Unknown] = (),
    notes: Iterable[str] = (),
) -> Catalog:
    """Put a catalog in order, and note what two names claim at once."""
    listed = sorted(entries, key=lambda entry: (entry.stage, entry.step, entry.name))
    claims: dict[tuple[str, int, str], list[str]] = {}
    for entry in listed:
        claims.setdefault((entry.stage, entry.step, entry.suffix), []).append(entry.name)
    twice = [
        f"{' and '.join(names)} claim to be the same checkpoint, {stage}-step{step}"
        for (stage, step, _), names in claims.items()
        if len(names) > 1
    ]
    ordered = sorted(unknown, key=lambda item: item.name)
    return Catalog(run, tuple(listed), tuple(ordered), (*notes, *twice))


def hub_catalog(
    repo: str,
    *,
    run: str,
    tokens: TokenCount = no_tokens,
    stage: str = "stage1",
    hub: Hub | None = None,
) -> Catalog:
    """List the checkpoints among the revisions of a repository on the Hub.

    Parameters
    ----------
    repo
        ``organization/name``.
    run
        The run's name.
    tokens
        Tokens consumed at a step; labels in the names are only compared with it.
    stage
        Of the revisions whose names tell none.
    hub
        Where to ask: by default the Hub, or without it (``HF_HUB_OFFLINE``) its cache on disk.

    Raises
    ------
    DataError
        There is no such repository, the Hub does not answer, or the cache does not hold it.
    ConfigError
        `repo` cannot be the name of one.
    """
    hub = hub or Hub()
    found, offline = hub.revisions(repo), hub.offline
    held = [revision for revision in found if revision.snapshot or not offline]
    absent = [revision.name for revision in found if offline and not revision.snapshot]
    notes = []
    if absent:
        notes.append(
            f"the cache names {len(absent)} revisions of {repo} that it does not hold,"
            f" {absent[0]} first"
        )
    named = [(parse_revision(revision.name), revision) for revision in held]
    entries = [
        _entry(run, parsed, revision, "hub", tokens=tokens, stage=stage)
        for parsed, revision in named
        if parsed
    ]
    notes += label_notes([parsed for parsed, _ in named if parsed], tokens, stage)
    unknown = [Unknown(revision.name, revision) for parsed, revision in named if not parsed]
    return assemble(run, entries, unknown, notes)


def local_catalog(
    folder: Path, run: str, *, tokens: TokenCount = no_tokens, stage: str = "stage1"
) -> Catalog:
    """List the checkpoints in a local folder, in whatever layout each was written.

    `windows.checkpoints.folder.catalog` lists the plain ones among them.

    Parameters
    ----------
    tokens, stage
        As in `hub_catalog`.

    Raises
    ------
    DataError
        `folder` is not a folder, or cannot be read.
    """
    entries, unknown, parsed_names, empty = [], [], [], []
    for name, path in named_folders(folder, run):
        parsed, kind = parse_revision(name), layout(path)
        if parsed is None or kind is None:
            unknown.append(Unknown(name, path))
            if parsed is not None:
                empty.append(name)
            continue
        parsed_names.append(parsed)
        entries.append(_entry(run, parsed, path, kind, tokens=tokens, stage=stage))
    notes = label_notes(parsed_names, tokens, stage)
    if empty:
        notes.append(
            f"{len(empty)} folders are named as checkpoints and hold none, {empty[0]} first"
        )
    return assemble(run, entries, unknown, notes)


def label_notes(revisions: Sequence[Revision], tokens: TokenCount, stage: str) -> list[str]:
    """Say how many labels in the names do not fit the tokens computed from their steps."""
    wrong = []
    for revision in revisions:
        label, count = revision.tokens_label, tokens(revision.stage_or(stage), revision.step)
        if label is not None and count is not None and not label_fits(label, count):
            wrong.append(f"{revision.name}, whose step makes {count:,} tokens")
    return [f"{len(wrong)} token labels do not fit their steps, first {wrong[0]}"] if wrong else []


def resolve_revision(catalog: Catalog, stage: str, step: int) -> CatalogEntry:
    """Return the checkpoint of a stage at a step.

    Where several names claim it, the one that says nothing else is meant.

    Raises
    ------
    ConfigError
        There is none, and the nearest are named; or several, and none of them is the plain one.
    """
    staged = [entry for entry in catalog.entries if entry.stage == stage]
    found = [entry for entry in staged if entry.step == step]
    plain = [entry for entry in found if not entry.suffix]
    for candidates in (plain, found):
        if len(candidates) == 1:
            return candidates[0]
    if found:
        raise ConfigError(
            f"run {catalog.run} has {len(found)} checkpoints {stage}-step{step}",
            where="step",
            got=", ".join(entry.name for entry in found),
            do="name one of them",
        )
    raise ConfigError(
        f"run {catalog.run} has no checkpoint {stage}-step{step}",
        where="step" if staged else "stage",
        got=str(step) if staged else stage,
        do=_nearest(staged, step) if staged else _stages(catalog),
    )


def _entry(
    run: str,
    revision: Revision,
    address: Address,
    kind: Kind,
    *,
    tokens: TokenCount,
    stage: str,
) -> CatalogEntry:
    name = revision.stage_or(stage)
    return CatalogEntry(
        run=run,
        stage=name,
        step=revision.step,
        name=revision.name,
        address=address,
        kind=kind,
        tokens=tokens(name, revision.step),
        suffix=revision.suffix,
    )


def _nearest(staged: Sequence[CatalogEntry], step: int) -> str:
    below = [entry.name for entry in staged if entry.step < step][-1:]
    above = [entry.name for entry in staged if entry.step > step][:1]
    return f"the nearest: {' and '.join(below + above)}"


def _stages(catalog: Catalog) -> str:
    stages: Mapping[str, None] = dict.fromkeys(entry.stage for entry in catalog.entries)
    return (
        f"choose from {', '.join(stages)}" if stages else "the catalog is empty: check its address"
    )
