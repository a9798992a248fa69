"""Sweeps over revisions of OLMo 3 by their true names, each with a tiny model inside."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from scoring import loading as module
from scoring.items import items_path, read_items
from scoring.loading import load_model
from scoring.prefetch import FETCHED, Fetching
from scoring.sweep import SweepRequest, sweep
from windows.checkpoints.catalogs import Catalog, hub_catalog, resolve_revision
from windows.checkpoints.folder import Checkpoint
from windows.checkpoints.hub import Hub
from windows.errors import DataError
from windows.progress import Reporter
from windows.workers import WorkerPool

REPO = "allenai/Olmo-3-1025-7B"
TASKS = ("successive_answer/addition", "normal_control/addition")
REQUEST = SweepRequest(TASKS, "label", 1)
STEPS = (1000, 2000, 3000)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def revisions(tiny: Callable[[int], Path]) -> dict[str, dict[str, bytes]]:
    return {
        f"stage1-step{step}": {path.name: path.read_bytes() for path in tiny(step).iterdir()}
        for step in STEPS
    }


def run(catalog: Catalog, out: Path, hub: Hub, *, drop_scored: bool = False) -> None:
    fetching = Fetching(hub, drop_scored)
    with WorkerPool(0) as pool:
        sweep(catalog.entries, REQUEST, out, pool, Reporter(quiet=True), fetching=fetching)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def direct(tiny: Callable[[int], Path], tmp_path: Path) -> dict[str, bytes]:
    """What scoring the folders themselves gives."""
    out = tmp_path / "direct"
    folders = [Checkpoint("olmo3-7b", "stage1", step, tiny(step)) for step in STEPS]
    with WorkerPool(0) as pool:
        sweep(folders, REQUEST, out, pool, Reporter(quiet=True))
    return content(out)


@pytest.fixture
def weights_at_load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, int]]:
    """Of each real load: the folder, and how many weight files the cache holds at the time."""
    seen: list[tuple[str, int]] = []

    def counted(path: Path, **how: Any) -> tuple[Any, Any]:
        seen.append((path.name, len(list((tmp_path / "cache").rglob("*.safetensors")))))
        return load_model(path, **how)

    monkeypatch.setattr(module, "load_model", counted)
    return seen


def test_scored_offline_by_name(
    revisions: Any, direct: dict[str, bytes], lay: Any, tmp_path: Path
) -> None:
    cache = lay(REPO, revisions | {"main": revisions["stage1-step3000"]})
    before = content(cache)
    hub = Hub(cache=cache, local_only=True)
    catalog = hub_catalog(REPO, run="olmo3-7b", hub=hub)
    assert [entry.name for entry in catalog.entries] == list(revisions)
    out = tmp_path / "out"
    for drop_scored in (False, True):
        run(catalog, out, hub, drop_scored=drop_scored)
        assert content(out) == direct
    assert content(cache) == before, "what was there before stays"
    one = resolve_revision(catalog, "stage1", 2000)
    with WorkerPool(0) as pool:
        sweep([one], REQUEST, tmp_path / "one", pool, Reporter(quiet=True), fetching=Fetching(hub))
    assert content(tmp_path / "one").items() < direct.items()


@pytest.mark.slow
def test_fetched_one_ahead_and_dropped(
    olmo_hub: Any,
    revisions: Any,
    direct: dict[str, bytes],
    tmp_path: Path,
    weights_at_load: list[tuple[str, int]],
) -> None:
    olmo_hub.revisions = revisions
    hub = Hub(olmo_hub.url, tmp_path / "cache")
    catalog, out = hub_catalog(REPO, run="olmo3-7b", hub=hub), tmp_path / "out"
    run(catalog, out, hub, drop_scored=True)
    assert content(out) == direct
    assert [name for name, _ in weights_at_load] == [olmo_hub.commit(name) for name in revisions]
    assert max(count for _, count in weights_at_load) <= 2
    folder = tmp_path / "cache" / "models--allenai--Olmo-3-1025-7B"
    assert not list(folder.glob("snapshots/*")) and not list(folder.glob("blobs/*"))
    asked = len(olmo_hub.asked)
    run(catalog, out, hub, drop_scored=True)
    assert len(olmo_hub.asked) == asked and len(weights_at_load) == 3, "nothing is done twice"


@pytest.mark.slow
def test_a_fault_is_told_at_its_checkpoint_and_the_rest_goes_on_later(
    olmo_hub: Any,
    revisions: Any,
    direct: dict[str, bytes],
    tmp_path: Path,
    weights_at_load: list[tuple[str, int]],
) -> None:
    olmo_hub.revisions = revisions
    olmo_hub.broken = {("stage1-step2000", "model.safetensors")}
    hub = Hub(olmo_hub.url, tmp_path / "cache")
    catalog, out = hub_catalog(REPO, run="olmo3-7b", hub=hub), tmp_path / "out"
    with pytest.raises(DataError, match=f"{REPO}@stage1-step2000: ") as fault:
        run(catalog, out, hub, drop_scored=True)
    assert "\n" not in str(fault.value)
    assert [name for name, _ in weights_at_load] == [olmo_hub.commit("stage1-step1000")]
    assert read_items(out)["step"].unique().to_list() == [1000]
    olmo_hub.broken = set()
    run(catalog, out, hub, drop_scored=True)
    assert content(out) == direct and len(weights_at_load) == 3
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


@pytest.mark.slow
def test_two_names_of_one_commit_are_dropped_after_the_second(
    olmo_hub: Any, revisions: Any, tmp_path: Path, weights_at_load: list[tuple[str, int]]
) -> None:
    olmo_hub.revisions = revisions
    hub = Hub(olmo_hub.url, tmp_path / "cache")
    entries = hub_catalog(REPO, run="olmo3-7b", hub=hub).entries
    first, last = entries[0], entries[2]
    twice = type(last)(**{**vars(last), "address": first.address})
    run(Catalog("olmo3-7b", (first, entries[1], twice)), tmp_path / "out", hub, drop_scored=True)
    commits = [name for name, _ in weights_at_load]
    assert len(commits) == 3 and commits[0] == commits[2]
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


@pytest.mark.slow
def test_weights_that_are_not_safetensors_are_told(
    olmo_hub: Any, revisions: Any, tmp_path: Path
) -> None:
    files = revisions["stage1-step1000"]
    files["pytorch_model.bin"] = files.pop("model.safetensors")
    olmo_hub.revisions = revisions
    hub = Hub(olmo_hub.url, tmp_path / "cache")
    with pytest.raises(DataError, match=r"no model.safetensors; .*safetensors format"):
        run(hub_catalog(REPO, run="olmo3-7b", hub=hub), tmp_path / "out", hub)
    assert "pytorch_model.bin" not in {name for _, name in olmo_hub.asked}


PROGRAM = """
import sys
from pathlib import Path
from scoring.prefetch import Fetching
from scoring.sweep import SweepRequest, sweep
from windows.checkpoints.catalogs import hub_catalog
from windows.progress import Reporter
from windows.workers import WorkerPool

