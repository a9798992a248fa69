"""One ahead, in order, errors in their turn; and what is taken from the Hub's cache again."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from scoring.prefetch import Fetcher, Snapshots, find_sources, grouped, prefetched
from windows.checkpoints.catalogs import CatalogEntry
from windows.checkpoints.folder import Checkpoint
from windows.checkpoints.hub import Hub, HubRevision
from windows.errors import ConfigError, DataError, WorkerError

REPO = "allenai/Olmo-3-1025-7B"
SHARED = {"config.json": b"{}", "tokenizer.json": b"words", "README.md": b"# model"}
FILES = {step: SHARED | {"model.safetensors": b"weights %d" % step} for step in (1000, 2000, 3000)}


class Fetches:
    """Fetches that end when they are let, and tell what was begun."""

    def __init__(self) -> None:
        self.begun: dict[int, Future[int]] = {}

    def __call__(self, source: int) -> Future[int]:
        self.begun[source] = Future()
        return self.begun[source]

    def end(self, source: int) -> None:
        self.begun[source].set_result(10 * source)


def test_the_next_is_fetched_while_one_is_used_and_no_more() -> None:
    fetches = Fetches()
    threading.Timer(0.05, lambda: fetches.end(0)).start()
    made = prefetched(range(4), fetches)
    assert next(made) == (0, 0) and list(fetches.begun) == [0, 1]
    fetches.end(1)
    assert list(fetches.begun) == [0, 1], "a third would be one too many on the disk"
    assert next(made) == (1, 10) and list(fetches.begun) == [0, 1, 2]
    fetches.end(2)
    assert next(made) == (2, 20) and list(fetches.begun) == [0, 1, 2, 3]
    fetches.end(3)
    assert list(made) == [(3, 30)]


@pytest.mark.parametrize("ahead", [1, 3, 9])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_all_come_in_order(ahead: int, count: int) -> None:
    with ThreadPoolExecutor(1) as thread:
        made = prefetched(range(count), lambda i: thread.submit(str, i), ahead=ahead)
        assert list(made) == [(i, str(i)) for i in range(count)]


def test_an_error_comes_in_its_turn() -> None:
    fetches = Fetches()
    made = prefetched(range(5), fetches, ahead=3)
    threading.Timer(0.05, lambda: fetches.end(0)).start()
    assert next(made) == (0, 0)
    fetches.begun[2].set_exception(DataError("no such revision", where="step2"))
    fetches.end(1)
    assert next(made) == (1, 10)
    with pytest.raises(DataError, match="step2: no such revision"):
        next(made)
    assert fetches.begun[3].cancelled()


def test_leaving_early_cancels_what_has_not_begun() -> None:
    fetches = Fetches()
    made = prefetched(range(9), fetches, ahead=4)
    threading.Timer(0.05, lambda: fetches.end(0)).start()
    next(made)
    fetches.begun[1].set_running_or_notify_cancel()
    made.close()
    cancelled = [source for source, future in fetches.begun.items() if future.cancelled()]
    assert cancelled == [2, 3, 4]


def test_groups_hold_what_came_before_a_refusal() -> None:
    def items() -> Iterator[int]:
        yield from range(4)
        raise DataError("gone")

    groups = grouped(items(), 3)
    assert [next(groups), next(groups)] == [[0, 1, 2], [3]]
    with pytest.raises(DataError, match="gone"):
        next(groups)
    assert list(grouped(range(4), 2)) == [[0, 1], [2, 3]]


def entry(revision: Any, step: int, kind: str = "hub", run: str = "olmo3") -> CatalogEntry:
    return CatalogEntry(run, "stage1", step, f"stage1-step{step}", revision, kind, None)  # type: ignore[arg-type]


@pytest.fixture
def revision(olmo_hub: Any) -> Callable[[int], HubRevision]:
    olmo_hub.revisions = {f"stage1-step{step}": files for step, files in FILES.items()}
    return lambda step: HubRevision(
        REPO, f"stage1-step{step}", olmo_hub.commit(f"stage1-step{step}")
    )


def tree(folder: Path) -> dict[str, bytes]:
    """Every file with its bytes, links followed, but the client's own notes and locks."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not {".locks", "trees"} & set(path.parts) and path.suffix != ".TAG"
    }


