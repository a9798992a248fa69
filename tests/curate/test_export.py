import json
import os
import pickle
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import curate.export
from curate.export import balance, export_mixture, read_mixture
from curate.mixture import choose_windows, draw
from curate.settings import DecontaminationSection, SelectSection
from windows.errors import CheckFailed, ConfigError, DataError
from windows.identity import hash_file
from windows.shards import INSTANCE_SCHEMA, iter_rows, read_tokens

ROOT = Path(curate.export.__file__).parents[1]
PROMPT = (9001, 9002, 9003)


def payload(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] != "logs"
    }


def drawn(toy, job):
    labels = pl.read_parquet(job.labels).filter(task=job.task)
    chosen = choose_windows(labels, job.mixture.select, seed=job.seed, name=job.name)
    rows = {name: (np.zeros(24, np.int64), toy.instances(name)) for name in chosen}
    return draw(chosen, rows, seed=job.seed, repetitions=job.mixture.repetitions)


def test_token_ids_are_copied_from_the_drawn_instances_in_their_order(toy, tmp_path):
    job = toy.job()
    export_mixture(job, tmp_path / "out")
    expected = drawn(toy, job)["instance"].to_list()[:60]
    tokens = read_tokens(tmp_path / "out")
    assert tokens.size == job.mixture.tokens
    assert tokens.tolist() == toy.files.instances(toy.order, expected).tolist()
    for row, ids in iter_rows(tmp_path / "out"):
        begin = row.source_offset // 4
        assert ids.tolist() == toy.stored(row.file)[begin : begin + 16].tolist()


def test_provenance_names_the_window_its_batch_and_its_label(toy, tmp_path):
    export_mixture(toy.job(), tmp_path / "out")
    table = pl.read_parquet(tmp_path / "out" / "instances.parquet")
    assert table.columns == INSTANCE_SCHEMA.names
    assert set(table["label"]) == {"generalization"} and set(table["run"]) == {"toy"}
    assert table["batch"].to_list() == toy.order.batch_of(table["instance"]).tolist()
    for window in toy.windows:
        batches = table.filter(window=window.name)["batch"]
        assert batches.is_between(window.first_batch, window.end_batch - 1).all()
    # The two strongest of the toy labels: strengths 0.75 and 0.5.
    assert set(table["window"]) == {toy.windows[3].name, toy.windows[1].name}
    assert table["instance"].value_counts()["count"].max() == 2


def test_mixture_json_says_what_was_chosen_and_written(toy, tmp_path):
    job = toy.job()
    export_mixture(job, tmp_path / "out")
    facts = read_mixture(tmp_path / "out")
    assert [w["window"] for w in facts["windows"]] == [toy.windows[3].name, toy.windows[1].name]
    assert [w["strength"] for w in facts["windows"]] == [0.75, 0.5]
    assert sum(w["instances"] for w in facts["windows"]) == facts["instances"] == 60
    assert facts["tokens"] == 960 and facts["distinct_instances"] == 48
    assert facts["max_repetition"] == 2 and facts["passes"] == 1.25
    assert facts["data_manifest_sha256"] == hash_file(toy.data / "manifest.json")
    tokens = read_tokens(tmp_path / "out")
    documents = (tokens == 1).sum() + (tokens[:, -1] != 1).sum()
    assert facts["balance"]["mean_documents"] == pytest.approx(documents / 60, abs=1e-6)
    assert facts["balance"]["mean_document_length"] == pytest.approx(960 / documents, abs=1e-6)
    table = pl.read_parquet(tmp_path / "out" / "instances.parquet")
    shares = facts["balance"]["file_shares"]
    assert list(shares) == ["code/part-00000.npy", "web/part-00000.npy", "web/part-00001.npy"]
    for file, share in enumerate(shares.values()):
        assert share == pytest.approx((table["file"] == file).mean(), abs=1e-6)
    sources = facts["balance"]["source_shares"]
    assert sources["web"] == pytest.approx(sum(list(shares.values())[1:]), abs=2e-6)


def test_planted_contamination_is_found_and_absent_from_the_export(toy, tmp_path):
    clean = toy.job(prompts=(PROMPT,))
    pool = drawn(toy, clean)["instance"].to_list()
    bad = sorted({pool[2], pool[17], pool[30]})
    for instance in bad:
        toy.plant(instance, 5, PROMPT)
    export_mixture(clean, tmp_path / "out")
    table = pl.read_parquet(tmp_path / "out" / "instances.parquet")
    assert not set(bad) & set(table["instance"])
    assert len(table) == 60
    lines = (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["instance"] for line in lines) == bad
    found = read_mixture(tmp_path / "out")["decontamination"]
    assert found["rejected_instances"] == 3 and found["prompts_found"] == 1
    assert found["findable_prompts"] == found["prompts"] == 1
    assert table["instance"].to_list() == [i for i in pool if i not in bad][:60]


