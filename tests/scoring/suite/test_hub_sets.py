import hashlib
import json
import re
import socket
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import polars as pl
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from huggingface_hub import close_session, constants
from huggingface_hub.file_download import repo_folder_name

from scoring.suite.hub_sets import SETS, HubSet, hub_tasks
from scoring.suite.schema import SPLITS, Block
from scoring.suite.task import Task
from windows.errors import ConfigError, DataError

SST2 = SETS[0]
COMMIT = SST2.revision
NAMES = {"Positive", "Negative"}


def sentence(index: int) -> str:
    return f"sentence {index} of a long review that goes on for at least sixty characters"


def rows() -> list[dict[str, object]]:
    found: list[dict[str, object]] = [
        {"idx": i, "sentence": sentence(i), "label": i % 2} for i in range(600)
    ]
    odd = "a text that two people labelled apart, each of them surely for a good reason"
    found += [{"idx": 600 + label, "sentence": odd, "label": label} for label in (0, 1)]
    found.append({"idx": 602, "sentence": "short", "label": 1})
    found.append({"idx": 603, "sentence": sentence(0) * 4, "label": 0})
    return [*found, {"idx": 604, "sentence": f"{sentence(9999)} unlabelled", "label": -1}]


def write(folder: Path, *, shards: int = 1, step: int = 1) -> Path:
    """Write the set as `datasets` pushes it: parquet with named labels, in shards."""
    label = ClassLabel(names=["negative", "positive"])
    features = Features(idx=Value("int32"), sentence=Value("string"), label=label)
    whole = Dataset.from_list(rows()[::step], features=features)
    (folder / "data").mkdir(parents=True)
    for index in range(shards):
        name = f"train-{index:05}-of-{shards:05}.parquet"
        whole.shard(shards, index).to_parquet(folder / "data" / name)
    pl.DataFrame({"sentence": ["a validation row, " * 5], "label": [1]}).write_parquet(
        folder / "data" / "validation-00000-of-00001.parquet"
    )
    return folder


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> HubSet:
    return replace(SST2, repo=str(write(tmp_path_factory.mktemp("sets") / "sst2", shards=2)))


def blocks(task: Task, split: str, seeds: int = 2) -> list[Block]:
    return [
        task.build(split, wording, seed)
        for wording in task.wordings[split]
        for seed in range(seeds)
    ]


def label_of(text: str) -> str:
    (index,) = re.findall(r"sentence (\d+) of", text)
    return ("Negative", "Positive")[int(index) % 2]


def sentences(text: str) -> list[str]:
    return re.findall(r"sentence \d+ of", text)


def test_the_table():
    names = [one.name for one in SETS]
    assert len(set(names)) == 8
    for one in SETS:
        assert one.repo.count("/") == 1
        assert one.revision is None or re.fullmatch("[0-9a-f]{40}", one.revision)
        assert one.demos % 2 == 0 and len({label for label, _ in one.answers}) == 2
    assert [one.name for one in SETS if one.revision is None] == ["poem_sentiment"]


def test_nothing_is_read_before_a_block_is_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    tasks = hub_tasks()
    assert len({task.key for task in tasks}) == 16
    assert {task.origin for task in tasks} == {"hub"}
    assert not any(task.at_hand() for task in tasks)
    for task in tasks:
        wordings = [*task.wordings["label"], *task.wordings["verify"]]
        assert len(set(wordings)) == len(wordings) == 3
        wanted = ConfigError if "poem" in task.key else DataError
        with pytest.raises(wanted) as error:
            task.build("label", "fields", 0)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("flipped", [True, False])
def test_demonstrations_and_right_answers_agree(stand_in: HubSet, flipped: bool):
    task = hub_tasks([stand_in])[0 if flipped else 1]
    assert task.key == f"{'flipped_answer' if flipped else 'normal_control'}/sst2"
    for split in SPLITS:
        for block in blocks(task, split):
            shown = re.findall(r"(?s)(.+?(?:Positive|Negative))\n", block.prefix)
            assert len(shown) == len(set(shown)) == 64
            answers = []
            for text in shown:
                asked, _, answer = text.rpartition(" ")
                answers.append(answer)
                assert answer in NAMES and (answer == label_of(asked)) != flipped
            assert answers.count("Positive") == 32
            for item in block.items:
                true = label_of(item.prompt)
                (other,) = NAMES - {true}
                right, wrong = (other, true) if flipped else (true, other)
                assert (item.right, item.rivals) == (f" {right}\n", (f" {wrong}\n",))
                assert item.prompt[-1] == ":"
            assert len(block.items) > 100


def test_the_splits_share_no_text(stand_in: HubSet):
    used = {}
    for split in SPLITS:
        made = [block for task in hub_tasks([stand_in]) for block in blocks(task, split, 8)]
        shown = {text for block in made for text in sentences(block.prefix)}
        asked = {text for block in made for item in block.items for text in sentences(item.prompt)}
        assert not shown & asked
        used[split] = shown | asked
    assert len(used["label"]) > 200 < len(used["verify"])
    assert not used["label"] & used["verify"]


def test_what_cannot_be_asked_is_left_out(stand_in: HubSet):
    task = hub_tasks([stand_in])[1]
    made = [block for split in SPLITS for block in blocks(task, split, 4)]
    prompts = [item.prompt for block in made for item in block.items]
    for text in ("labelled apart", "short", "unlabelled", "validation row", f"{sentence(0)}s"):
        assert not any(text in prompt for prompt in prompts)


