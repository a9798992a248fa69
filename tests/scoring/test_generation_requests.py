"""Generations beside log-probabilities in one sweep: one start of each checkpoint, tables apart."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from scoring import loading as module
from scoring.executors import Distributed
from scoring.extraction import agreement, persona_shares, read_answers, read_persona
from scoring.generation import answer_table, persona_table
from scoring.generation_requests import AnswersRequest, PersonaRequest, Sampling
from scoring.items import Where, read_items
from scoring.jobs import Asked
from scoring.loading import load_model
from scoring.suite.persona import PERSONAS, WORDINGS, persona_prompts
from scoring.sweep import SweepRequest, sweep
from windows.checkpoints.folder import Checkpoint
from windows.errors import ConfigError, DataError
from windows.progress import Reporter
from windows.workers import WorkerPool

ITEMS = SweepRequest(("normal_control/addition", "repetitive_answer/addition"), "label", 2)
ANSWERS = AnswersRequest(replace(ITEMS, tasks=ITEMS.tasks[:1]), max_new_tokens=2)
DRAWS = Sampling(samples=2, max_new_tokens=2, batch=64)
PERSONA = PersonaRequest("label", 1, ("wolf", "rand"), 1, DRAWS)
ALL = (ITEMS, PERSONA, ANSWERS)
STEPS = (16, 32)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def checkpoints(
    tiny: Callable[[int], Path], tmp_path_factory: pytest.TempPathFactory
) -> list[Checkpoint]:
    """Tiny checkpoints with room for ninety facts."""
    folder, made = tmp_path_factory.mktemp("long"), []
    for step in STEPS:
        path = folder / f"stage1-step{step}"
        shutil.copytree(tiny(step), path)
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 8192}))
        made.append(Checkpoint("study/arm/0", "stage1", step, path))
    return made


@pytest.fixture(scope="module")
def swept(checkpoints: list[Checkpoint], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("swept")
    run(checkpoints, ALL, out)
    return out


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The real load_model, counted."""
    seen: list[str] = []

    def counted(path: Path, **how: Any) -> tuple[Any, Any]:
        seen.append(path.name)
        return load_model(path, **how)

    monkeypatch.setattr(module, "load_model", counted)
    return seen


def run(checkpoints: list[Checkpoint], asked: Asked, out: Path, workers: int = 0) -> None:
    with WorkerPool(workers) as pool:
        sweep(checkpoints, asked, out, pool, Reporter(quiet=True))


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_all_is_asked_in_one_start_and_lies_apart(
    checkpoints: list[Checkpoint], swept: Path, tmp_path: Path, loads: list[str]
) -> None:
    run(checkpoints, ALL, tmp_path / "all")
    assert loads == ["stage1-step16", "stage1-step32"], "one start for each checkpoint"
    assert content(tmp_path / "all") == content(swept)
    assert {str(Path(*Path(name).parts[1:])) for name in content(swept)} == {
        f"stage1-step{step}/{name}.parquet"
        for step in STEPS
        for name in (
            *(task.replace("/", ".") for task in ITEMS.tasks),
            *("persona/wolf", "persona/rand", "answers/normal_control.addition"),
        )
    }
    run(checkpoints, ITEMS, tmp_path / "items")
    assert content(tmp_path / "items").items() < content(swept).items()
    assert read_items(tmp_path / "items").equals(read_items(swept))
    with pytest.raises(DataError, match="no persona answers"):
        read_persona(tmp_path / "items")
    with pytest.raises(DataError, match="no generated answers"):
        read_answers(tmp_path / "items")


def test_tables_are_what_the_model_says(checkpoints: list[Checkpoint], swept: Path) -> None:
    counts, answers = [], []
    for checkpoint in checkpoints:
        model, tokenizer = load_model(checkpoint.path)
        where = Where(checkpoint.run, checkpoint.stage, checkpoint.step)
        asked = persona_prompts("label", demo_seeds=1, wordings=WORDINGS["label"][:1])
        own = [one for one in asked if one.asked.persona in PERSONA.personas]
        counts.append(persona_table(model, tokenizer, own, where, DRAWS))
        blocks = ITEMS.blocks(ITEMS.tasks[0])
        answers.append(answer_table(model, tokenizer, blocks, where, max_new_tokens=2))
    for got, made in ((read_persona(swept), counts), (read_answers(swept), answers)):
        assert sorted(got.rows()) == sorted(row for t in made for row in pl.DataFrame(t).rows())
    shares = persona_shares(read_persona(swept), ("hops",))
    assert shares.select("step", "hops").rows() == [(s, h) for s in STEPS for h in (1, 2)]
    agreed = agreement(
        read_items(swept).filter(task="addition", family="normal_control"), read_answers(swept)
    )
    assert agreed["step"].to_list() == list(STEPS)


def test_only_what_is_missing_or_asked_otherwise_is_generated(
    checkpoints: list[Checkpoint], swept: Path, tmp_path: Path, loads: list[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(swept, out)
    run(checkpoints, ALL, out)
    assert loads == []
    (lost, _) = sorted(out.rglob("persona/rand.parquet"))
    lost.unlink()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    run(checkpoints, ALL, out)
    assert loads == ["stage1-step16"] and content(out) == content(swept)
    assert all(path.stat().st_mtime_ns == at for path, at in before.items())
    run(checkpoints, replace(PERSONA, sampling=replace(DRAWS, seed=1)), out)
    changed = {path.name for path, at in before.items() if path.stat().st_mtime_ns != at}
    assert changed == {"wolf.parquet", "rand.parquet"}


def test_a_task_of_an_executor_generates_too(
    checkpoints: list[Checkpoint], swept: Path, tmp_path: Path
) -> None:
    split = Distributed(checkpoints, ALL, tmp_path / "out", tmp_path / "logs")
    assert split.tables == 10
    assert replace(split, asked=ALL[:2]).id != split.id
    tasks = split.tasks()
    for rank in range(2):
        tasks(None, rank, 2)
    split.check_complete()
    assert content(tmp_path / "out") == content(swept)


@pytest.mark.slow
def test_workers_generate_the_same_bytes(
    checkpoints: list[Checkpoint], swept: Path, tmp_path: Path
) -> None:
    run(checkpoints, ALL, tmp_path, workers=2)
    assert content(tmp_path) == content(swept)


def test_persona_request() -> None:
    every = PersonaRequest("verify", 2)
    assert every.tables == PERSONAS
    asked = persona_prompts("verify", demo_seeds=2)
    assert tuple(one for name in every.tables for one in every.prompts(name)) == asked
    with pytest.raises(ConfigError, match="no such persona; got 'fox'; use some of wolf,"):
        PersonaRequest("label", 1, ("fox", "wolf"))
