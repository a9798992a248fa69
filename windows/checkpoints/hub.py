"""The Hub as this project asks it: which revisions a repository has, and what bytes they serve."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from windows.checkpoints.weights import is_weights
from windows.errors import ConfigError, DataError, ModehopError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")

_TIMEOUT = 30.0
# The Hub counts requests in windows of five minutes, which the attempts have to outlast together.
_LONGEST_WAIT = 60
_AGAIN = (429, 500, 502, 503, 504)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubRevision:
    """A revision of a repository on the Hub.

    Attributes
    ----------
    repo, name
        ``organization/name``, and the name of a branch or tag.
    commit
        What the name stands for now.
    snapshot
        The folder of the Hub's cache that holds it, if it was looked up there.
    """

    repo: str
    name: str
    commit: str
    snapshot: Path | None = None


@dataclass(frozen=True)
class Hub:
    """Where revisions are looked up.

    Attributes
    ----------
    endpoint
        The Hub's address; by default that of ``huggingface_hub`` (``HF_ENDPOINT``).
    cache
        Folder of the Hub's cache; by default that of ``huggingface_hub``.
    local_only
        Ask nobody, and use what the cache holds, as ``HF_HUB_OFFLINE`` does.
    attempts
        How often a request is sent that the Hub was too busy to answer.
    """

    endpoint: str | None = None
    cache: Path | None = None
    local_only: bool = False
    attempts: int = 7

    @property
    def offline(self) -> bool:
        """Whether nobody may be asked."""
        from huggingface_hub import constants

        return self.local_only or constants.is_offline_mode()

    def revisions(self, repo: str) -> tuple[HubRevision, ...]:
        """List a repository's branches, and the tags that are not named as a branch, by name.

        Offline, those that the cache has a name for; what it does not hold has no snapshot.

        Raises
        ------
        DataError
            There is no such repository, the Hub does not answer, or the cache does not hold it.
        ConfigError
            `repo` cannot be the name of a repository.
        """
        return self._cached(repo) if self.offline else self._listed(repo)

    def weights(self, revision: HubRevision) -> dict[str, str]:
        """Return what identifies each of a revision's weight files, without reading one.

        Large files are known by the SHA-256 of their bytes, small ones by git's name for them.

        Raises
        ------
        DataError
            There is no such revision, or the Hub does not answer.
        """
        from huggingface_hub.hf_api import RepoSibling

        def identity(file: RepoSibling) -> str | None:
            if file.lfs is not None:
                return f"sha256:{file.lfs.sha256}"
            return f"git:{file.blob_id}" if file.blob_id else None

        def ask(api: "HfApi") -> dict[str, str]:
            info = api.model_info(
                revision.repo, revision=revision.commit, files_metadata=True, timeout=_TIMEOUT
            )
            files = {file.rfilename: identity(file) for file in info.siblings or []}
            return {name: text for name, text in files.items() if text and is_weights(name)}

        return self.ask(ask, f"{revision.repo}@{revision.name}")

    def ask(self, call: "Callable[[HfApi], T]", where: str) -> T:
        """Return what a call of the Hub's client returns; the Hub may be too busy a few times.

        Parameters
        ----------
        call
            What to do with the client; it may be called again.
        where
            Repository and revision, for the message.

        Raises
        ------
        DataError
            There is no such thing, or the Hub does not answer.
        ConfigError
            The repository's name cannot be one.
        """
        from huggingface_hub import HfApi

        api = HfApi(endpoint=self.endpoint)
        for attempt in range(self.attempts):
            try:
                return call(api)
            except Exception as error:
                wait = _wait(error, attempt) if attempt + 1 < self.attempts else None
                if wait is None:
                    raise _refusal(error, where, api.endpoint) from error
            time.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def _listed(self, repo: str) -> tuple[HubRevision, ...]:
        def ask(api: "HfApi") -> tuple[HubRevision, ...]:
            with _patience():
                refs = api.list_repo_refs(repo)
            found = {ref.name: ref.target_commit for ref in [*refs.tags, *refs.branches]}
            return tuple(HubRevision(repo, name, found[name]) for name in sorted(found))

        return self.ask(ask, repo)

    def _cached(self, repo: str) -> tuple[HubRevision, ...]:
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        cache = self.cache or Path(constants.HF_HUB_CACHE)
        folder = cache / repo_folder_name(repo_id=repo, repo_type="model")
        if not (folder / "refs").is_dir():
            raise DataError(
                f"the Hub's cache holds no revision of {repo}",
                where=str(cache),
                do="fetch one, or ask the Hub itself",
            )
        return tuple(sorted(_refs(repo, folder), key=lambda revision: revision.name))


def _refs(repo: str, folder: Path) -> Iterator[HubRevision]:
    # Source of the layout: "Manage your cache" in the documentation of huggingface_hub.
    for path in (folder / "refs").rglob("*"):
        name = path.relative_to(folder / "refs").as_posix()
        if not path.is_file() or name.startswith("refs/"):
            continue
        commit = path.read_text(encoding="utf-8", errors="replace").strip()
        snapshot = folder / "snapshots" / commit
        held = _COMMIT.fullmatch(commit) is not None and snapshot.is_dir()
        yield HubRevision(repo, name, commit, snapshot if held else None)


@contextmanager
def _patience() -> Iterator[None]:
    # list_repo_refs takes no timeout, and the client's own is to wait for ever.
    from huggingface_hub import get_session

    session = get_session()
    before, session.timeout = session.timeout, _TIMEOUT
    try:
        yield
    finally:
        session.timeout = before


def _wait(error: Exception, attempt: int) -> float | None:
    """Return after how many seconds to ask again; None if that would not help."""
    import httpx
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        if error.response.status_code not in _AGAIN:
            return None
        told: str = error.response.headers.get("retry-after", "")
        limits = re.search(r"\bt=(\d+)", error.response.headers.get("ratelimit", ""))
        told = limits[1] if limits and not told.isdigit() else told
        if told.isdigit():
            return float(min(int(told), _LONGEST_WAIT))
    elif not isinstance(error, httpx.TransportError):
        return None
    return float(0.25 * 2**attempt)


def _refusal(error: Exception, where: str, endpoint: str) -> ModehopError:
    from huggingface_hub import errors

    if isinstance(error, errors.HFValidationError):
        return ConfigError(
            "not the name of a repository", where=where, do="write organization/name"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return DataError("no such revision on the Hub", where=where, do="list the repository again")
    if isinstance(error, errors.RepositoryNotFoundError):
        return DataError(
            "no such repository on the Hub, or none that you may read",
            where=where,
            do="check its name, and log in if it is gated",
        )
    if isinstance(error, errors.HfHubHTTPError):
        got = f"HTTP status {error.response.status_code}"
    else:
        got = " ".join(f"{type(error).__name__} {error}".split())[:120]
    return DataError(
        f"the Hub at {endpoint} did not answer as it should",
        where=where,
        got=got,
        do="try again later, or work from its cache (HF_HUB_OFFLINE=1)",
    )
