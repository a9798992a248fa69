"""`modehop replicate`: which windows two runs share, and the whole of it on two embedded runs."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from curate.command import Call
from curate.replicate_command import paired_windows, replicate
from curate.run_file import GivenRun, RunFile, load_run
from curate.shipped import shipped
from curate.study import Study, StudyConfig, load_study
from windows.errors import ConfigError

STUDY = Path(__file__).parents[1] / "studies" / "small.yaml"
TASKS = ["successive_answer/addition", "repetitive_answer/addition", "normal_control/addition"]


def study_of(run: str, every: int, end: int, first: int = 0, **changes: Any) -> Study:
    """A study of a shipped run whose checkpoints nobody is asked for."""
    config = yaml.safe_load(STUDY.read_text())
    for section in ("transfer", "mixtures", "training", "arms"):
        config.pop(section)
    config["windows"] = {"first_step": first, "end_step": end, "every": every}
    given = load_run(shipped("runs")[run])
    data = given.run.model_dump() | changes
    given = GivenRun(RunFile.model_validate(data), given.path)
    path = Path(f"{given.run.name}.yaml")
    return Study(StudyConfig(**config), given, path, (*range(first, end + 1, every),))


def test_the_hybrids_windows_are_twice_as_many_steps() -> None:
    big, half = study_of("olmo3-32b", 1000, 20_000), study_of("olmo-hybrid-7b", 2000, 60_000, 2000)
    pairs = paired_windows(big, half)
    assert [(pair.first, pair.second) for pair in pairs] == [
        (f"stage1-{s}:{s + 1000}", f"stage1-{2 * s}:{2 * s + 2000}")
        for s in range(1000, 20_000, 1000)
    ]
    # For the 32B, step and batch are not known to agree.
    assert not any(pair.exact for pair in pairs)
    back = paired_windows(half, big)
    assert [(pair.second, pair.first) for pair in back] == [
        (pair.first, pair.second) for pair in pairs
    ]


def test_windows_that_were_read_twice_are_left_out() -> None:
    # From step 233000 on the 32B may have read batches again that it had read before.
    big, half = (
        study_of("olmo3-32b", 1000, 245_000, 220_000),
        study_of("olmo-hybrid-7b", 2000, 600_000),
    )
    firsts = [int(pair.first.partition("-")[2].split(":")[0]) for pair in paired_windows(big, half)]
    assert firsts == [*range(220_000, 226_000, 1000), *range(240_000, 245_000, 1000)]


def test_runs_that_share_their_files_and_order_pair_by_batch() -> None:
    first = study_of("pythia-160m", 1000, 9000)
    second = study_of("pythia-160m", 1000, 12_000, name="pythia-160m-weight-seed1")
    pairs = paired_windows(first, second)
    assert len(pairs) == 9 and all(pair.exact and pair.first == pair.second for pair in pairs)


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        (("olmo3-32b", 1000, 9000), ("olmo3-32b", 500, 9000), "agrees with itself"),
        (("olmo3-32b", 1000, 9000), ("olmo3-7b", 1000, 9000), "got another list of files"),
        (("olmo3-32b", 1000, 9000), ("pythia-160m", 1000, 9000), "got another sequence length"),
        (
            ("olmo3-32b", 1000, 9000),
            ("olmo-hybrid-7b", 1000, 18_000),
            "got 0 of 9 and 18; give it windows of 2000 steps",
        ),
        (("olmo3-32b", 1000, 7000), ("olmo-hybrid-7b", 2000, 14_000), "got 7 of 7 and 7"),
    ],
)
def test_what_does_not_meet_is_refused(
    first: tuple[str, int, int], second: tuple[str, int, int], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        paired_windows(study_of(*first), study_of(*second))


def test_other_orders_and_unknown_ones_are_refused() -> None:
    big = study_of("olmo3-32b", 1000, 9000)
    with pytest.raises(ConfigError, match="another shuffle"):
        paired_windows(big, study_of("olmo-hybrid-7b", 2000, 18_000, seed=1))
    with pytest.raises(ConfigError, match=r"loader: the order .* is not known"):
        paired_windows(big, study_of("olmo-hybrid-7b", 2000, 18_000, loader="unknown", mix=None))
    # Embedded runs are made from their study's seed.
    with pytest.raises(ConfigError, match="another shuffle"):
        paired_windows(load_study(STUDY), load_study(STUDY, ["seed=1"]))


@pytest.mark.slow
def test_two_embedded_runs_of_one_stream(tmp_path: Path) -> None:
    """Another model on the same corpus in the same order: compared, with eight windows too few."""
    calls = []
    for name, width in (("small", 32), ("narrow", 16)):
        run = yaml.safe_load((STUDY.parents[1] / "runs" / "small.yaml").read_text())
        run["pretraining"]["model"]["hidden_size"] = width
        run["name"] = name
        study = yaml.safe_load(STUDY.read_text()) | {"name": name, "run": name, "workers": 0}
        for folder, content in (("runs", run), ("studies", study)):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
        path = tmp_path / "studies" / f"{name}.yaml"
        calls.append(Call(load_study(path), tmp_path / "out" / name, quiet=True))
    answer = replicate(*calls)
    data = answer.data
    assert data["windows"] == len(data["pairs"]) == 8
    assert (data["verdict"], data["power"]) == ("underpowered", 0.8)
    assert answer.refusal == "do the effects replicate: underpowered"
    assert "cannot show any" in data["sentences"][0]
    assert {(row["task"], row["pooled"]) for row in data["effects"]} == {
        (task, not task.startswith("normal")) for task in [*TASKS, "pooled"]
    }
    assert {row["effect"] for row in data["effects"]} == {"innovation", "delta"}
    assert all(-1 <= row["lo"] <= row["rho"] <= row["hi"] <= 1 for row in data["effects"])
    assert replicate(*calls).data == data, "labels that are made are found"
    back = replicate(*reversed(calls)).data
    assert [row["rho"] for row in back["effects"]] == pytest.approx(
        [row["rho"] for row in data["effects"]]
    )
