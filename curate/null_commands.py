"""The command that asks the named nulls of a study's hops."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from curate.command import Answer, Call
from curate.null_chain import DEAR, FINDINGS, VERDICTS, check_local
from curate.tables import plain, table


def null(call: Call, checks: Sequence[str]) -> Answer:
    """Ask every null that costs nothing, and those of `checks`; tell a verdict for each hop."""
    check_local(call.study, checks)
    with call.making() as chain:
        made = chain.nulls(checks)
    findings, verdicts = (pl.read_parquet(made.path / name) for name in (FINDINGS, VERDICTS))
    names = [name for name in dict.fromkeys(findings["null"]) if name]
    says = findings.pivot("null", index=["first_step", "end_step"], values="says")
    wide = verdicts.join(says, on=["first_step", "end_step"])
    columns = ["first_step", "end_step", "delta", "verdict", *names]
    rows = wide.select(columns).rows() if verdicts.height else []
    task = call.study.labels.task
    data = {
        "artefact": str(made.path),
        "id": made.id,
        "task": task,
        "verdicts": [plain(row) for row in verdicts.to_dicts()],
        "findings": [plain(row) for row in findings.to_dicts()],
        "not_asked": [name for name in DEAR if name not in checks],
    }
    shown = [table(f"the strongest hops of {task}, and what could explain them", columns, rows)]
    return Answer(data, (*shown, *_explained(findings), *_not_asked(data["not_asked"], made.path)))


def _explained(findings: pl.DataFrame) -> list[str]:
    told = findings.filter(pl.col("says") == "explains")
    return [
        f"{row['first_step']}:{row['end_step']} {row['null']}: {row['why']}"
        for row in told.iter_rows(named=True)
    ]


def _not_asked(names: object, artefact: Path) -> list[str]:
    assert isinstance(names, list)
    lines = [f"not asked, since they score checkpoints again (--check): {', '.join(names)}"]
    return [*(lines if names else []), f"artefact: {artefact}"]
