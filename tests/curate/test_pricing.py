"""The price of a shuffled replay, by hand."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from curate.pricing import DOSES, price_words, transfer_price
from curate.run_file import GivenRun, load_run
from curate.shipped import shipped
from curate.study import Study, StudyConfig, load_study
from windows.errors import ConfigError

STUDY = Path(__file__).parents[1] / "studies" / "small.yaml"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "stage1-step24"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    tensors = {"a.weight": (3, 5), "embed_tokens.weight": (100, 5), "lm_head.weight": (100, 5)}
    save_file(
        {name: np.zeros(shape, np.float32) for name, shape in tensors.items()},
        folder / "model.safetensors",
    )
    return folder


def test_six_flops_for_each_parameter_and_token(checkpoint: Path) -> None:
    config = yaml.safe_load(STUDY.read_text())
    config["windows"] = {"first_step": 0, "end_step": 2000, "every": 1000}
    config["transfer"] = {"checkpoint": 1000, "shuffles": 3, "dose": 0.05}
    given = load_run(shipped("runs")["olmo3-7b"])
    study = Study(StudyConfig(**config), given, Path("study.yaml"), (0, 1000, 2000))
    rows = {row["dose"]: row for row in transfer_price(study, checkpoint)}
    assert [*rows] == sorted([*DOSES, 0.05])
    whole = rows[1.0]
    # Two windows of 4.19 billion tokens in three orders; 15 weights outside the embeddings.
    assert whole["tokens"] == 2 * 3 * 1000 * 4_194_304
    assert whole["flops"] == 6 * 15 * whole["tokens"]
    assert (whole["replays"], whole["batches"], whole["parameters"]) == (6, 6000, 15)
    for dose, row in rows.items():
        assert row["tokens"] == pytest.approx(dose * whole["tokens"])
        assert row["chosen"] == (dose == 0.05)
    assert price_words(rows[0.05]).endswith(
        "300 batches of 1,258,291,200 tokens in all, 1.1e+11 FLOPs (this study's)"
    )


def test_without_weights_there_are_tokens_alone(tmp_path: Path) -> None:
    rows = transfer_price(load_study(STUDY))
    assert [row["dose"] for row in rows] == list(DOSES)
    # Eight windows of four batches of 1,024 tokens, two orders: no dose is less than a batch.
    assert [row["batches"] for row in rows] == [16, 16, 16, 16, 64]
    assert [row["tokens"] for row in rows] == [1024 * row["batches"] for row in rows]
    assert all(row["flops"] is row["parameters"] is None for row in rows)
    assert price_words(rows[0]) == "dose 0.01: 16 replays, 16 batches of 16,384 tokens in all"
    assert transfer_price(load_study(STUDY), tmp_path) == rows
    with pytest.raises(ConfigError, match="no section transfer"):
        transfer_price(load_study(STUDY, ["transfer=null", "arms={}"]))


def test_a_given_runs_own_checkpoint_is_counted(checkpoint: Path) -> None:
    study = load_study(STUDY)
    run = study.run.model_copy(update={"checkpoints": checkpoint.parent.name})
    given = GivenRun(run, checkpoint.parents[1] / "run.yaml")
    here = Study(study.config, given, study.path, study.checkpoint_steps)
    (row, *_) = transfer_price(here)
    assert (row["parameters"], row["flops"]) == (15, 6 * 15 * 16 * 1024)
