"""`modehop null` on the small embedded study, every null that costs something included."""

import json
from pathlib import Path
from typing import Any

import pytest

from curate.cli import main

STUDY = str(Path(__file__).parents[1] / "studies" / "small.yaml")
SMALL = ("--set", "nulls.averaging=2", "--set", "nulls.draws=2", "--set", "nulls.hops=2")


def ask(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    assert main(["null", STUDY, *arguments, "--quiet"]) == code
    out, err = capsys.readouterr()
    return err if code else json.loads(out)


@pytest.mark.slow
def test_every_null_is_asked_of_the_strongest_hops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--out", str(tmp_path / "out"), "--set", "workers=0", *SMALL)
    free = ask(capsys, *where, "--json")
    assert free["not_asked"] == ["numerics", "averaging", "stability"]
    checks = [word for name in free["not_asked"] for word in ("--check", name)]
    found = ask(capsys, *where, *checks, "--json")
    hops = {(row["first_step"], row["end_step"]) for row in found["verdicts"]}
    assert 0 < len(hops) <= 2
    asked = {(row["first_step"], row["null"]) for row in found["findings"]}
    nulls = {"boundary", "instruction", "metric", "wording", "noise", "identity"}
    assert asked == {
        (first, null)
        for first, _ in hops
        for null in nulls | {"numerics", "averaging", "stability"}
    }
    by_null = {row["null"]: row for row in found["findings"]}
    # float32 and bfloat16 agree on a model this small, and no two checkpoints are one.
    assert by_null["identity"]["says"] == by_null["boundary"]["says"] == "survives"
    assert "diffuse" in by_null["stability"]["why"]
    assert not list((tmp_path / "out").rglob("weights")), "averaged weights are not kept"
    assert ask(capsys, *where, *checks, "--json") == found
    assert [row["says"] for row in free["findings"]] == [
        row["says"]
        for row in found["findings"]
        if row["null"] not in ("numerics", "averaging", "stability")
    ]


def test_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ("--out", str(tmp_path / "out"))
    assert "--check" in ask(capsys, *out, "--check", "wordings", code=2)
    assert "1.0 the smallest" in ask(capsys, *out, "--set", "nulls.learning_rates=[2.0]", code=2)
    assert not (tmp_path / "out").exists()