def test_how_rows_lie_in_files_changes_nothing(stand_in: HubSet, tmp_path: Path):
    whole = replace(stand_in, repo=str(write(tmp_path / "whole", step=-1)))
    for one, two in zip(hub_tasks([stand_in]), hub_tasks([whole]), strict=True):
        assert blocks(one, "label") == blocks(two, "label")


def test_a_missing_shard_is_seen(tmp_path: Path):
    folder = write(tmp_path / "sst2", shards=3)
    task = hub_tasks([replace(SST2, repo=str(folder))])[0]
    assert task.at_hand()
    (folder / "data" / "train-00001-of-00003.parquet").unlink()
    assert not task.at_hand()
    with pytest.raises(DataError, match="files of this data set are missing; got 2 files"):
        task.build("label", "fields", 0)


def test_another_column_is_refused_in_one_line(stand_in: HubSet):
    with pytest.raises(DataError, match="cannot read this data set") as error:
        hub_tasks([replace(stand_in, text="body")])[0].build("label", "fields", 0)
    assert "\n" not in str(error.value)


def lay(cache: Path, commit: str) -> Path:
    folder = cache / repo_folder_name(repo_id=SST2.repo, repo_type="dataset")
    return write(folder / "snapshots" / commit)


def test_the_pinned_commit_is_read_offline_from_the_cache(
    stand_in: HubSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    lay(tmp_path, "a" * 40)
    with pytest.raises(DataError, match=f"^{SST2.repo}@{COMMIT[:12]}: this data set is neither"):
        hub_tasks([SST2])[0].build("label", "fields", 0)
    # Another commit in the cache does not stand in for the pinned one; given by name, it serves.
    given = hub_tasks([SST2], revisions={"sst2": "a" * 40})
    assert all(task.at_hand() for task in given)
    wanted = hub_tasks([stand_in])
    assert [blocks(task, "label") for task in given] == [blocks(task, "label") for task in wanted]


def test_a_revision_of_no_set_is_refused():
    with pytest.raises(ConfigError, match=r"^suite\.revisions: no set .* did you mean 'sst2'"):
        hub_tasks(revisions={"sst": "a" * 40})


class DatasetServer:
    """Answers what the Hub's client asks to fetch a data set at a commit."""

    def __init__(self, repo: str, commit: str, files: dict[str, bytes]) -> None:
        self.asked: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self, *, body: bool = True) -> None:
                server.asked.append(self.path)
                path = self.path.split("?")[0]
                name = path.removeprefix(f"/datasets/{repo}/resolve/{commit}/")
                if path == f"/api/datasets/{repo}/tree/{commit}":
                    tree = [
                        {"type": "file", "path": name, "size": len(data), "oid": etag(data)}
                        for name, data in files.items()
                    ]
                    self.answer(200, json.dumps(tree).encode(), {}, body)
                elif name in files:
                    data = files[name]
                    told = {"ETag": f'"{etag(data)}"', "X-Repo-Commit": commit}
                    self.answer(200, data, told, body)
                else:
                    self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body)

            def do_HEAD(self) -> None:
                self.do_GET(body=False)

            def answer(self, status: int, data: bytes, headers: dict[str, str], body: bool) -> None:
                self.send_response(status)
                for name, text in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, text)
                self.end_headers()
                if body:
                    self.wfile.write(data)

            def log_message(self, *arguments: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"


def etag(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DatasetServer]:
    folder = write(tmp_path / "origin", shards=2)
    paths = folder.rglob("*.parquet")
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    server = DatasetServer(SST2.repo, COMMIT, files)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    thread = Thread(target=partial(server.http.serve_forever, poll_interval=0.01))
    thread.start()
    yield server
    server.http.shutdown()
    thread.join()
    server.http.server_close()
    close_session()


def test_a_set_is_fetched_once_and_only_what_is_read_of_it(
    hub: DatasetServer, stand_in: HubSet, tmp_path: Path
):
    # Another set than the cached reading of the table's own: a set equal to it is not read again.
    fetched = replace(SST2, characters=(60, 249))
    wanted = hub_tasks([replace(stand_in, characters=(60, 249))])[0]
    assert blocks(hub_tasks([fetched])[0], "verify") == blocks(wanted, "verify")
    got = [path for path in hub.asked if "/resolve/" in path]
    assert got and all("/data/train-" in path for path in got)
    before = len(hub.asked)
    again = hub_tasks([replace(SST2, characters=(60, 248))])[0]
    assert len(again.build("label", "fields", 0).items) > 100
    assert len(hub.asked) == before


def test_what_the_hub_does_not_have_is_one_line(hub: DatasetServer):
    absent = replace(SST2, repo="nobody/nothing")
    with pytest.raises(DataError, match="nobody/nothing@8d51e7e4887a: this data set") as error:
        hub_tasks([absent])[0].build("label", "fields", 0)
    assert "\n" not in str(error.value)


def test_a_closed_port_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(DataError, match="neither in the Hub's cache nor to be had") as error:
            hub_tasks([replace(SST2, characters=(60, 247))])[0].build("label", "fields", 0)
    assert "\n" not in str(error.value)