def test_ngrams_find_what_whole_prompts_do_not(toy, tmp_path):
    prompt = tuple(range(9000, 9014))
    pool = drawn(toy, toy.job())["instance"].to_list()
    toy.plant(pool[2], 0, prompt[1:])
    whole = toy.job(prompts=(prompt,))
    section = DecontaminationSection(match="ngram", ngram=13)
    grams = toy.job(prompts=(prompt,), mixture=toy.mixture(decontamination=section))
    for name, job, rejected in (("whole", whole, 0), ("grams", grams, 1)):
        export_mixture(job, tmp_path / name)
        found = read_mixture(tmp_path / name)["decontamination"]
        assert found["rejected_instances"] == rejected


@pytest.mark.slow
@pytest.mark.parametrize("prompts", ["tuple", "file"])
def test_the_same_bytes_again_and_in_another_process_with_another_hash_seed(toy, tmp_path, prompts):
    toy.plant(int(drawn(toy, toy.job())["instance"][4]), 0, PROMPT)
    (tmp_path / "prompts.json").write_text(json.dumps([PROMPT]))
    given = (PROMPT,) if prompts == "tuple" else tmp_path / "prompts.json"
    job = toy.job(prompts=given, shard_tokens=30 * 16)
    export_mixture(job, tmp_path / "one")
    export_mixture(job, tmp_path / "two")
    (tmp_path / "job.pickle").write_bytes(pickle.dumps((job, tmp_path / "three")))
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import pickle, sys; from curate.export import export_mixture;"
            "export_mixture(*pickle.load(open(sys.argv[1], 'rb')))",
            tmp_path / "job.pickle",
        ],
        env=os.environ | {"PYTHONHASHSEED": "12345"},
        cwd=ROOT,
        check=True,
    )
    one = payload(tmp_path / "one")
    assert one == payload(tmp_path / "two") == payload(tmp_path / "three")
    assert one.keys() == {
        "README.md",
        "instances.parquet",
        "manifest.json",
        "mixture.json",
        "rejects.jsonl",
        *(f"part-0000{i}.{suffix}" for i in range(2) for suffix in ("npy", "csv.gz")),
    }
    assert not any(str(tmp_path).encode() in data for data in one.values())


def test_what_an_earlier_attempt_left_is_replaced(toy, tmp_path):
    export_mixture(toy.job(shard_tokens=16), tmp_path / "again")
    (tmp_path / "again" / "manifest.json").unlink()
    export_mixture(toy.job(), tmp_path / "again")
    export_mixture(toy.job(), tmp_path / "fresh")
    assert payload(tmp_path / "again") == payload(tmp_path / "fresh")


READ_WITH_OLMO_CORE = """
import json, numpy as np
from olmo_core.data.utils import iter_document_indices

dataset.prepare()
np.save("read.npy", np.stack([dataset[i]["input_ids"].numpy() for i in range(len(dataset))]))
found = [list(iter_document_indices(path, use_array_if_local=False)) for path in dataset.paths]
print(json.dumps([[int(end) for _, end in documents] for documents in found]))
"""


@pytest.mark.slow
def test_olmo_core_reads_the_shards_as_the_data_card_says(toy, tmp_path):
    pytest.importorskip("olmo_core")
    export_mixture(toy.job(shard_tokens=25 * 16), tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    child = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", snippet + READ_WITH_OLMO_CORE],
        cwd=tmp_path / "out",
        check=True,
        stdout=subprocess.PIPE,
    )
    tokens = read_tokens(tmp_path / "out")
    assert np.load(tmp_path / "out" / "read.npy").tolist() == tokens.tolist()
    # The bounds end a document at every EOS, and at the end of every instance.
    ends = (tokens == 1) | (np.arange(16) == 15)
    by_shard = [np.flatnonzero(ends[i : i + 25]) + 1 for i in range(0, 60, 25)]
    found = json.loads(child.stdout.splitlines()[-1])
    assert found == [shard.tolist() for shard in by_shard]


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, 0.2])
def test_a_killed_export_leaves_no_process_and_the_next_one_the_same_bytes(toy, tmp_path, delay):
    job = toy.job(shard_tokens=16)
    (tmp_path / "job.pickle").write_bytes(pickle.dumps((job, tmp_path / "killed")))
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import pickle, sys, curate.pipeline; from curate.export import export_mixture;"
            "job = pickle.load(open(sys.argv[1], 'rb')); print('ready', flush=True);"
            "export_mixture(*job)",
            tmp_path / "job.pickle",
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    with child:
        child.stdout.readline()
        time.sleep(delay)
        child.kill()
    with pytest.raises(ProcessLookupError):
        os.killpg(child.pid, 0)
    for stale in tmp_path.rglob("killed/*.tmp"):
        stale.unlink()  # as the artefact store does before every attempt
    export_mixture(job, tmp_path / "killed")
    export_mixture(job, tmp_path / "whole")
    assert payload(tmp_path / "killed") == payload(tmp_path / "whole")


