"""Documents and sources as they are read from a run's own files, against what was planted."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from scoring.attribution.composition import count_sources
from scoring.attribution.evidence import NO_WINDOW, Evidence, sample_documents
from windows.composition import SourceCounter
from windows.manifest import data_files
from windows.planted import TRUTH, PlantedSection, write_corpus, write_truth
from windows.run import RunConfig, tile
from windows.tokens import TokenFiles

MIX = {"arith": 0.4, "succ": 0.3, "break": 0.3}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    run = RunConfig.model_validate(
        {
            "name": "tiny",
            "sequence_length": 64,
            "seed": 34521,
            "step_map": [{"first_step": 0, "first_batch": 0, "batch_tokens": 4 * 64}],
            "tokenizer": {"vocab_size": 127, "eos_id": 1, "pad_id": 0},
        }
    )
    steps = {"warmup_steps": 3, "windows": 5, "window_steps": 2, "heldout_steps": 2}
    section = PlantedSection(regime="planted", warmup_mix=MIX, mix=MIX, **steps)
    write_corpus(section, run, folder, seed=1)
    write_truth(section, run, folder, seed=1)
    described = data_files(folder)
    files = TokenFiles([Path(file.path) for file in described], sequence_length=64)
    order = run.order(files.sizes)
    windows = tile(run, order, 3, 13, 2)
    return files, order, windows, [f.source for f in described], pl.read_parquet(folder / TRUTH)


def test_all_planted_documents_are_found(planted):
    files, order, windows, _, truth = planted
    found = sample_documents(files, order, windows, eos_id=1, count=99, seed=0, fresh=(13, 15))
    table = pl.DataFrame(
        {
            "batch": found.batch,
            "instance": found.instances[found.row],
            "start": found.start.astype(np.int64),
            "end": found.end.astype(np.int64),
        }
    )
    wanted = truth.filter(pl.col("batch") >= 3).drop("type").cast(table.schema)
    assert table.sort(table.columns).equals(wanted.sort(table.columns))
    inside = found.batch < 13
    assert np.array_equal(found.window[inside], (found.batch[inside] - 3) // 2)
    assert (found.window[~inside] == NO_WINDOW).all()
    assert all(found.body(d)[-1] == 1 for d in range(len(found.row)))


def test_a_sample_is_part_of_a_larger_one(planted):
    files, order, windows, _, _ = planted
    few, many = (
        sample_documents(files, order, windows, eos_id=1, count=count, seed=4) for count in (2, 5)
    )
    assert np.bincount(few.windows).tolist() == [2] * 5
    assert set(few.instances.tolist()) < set(many.instances.tolist())


def test_sources_are_those_of_the_files(planted):
    files, order, windows, sources, _ = planted
    documents = sample_documents(files, order, windows, eos_id=1, count=3, seed=0)
    evidence = Evidence(documents, tuple(windows), np.arange(5.0))
    found = count_sources(order, SourceCounter(order.layout, sources), windows, evidence)
    assert found.batches.tolist() == list(range(3, 13))
    assert (found.counts.sum(axis=1) == 4).all()
    for batch, counts in zip(found.batches.tolist(), found.counts, strict=True):
        held, _ = order.locate(order.instances(batch, batch + 1))
        names = [sources[file] for file in held]
        assert counts.tolist() == [names.count(name) for name in found.names]
    held, _ = order.locate(documents.instances[documents.row])
    assert [found.names[at] for at in found.documents] == [sources[file] for file in held]
