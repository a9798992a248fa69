"""A study file is read strictly, and every fault is one line that says what to do."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from curate.settings_file import parse
from curate.shipped import shipped
from curate.study import Study, StudyConfig, load_study
from trainers.settings import CONTROLLED, REFERENCES
from windows.errors import ConfigError, DataError

DEMO = shipped("studies")["demo"]
DATA: dict[str, Any] = yaml.safe_load(DEMO.read_text())
FIRST, LAST = load_study(DEMO).edges[0], load_study(DEMO).edges[-1]
BASE = load_study(DEMO).config.transfer.checkpoint


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Write a study beside a copy of the tiny run and return its path."""

    def write(data: Any) -> Path:
        (tmp_path / "studies").mkdir(exist_ok=True)
        (tmp_path / "runs").mkdir(exist_ok=True)
        (tmp_path / "runs" / "tiny.yaml").write_text(shipped("runs")["tiny"].read_text())
        path = tmp_path / "studies" / "study.yaml"
        path.write_text(data if isinstance(data, str) else yaml.safe_dump(data))
        return path

    return write


def refusal(path: Path | str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_study(path, overrides)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_the_shipped_studies_load() -> None:
    for path in shipped("studies").values():
        study = load_study(path)
        assert study.run.corpus is not None
        assert study.edges[0] == study.config.windows.first_step
        assert len(study.edges) == study.run.corpus.windows + 1
        assert study.edges[-1] == study.end_step == study.checkpoint_steps[-1]


def test_a_shipped_study_loads_by_name_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_study("demo") == load_study(DEMO)


def test_a_run_beside_the_study_goes_before_the_shipped_one(write: Any) -> None:
    study = load_study(write(DATA))
    assert study.run_path == study.path.parent.parent / "runs" / "tiny.yaml"


def test_a_run_may_be_named_by_its_path(write: Any) -> None:
    path = write({**DATA, "run": "../runs/tiny.yaml"})
    assert load_study(path).run == load_study(DEMO).run


def test_overrides_go_in_and_later_ones_win() -> None:
    study = load_study(
        DEMO,
        [
            "training.every=8",
            "training.steps=32",
            "training.steps=48",
            "suite.tasks.1=normal_control/addition",
            "suite.tasks=[successive_answer/addition]",
            "training.optimizer.clip=0.5",
        ],
    )
    assert study.config.training.steps == 48
    assert study.config.suite.tasks == ("successive_answer/addition",)
    assert study.config.training.optimizer.clip == 0.5
    assert study.config.training.optimizer.weight_decay == 0.01


def test_resolved_says_every_default() -> None:
    study = load_study(DEMO)
    resolved = study.resolved()
    assert resolved["study"]["verdict"]["switch_threshold"] == 0.2
    assert yaml.safe_load(yaml.safe_dump(resolved)) == resolved


def test_a_resolved_study_is_a_study(write: Any) -> None:
    study = load_study(DEMO)
    again = load_study(write(study.resolved()["study"]))
    assert again.config == study.config


def test_the_studys_seed_moves_an_embedded_runs_order() -> None:
    first, second = load_study(DEMO), load_study(DEMO, ["seed=3"])
    assert second.run_config.seed == first.run_config.seed + 3
    assert first.run == second.run


@pytest.mark.parametrize(
    ("override", "where", "says"),
    [
        ("training.stepz=3", "training.stepz", "did you mean 'steps'?"),
        ("training=null", "training", "needs a section training"),
        ("seed=many", "--set seed", "an integer"),
        ("seed=true", "--set seed", "an integer"),
        ("seed=1.0", "--set seed", "an integer"),
        ("seed=-1", "--set seed", "at least 0"),
        ("name=../x", "--set name", "not a name"),
        ("name=[a]", "--set name", "text"),
        ("labels.rule=foo", "labels.rule", "'innovation' or 'delta'"),
        ("labels.alpha=.nan", "labels.alpha", "a number"),
        ("labels.alpha=0.9", "labels.alpha", "less than 0.5"),
        ("labels.task=normal/addition", "labels.task", "did you mean 'normal_control/addition'?"),
        (
            "suite.tasks=[sucessive_answer/addition]",
            "suite.tasks",
            "did you mean 'successive_answer/addition'?",
        ),
        ("labels.task=normal_control/addition", "labels.task", "a task of another family"),
        ("suite.tasks=[]", "suite.tasks", "at least 1"),
        ("suite.tasks.7=x/y", "suite.tasks", "no such key '7'"),
        (f"windows.end_step={LAST + 999}", "windows", f"within {FIRST}:{LAST}"),
        ("windows.first_step=1", "windows", f"within {FIRST}:{LAST}"),
        (f"windows.first_step={FIRST + 1}", "windows", f"the nearest is {FIRST}"),
        ("windows.every=5", "windows", "no checkpoint"),
        ("windows.every=0", "windows.every", "greater than 0"),
        ("windows.stage=stage2", "windows.stage", "write stage1"),
        (f"transfer.checkpoint={BASE + 1}", "transfer.checkpoint", f"the nearest is {BASE}"),
        ("training.base_step=0", "training.base_step", f"the nearest is {FIRST}"),
        ("training.every=999", "training", "not a multiple"),
        ("training.optimizer.betas=[1, 2, 3]", "betas", "at most 2"),
        ("arms.placebo=placebos", "arms.placebo", "did you mean 'placebo'?"),
        ("verdict.contrast=[placebo, placebo]", "verdict.contrast", "itself"),
        ("verdict.contrast=[placebo, pattern]", "verdict.contrast", "'control-pattern'"),
        ("mixtures.placebo.select.by=any", "mixtures.placebo.select", "by: placebo"),
        ("mixtures.placbo.tokens=3", "mixtures.placbo", "did you mean 'placebo'?"),
        ("run=tny", "run", "tiny"),
        ("run.seed=3", "run.seed", "a single value"),
        ("seed", "--set", "section.key=value"),
        ("=3", "--set", "section.key=value"),
        ("seed=[1", "--set seed", "not readable YAML"),
    ],
)
def test_a_wrong_setting_is_refused(override: str, where: str, says: str) -> None:
    text = refusal(DEMO, override)
    assert where in text
    assert says in text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "an empty file"),
        ("[1, 2]", "a mapping of keys"),
        ("name: a\nname: b\n", "line 2: the key 'name' occurs twice"),
        ("1: a\n", "a key has to be text"),
        ("name: [a\n", "not readable YAML in line 2"),
        ("name: !!python/object/apply:os.getcwd []\n", "not readable YAML in line 1"),
        ("a: &a [*a]\n", "not readable YAML"),
        ("name: \x07\n", "not readable YAML"),
    ],
)
def test_what_is_no_study_file_is_refused(write: Any, text: str, says: str) -> None:
    path = write(text)
    told = refusal(path)
    assert says in told
    assert str(path) in told


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    assert "no such study file" in refusal(tmp_path / "none.yaml")
    assert "demo" in refusal("dmo")
    assert "a folder" in refusal(tmp_path)
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in refusal(tmp_path / "bytes.yaml")


