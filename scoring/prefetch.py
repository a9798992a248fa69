"""Checkpoints fetched to a local folder, the next one while one is scored, and dropped again."""

import fcntl
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from re import fullmatch
from typing import TYPE_CHECKING, Any, TypeVar

from windows.checkpoints.catalogs import CatalogEntry
from windows.checkpoints.folder import Checkpoint
from windows.checkpoints.hub import Hub, HubRevision
from windows.errors import ConfigError, DataError, ModehopError
from windows.files import remove, write_atomic
from windows.workers import WorkerPool

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")
R = TypeVar("R")
Target = Checkpoint | CatalogEntry
"""What a sweep is given: a folder, or a catalog's entry wherever that lies."""

FETCHED = ".fetched"
WANTED = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model-*.safetensors",
    "model.safetensors.index.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "spiece.model",
)
"""Files of a revision that are fetched: weights in safetensors, configuration and tokenizer."""


@dataclass(frozen=True)
class Source:
    """A checkpoint with its folder (which may have to be fetched), and its revision on the Hub."""

    checkpoint: Checkpoint
    revision: HubRevision | None = None


def find_sources(targets: Sequence[Target], hub: Hub) -> tuple[Source, ...]:
    """Say where each checkpoint lies or will lie; one that is given twice is one.

    Raises
    ------
    ConfigError
        Two folders or revisions claim to be one checkpoint, or one cannot be read where it lies.
    """
    found: dict[tuple[str, str], Source] = {}
    for target in targets:
        source = _source(target, hub)
        key = (source.checkpoint.run, source.checkpoint.name)
        if found.setdefault(key, source) != source:
            raise ConfigError(
                "two checkpoints with one name would share their scores",
                where=" ".join(key),
                got=" and ".join(_address(each) for each in (found[key], source)),
                do="leave one of them out, or name its run apart",
            )
    return tuple(found.values())


def _source(target: Target, hub: Hub) -> Source:
    if isinstance(target, Checkpoint):
        return Source(target)
    address = target.address
    if isinstance(address, HubRevision):
        path = _repo_folder(hub, address) / "snapshots" / _commit(address)
        return Source(Checkpoint(target.run, target.stage, target.step, path), address)
    if isinstance(address, Path) and target.kind == "hf":
        return Source(Checkpoint(target.run, target.stage, target.step, address))
    raise ConfigError(
        "a checkpoint that transformers cannot load from where it lies",
        where=target.name,
        got=f"{target.kind} at {address}",
        do="fetch it, convert it to the Hugging Face layout, and name its folder",
    )


def _address(source: Source) -> str:
    revision = source.revision
    return f"{revision.repo}@{revision.name}" if revision else str(source.checkpoint.path)


def _commit(revision: HubRevision) -> str:
    # It becomes a part of paths, of some that are removed.
    if not fullmatch("[0-9a-f]{40}", revision.commit):
        raise ConfigError(
            "not a commit of the Hub",
            where=f"{revision.repo}@{revision.name}",
            got=repr(revision.commit)[:60],
            do="list the repository's revisions again",
        )
    return revision.commit


def _repo_folder(hub: Hub, revision: HubRevision) -> Path:
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    cache = Path(hub.cache or constants.HF_HUB_CACHE).expanduser().resolve()
    return cache / repo_folder_name(repo_id=revision.repo, repo_type="model")


@dataclass(frozen=True)
class Snapshots:
    """The Hub's own cache, to which revisions are fetched and, on request, taken away again.

    Parameters
    ----------
    hub
        Whom to ask, and the cache's folder.
    ledger
        Folder in which to write down what a snapshot held before it was fetched, so that even after
        a kill no more is removed than was added. None where all is kept.
    """

    hub: Hub
    ledger: Path | None = None

    def fetch(self, revision: HubRevision) -> Path:
        """Bring a revision's weights (safetensors only), configuration and tokenizer to the cache.

        Raises
        ------
        DataError
            The Hub does not answer or has no such revision; offline, the cache does not hold it.
        """
        with self._lock(revision, fcntl.LOCK_SH):
            self._write_down(revision)
            return self._download(revision)

    def drop(self, revision: HubRevision) -> None:
        """Remove the files that `fetch` added, except blobs to which other snapshots link."""
        note = self._note(revision)
        if note is None or not note.is_file():
            return
        with self._lock(revision, fcntl.LOCK_EX):
            _remove_added(_repo_folder(self.hub, revision), revision.commit, _noted(note)["held"])
        self._forget(note)

    def drop_all(self, revisions: Iterable[HubRevision]) -> None:
        """Drop what an earlier attempt fetched of these and did not come to drop."""
        for revision in revisions:
            self.drop(revision)

    def drop_rest(self) -> None:
        """Drop whatever is still written down, when nobody fetches or scores any more."""
        if self.ledger is None or not self.ledger.is_dir():
            return
        for note in sorted(self.ledger.glob("*.json")):
            self.drop(HubRevision(_noted(note)["repo"], note.stem, note.stem))
        remove(self.ledger)

    def _note(self, revision: HubRevision) -> Path | None:
        return self.ledger and self.ledger / f"{_commit(revision)}.json"

    def _write_down(self, revision: HubRevision) -> None:
        note = self._note(revision)
        if note is not None and not note.is_file():
            snapshot = _repo_folder(self.hub, revision) / "snapshots" / revision.commit
            held = sorted(_files(snapshot))
            write_atomic(note, json.dumps({"repo": revision.repo, "held": held}))

    def _forget(self, note: Path) -> None:
        note.unlink(missing_ok=True)
        if not any(note.parent.iterdir()):
            note.parent.rmdir()

    def _download(self, revision: HubRevision) -> Path:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()
        where = f"{revision.repo}@{revision.name}"

        def ask(api: "HfApi") -> Path | None:
            try:
                return Path(
                    snapshot_download(
                        revision.repo,
                        revision=_commit(revision),
                        cache_dir=self.hub.cache,
                        allow_patterns=list(WANTED),
                        ignore_patterns=["*/*"],
                        local_files_only=self.hub.offline,
                        endpoint=api.endpoint,
                    )
                )
            except LocalEntryNotFoundError:
                if self.hub.offline:
                    return None
                raise

        path = self.hub.ask(ask, where)
        if path is None:
            raise DataError(
                "the Hub's cache does not hold this checkpoint whole, and nobody may be asked",
                where=where,
                do="fetch it while online (HF_HUB_OFFLINE=0)",
            )
        return path

    @contextmanager
    def _lock(self, revision: HubRevision, how: int) -> Iterator[None]:
        """Keep removals apart from fetches: a fetch may be linking to a blob without a link yet."""
        if self.ledger is None and self.hub.offline:
            yield  # nothing is written, and the cache may not be ours to write to
            return
        folder = _repo_folder(self.hub, revision)
        path = folder.parent / ".locks" / folder.name / "modehop.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, how)
            yield
        finally:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Fetching:
    """How a sweep comes by revisions on the Hub.

    Attributes
    ----------
    hub
        Whom to ask; by default as ``huggingface_hub`` is set up.
    drop_scored
        Remove from the Hub's cache again what was fetched for a checkpoint once it is scored. What
        was there before stays.
    """

    hub: Hub = field(default_factory=Hub)
    drop_scored: bool = False

    def snapshots(self, out: Path) -> Snapshots:
        """Return the cache as a sweep into `out` uses it."""
        return Snapshots(self.hub, out / FETCHED if self.drop_scored else None)


