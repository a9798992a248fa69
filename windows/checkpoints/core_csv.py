"""Catalogs from the tables of checkpoints that OLMo's and OLMo-core's authors publish.

Columns are ``Step`` and ``Checkpoint Directory``, in most with ``Stage`` (``stage1_pretraining``,
``stage2_midtraining_ingredient1``, ``stage3_longcontext_souped``) or ``Ingredient`` (a number or
``soup``), in some with ``Tokens Seen``, which counts on from stage to stage and is wrong in two of
them. Source: ``src/scripts/official/**/*.csv`` of OLMo-core, ``configs/official-*/*.csv`` of OLMo.
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from windows.checkpoints.catalogs import (
    Catalog,
    CatalogEntry,
    TokenCount,
    assemble,
    no_tokens,
)
from windows.errors import DataError

_STEP, _DIRECTORY = "step", "checkpoint directory"
_STAGE = re.compile(r"(stage[0-9]+)(?:_[a-z]+?)??(?:_ingredient(?P<ingredient>[0-9]+))?(_souped)?")
_STAGE_FOLDER = re.compile(r"/(stage[0-9]+)/")
_STEP_FOLDER = re.compile(r"(?:.*-)?step([0-9]+)(?:[+-].*)?")
_UNSHARDED = "-unsharded"


@dataclass(frozen=True)
class _Row:
    """A row: `claimed` is what it says of tokens, `souped` whether it averages checkpoints."""

    line: int
    stage: str
    step: int
    directory: str
    claimed: int | None
    souped: bool

    @property
    def name(self) -> str:
        return f"{self.stage}-step{self.step}{'-souped' if self.souped else ''}"

    @property
    def whole_stage(self) -> str:
        return self.stage.partition("-ingredient")[0]


def csv_catalog(
    path: Path,
    run: str,
    *,
    tokens: TokenCount = no_tokens,
    stage: str = "stage1",
    starts: Mapping[str, int] | None = None,
) -> Catalog:
    """List the checkpoints of a table.

    Parameters
    ----------
    path
        The table.
    tokens
        Tokens consumed at a step. The table's own column is only compared with it, and what differs
        is reported.
    stage
        Of rows that tell none, neither in a column nor in their directory.
    starts
        Tokens that the model had consumed when a stage began, where they are not what the table's
        rows of the stage before add up to.

    Raises
    ------
    DataError
        The file cannot be read, lacks a column, or a row is not what its column says.
    """
    rows, notes = _distinct(_rows(path, stage))
    notes += _other_steps(rows) + _wrong_tokens(rows, tokens, starts or {})
    return assemble(run, (_entry(run, row, tokens) for row in rows), notes=notes)


def _entry(run: str, row: _Row, tokens: TokenCount) -> CatalogEntry:
    return CatalogEntry(
        run=run,
        stage=row.stage,
        step=row.step,
        name=row.name,
        address=row.directory,
        kind="olmo" if row.directory.endswith(_UNSHARDED) else "olmo-core",
        tokens=None if row.souped else tokens(row.stage, row.step),
        suffix="souped" if row.souped else "",
    )


def _rows(path: Path, stage: str) -> list[_Row]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        table = list(csv.reader(io.StringIO(text), strict=True))
    except OSError as error:
        raise _fault(path, "the table cannot be read", error.strerror or "") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise _fault(path, "not a table of checkpoints", str(error)) from error
    columns = [name.strip().lower() for name in table[0]] if table else []
    for needed in (_STEP, _DIRECTORY):
        if needed not in columns:
            raise _fault(path, f"the table has no column {needed!r}", ", ".join(columns))
    return [
        _row(f"{path}:{line}", line, dict(zip(columns, cells, strict=False)), stage)
        for line, cells in enumerate(table[1:], start=2)
        if any(cells)
    ]


def _row(where: str, line: int, cells: dict[str, str], stage: str) -> _Row:
    directory = cells.get(_DIRECTORY, "").strip().rstrip("/")
    if not directory:
        raise _fault(where, "a checkpoint without a directory", "")
    told = _STAGE_FOLDER.search(f"{directory}/")
    label = cells.get("stage", "").strip() or (told[1] if told else stage)
    match = _STAGE.fullmatch(label)
    base = match[1] if match else label
    ingredient = (match["ingredient"] if match else None) or cells.get("ingredient", "").strip()
    if ingredient.isdigit():
        base = f"{base}-ingredient{int(ingredient)}"
    return _Row(
        line=line,
        stage=base,
        step=_count(where, _STEP, cells.get(_STEP, "")),
        directory=directory,
        claimed=_claimed(where, cells.get("tokens seen", "")),
        souped=label.endswith("_souped") or ingredient.startswith("soup"),
    )


def _count(where: str, column: str, text: str) -> int:
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
        raise _fault(where, f"not a number of {column}s", repr(text[:40]))
    return int(digits)


def _claimed(where: str, text: str) -> int | None:
    return _count(where, "token", text) if text.strip() else None


def _distinct(rows: Sequence[_Row]) -> tuple[list[_Row], list[str]]:
    first = {(row.name, row.directory): row for row in reversed(rows)}
    kept = [row for row in rows if first[row.name, row.directory] is row]
    again = [row for row in rows if first[row.name, row.directory] is not row]
    if not again:
        return kept, []
    return kept, [f"{len(again)} rows say what one before them says, first line {again[0].line}"]


def _other_steps(rows: Iterable[_Row]) -> list[str]:
    found = [
        row
        for row in rows
        if (match := _STEP_FOLDER.fullmatch(row.directory.rpartition("/")[2]))
        and int(match[1]) != row.step
    ]
    if not found:
        return []
    return [
        f"{len(found)} directories are named by another step, first {found[0].name}"
        f" in {found[0].directory}"
    ]


def _wrong_tokens(rows: Sequence[_Row], tokens: TokenCount, starts: Mapping[str, int]) -> list[str]:
    begun = _begun(rows, tokens, starts)
    stages = dict.fromkeys(row.stage for row in rows if row.claimed is not None)
    notes = []
    for stage in stages:
        claims = [row for row in rows if row.stage == stage and not row.souped]
        notes += _compare(stage, claims, tokens, begun.get(stage.partition("-ingredient")[0]))
    return notes


def _compare(stage: str, rows: Sequence[_Row], tokens: TokenCount, begun: int | None) -> list[str]:
    counts = [(row, tokens(stage, row.step)) for row in rows]
    claims = [(row, count) for row, count in counts if row.claimed is not None]
    if not claims:
        return []
    if begun is None or any(count is None for _, count in claims):
        return [f"{stage}: no step map, so the Tokens Seen of {len(claims)} rows are not checked"]
    off = {
        row: row.claimed - begun - count
        for row, count in claims
        if row.claimed is not None and count is not None and row.claimed != begun + count
    }
    if not off:
        return []
    first = next(iter(off))
    by = sorted(set(off.values()))
    how = f"by {by[0]:+,}" if len(by) == 1 else f"by {by[0]:+,} to {by[-1]:+,}"
    return [
        f"{stage}: Tokens Seen is wrong in {len(off)} of {len(claims)} rows, {how}; first"
        f" {first.name}, which says {first.claimed:,} where its step makes"
        f" {(first.claimed or 0) - off[first]:,}; tokens are computed from steps"
    ]


def _begun(
    rows: Sequence[_Row], tokens: TokenCount, starts: Mapping[str, int]
) -> dict[str, int | None]:
    """Return the tokens before each stage: those of all ingredients of the stages before it."""
    begun: dict[str, int | None] = {}
    total: int | None = 0
    for stage in sorted({row.whole_stage for row in rows}):
        total = begun[stage] = starts.get(stage, total)
        last: dict[str, int] = {}
        for row in rows:
            if row.whole_stage == stage and not row.souped:
                last[row.stage] = max(row.step, last.get(row.stage, 0))
        for name, step in last.items():
            count = tokens(name, step)
            total = None if total is None or count is None else total + count
    return begun


def _fault(where: Path | str, what: str, got: str) -> DataError:
    got = " ".join(got.split())[:120]
    return DataError(what, where=str(where), got=got, do="correct the table, or fetch it again")
