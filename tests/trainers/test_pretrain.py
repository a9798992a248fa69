"""Pre-training reads what OLMo-core's own loader yields."""

import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from olmo_core.data import DataCollator, NumpyFSLDatasetConfig, TokenizerConfig
from olmo_core.data.data_loader import NumpyDataLoaderBase

from trainers.loop import read_log
from trainers.pretrain import pretrain, proved_batches
from trainers.settings import PretrainingSection
from windows.checkpoints.folder import catalog
from windows.errors import ConfigError


def olmo_loader(tiny: Any, work: Path) -> Any:
    """OLMo-core's loader over the run's token files."""
    tokenizer = tiny.run.tokenizer
    dataset = NumpyFSLDatasetConfig(
        paths=[str(path) for path in tiny.files.paths],
        tokenizer=TokenizerConfig(
            vocab_size=tokenizer.vocab_size,
            eos_token_id=tokenizer.eos_id,
            pad_token_id=tokenizer.pad_id,
        ),
        work_dir=str(work),
        dtype="uint32",
        sequence_length=tiny.run.sequence_length,
    ).build()
    dataset.prepare()
    loader = NumpyDataLoaderBase.wrap_numpy_dataset(
        dataset,
        global_batch_size=tiny.run.step_map[0].batch_tokens,
        collator=DataCollator(pad_token_id=tokenizer.pad_id, vocab_size=tokenizer.vocab_size),
        seed=tiny.run.seed,
    )
    loader.reshuffle(tiny.run.epoch, in_memory=True)
    return loader


def test_the_log_is_what_olmo_cores_loader_yields(tiny: Any, tmp_path: Path):
    logged = read_log(tiny.folder)["instances"].to_list()
    loader = olmo_loader(tiny, tmp_path)
    theirs = [(b["index"].tolist(), b["input_ids"].tolist()) for b in loader]
    assert len(logged) == 9 and len(theirs) == loader.total_batches == 11
    for step, (ids, tokens) in enumerate(theirs[:9]):
        assert logged[step] == ids, f"batch {step}"
        assert tiny.files.instances(tiny.order, logged[step]).tolist() == tokens
    trained = {instance for ids in logged for instance in ids}
    assert len(trained) == 9 * 4, "each instance once"
    assert not trained & {instance for ids, _ in theirs[9:] for instance in ids}


def test_every_trained_batch_is_proved(tiny: Any):
    assert proved_batches(tiny.folder, tiny.order) == dict.fromkeys(range(9), True)


@pytest.mark.parametrize("change", ["swapped", "another", "one more"])
def test_a_batch_that_was_not_the_orders_is_found(tiny: Any, tmp_path: Path, change: str):
    folder = shutil.copytree(tiny.folder, tmp_path / "run")
    path = folder / "log" / "stage1-step5.parquet"
    log = pl.read_parquet(path)
    lists = log["instances"].to_list()
    ids = lists[1]
    lists[1] = {
        "swapped": [ids[1], ids[0], *ids[2:]],
        "another": [*ids[:3], lists[0][0]],
        "one more": [*ids, lists[0][0]],
    }[change]
    column = pl.Series("instances", lists, dtype=pl.List(pl.UInt32))
    log.with_columns(column).write_parquet(path)
    assert proved_batches(folder, tiny.order) == dict.fromkeys(range(9), True) | {4: False}


def test_batches_that_were_not_trained_are_not_proved(tiny: Any, tmp_path: Path):
    folder = shutil.copytree(tiny.folder, tmp_path / "run")
    (folder / "log" / "stage1-step9.parquet").unlink()
    assert proved_batches(folder, tiny.order) == dict.fromkeys(range(7), True)


def test_checkpoints_are_where_the_section_puts_them(tiny: Any):
    assert tiny.pretraining.checkpoint_steps == tiny.steps
    found = catalog(tiny.folder / "checkpoints", "tiny")
    assert [checkpoint.step for checkpoint in found] == list(tiny.steps)
    at_start = tiny.pretraining.model_copy(update={"checkpoint_first": 0, "checkpoint_every": 3})
    assert at_start.checkpoint_steps == (0, 3, 6, 9)


def test_weights_follow_from_the_seed(tiny: Any, tmp_path: Path):
    tiny.pretrain(tmp_path / "run", seed=tiny.seed + 1)
    ours, theirs = tiny.contents(tiny.folder), tiny.contents(tmp_path / "run")
    assert ours.keys() == theirs.keys()
    assert all(ours[name] != theirs[name] for name in ours if name.endswith("model.safetensors"))
    batches = read_log(tmp_path / "run")["instances"].to_list()
    assert batches == read_log(tiny.folder)["instances"].to_list(), "data follow from the run's"


def test_more_steps_than_the_data_have_are_refused(tiny: Any, tmp_path: Path):
    told = tiny.pretraining.model_dump() | {"steps": 13, "checkpoint_first": 13}
    section = PretrainingSection.model_validate(told)
    with pytest.raises(ConfigError, match="11 batches") as caught:
        pretrain(tiny.run, section, tiny.files, tmp_path / "run", tokenizer=tiny.data, seed=0)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
