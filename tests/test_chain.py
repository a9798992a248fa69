"""The whole chain, end to end, as a user runs it; and everything it refuses."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from curate.chain import Chain
from curate.cli import main
from curate.study import load_study
from windows.progress import Reporter
from windows.store import LOGS, RECORD, Store

pytestmark = pytest.mark.slow

ARMS = ("control-pattern", "control-generalization", "uncontrolled", "placebo")
MAKING = ("run", "score", "label", "transfer", "verify", "report", "windows")


def payload(out: Path) -> dict[str, bytes]:
    """Return every hashed byte of a study's artefacts, and their records."""
    files = (path for path in out.glob("*/*/**/*") if path.is_file())
    return {str(path): path.read_bytes() for path in files if LOGS not in path.parts}


def changed(out: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}


def asked(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, object]:
    code = main([*map(str, arguments), "--json"])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return dict(json.loads(out))


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    code = main([*map(str, arguments)])
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("modehop: ")
    assert "internal fault" not in err
    return str(err)


def test_summary(whole: Path) -> None:
    summary = json.loads((whole / "summary.json").read_text())
    assert {"windows", "labels", "transfer_check", "arms", "verdict", "wall_seconds"} <= set(
        summary
    )
    assert len(summary["windows"]) == 8
    assert {"window", "task", "label", "strength", "lo", "hi"} <= set(summary["labels"][0])
    check = summary["transfer_check"]
    assert {"verdict", "rho", "lo", "hi", "p", "windows", "shuffles"} <= set(check)
    assert (check["windows"], check["shuffles"]) == (8, 2)
    assert check["verdict"] in ("transferable", "not-transferable", "underpowered")
    assert set(summary["arms"]) == set(ARMS)
    wanted = {"mean_soft", "lo", "hi", "within_sd", "switches", "control", "loss"}
    assert all(wanted <= set(arm) for arm in summary["arms"].values())
    assert summary["verdict"]["sentences"]
    if check["verdict"] != "transferable":
        assert summary["verdict"]["name"] in ("labels-do-not-transfer", "underpowered")
    assert summary["wall_seconds"] > 0


def test_report_stands_alone(whole: Path) -> None:
    page = (whole / "report.html").read_text()
    assert page.startswith("<!doctype html>") or page.startswith("<!DOCTYPE html>")
    assert all(name in page for name in (*ARMS, "stage1-24:28", "stage1-52:56"))
    assert not any(text in page for text in ("http://", "https://", 'src="', "@import")), "fetches"


