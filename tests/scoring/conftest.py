"""Tiny models, and the Hub twice: as a server on loopback, and as a cache on disk."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

Files = dict[str, bytes]

WORDS = ["<pad>", "<eos>", "Q", "A", "\n", "+", "-", "max", "item", ".", *map(str, range(21))]
WORDS += [f"w{i}" for i in range(96)]


def write_tiny(path: Path, seed: int) -> None:
    """Write a checkpoint folder: an Olmo3 of two layers, and a tokenizer of words."""
    import torch
    from transformers import Olmo3Config, Olmo3ForCausalLM

    torch.manual_seed(seed)
    config = Olmo3Config(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        tie_word_embeddings=True,
        layer_types=["sliding_attention", "full_attention"],
        max_position_embeddings=64,
        initializer_range=0.3,
        pad_token_id=0,
        eos_token_id=1,
    )
    Olmo3ForCausalLM(config).save_pretrained(path)
    word_tokenizer(WORDS).save_pretrained(path)


def word_tokenizer(known: Sequence[str]) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(known)}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    return PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="<eos>", pad_token="<pad>", unk_token=None
    )


class Toy:
    """A model that tests train, and the monitor of its training."""

    words = ("<pad>", "<eos>", "Q", "A", "\n", "+", *map(str, range(21)))
    tasks = ("successive_answer/addition", "repetitive_answer/addition")

    def __init__(self) -> None:
        self.tokenizer = word_tokenizer(self.words)

    def model(self, *, dropout: float = 0.2) -> Any:
        """Return the model before its first step, the same every time."""
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        torch.manual_seed(5)
        config = LlamaConfig(
            vocab_size=len(self.words),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=48,
            max_position_embeddings=64,
            initializer_range=0.3,
            attention_dropout=dropout,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=1,
        )
        return LlamaForCausalLM(config)

    def batch(self, step: int) -> Any:
        """Return the token ids of a step, int64[4, 12]."""
        import torch

        rng = np.random.default_rng(step)
        return torch.from_numpy(rng.integers(2, len(self.words), size=(4, 12)))

    def train(
        self, model: Any, steps: Sequence[int], monitor: Any = None, optimizer: Any = None
    ) -> list[float]:
        """Return the losses of a loop of one's own, whose dropout goes on from step to step."""
        import torch

        optimizer = optimizer or torch.optim.AdamW(model.parameters(), lr=1e-2)
        model.train()
        losses = []
        for step in steps:
            loss = model(input_ids=self.batch(step), labels=self.batch(step)).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
            if monitor:
                monitor.step(step, model, losses[-1])
        return losses

    def monitor(self, out: Path, *, every: int = 2, **more: Any) -> Any:
        from scoring.monitor import Monitor, monitor_blocks

        small = monitor_blocks(self.tasks, demo_seeds=2, items=6)
        return Monitor(small, self.tokenizer, every=every, out=out, **more)

    @staticmethod
    def lines(path: Path) -> list[dict[str, Any]]:
        """Return the readings that a monitor has written."""
        return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="session")
def toy() -> Toy:
    return Toy()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Return the folder of the checkpoint of a seed. Read it only."""
    folder = tmp_path_factory.mktemp("tiny")

    def make(seed: int) -> Path:
        path = folder / f"stage1-step{seed}"
        if not path.exists():
            write_tiny(path, seed)
        return path

    return make


def commit_of(revision: str, files: Files) -> str:
    return hashlib.sha1(repr((revision, sorted(files.items()))).encode()).hexdigest()


def blob_of(name: str, data: bytes) -> str:
    if name.endswith((".safetensors", ".bin")):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class FilesHub:
    """Serves one repository's revisions to the Hub's client, files and all.

    `broken` are (revision, file) pairs that are answered with 404; files of the revisions in `held`
    are not sent before `release` is set; `asked` are the files that were asked for.
    """

    def __init__(self, repo: str) -> None:
        self.repo = repo
        self.revisions: dict[str, Files] = {}
        self.broken: set[tuple[str, str]] = set()
        self.asked: list[tuple[str, str]] = []
        self.held: set[str] = set()
        self.release = Event()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status, headers, body = hub.answer(unquote(urlsplit(self.path).path), self.command)
                self.send_response(status)
                for name, text in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, text)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *arguments: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def commit(self, revision: str) -> str:
        return commit_of(revision, self.revisions[revision])

    def answer(self, path: str, command: str) -> tuple[int, dict[str, str], bytes]:
        by_commit = {self.commit(name): name for name in self.revisions}
        if path == f"/api/models/{self.repo}/refs":
            refs = [
                {"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit}
                for commit, name in by_commit.items()
            ]
            found: Any = {"branches": refs, "tags": [], "converts": []}
            return 200, {}, json.dumps(found).encode()
        head, _, commit = path.partition("/tree/")
        if head == f"/api/models/{self.repo}" and commit in by_commit:
            found = [
                self.listed(name, data) for name, data in self.revisions[by_commit[commit]].items()
            ]
            return 200, {}, json.dumps(found).encode()
        head, _, rest = path.partition("/resolve/")
        commit, _, name = rest.partition("/")
        revision = by_commit.get(commit, "")
        known = head == f"/{self.repo}" and name in self.revisions.get(revision, {})
        if known and (revision, name) not in self.broken:
            return self.file(revision, name, command)
        return 404, {"X-Error-Code": "EntryNotFound"}, b"{}"

    def listed(self, name: str, data: bytes) -> dict[str, object]:
        blob = blob_of(name, data)
        entry: dict[str, object] = {"type": "file", "path": name, "size": len(data), "oid": blob}
        if len(blob) == 64:
            entry["lfs"] = {"size": len(data), "oid": blob, "pointerSize": 134}
        return entry

    def file(self, revision: str, name: str, command: str) -> tuple[int, dict[str, str], bytes]:
        if command == "GET":
            self.asked.append((revision, name))
            if revision in self.held:
                self.release.wait(60)
        data = self.revisions[revision][name]
        headers = {"X-Repo-Commit": self.commit(revision), "ETag": f'"{blob_of(name, data)}"'}
        return 200, headers, data


@pytest.fixture
def olmo_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FilesHub]:
    from huggingface_hub import close_session, constants

    # Read from the environment when the client is imported, here and in processes that fetch.
    for name, value in (("HF_HUB_OFFLINE", False), ("HF_HUB_DISABLE_TELEMETRY", True)):
        monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv(name, str(int(value)))
    server = FilesHub("allenai/Olmo-3-1025-7B")
    thread = Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.release.set()
    server.http.shutdown()
    thread.join()
    server.http.server_close()
    close_session()


@pytest.fixture
def lay(tmp_path: Path) -> Callable[[str, dict[str, Files]], Path]:
    """Lay revisions into a cache as the Hub's client does: blobs by hash, snapshots of links."""
    from huggingface_hub.file_download import repo_folder_name

    def lay(repo: str, revisions: dict[str, Files]) -> Path:
        cache = tmp_path / "cache"
        folder = cache / repo_folder_name(repo_id=repo, repo_type="model")
        for revision, files in revisions.items():
            commit = commit_of(revision, files)
            for part in ("refs", "blobs", f"snapshots/{commit}"):
                (folder / part).mkdir(parents=True, exist_ok=True)
            (folder / "refs" / revision).write_text(commit)
            for name, data in files.items():
                (folder / "blobs" / blob_of(name, data)).write_bytes(data)
                link = folder / "snapshots" / commit / name
                link.symlink_to(f"../../blobs/{blob_of(name, data)}")
        return cache

    return lay