def test_a_placebo_takes_other_windows_for_every_seed(toy, tmp_path):
    mixture = toy.mixture(select=SelectSection(by="placebo", windows=3), tokens=24 * 16)
    for seed in range(3):
        export_mixture(toy.job(name="placebo", mixture=mixture, seed=seed), tmp_path / str(seed))
    chosen = [
        frozenset(w["window"] for w in read_mixture(tmp_path / str(seed))["windows"])
        for seed in range(3)
    ]
    assert len(set(chosen)) > 1 and {len(windows) for windows in chosen} == {3}


def test_the_balance_puts_mixtures_side_by_side(toy, tmp_path):
    export_mixture(toy.job(), tmp_path / "g")
    uncontrolled = toy.mixture(select=SelectSection(by="any"), tokens=100 * 16)
    export_mixture(toy.job(name="uncontrolled", mixture=uncontrolled, seed=4), tmp_path / "u")
    table = balance([tmp_path / "g", tmp_path / "u"])
    assert table["mixture"].to_list() == ["control-generalization", "uncontrolled"]
    assert table["windows"].to_list() == [2, 8] and table["seed"].to_list() == [0, 4]
    assert table["tokens"].to_list() == [960, 1600]
    total = table["share of web"] + table["share of code"]
    assert np.allclose(total, 1, atol=2e-6)


def test_a_folder_without_a_mixture_has_no_balance(tmp_path):
    with pytest.raises(DataError, match="no exported mixture"):
        balance([tmp_path])


def test_the_card_names_the_windows_and_has_no_path_of_the_machine(toy, tmp_path):
    export_mixture(toy.job(), tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith("# control-generalization, arm seed 0\n")
    assert f"| {toy.windows[3].name} | generalization | +0.750 |" in card
    assert str(tmp_path) not in card


def refused(job, tmp_path, kind):
    with pytest.raises(kind) as caught:
        export_mixture(job, tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()
    return str(caught.value)


def test_a_budget_that_cuts_an_instance_is_refused(toy, tmp_path):
    text = refused(toy.job(mixture=toy.mixture(tokens=1000)), tmp_path, ConfigError)
    assert "mixtures.control-generalization.tokens" in text and "use 992 or 1008" in text


def test_a_budget_beyond_the_supply_is_refused(toy, tmp_path):
    text = refused(toy.job(mixture=toy.mixture(tokens=97 * 16)), tmp_path, DataError)
    assert f"at most {96 * 16} tokens" in text


def test_a_rule_that_could_find_nothing_is_refused(toy, tmp_path):
    section = DecontaminationSection(match="ngram", ngram=13)
    job = toy.job(prompts=(PROMPT,), mixture=toy.mixture(decontamination=section))
    text = refused(job, tmp_path, ConfigError)
    assert "mixtures.control-generalization.decontamination" in text and "ngram 13" in text


def test_labels_of_other_windows_are_refused(toy, tmp_path):
    text = refused(toy.job(windows=toy.windows[:-1]), tmp_path, DataError)
    assert toy.windows[-1].name in text


def test_a_label_that_no_window_carries_is_a_failed_check(toy, tmp_path):
    labels = pl.read_parquet(toy.labels).filter(pl.col("label") != "pattern")
    labels.write_parquet(toy.labels)
    kept = tuple(window for window in toy.windows if window.name in set(labels["window"]))
    select = SelectSection(by="label", label="pattern", windows=2)
    refused(toy.job(windows=kept, mixture=toy.mixture(select=select)), tmp_path, CheckFailed)


def test_damaged_inputs_are_refused(toy, tmp_path):
    (tmp_path / "prompts.json").write_text('[[1, "x"]]')
    toy_labels = pl.read_parquet(toy.labels).drop("strength")
    toy_labels.write_parquet(tmp_path / "bare.parquet")
    text = refused(toy.job(labels=tmp_path / "bare.parquet"), tmp_path, DataError)
    assert "bare.parquet" in text and len(text.splitlines()) == 1
    assert "prompts" in refused(toy.job(prompts=tmp_path / "prompts.json"), tmp_path, DataError)
    assert "none.parquet" in refused(toy.job(labels=tmp_path / "none.parquet"), tmp_path, DataError)
    file = toy.files.paths[1]
    file.write_bytes(file.read_bytes()[:-64])
    assert str(file) in refused(toy.job(), tmp_path, DataError)
