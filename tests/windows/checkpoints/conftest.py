"""The Hub, twice: as a server on loopback, and as a cache on disk."""

import hashlib
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import close_session, constants
from huggingface_hub.file_download import repo_folder_name

Files = dict[str, bytes]
Revisions = dict[str, Files]


def commit_of(revision: str, files: Files) -> str:
    return hashlib.sha1(repr((revision, sorted(files.items()))).encode()).hexdigest()


def is_large(name: str) -> bool:
    return name.endswith((".safetensors", ".bin", ".distcp"))


def git_name(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class HubServer:
    """Answers what the Hub's client asks of revisions and their files.

    `faults` are answers to give first: a status with headers, or bytes in place of JSON.
    """

    def __init__(self) -> None:
        self.repos: dict[str, Revisions] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.faults: list[tuple[int, dict[str, str]] | bytes] = []
        self.asked: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                if server.faults:
                    fault = server.faults.pop(0)
                    status, headers = (200, {}) if isinstance(fault, bytes) else fault
                    return self.answer(status, headers, fault if isinstance(fault, bytes) else b"")
                status, headers, value = server.route(urlsplit(self.path))
                return self.answer(status, headers, json.dumps(value).encode())

            def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, text in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, text)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def route(self, url) -> tuple[int, dict[str, str], object]:
        repo, _, rest = url.path.removeprefix("/api/models/").partition("/refs")
        if repo.count("/") == 1 and url.path.endswith("/refs"):
            return self.refs(repo)
        repo, _, rest = url.path.removeprefix("/api/models/").partition("/revision/")
        return self.info(repo, unquote(rest), url.query)

    def refs(self, repo: str) -> tuple[int, dict[str, str], object]:
        if repo not in self.repos:
            return 404, {"X-Error-Code": "RepoNotFound"}, {"error": "Repository not found"}
        branches = [
            {"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit_of(name, files)}
            for name, files in self.repos[repo].items()
        ]
        tags = [
            {"name": name, "ref": f"refs/tags/{name}", "targetCommit": commit}
            for name, commit in self.tags.get(repo, {}).items()
        ]
        return 200, {}, {"branches": branches, "tags": tags, "converts": []}

    def info(self, repo: str, revision: str, query: str) -> tuple[int, dict[str, str], object]:
        for name, files in self.repos.get(repo, {}).items():
            commit = commit_of(name, files)
            if revision in (name, commit):
                assert "blobs=" in query, "the sizes and hashes were not asked for"
                return 200, {}, {"id": repo, "sha": commit, "siblings": self.siblings(files)}
        return 404, {"X-Error-Code": "RevisionNotFound"}, {"error": f"Invalid rev id: {revision}"}

    def siblings(self, files: Files) -> list[dict[str, object]]:
        found = []
        for name, data in files.items():
            entry: dict[str, object] = {
                "rfilename": name,
                "size": len(data),
                "blobId": git_name(data),
            }
            if is_large(name):
                sha256 = hashlib.sha256(data).hexdigest()
                entry["lfs"] = {"size": len(data), "sha256": sha256, "pointerSize": 134}
            found.append(entry)
        return found


@pytest.fixture
def hub_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    # Both are read from the environment when the client is imported. With telemetry on, it asks the
    # public Hub, whatever the endpoint, which programs there are that might be running it.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    server = HubServer()
    thread = Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.http.shutdown()
    thread.join()
    server.http.server_close()
    close_session()


@pytest.fixture
def hub_cache(tmp_path: Path) -> Callable[[str, Revisions], Path]:
    """Lay revisions into a cache as the Hub's client does: blobs by hash, snapshots of links."""

    def lay(repo: str, revisions: Revisions) -> Path:
        cache = tmp_path / "hub"
        folder = cache / repo_folder_name(repo_id=repo, repo_type="model")
        (folder / "blobs").mkdir(parents=True, exist_ok=True)
        for revision, files in revisions.items():
            commit = commit_of(revision, files)
            ref = folder / "refs" / revision
            ref.parent.mkdir(parents=True, exist_ok=True)
            ref.write_text(commit)
            for name, data in files.items():
                large = is_large(name)
                blob = (
                    folder
                    / "blobs"
                    / (hashlib.sha256(data).hexdigest() if large else git_name(data))
                )
                blob.write_bytes(data)
                link = folder / "snapshots" / commit / name
                link.parent.mkdir(parents=True, exist_ok=True)
                up = "../" * (2 + name.count("/"))
                link.symlink_to(f"{up}blobs/{blob.name}")
        return cache

    return lay
