import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants, scan_cache_dir, try_to_load_from_cache

from windows.checkpoints.hub import Hub, HubRevision
from windows.errors import ConfigError, DataError, ModehopError

PYTHIA = "EleutherAI/pythia-2.8b"
FILES = {"config.json": b"{}", "model.safetensors": b"weights", "README.md": b"# model"}


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(ModehopError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_revisions_and_weights_are_the_servers(hub_server: Any):
    hub_server.repos[PYTHIA] = {"main": FILES, "step0": FILES | {"pytorch_model.bin": b"more"}}
    hub = Hub(hub_server.url)
    main, step0 = hub.revisions(PYTHIA)
    assert (main.name, step0.name) == ("main", "step0")
    assert hub.weights(main) == {
        "model.safetensors": f"sha256:{hashlib.sha256(b'weights').hexdigest()}"
    }
    assert sorted(hub.weights(step0)) == ["model.safetensors", "pytorch_model.bin"]
    # One request lists a repository, one tells of all files of a revision: no byte of them is read.
    assert [path.split("?")[0] for path in hub_server.asked] == [
        f"/api/models/{PYTHIA}/refs",
        f"/api/models/{PYTHIA}/revision/{main.commit}",
        f"/api/models/{PYTHIA}/revision/{step0.commit}",
    ]


def test_the_endpoint_is_read_from_the_environment(hub_server: Any, tmp_path: Path):
    hub_server.repos[PYTHIA] = {"main": FILES}
    code = f"from windows.checkpoints.hub import Hub\nprint(Hub().revisions({PYTHIA!r})[0].name)"
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub_server.url,
        "HF_HOME": str(tmp_path),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "0",
    }
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "main\n"
    environment["HF_HUB_OFFLINE"] = "1"
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "the Hub's cache holds no revision of EleutherAI/pythia-2.8b" in done.stderr
    assert len(hub_server.asked) == 1


@pytest.mark.parametrize(
    "faults",
    [
        [(429, {"Retry-After": "0"})],
        [(429, {"ratelimit": '"api";r=0;t=0'}), (503, {})],
        [(500, {}), (502, {})],
    ],
)
def test_a_busy_hub_is_asked_again(hub_server: Any, faults: list[Any]):
    hub_server.repos[PYTHIA] = {"main": FILES}
    hub_server.faults = list(faults)
    assert [revision.name for revision in Hub(hub_server.url).revisions(PYTHIA)] == ["main"]
    assert len(hub_server.asked) == len(faults) + 1


def test_a_hub_that_stays_busy_is_given_up(hub_server: Any):
    hub_server.faults = [(429, {"Retry-After": "0"})] * 3
    line = refused(lambda: Hub(hub_server.url, attempts=3).revisions(PYTHIA))
    assert f"the Hub at {hub_server.url} did not answer as it should" in line
    assert "got HTTP status 429" in line
    assert len(hub_server.asked) == 3


@pytest.mark.parametrize("fault", [b"<html>proxy</html>", b"{}", b"[]", (403, {}), (418, {})])
def test_another_answer_is_not_asked_for_again(hub_server: Any, fault: Any):
    hub_server.faults = [fault]
    assert "did not answer as it should" in refused(lambda: Hub(hub_server.url).revisions(PYTHIA))
    assert len(hub_server.asked) == 1


def test_a_repository_that_is_not_there_is_named(hub_server: Any):
    line = refused(lambda: Hub(hub_server.url).revisions(PYTHIA))
    assert line.startswith(f"{PYTHIA}: no such repository on the Hub")
    assert len(hub_server.asked) == 1


def test_a_revision_that_is_not_there_is_named(hub_server: Any):
    hub_server.repos[PYTHIA] = {"main": FILES}
    absent = HubRevision(PYTHIA, "step7", "d" * 40)
    line = refused(lambda: Hub(hub_server.url).weights(absent))
    assert line.startswith(f"{PYTHIA}@step7: no such revision on the Hub")


def test_a_name_that_cannot_be_one_is_refused_before_anybody_is_asked(hub_server: Any):
    with pytest.raises(ConfigError, match="not the name of a repository"):
        Hub(hub_server.url).revisions("../secrets")
    assert hub_server.asked == []


def test_a_closed_port_is_one_line(hub_server: Any):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        line = refused(lambda: Hub(url, attempts=2).revisions(PYTHIA))
    assert f"the Hub at {url} did not answer as it should" in line


def test_the_cache_is_read_as_the_hubs_client_reads_it(hub_cache: Callable[..., Path]):
    revisions = {"main": FILES, "step0": FILES | {"model.safetensors": b"first"}}
    cache = hub_cache(PYTHIA, revisions)
    found = Hub(cache=cache, local_only=True).revisions(PYTHIA)
    scanned = scan_cache_dir(cache)
    assert scanned.warnings == []
    (repo,) = scanned.repos
    assert repo.repo_id == PYTHIA
    assert {revision.name: (revision.commit, revision.snapshot) for revision in found} == {
        name: (commit.commit_hash, commit.snapshot_path)
        for commit in repo.revisions
        for name in commit.refs
    }
    for revision in found:
        path = try_to_load_from_cache(
            PYTHIA, "model.safetensors", cache_dir=cache, revision=revision.name
        )
        assert Path(str(path)) == revision.snapshot / "model.safetensors"


def test_offline_nobody_is_asked(
    hub_server: Any, hub_cache: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    cache = hub_cache(PYTHIA, {"main": FILES})
    hub = Hub(hub_server.url, cache)
    assert hub.offline
    assert [revision.name for revision in hub.revisions(PYTHIA)] == ["main"]
    with pytest.raises(DataError, match="did not answer"):
        hub.weights(HubRevision(PYTHIA, "main", "e" * 40))
    assert hub_server.asked == []


def test_pull_requests_in_the_cache_are_not_revisions(hub_cache: Callable[..., Path]):
    cache = hub_cache(PYTHIA, {"main": FILES, "refs/pr/1": FILES})
    assert [r.name for r in Hub(cache=cache, local_only=True).revisions(PYTHIA)] == ["main"]


def test_a_cache_without_the_repository_is_named(tmp_path: Path):
    line = refused(lambda: Hub(cache=tmp_path, local_only=True).revisions(PYTHIA))
    assert f"{tmp_path}: the Hub's cache holds no revision of {PYTHIA}" in line