KEEP = Fetching()


def _files(snapshot: Path) -> dict[str, Path]:
    paths = snapshot.rglob("*") if snapshot.is_dir() else ()
    return {
        path.relative_to(snapshot).as_posix(): path
        for path in paths
        if path.is_symlink() or path.is_file()
    }


def _noted(note: Path) -> dict[str, Any]:
    try:
        told = json.loads(note.read_bytes())
        return {"repo": str(told["repo"]), "held": {str(name) for name in told["held"]}}
    except (ValueError, LookupError, TypeError) as error:
        raise DataError(
            "cannot tell what was fetched",
            where=str(note),
            do="delete this file; what it told of then stays in the Hub's cache",
        ) from error


def _remove_added(folder: Path, commit: str, had: set[str]) -> None:
    snapshot = folder / "snapshots" / commit
    added = [path for name, path in _files(snapshot).items() if name not in had]
    blobs = {_blob(path) for path in added if path.is_symlink()}
    for path in added:
        path.unlink()
    others = (folder / "snapshots").iterdir() if (folder / "snapshots").is_dir() else ()
    linked = {_blob(path) for other in others for path in _files(other).values()}
    for name in blobs - linked - {None}:
        assert name is not None
        (folder / "blobs" / name).unlink(missing_ok=True)
    if not had:
        remove(snapshot)
        remove(folder / "trees" / f"{commit}.json")


def _blob(path: Path) -> str | None:
    """Return the name of the blob of the same repository that a snapshot's file links to."""
    if not path.is_symlink():
        return None
    target = path.readlink()
    return target.name if target.parent.name == "blobs" else None


class Fetcher(WorkerPool):
    """Fetches revisions one after another in a process of its own.

    A process can be killed. The threads of the Hub's client cannot: a command that has failed would
    wait at its end for the gigabytes that they are downloading. Offline there is nothing to wait
    for, and this process does it.

    Parameters
    ----------
    snapshots
        Where to fetch to.
    """

    def __init__(self, snapshots: Snapshots) -> None:
        super().__init__(0 if snapshots.hub.offline else 1)
        self.snapshots = snapshots

    def arrive(
        self, revisions: Iterable[HubRevision], *, ahead: int = 1
    ) -> Iterator[tuple[HubRevision, Path]]:
        """Yield each revision with its folder, while the next are fetched; see `prefetched`.

        Raises
        ------
        DataError
            As `Snapshots.fetch` does, in its revision's turn.
        WorkerError
            The process was killed.
        """
        try:
            yield from prefetched(revisions, self._begin_fetch, ahead=ahead)
        except BrokenProcessPool as error:
            raise self.death(_fetch) from error

    def _begin_fetch(self, revision: HubRevision) -> Future[Path]:
        if self.workers:
            (future,) = self.submit(_fetch, [(self.snapshots, revision)])
            return future
        done: Future[Path] = Future()
        try:
            done.set_result(self.snapshots.fetch(revision))
        except ModehopError as error:
            done.set_exception(error)
        return done


def _fetch(job: tuple[Snapshots, HubRevision]) -> Path:
    snapshots, revision = job
    return snapshots.fetch(revision)


def prefetched(
    sources: Iterable[T], begin: Callable[[T], Future[R]], *, ahead: int = 1
) -> Iterator[tuple[T, R]]:
    """Yield each source with what was fetched for it, in order; `ahead` more have been begun.

    Raises
    ------
    Exception
        What a fetch raised, where its source would have been yielded.
    """
    waiting: deque[tuple[T, Future[R]]] = deque()
    try:
        for source in sources:
            waiting.append((source, begin(source)))
            if len(waiting) > ahead:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        for _, future in waiting:
            future.cancel()


def grouped(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` items; before a refusal goes on, the items that came before it."""
    group: list[T] = []
    try:
        for item in items:
            group.append(item)
            if len(group) == size:
                yield group
                group = []
    except ModehopError:
        if group:
            yield group
        raise
    if group:
        yield group
