import json
import pickle

import numpy as np
import psutil
import pytest
from datatrove.pipeline.base import PipelineStep

import curate.pipeline
from curate.decontamination import PromptIndex
from curate.mixture import draw
from curate.pipeline import (
    Decontaminate,
    InProcessExecutor,
    InstanceReader,
    InstanceSource,
    TokenCopyWriter,
    count_documents,
)
from curate.settings import DecontaminationSection
from windows.errors import DataError
from windows.shards import iter_rows, read_tokens
from windows.tokens import documents

WHOLE = DecontaminationSection(match="prompt")
PROMPTS = [[9001, 9002, 9003], [9100, 9101]]


@pytest.fixture
def source(toy):
    return InstanceSource(toy.run, toy.files, toy.order)


@pytest.fixture
def drawn(toy):
    rows = {
        window.name: (
            np.repeat(np.arange(window.first_batch, window.end_batch), 8),
            toy.order.instances(window.first_batch, window.end_batch),
        )
        for window in toy.windows[:3]
    }
    return draw(list(rows), rows, seed=5, repetitions=2)


def writer(toy, source, folder, tokens):
    labels = {window.name: "neutral" for window in toy.windows}
    return TokenCopyWriter(
        source, folder, labels, tokens=tokens, shard_tokens=1000, where="mixtures.m.tokens"
    )


def test_documents_are_pointers_that_lead_to_the_instance(toy, source, drawn):
    pointers = list(InstanceReader(source, drawn).run())
    assert [pointer.metadata["instance"] for pointer in pointers] == drawn["instance"].to_list()
    for pointer in pointers:
        found = json.loads(json.dumps(pointer.metadata))
        assert found.keys() == {*drawn.columns, "file", "offset"}
        begin = found["offset"] // 4
        lies_at = toy.stored(found["file"])[begin : begin + 16]
        assert toy.files.instances(toy.order, [found["instance"]])[0].tolist() == lies_at.tolist()
        assert pointer.text


def test_contaminated_instances_are_dropped_with_a_reason_and_named_once(
    toy, source, drawn, tmp_path
):
    bad = {int(drawn["instance"][3]): 0, int(drawn["instance"][40]): 1}
    for instance, prompt in bad.items():
        toy.plant(instance, 16 - len(PROMPTS[prompt]), PROMPTS[prompt])
    step = Decontaminate(source, PromptIndex(PROMPTS, WHOLE), tmp_path / "rejects.jsonl")
    kept = list(step.run(InstanceReader(source, drawn).run()))
    expected = drawn.filter(~drawn["instance"].is_in(list(bad)))
    assert [pointer.metadata["position"] for pointer in kept] == expected["position"].to_list()
    rejects = [json.loads(line) for line in (tmp_path / "rejects.jsonl").read_text().splitlines()]
    assert {reject["instance"]: reject["prompt"] for reject in rejects} == bad
    assert len(rejects) == 2
    for reject in rejects:
        tokens = toy.files.instances(toy.order, [reject["instance"]])[0]
        assert reject["documents"] == len(documents(tokens, 1))
        assert int(toy.order.batch_of([reject["instance"]])[0]) == reject["batch"]
    stats = step.stats.to_dict()["stats"]
    assert stats["total"] == len(drawn)
    assert stats["dropped_eval_prompt"] == stats["dropped"] == 4
    assert stats["forwarded"] == len(drawn) - 4


@pytest.mark.parametrize("size", [1, 7 * 16, 2**18])
def test_the_shards_do_not_depend_on_how_many_are_read_at_a_time(
    toy, source, drawn, tmp_path, monkeypatch, size
):
    toy.plant(int(drawn["instance"][10]), 0, PROMPTS[0])
    toy.plant(int(drawn["instance"][60]), 0, PROMPTS[0])
    monkeypatch.setattr(curate.pipeline, "_BATCH_TOKENS", size)
    folder = tmp_path / "out"
    folder.mkdir()
    steps = [
        InstanceReader(source, drawn),
        Decontaminate(source, PromptIndex(PROMPTS, WHOLE), folder / "rejects.jsonl"),
        writer(toy, source, folder, 50 * 16),
    ]
    InProcessExecutor(steps, folder / "logs").run()
    clean = [i for i in drawn["instance"].to_list() if i != drawn["instance"][10]][:50]
    assert read_tokens(folder).tolist() == toy.files.instances(toy.order, clean).tolist()
    # The second planted instance lies behind the budget: it was not needed, so it is not counted.
    assert len((folder / "rejects.jsonl").read_text().splitlines()) == 1


