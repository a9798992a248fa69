from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from curate.held import held, name_for_commands
from curate.made import Made
from curate.sources import Sources
from curate.study import load_study
from windows.progress import Reporter

SOURCES = {"web": 61, "math": 20, "more web": 40}
LENGTH, BATCH, EVERY, END = 4, 3, 4, 36
QUIET = Reporter(quiet=True)


def write_study(folder: Path, **changes) -> Path:
    """Write a given run with token files, its checkpoints, and a study of it."""
    files = []
    for name, instances in SOURCES.items():
        np.full(instances * LENGTH, 5, dtype="<u4").tofile(folder / f"{name}.npy")
        source = name.rpartition(" ")[2]
        entry = {"source": source, "path": f"{name}.npy", "bytes": instances * LENGTH * 4}
        files.append(entry)
    run = {
        "name": "given",
        "sequence_length": LENGTH,
        "seed": 34521,
        "step_map": [{"first_step": 0, "first_batch": 0, "batch_tokens": BATCH * LENGTH}],
        "tokenizer": {"vocab_size": 100, "eos_id": 1, "pad_id": 0},
        "files": files,
        "checkpoints": "checkpoints",
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(run | changes))
    for step in range(0, END + 1, EVERY):
        checkpoint = folder / "checkpoints" / f"stage1-step{step}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "config.json").write_text("{}")
        save_file({"step": np.array([step])}, checkpoint / "model.safetensors")
    study = {
        "name": "held",
        "run": "./run.yaml",
        "suite": {"tasks": ["successive_answer/addition"], "demo_seeds": 2},
        "windows": {"stage": "stage1", "first_step": 0, "every": EVERY},
        "labels": {"task": "successive_answer/addition"},
    }
    path = folder / "a study.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


def sources_of(path: Path) -> Sources:
    study = load_study(path)
    return Sources(study, Made(path.parent / "out", QUIET, look_only=True), QUIET)


def test_every_instance_is_counted_by_the_source_of_its_file(tmp_path: Path) -> None:
    sources = sources_of(write_study(tmp_path))
    windows = sources.windows()
    names, counts = held(sources, windows)
    assert names == ("web", "math")
    ends = np.cumsum(list(SOURCES.values()))
    of_file = np.array([0, 1, 0])
    for window, found in zip(windows, counts, strict=True):
        ids = sources.order().instances(window.first_batch, window.end_batch)
        files = np.searchsorted(ends, ids.astype(np.int64), side="right")
        assert list(found) == np.bincount(of_file[files], minlength=2).tolist()
        assert sum(found) == BATCH * EVERY


def test_a_run_without_an_order_holds_nothing_that_can_be_asked(tmp_path: Path) -> None:
    sources = sources_of(write_study(tmp_path, files=[], loader="unknown"))
    windows = sources.windows()
    assert held(sources, windows) == ((), [()] * len(windows))
    assert name_for_commands(sources.study) == ""


@pytest.mark.parametrize("name", ["demo", "demo-iid"])
def test_a_shipped_study_goes_by_its_name(name: str) -> None:
    assert name_for_commands(load_study(name)) == name


def test_a_study_file_goes_by_its_own_wherever_it_lies(tmp_path: Path) -> None:
    assert name_for_commands(load_study(write_study(tmp_path))) == "a study.yaml"