if __name__ == "__main__":
    repo, out, workers, *tasks = sys.argv[1:]
    request = SweepRequest(tuple(tasks), "label", 1)
    entries = hub_catalog(repo, run="olmo3-7b").entries
    with WorkerPool(int(workers)) as pool:
        fetching = Fetching(drop_scored=True)
        sweep(entries, request, Path(out), pool, Reporter(quiet=True), fetching=fetching)
"""


def start(out: Path, workers: int, **environment: str) -> "subprocess.Popen[str]":
    script = out.parent / "program.py"
    script.write_text(PROGRAM)
    return subprocess.Popen(
        [sys.executable, script, REPO, out, str(workers), *TASKS],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_while_fetching_and_scoring(
    olmo_hub: Any, revisions: Any, direct: dict[str, bytes], tmp_path: Path, workers: int
) -> None:
    olmo_hub.revisions = revisions
    out, home = tmp_path / "out", tmp_path / "home"
    environment = {"HF_ENDPOINT": olmo_hub.url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
    environment["HF_HUB_DISABLE_TELEMETRY"] = "1"
    # Killed with the first fetched, and with some tables written.
    for reached in (
        lambda: list(home.rglob("*.safetensors")),
        lambda: list(out.rglob("*.parquet")),
    ):
        process = start(out, workers, **environment)
        limit = time.monotonic() + 120
        while not reached():
            assert process.poll() is None and time.monotonic() < limit
            time.sleep(0.001)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    kept = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    assert kept
    process = start(out, workers, **environment)
    assert process.communicate(timeout=300)[1] == "" and process.returncode == 0
    assert {n: data for n, data in content(out).items() if n.endswith(".parquet")} == direct
    assert all(path.stat().st_mtime_ns == at for path, at in kept.items()), "scored again"
    assert not list(home.rglob("*.safetensors")) and not (out / FETCHED).exists()


@pytest.mark.slow
def test_scored_offline_by_name_as_the_environment_says(
    revisions: Any, direct: dict[str, bytes], lay: Any, tmp_path: Path
) -> None:
    cache = lay(REPO, revisions)
    before = content(cache)
    process = start(tmp_path / "out", 0, HF_HUB_OFFLINE="1", HF_HUB_CACHE=str(cache))
    assert process.communicate(timeout=300)[1] == "" and process.returncode == 0
    assert content(tmp_path / "out") == direct
    assert {name: data for name, data in content(cache).items() if ".locks" not in name} == before


def test_tables_know_their_request_but_not_where_weights_came_from(
    direct: dict[str, bytes], tmp_path: Path
) -> None:
    checkpoint = Checkpoint("olmo3-7b", "stage1", 1000, tmp_path)
    path = items_path(tmp_path / "direct", checkpoint, TASKS[0])
    metadata = pq.read_schema(path).metadata
    assert (
        list(metadata) == [b"modehop.request"] and str(tmp_path).encode() not in path.read_bytes()
    )