def test_rows_say_where_they_were_read_and_whether_they_are_cut(toy, source, drawn, tmp_path):
    step = writer(toy, source, tmp_path / "out", 72 * 16)
    list(step.run(InstanceReader(source, drawn).run()))
    rows = list(iter_rows(tmp_path / "out"))
    assert len(rows) == 72 and len(list((tmp_path / "out").glob("part-*.npy"))) == 2
    for row, tokens in rows:
        stored, begin = toy.stored(row.file), row.source_offset // 4
        assert tokens.tolist() == stored[begin : begin + 16].tolist()
        assert row.head_cut == (begin > 0 and stored[begin - 1] != 1)
        assert row.tail_cut == (stored[begin + 15] != 1)
        assert row.batch == toy.order.batch_of([row.instance])[0]
    assert {row.head_cut for row, _ in rows} == {row.tail_cut for row, _ in rows} == {True, False}


def test_nothing_is_pulled_beyond_the_budget(toy, source, drawn, tmp_path):
    pulled = []

    def watched():
        for pointer in InstanceReader(source, drawn).run():
            pulled.append(pointer)
            yield pointer

    list(writer(toy, source, tmp_path / "out", 20 * 16).run(watched()))
    assert len(pulled) == 20


def test_a_short_supply_says_how_much_there_is_and_leaves_no_manifest(
    toy, source, drawn, tmp_path, capfd
):
    folder = tmp_path / "out"
    steps = [InstanceReader(source, drawn), writer(toy, source, folder, 1000 * 16)]
    with pytest.raises(DataError) as refused:
        InProcessExecutor(steps, folder / "logs").run()
    assert refused.value.where == "mixtures.m.tokens"
    assert f"{len(drawn) * 16} tokens" in refused.value.got
    assert f"at most {len(drawn) * 16} tokens" in refused.value.do
    assert not (folder / "manifest.json").exists()
    assert not list(folder.rglob("*.tmp"))
    assert capfd.readouterr() == ("", "")


def test_the_executor_is_silent_leaves_no_marker_and_starts_no_process(tmp_path, capfd):
    children = []

    class Step(PipelineStep):
        name, type = "step", "test"

        def run(self, data, rank=0, world_size=1):
            children.extend(psutil.Process().children(recursive=True))
            self.stat_update("seen")
            yield from ()

    before = psutil.Process().children(recursive=True)
    for _ in range(2):
        stats = InProcessExecutor([Step()], tmp_path / "logs").run()
    assert stats.stats[0].stats["seen"].total == 1
    assert {child.pid for child in children} == {child.pid for child in before}
    assert capfd.readouterr() == ("", "")
    found = {
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()
    }
    assert found == {"logs/logs/task_00000.log", "logs/stats/00000.json"}
    assert "seen" in (tmp_path / "logs" / "logs" / "task_00000.log").read_text()


def test_an_error_of_a_step_comes_out_as_it_is_and_silently(tmp_path, capfd):
    class Step(PipelineStep):
        name, type = "step", "test"

        def run(self, data, rank=0, world_size=1):
            raise OSError(28, "No space left on device")
            yield

    with pytest.raises(OSError, match="No space left"):
        InProcessExecutor([Step()], tmp_path / "logs").run()
    assert capfd.readouterr() == ("", "")


def test_the_steps_survive_pickling_as_other_executors_need(toy, source, drawn, tmp_path):
    steps = [
        InstanceReader(source, drawn),
        Decontaminate(source, PromptIndex(PROMPTS, WHOLE), tmp_path / "rejects.jsonl"),
        writer(toy, source, tmp_path / "out", 30 * 16),
    ]
    data = None
    for step in pickle.loads(pickle.dumps(steps)):
        data = step(data)
    assert len(list(data)) == 30
    assert read_tokens(tmp_path / "out").shape == (30, 16)


def test_counted_documents_are_the_spans_of_the_shard_format(toy):
    tokens = toy.files.instances(toy.order, np.arange(toy.order.num_instances))
    counts = [len(documents(row, 1)) for row in tokens]
    assert count_documents(tokens, 1).tolist() == counts
    assert len(set(counts)) > 1