def test_every_artefact_is_whole(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = asked(capsys, "check", whole)
    assert len(found["artefacts"]) == len(Store(whole).list()) > 20
    assert all(each["faults"] == [] for each in found["artefacts"])


def test_status_says_done(small, whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = asked(capsys, "status", small.path, "--out", whole)
    assert status["done"] == status["of"] == len(Store(whole).list())


def test_truth_has_no_readers_but_the_report(whole: Path) -> None:
    records = [json.loads(path.read_text()) for path in whole.glob(f"*/*/{RECORD}")]
    readers = {r["kind"] for r in records if "truth" in {p["kind"] for p in r["parents"]}}
    assert readers == {"report"}


def test_again_reuses_all(small, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    before = changed(out)
    small.make(out)
    after = changed(out)
    top = {str(out / name) for name in ("report.html", "summary.json", ".lock", ".lock-holder")}
    assert {path for path in after if before.get(path) != after[path]} <= top
    assert payload(out).keys() == {str(out / Path(p).relative_to(whole)) for p in payload(whole)}
    assert (out / "report.html").read_bytes() == (whole / "report.html").read_bytes()


@pytest.mark.parametrize("workers", [0, 1])
def test_workers_and_folders_change_no_byte(
    small, whole: Path, tmp_path: Path, workers: int
) -> None:
    small.make(tmp_path / "elsewhere", "--set", f"workers={workers}")
    assert small.sums(tmp_path / "elsewhere") == small.sums(whole)
    assert small.leftovers(tmp_path / "elsewhere") == []


@pytest.fixture
def scored(whole: Path, tmp_path: Path) -> Path:
    """A study's folder that holds its run and the run's scores."""
    out = tmp_path / "out"
    for made in ("corpus/*", "run/*", "scores/run-*"):
        (path,) = whole.glob(made)
        shutil.copytree(path, out / path.relative_to(whole))
    return out


def test_one_arm_makes_just_what_it_needs(small, whole: Path, scored: Path) -> None:
    ended = small.end(
        "train", small.path, "--arm", "placebo", "--seed", "1", "--out", scored, "--quiet", "--json"
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    made = small.sums(scored)
    kinds = ["arm", "corpus", "labels", "prompts", "run", "scores", "shards"]
    assert [name.split("/")[0] for name in made] == kinds
    assert {name: text for name, text in small.sums(whole).items() if name in made} == made
    told = json.loads(ended.stdout)
    assert (told["arm"], told["seed"], told["steps"]) == ("placebo", 1, 8)


def test_report_needs_labels_alone(small, scored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = asked(capsys, "report", small.path, "--out", scored, "--quiet")
    assert {path.name for path in scored.iterdir() if path.is_dir()} == {
        *("corpus", "run", "scores", "labels", "truth", "report")
    }
    assert summary["labels"] and summary["transfer_check"] is summary["verdict"] is None
    assert main(["transfer", str(small.path), "--out", str(scored), "--quiet", "--json"]) in (0, 1)
    assert json.loads(capsys.readouterr().out)["windows"] == 8
    again = asked(capsys, "report", small.path, "--out", scored, "--quiet")
    assert again["transfer_check"]["windows"] == 8


def test_dry_run_makes_nothing(small, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    more = {"train": ["--arm", "placebo", "--seed", "0"], "export": ["--mixture", "placebo"]}
    for command in (*MAKING, "train", "export"):
        told = asked(capsys, command, small.path, "--out", out, "--dry-run", *more.get(command, []))
        assert told["steps"]
        assert not any(step["done"] for step in told["steps"])
    assert list(tmp_path.iterdir()) == []


RUN = ("corpus", "pretrain", "truth")
JUDGED = (*RUN, "scores", "labels", "replay", "prompts")
KEPT = {
    "seed=1": (),
    "windows.every=8": (*RUN, "prompts"),
    "suite.demo_seeds=5": RUN,
    "labels.alpha=0.3": (*RUN, "scores", "replay", "prompts"),
    "transfer.threshold=0.4": (*JUDGED, "shards", "arm", "arm_scores"),
    "training.every=2": (*JUDGED, "transfer", "shards"),
    "name=other": (*JUDGED, "transfer", "shards", "arm"),
    "verdict.alpha=0.1": (*JUDGED, "transfer", "shards", "arm", "arm_scores"),
    "workers=7": (*JUDGED, "transfer", "shards", "arm", "arm_scores", "verdict", "report"),
}


@pytest.mark.parametrize("setting", KEPT)
def test_what_a_setting_leaves_standing(
    small, whole: Path, capsys: pytest.CaptureFixture[str], setting: str
) -> None:
    """Nothing is taken for what it is not, and nothing is made again that need not be."""
    status = asked(capsys, "status", small.path, "--out", whole, "--set", setting)
    own = {"corpus", "truth", "replay", "prompts", "shards", "arm", "transfer"}
    named = [
        (step["kind"] if step["kind"] in own else step["name"], step["done"])
        for step in status["steps"]
    ]
    kept, anew = ({name for name, done in named if done is state} for state in (True, False))
    assert kept - anew == kept == set(KEPT[setting])


class GivenRun:
    """The small study's run, given as files: a folder of data, a folder of checkpoints."""

    def __init__(self, root: Path, small, whole: Path) -> None:
        self.root, self.out = root, root / "out"
        self.data, self.checkpoints = root / "runs" / "data", root / "runs" / "checkpoints"
        (made,) = whole.glob("run/*")
        (corpus,) = whole.glob("corpus/*")
        shutil.copytree(corpus, self.data)
        shutil.copytree(made / "checkpoints", self.checkpoints)
        run = yaml.safe_load(small.run_path.read_text())
        base = run["pretraining"]["phases"][-1]["lr"]
        del run["corpus"], run["pretraining"]
        run |= {"data": "data", "checkpoints": "checkpoints"}
        (root / "runs" / "small.yaml").write_text(yaml.safe_dump(run))
        study = yaml.safe_load(small.path.read_text())
        study["training"]["lr"] = base
        self.path = root / "studies" / "small.yaml"
        self.path.parent.mkdir()
        self.path.write_text(yaml.safe_dump(study))

    def enlarge(self, batch_tokens: int, *, tokens: int) -> None:
        """Change the batch size, and the mixtures' budget with it."""
        entry = {"first_step": 0, "first_batch": 0, "batch_tokens": batch_tokens}
        self.rewrite(step_map=[entry])
        self.path.write_text(self.path.read_text().replace("tokens: 8192", f"tokens: {tokens}"))

    def rewrite(self, **changes: object) -> None:
        """Change keys of the run file."""
        path = self.root / "runs" / "small.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


@pytest.fixture
def given(tmp_path: Path, small, whole: Path) -> GivenRun:
    return GivenRun(tmp_path / "given", small, whole)


def test_a_given_run_goes_the_same_way(small, whole: Path, given: GivenRun) -> None:
    ended = small.end("run", given.path, "--out", given.out, "--quiet", "--json")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert small.faults(given.out) == small.leftovers(given.out) == []
    ours, theirs = artefacts(given.out), artefacts(whole)
    assert set(theirs) - set(ours) == {("corpus", "small"), ("run", "small"), ("truth", "small")}
    assert set(ours) - set(theirs) == {("data", "small"), ("checkpoints", "small")}
    same = {
        "labels": ["labels.parquet", "series.parquet"],
        "shards": ["part-00000.npy", "instances.parquet", "mixture.json"],
        "transfer": ["transfer.json", "effects.parquet"],
        "arm": ["checkpoints/stage1-step48/model.safetensors", "heldout.json"],
        "verdict": ["verdict.json", "curves.parquet"],
    }
    for key in set(ours) & set(theirs):
        for name in same.get(key[0], []):
            assert (ours[key] / name).read_bytes() == (theirs[key] / name).read_bytes(), (key, name)


def artefacts(out: Path) -> dict[tuple[str, str], Path]:
    return {(each.kind, each.label): each.path for each in Store(out).list()}


def test_what_a_given_run_is_bears_its_identity(given: GivenRun) -> None:
    """Each of these would else leave standing what was made of the run as it was before."""

    def content() -> tuple[str, str]:
        chain = Chain(load_study(given.path), given.out, reporter=Reporter(quiet=True))
        return chain.corpus().content, chain.pretrain().content

    known = [content()]
    given.rewrite(seed=1)
    known.append(content())
    given.rewrite(name="renamed/run")
    known.append(content())
    one, other = (given.checkpoints / f"stage1-step{step}" for step in (40, 44))
    for name in ("optimizer.safetensors", "tokenizer_config.json", "config.json"):
        text = (other / name).read_bytes()
        (one / name).write_bytes(text + b"\n" if name.endswith("json") else text)
        known.append(content())
    assert len(set(known)) == len(known)
    (one / ".cache").mkdir()
    (one / ".cache" / "note").write_text("no part of the checkpoint")
    assert content() == known[-1]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def forbid(path: Path) -> None:
    path.chmod(0)


BAD_GIVEN: dict[str, tuple[Callable[[GivenRun], object], str]] = {
    "a token file cut short": (
        lambda run: cut(next(run.data.rglob("*.npy"))),
        "token file is cut short",
    ),
    "a token file of part of a token": (
        lambda run: next(run.data.rglob("*.npy")).write_bytes(b"123"),
        "token file is cut short",
    ),
    "a token file gone": (lambda run: next(run.data.rglob("*.npy")).unlink(), "cannot be read"),
    "no weights": (
        lambda run: (run.checkpoints / "stage1-step44" / "model.safetensors").unlink(),
        "checkpoint has no model.safetensors",
    ),
    "weights cut short": (
        lambda run: cut(run.checkpoints / "stage1-step24" / "model.safetensors"),
        "damaged or cut short",
    ),
    "a checkpoint gone": (
        lambda run: shutil.rmtree(run.checkpoints / "stage1-step44"),
        "no checkpoint",
    ),
    "no optimizer state": (
        lambda run: (run.checkpoints / "stage1-step40" / "optimizer.safetensors").unlink(),
        "has no optimizer.safetensors",
    ),
    "no learning rate": (
        lambda run: run.path.write_text(run.path.read_text().replace("lr: 0.005", "lr: null")),
        "training.lr",
    ),
    "nothing held out": (lambda run: run.enlarge(1088, tokens=8704), "hold out"),
}


@pytest.mark.parametrize("fault", BAD_GIVEN)
def test_a_bad_run_is_refused_before_anything_is_made(
    given: GivenRun, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    break_it, says = BAD_GIVEN[fault]
    break_it(given)
    before = changed(given.root)
    assert says in refused(capsys, "run", given.path, "--out", given.out)
    assert changed(given.root) == before
    assert not given.out.exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "none.yaml"], "none.yaml: no such study file"),
        (["run", "S", "--set", "workers=many"], "workers"),
        (["run", "S", "--set", "suite.tasks=[persona/addition]"], "no task of that name"),
        (["run", "S", "--set", "windows.end_step=60"], "within 24:56"),
        (["run", "S", "--set", "windows.every=5"], "no checkpoint"),
        (["run", "S", "--set", "training.base_step=41"], "no window begins or ends here"),
        (["run", "S", "--set", "suite.demo_seeds=5000"], "fewer demo seeds"),
        (["run", "S", "--set", "suite.tasks=[successive_answer/addition]"], "normal control"),
        (["run", "S", "--set", "training.steps=16"], "mixtures.control-pattern.tokens"),
        (["run", "S", "--set", "mixtures.placebo.tokens=8193"], "use 8192 or 8256"),
        (["run", "S", "--set", "mixtures.placebo.select.windows=9"], "ask for at most 8"),
        (["train", "S", "--arm", "placbo", "--seed", "0"], "placebo"),
        (["train", "S", "--arm", "placebo", "--seed", "2"], "use 0 to 1"),
        (["export", "S", "--mixture", "none"], "no mixture of that name"),
    ],
)
def test_a_bad_study_is_refused_before_anything_is_made(
    small, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    arguments = [str(small.path) if word == "S" else word for word in arguments]
    assert says in refused(capsys, *arguments, "--out", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text, says in (("name: [", "YAML"), ("- 1\n", "study"), ("name: 3\n", "name"), ("", "")):
        (tmp_path / "study.yaml").write_text(text)
        line = refused(capsys, "run", tmp_path / "study.yaml", "--out", tmp_path / "out")
        assert f"{tmp_path / 'study.yaml'}" in line
        assert says in line
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]


def test_no_permission(small, tmp_path: Path) -> None:
    """Root may write anywhere, but not below a file or on a file system that takes nothing."""
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file" / "out", Path("/proc/modehop-out")):
        assert str(out.parent) in small.refused("run", small.path, "--out", out)
    if os.geteuid() != 0:
        (tmp_path / "closed").mkdir(mode=0o500)
        line = small.refused("run", small.path, "--out", tmp_path / "closed" / "out")
        assert "Permission denied" in line
    assert {path.name for path in tmp_path.iterdir()} <= {"file", "closed"}