def test_missing_keys_are_counted(write: Any) -> None:
    text = refusal(write({"name": "x", "run": "tiny"}))
    assert "suite: this key is missing" in text
    assert "(and 1 more)" in text


@pytest.mark.parametrize("arm", (*CONTROLLED, *REFERENCES))
def test_the_registered_arms_have_to_be_there(write: Any, arm: str) -> None:
    data = copy.deepcopy(DATA)
    data["arms"][f"my-{arm}"] = data["arms"].pop(arm)
    data["verdict"]["contrast"] = [f"my-{arm}", next(name for name in data["arms"] if name != arm)]
    text = refusal(write(data))
    assert f"no arm {arm!r}" in text
    assert "study.yaml: arms" in text
    data["arms"][arm] = arm
    assert load_study(write(data)).config.verdict.contrast[0] == f"my-{arm}"


def test_faults_of_the_run_file_name_the_run_file(write: Any) -> None:
    path = write(DATA)
    run_path = path.parent.parent / "runs" / "tiny.yaml"
    run = yaml.safe_load(run_path.read_text())
    fewer = {**run["corpus"], "windows": run["corpus"]["windows"] - 1}
    heads = {**run["pretraining"], "model": {**run["pretraining"]["model"], "heads": 5}}
    later = [{**run["step_map"][0], "first_step": 1}]
    for change, says in (
        ({"sequence_lenght": 64}, "'sequence_length'"),
        ({"pretraining": None}, "either corpus and pretraining, or data"),
        ({"data": "x"}, "either corpus and pretraining, or data"),
        ({"token_bytes": 3}, "use 1, 2 or 4"),
        ({"max_sequence_length": 128}, "max_sequence_length: the planted corpus is made for one"),
        ({"tokenizer": {**run["tokenizer"], "eos_id": 2}}, "tokenizer: the planted corpus has ids"),
        ({"tokenizer": {**run["tokenizer"], "vocab_size": 126}}, "tokenizer.vocab_size: the plant"),
        ({"step_map": later}, "step_map: the planted corpus is made for one batch size, from"),
        ({"pretraining": heads}, "hidden_size 64 is not 5 heads of an even size"),
        ({"corpus": fewer}, f"pretraining has {run['pretraining']['steps']} steps, but the corpus"),
    ):
        changed = {key: value for key, value in {**run, **change}.items() if value is not None}
        if "sequence_lenght" in changed:
            del changed["sequence_length"]
        run_path.write_text(yaml.safe_dump(changed))
        text = refusal(path)
        assert str(run_path) in text
        assert says in text


