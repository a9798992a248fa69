"""`modehop attribute` on the small embedded study: a table mixtures could select by, and nulls."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from curate.attribution import METHODS
from curate.cli import main

STUDY = str(Path(__file__).parents[1] / "studies" / "small.yaml")


def ask(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    assert main(["attribute", STUDY, *arguments, "--quiet"]) == code
    out, err = capsys.readouterr()
    return err if code else json.loads(out)


@pytest.mark.slow
def test_every_method_scores_every_sampled_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ("instances=16", "checkpoints=2")
    where = ("--out", str(tmp_path / "out"), "--set", "workers=0")
    settings = [word for each in small for word in ("--set", f"attribution.{each}")]
    found = ask(capsys, *where, *settings, "--json")
    scores = pl.read_parquet(found["table"])
    assert scores.schema == {
        "instance": pl.Int64,
        "start": pl.Int32,
        "end": pl.Int32,
        "method": pl.String,
        "score": pl.Float32,
    }
    counts = dict(scores["method"].value_counts().iter_rows())
    assert len(counts) == len(METHODS) and len(set(counts.values())) == 1
    assert all(row["floor"] <= row["p"] <= 1 for row in found["methods"])
    assert scores["score"].is_finite().all()
    assert ask(capsys, *where, *settings, "--json") == found
    one = ask(capsys, *where, *settings, "--method", "bm25", "--json")
    (row,) = one["methods"]
    assert row in found["methods"]


def test_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ("--out", str(tmp_path / "out"))
    assert "--method" in ask(capsys, *out, "--method", "trak", code=2)
    assert not (tmp_path / "out").exists()