def test_only_weights_configuration_and_tokenizer_are_fetched(
    olmo_hub: Any, revision: Callable[[int], HubRevision], tmp_path: Path
) -> None:
    more = [
        "pytorch_model.bin",
        "optimizer.safetensors",
        "modeling_x.py",
        "tokenizers/old.json",
    ]
    olmo_hub.revisions["stage1-step1000"] = FILES[1000] | dict.fromkeys(more, b"no")
    hub = Hub(olmo_hub.url, tmp_path / "cache")
    path = Snapshots(hub).fetch(revision(1000))
    names = {"config.json", "model.safetensors", "tokenizer.json"}
    assert {each.name for each in path.iterdir()} == names
    assert {name for _, name in olmo_hub.asked} == names
    assert (path / "model.safetensors").read_bytes() == b"weights 1000"
    (source,) = find_sources([entry(revision(1000), 1000)], hub)
    assert source.checkpoint == Checkpoint("olmo3", "stage1", 1000, path)


def test_offline_the_cache_alone_answers(
    olmo_hub: Any, revision: Callable[[int], HubRevision], lay: Any
) -> None:
    cache = lay(REPO, {"stage1-step1000": FILES[1000]})
    held = Snapshots(Hub(olmo_hub.url, cache, local_only=True))
    before = sorted(cache.rglob("*"))
    path = held.fetch(revision(1000))
    assert (path / "model.safetensors").read_bytes() == b"weights 1000"
    with pytest.raises(DataError, match=f"{REPO}@stage1-step2000: the Hub's cache does not hold"):
        held.fetch(revision(2000))
    assert olmo_hub.asked == [] and sorted(cache.rglob("*")) == before


def test_dropping_leaves_what_was_there_and_what_others_link_to(
    olmo_hub: Any, revision: Callable[[int], HubRevision], lay: Any, tmp_path: Path
) -> None:
    cache = lay(REPO, {"stage1-step1000": FILES[1000]})
    before = tree(cache)
    snapshots = Snapshots(Hub(olmo_hub.url, cache), tmp_path / "ledger")
    paths = [snapshots.fetch(revision(step)) for step in FILES]
    assert len(olmo_hub.asked) == 2, "of two revisions only the weights are new"
    snapshots.drop(revision(2000))
    assert not paths[1].exists() and tree(paths[2]).keys() == FILES[3000].keys() - {"README.md"}
    snapshots.drop_all(map(revision, FILES))
    assert tree(cache) == before and not (tmp_path / "ledger").exists()
    assert not list(cache.rglob("*.incomplete"))


def test_a_part_that_was_there_stays(
    olmo_hub: Any, revision: Callable[[int], HubRevision], lay: Any, tmp_path: Path
) -> None:
    """The tokenizer of a revision was used before, without its weights."""
    cache = lay(REPO, {"stage1-step1000": FILES[1000]})
    weights = revision(1000)
    path = cache / "models--allenai--Olmo-3-1025-7B/snapshots" / weights.commit
    (path / "model.safetensors").resolve().unlink()
    (path / "model.safetensors").unlink()
    before = tree(cache)
    snapshots = Snapshots(Hub(olmo_hub.url, cache), tmp_path / "ledger")
    assert (snapshots.fetch(weights) / "model.safetensors").read_bytes() == b"weights 1000"
    snapshots.drop(weights)
    assert tree(cache) == before


def test_what_was_added_before_a_kill_is_still_known(
    olmo_hub: Any, revision: Callable[[int], HubRevision], tmp_path: Path
) -> None:
    hub, ledger = Hub(olmo_hub.url, tmp_path / "cache"), tmp_path / "ledger"
    Snapshots(hub, ledger).fetch(revision(1000))
    again = Snapshots(hub, ledger)
    again.fetch(revision(1000))
    again.drop(revision(1000))
    assert tree(tmp_path / "cache") == {}
    # What a later sweep does not ask for is dropped at its end, with what a kill left half-written.
    again.fetch(revision(2000))
    (tmp_path / "ledger" / "half.json.tmp").touch()
    again.drop_rest()
    assert tree(tmp_path / "cache") == {} and not (tmp_path / "ledger").exists()
    # Without a ledger nobody may drop.
    Snapshots(hub).fetch(revision(1000))
    Snapshots(hub).drop(revision(1000))
    again.fetch(revision(1000))
    again.drop(revision(1000))
    assert "weights 1000" in str(tree(tmp_path / "cache"))