def test_a_given_run_has_its_checkpoints_from_its_folder(write: Any, tmp_path: Path) -> None:
    path = write(given_study())
    run = given_run(tmp_path, steps=(10, 30, 20, 40), stage="stage1")
    study = load_study(path)
    assert study.checkpoint_steps == (10, 20, 30, 40)
    assert study.edges == (10, 20, 30, 40)
    assert study.checkpoint_folder == run.parent / "checkpoints"
    assert study.run_config == study.run_config.model_validate(study.run_config.model_dump())


def test_a_given_run_without_checkpoints_is_refused(write: Any, tmp_path: Path) -> None:
    path = write(given_study())
    run = given_run(tmp_path, steps=(), stage="stage1")
    assert "stage1-step<number>" in refusal(path)
    (run.parent / "checkpoints").rmdir()
    with pytest.raises(DataError, match="no folder of checkpoints"):
        load_study(path)


def given_study() -> dict[str, Any]:
    data = copy.deepcopy(DATA)
    data["run"] = "given"
    data["windows"] = {"first_step": 10, "every": 10}
    data["transfer"]["checkpoint"] = data["training"]["base_step"] = 20
    return data


def given_run(folder: Path, steps: tuple[int, ...], stage: str) -> Path:
    for step in steps:
        (folder / "runs" / "checkpoints" / f"{stage}-step{step}").mkdir(parents=True)
    (folder / "runs" / "checkpoints").mkdir(exist_ok=True)
    run = yaml.safe_load(shipped("runs")["tiny"].read_text())
    del run["corpus"], run["pretraining"]
    path = folder / "runs" / "given.yaml"
    path.write_text(yaml.safe_dump({**run, "data": "data", "checkpoints": "checkpoints"}))
    return path


def keys_of(data: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Paths of every key of the demo study that the user has to spell right."""
    if not isinstance(data, dict):
        return []
    here = [(*path, key) for key in data]
    return here + [deeper for key in data for deeper in keys_of(data[key], (*path, key))]


KEYS = keys_of(DATA)


@st.composite
def typos(draw: st.DrawFn) -> tuple[tuple[str, ...], str]:
    """A key of the demo study and the same key with one letter wrong, lost, added or swapped."""
    path = draw(st.sampled_from(KEYS))
    key = path[-1]
    at = draw(st.integers(0, len(key) - 1))
    letter = draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz_"))
    typo = draw(
        st.sampled_from(
            [
                key[:at] + letter + key[at + 1 :],
                key[:at] + letter + key[at:],
                key[:at] + key[at + 1 :],
                key[:at] + key[at : at + 2][::-1] + key[at + 2 :],
            ]
        )
    )
    return path, typo


@settings(max_examples=150, deadline=None)
@given(typos())
def test_any_typo_is_refused_and_the_right_key_named(
    tmp_path_factory: pytest.TempPathFactory, typo: tuple[tuple[str, ...], str]
) -> None:
    path, wrong = typo
    data = copy.deepcopy(DATA)
    section = data
    for key in path[:-1]:
        section = section[key]
    if wrong in section or not wrong:
        return
    section[wrong] = section.pop(path[-1])
    file = tmp_path_factory.getbasetemp() / "typo.yaml"
    file.write_text(yaml.safe_dump(data, sort_keys=False))
    text = refusal(file)
    # The nearest is named first; a key of two letters may be nearer to another one.
    assert re.search(rf"\b{path[-1]}\b", text)


def test_every_key_of_the_model_can_be_set() -> None:
    """What ``--set`` calls known is what the model knows."""
    data = load_study(DEMO).resolved()["study"]
    for path in keys_of(data):
        section: Any = data
        for key in path:
            section = section[key]
        if not isinstance(section, dict):
            study = load_study(DEMO, [f"{'.'.join(path)}={yaml.safe_dump(section)}"])
            assert isinstance(study, Study)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("4.0e-3", 4e-3),
        ("1_000", 1000),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("yes", "yes"),
        ("on", "on"),
        ("true", True),
        ("2024-01-01", "2024-01-01"),
        ("340:356", "340:356"),
        ("~", None),
        ("", None),
        ("'1'", "1"),
        ("-3", -3),
        ("e3", "e3"),
        ("[a, {b: 1}]", ["a", {"b": 1}]),
    ],
)
def test_plain_values_mean_what_a_researcher_means(text: str, value: Any) -> None:
    read = parse(text, "here")
    assert read == value
    assert type(read) is type(value)


def test_merge_keys_are_known(write: Any) -> None:
    read = parse("base: &b {x: 1, y: 2}\nmore: {<<: *b, y: 3}\n", "here")
    assert read["more"] == {"x": 1, "y": 3}


def test_every_section_refuses_unknown_keys() -> None:
    def sections(model: type[BaseModel]) -> list[type[BaseModel]]:
        inner = [field.annotation for field in model.model_fields.values()]
        models = [kind for kind in inner if isinstance(kind, type) and issubclass(kind, BaseModel)]
        return [model, *(deeper for kind in models for deeper in sections(kind))]

    for section in sections(StudyConfig):
        assert section.model_config["extra"] == "forbid"
        assert section.model_config["frozen"]