def test_a_damaged_ledger_is_refused(
    olmo_hub: Any, revision: Callable[[int], HubRevision], tmp_path: Path
) -> None:
    snapshots = Snapshots(Hub(olmo_hub.url, tmp_path / "cache"), tmp_path / "ledger")
    snapshots.fetch(revision(1000))
    (note,) = (tmp_path / "ledger").iterdir()
    assert json.loads(note.read_bytes()) == {"repo": REPO, "held": []}
    note.write_text("{")
    with pytest.raises(DataError, match="cannot tell what was fetched"):
        snapshots.drop(revision(1000))
    assert "weights 1000" in str(tree(tmp_path / "cache"))


@pytest.mark.slow
def test_a_killed_fetch_is_told_and_a_failure_does_not_wait_for_one(
    olmo_hub: Any, revision: Callable[[int], HubRevision], tmp_path: Path
) -> None:
    olmo_hub.held = {"stage1-step2000"}
    snapshots = Snapshots(Hub(olmo_hub.url, tmp_path / "cache"))

    def begin(fetcher: Fetcher) -> Iterator[Any]:
        arriving = fetcher.arrive(map(revision, FILES))
        assert next(arriving)[0] == revision(1000)
        while ("stage1-step2000", "model.safetensors") not in olmo_hub.asked:
            time.sleep(0.01)
        return arriving

    with pytest.raises(DataError, match="too late"), Fetcher(snapshots) as fetcher:
        arriving = begin(fetcher)
        (child,) = fetcher._processes
        raise DataError("too late")
    assert not child.is_alive() and not olmo_hub.release.is_set()
    olmo_hub.asked.clear()
    with Fetcher(snapshots) as fetcher:
        arriving = begin(fetcher)
        fetcher._processes[0].kill()
        with pytest.raises(WorkerError, match="a worker process died; got SIGKILL"):
            next(arriving)
    # The next attempt goes on from what is there.
    olmo_hub.release.set()
    with Fetcher(snapshots) as fetcher:
        assert [each.name for each, _ in fetcher.arrive(map(revision, FILES), ahead=2)] == [
            f"stage1-step{step}" for step in FILES
        ]


def test_a_cache_that_cannot_be_written_to_is_read(
    revision: Callable[[int], HubRevision], lay: Any, tmp_path: Path
) -> None:
    cache = lay(REPO, {"stage1-step1000": FILES[1000]})
    for folder in (cache, *(path for path in cache.rglob("*") if path.is_dir())):
        folder.chmod(0o555)
    try:
        path = Snapshots(Hub(None, cache, local_only=True)).fetch(revision(1000))
        assert (path / "config.json").readlink().parent == Path("../../blobs")
    finally:
        for folder in (cache, *(path for path in cache.rglob("*") if path.is_dir())):
            folder.chmod(0o755)


def test_targets_that_cannot_be_scored(tmp_path: Path) -> None:
    hub = Hub(cache=tmp_path)
    commit = "0" * 40
    good = entry(HubRevision(REPO, "stage1-step1", commit), 1)
    other = entry(HubRevision(REPO, "stage1-step1-mix", "1" * 40), 1)
    with pytest.raises(ConfigError, match=r"stage1-step1 and .*stage1-step1-mix; leave one"):
        find_sources([good, other], hub)
    with pytest.raises(ConfigError, match="one name would share"):
        find_sources([good, Checkpoint("olmo3", "stage1", 1, tmp_path)], hub)
    assert len(find_sources([good, Checkpoint("other", "stage1", 1, tmp_path)], hub)) == 2
    assert len(find_sources([good, good], hub)) == 1
    with pytest.raises(ConfigError, match=r"got olmo-core at .*; fetch it, convert it"):
        find_sources([entry(tmp_path, 2, "olmo-core")], hub)
    with pytest.raises(ConfigError, match="got hf at https://"):
        find_sources([entry("https://host/step3", 3, "hf")], hub)
    for evil in ("../../blobs", "", "A" * 40, "0" * 40 + "\n"):
        with pytest.raises(ConfigError, match="not a commit of the Hub"):
            find_sources([entry(HubRevision(REPO, "x", evil), 4)], hub)
