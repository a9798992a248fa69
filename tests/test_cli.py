"""The command line: what it accepts, how it ends, what it prints where."""

import json
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import yaml
from safetensors.numpy import save_file

from curate.cli import app, main
from curate.shipped import shipped
from scoring.suite.registry import tasks
from windows.bounds import Bound, write_bounds
from windows.manifest import Manifest, describe_shard, write_manifest
from windows.permutation import shuffled
from windows.planted_documents import write_tokenizer

ROOT = Path(__file__).parents[1]
LENGTH, EOS, BATCH = 8, 1, 2
SIZES = {"ledger": 83, "almanac": 165}
SHARED = ["--set", "--out", "--dry-run", "--quiet", "--json", "--debug", "--help"]
STEPS = (0, 4, 8, 12)

OPTIONS = {
    "demo": ["--seed", *SHARED],
    "run": SHARED,
    "status": SHARED,
    "score": ["--metric", *SHARED],
    "label": SHARED,
    "transfer": SHARED,
    "export": ["--mixture", *SHARED],
    "train": ["--arm", "--seed", "--launcher", *SHARED],
    "verify": SHARED,
    "report": SHARED,
    "windows": ["--steps", "--prove", "--with", *SHARED],
    "what": ["--steps", "--sample", "--stratify", "--max-remote-bytes", *SHARED],
    "when": ["--instance", "--file", "--document", "--tokens", "--keep-inverse", *SHARED],
    "checkpoints": ["--from", "--step", "--audit", "--all-bytes", *SHARED],
    "null": ["--check", *SHARED],
    "attribute": ["--method", *SHARED],
    "replicate": ["--interest", *SHARED],
    "select": ["--scale", "--last", *SHARED],
    "predictors": SHARED,
    "suite": ["--export-lm-eval", "--split", *SHARED],
    "check": ["--quiet", "--json", "--debug", "--help"],
    "doctor": ["--out", "--quiet", "--json", "--debug", "--help"],
}


class Given:
    """A given run of 31 instances in two files, and a study of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data, self.checkpoints = root / "runs" / "data", root / "runs" / "checkpoints"
        self.study, self.run = root / "studies" / "study.yaml", root / "runs" / "given.yaml"
        self._write_data()
        for step in STEPS:
            folder = self.checkpoints / f"stage1-step{step}"
            folder.mkdir(parents=True)
            (folder / "config.json").write_text("{}")
            save_file({"weight": np.zeros(3, np.float32)}, folder / "model.safetensors")
        self._write_study()

    def _write_data(self) -> None:
        shards = []
        for number, (source, size) in enumerate(SIZES.items()):
            (self.data / source).mkdir(parents=True)
            tokens = (2 + np.arange(size) % 125).astype("<u4")
            tokens[4::5] = EOS
            tokens.tofile(self.data / source / "part.npy")
            bounds = [
                Bound(start, min(start + 5, size), f"{source}-{start // 5}", source, number, -1)
                for start in range(0, size, 5)
            ]
            write_bounds(self.data / source / "part.csv.gz", bounds)
            names = (f"{source}/part.npy", f"{source}/part.csv.gz")
            shards.append(describe_shard(self.data, *names))
        manifest = Manifest(
            vocab_size=127,
            eos_id=EOS,
            sequence_length=LENGTH,
            unit="document",
            shards=tuple(shards),
        )
        write_manifest(self.data, manifest)
        write_tokenizer(self.data)

    def _write_study(self) -> None:
        run = {
            "name": "given",
            "sequence_length": LENGTH,
            "seed": 7,
            "step_map": [{"first_step": 0, "first_batch": 0, "batch_tokens": BATCH * LENGTH}],
            "tokenizer": {"vocab_size": 127, "eos_id": EOS, "pad_id": 0},
            "data": "data",
            "checkpoints": "checkpoints",
        }
        self.run.write_text(yaml.safe_dump(run))
        study = yaml.safe_load(shipped("studies")["demo"].read_text())
        study |= {"name": "given", "run": "given", "windows": {"first_step": 0, "every": 4}}
        study["transfer"]["checkpoint"] = study["training"]["base_step"] = 4
        self.study.parent.mkdir()
        self.study.write_text(yaml.safe_dump(study, sort_keys=False))

    def files(self) -> dict[Path, int]:
        """Every file below the run's and the study's folder, and when it was last changed."""
        return {path: path.stat().st_mtime_ns for path in sorted(self.root.rglob("*"))}


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Given:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return Given(tmp_path)


def test_every_commands_options() -> None:
    """A change here is a change of what users' scripts may rely on."""
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    context = typer.Context(group)
    found = {
        name: [
            option.opts[0]
            for option in command.get_params(context)
            if option.opts[0].startswith("--")
        ]
        for name, command in group.commands.items()
    }
    assert found == OPTIONS


@pytest.mark.parametrize("command", ["", *OPTIONS])
def test_help_says_something(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"] if command else []) == 0
    assert "Usage: modehop" in capsys.readouterr().out


def test_it_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"modehop {project['version']}\n"


def test_no_help_imports_anything_heavy() -> None:
    code = f"""
import sys
from curate.cli import main
for command in {["", *OPTIONS]!r}:
    assert main([command, "--help"] if command else ["--help"]) == 0
heavy = "torch transformers datasets datatrove polars altair pyarrow scipy numpy".split()
sys.exit(", ".join(name for name in heavy if name in sys.modules) or 0)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_seed_of_a_command_is_a_setting(given: Given, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--seed", "-1"]) == 2
    assert "seed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["windows"], "Missing argument 'STUDY'. Try: modehop windows --help"),
        (["windows", "S", "--nonsense"], "No such option"),
        (["windows", "none.yaml"], "none.yaml: no such study file"),
        (["windows", "studies"], "studies: this is a folder, not a study file"),
        (["windows", "S", "--set", "seed=many"], '--set seed: expected an integer; got "many"'),
        (["windows", "S", "--set", "sede=3"], "did you mean 'seed'?"),
        (["windows", "S", "--set", "windows.end_step=16"], "within 0:12"),
        (["score", "S", "--set", "suite.tasks=[succesive/addition]"], "no task of that name"),
        (["score", "S", "--set", "windows.every=3"], "no checkpoint; got step 3"),
        (["what", "S", "--steps", "1-4"], "--steps: not a range"),
        (["what", "S", "--steps", "4:4"], "4:4"),
        (["what", "S", "--steps", "0:13"], "ended at step 12"),
        (["what", "S", "--steps", "0:4", "--sample", "-1"], "--sample"),
        (["when", "S"], "one question at a time"),
        (["when", "S", "--instance", "3", "--file", "0", "--document", "1"], "one question"),
        (["when", "S", "--instance", "31"], "choose from [0, 30)"),
        (["when", "S", "--file", "part.npy", "--document", "0"], "more than one token file"),
        (["when", "S", "--file", "x.npy", "--document", "0"], "no such token file"),
        (["when", "S", "--file", "2", "--document", "0"], "an index in [0, 2)"),
        (["when", "S", "--file", "0", "--document", "x"], "its place in [0, 17)"),
        (["train", "S", "--arm", "placebo", "--seed", "0", "--launcher", "slurm"], "slurm"),
        (["check", "none"], "none: no such folder"),
        (["check", "studies"], "studies: no artefact here"),
    ],
)
def test_bad_input_is_one_line_and_makes_nothing(
    given: Given, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    before = given.files()
    study = str(given.study)
    assert main([study if word == "S" else word for word in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("modehop: ")
    assert err.count("\n") == 1
    assert says in err
    assert given.files() == before


@pytest.mark.parametrize("command", ["windows", "score", "run", "status"])
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("token file", "ledger/part.npy: token file is cut short"),
        ("no token file", "ledger/part.npy: "),
        ("no manifest", "manifest.json: "),
        ("no weights", "checkpoint has no model.safetensors"),
        ("half the weights", "model.safetensors: checkpoint file is damaged or cut short"),
        ("no config", "checkpoint has no config.json"),
        ("no checkpoints", "no folder here is called stage1-step<number>"),
        ("manifest of another run", "tokenizer.vocab_size"),
        ("run too short", "checkpoint"),
    ],
)
def test_a_damaged_run_is_one_line_and_makes_nothing(
    given: Given, capsys: pytest.CaptureFixture[str], command: str, damage: str, says: str
) -> None:
    do_damage(given, damage)
    before = given.files()
    assert main([command, str(given.study)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("modehop: ")
    assert says in err
    assert given.files() == before


def do_damage(given: Given, damage: str) -> None:
    tokens = given.data / "ledger" / "part.npy"
    weights = given.checkpoints / "stage1-step8" / "model.safetensors"
    cut = {"token file": tokens, "half the weights": weights}
    gone = {
        "no token file": tokens,
        "no manifest": given.data / "manifest.json",
        "no weights": weights,
        "no config": weights.with_name("config.json"),
    }
    if damage in cut:
        cut[damage].write_bytes(cut[damage].read_bytes()[:-7])
    elif damage in gone:
        gone[damage].unlink()
    elif damage == "no checkpoints":
        given.checkpoints.rename(given.root / "elsewhere")
        given.checkpoints.mkdir()
    else:
        run = yaml.safe_load(given.run.read_text())
        if damage == "run too short":
            (given.checkpoints / "stage1-step12").rename(given.checkpoints / "stage1-step99")
        else:
            run["tokenizer"]["vocab_size"] = 128
        given.run.write_text(yaml.safe_dump(run))


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main([*arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    found = json.loads(out)
    assert isinstance(found, dict)
    return found


def read_order() -> np.ndarray[Any, Any]:
    """Instances as the run read them, from the order's definition."""
    return shuffled(30, 8).reshape(-1, BATCH)


def test_windows_tells_exactly_what_was_read(
    given: Given, capsys: pytest.CaptureFixture[str]
) -> None:
    found = ask(capsys, "windows", str(given.study))
    assert [row["name"] for row in found["windows"]] == ["stage1-0:4", "stage1-4:8", "stage1-8:12"]
    for row in found["windows"]:
        ids = read_order()[row["first_batch"] : row["end_batch"]].ravel()
        ledger = int((ids < SIZES["ledger"] // LENGTH).sum())
        assert row["sources"][0] == {
            "source": "ledger",
            "instances": ledger,
            "tokens": ledger * LENGTH,
        }
        assert row["instances"] == len(ids) == sum(s["instances"] for s in row["sources"])
        assert row["order"] == "not proved"


def test_what_samples_documents_of_the_batches(
    given: Given, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("what", str(given.study), "--steps", "4:8", "--sample", "5")
    found = ask(capsys, *arguments)
    read = read_order()[4:8].ravel().tolist()
    assert len(found["documents"]) == 5
    for document in found["documents"]:
        assert document["instance"] in read
        assert read.index(document["instance"]) // BATCH + 4 == document["batch"]
        assert document["text"].endswith("<eos>") != document["tail_cut"]
    assert ask(capsys, *arguments) == found
    everything = ask(capsys, *arguments[:-1], "100")
    assert sorted(d["instance"] for d in everything["documents"]) == sorted(read)


def test_when_inverts_what(given: Given, capsys: pytest.CaptureFixture[str]) -> None:
    order = read_order()
    for batch in (0, 11):
        for instance in order[batch]:
            found = ask(capsys, "when", str(given.study), "--instance", str(instance))
            assert found["readings"][0]["batch"] == batch
            assert found["readings"][0]["steps"] == [batch]
    late = ask(capsys, "when", str(given.study), "--instance", str(order[13, 0]))
    assert late["readings"][0]["steps"] == []
    assert "never read: the run ended at step 12" in late["readings"][0]["answer"]


def test_when_finds_every_instance_of_a_document(
    given: Given, capsys: pytest.CaptureFixture[str]
) -> None:
    study = str(given.study)
    first_of_almanac = SIZES["ledger"] // LENGTH
    for document in ("almanac-3", "3"):
        found = ask(capsys, "when", study, "--file", "almanac/part.npy", "--document", document)
        assert found["tokens"] == [15, 20]
        instances = [reading["instance"] for reading in found["readings"]]
        assert instances == [first_of_almanac + 1, first_of_almanac + 2]
    tail = ask(capsys, "when", study, "--file", "0", "--document", "ledger-16")
    assert tail["readings"] == []
    assert main(["when", study, "--file", "0", "--document", "ledger-16"]) == 0
    assert "never read" in capsys.readouterr().out


def test_the_unused_tail_is_said_plainly(given: Given, capsys: pytest.CaptureFixture[str]) -> None:
    run = yaml.safe_load(given.run.read_text())
    run["step_map"][0]["batch_tokens"] = 4 * LENGTH
    given.run.write_text(yaml.safe_dump(run))
    given.study.write_text(given.study.read_text().replace("every: 4", "every: 4\n  end_step: 4"))
    tail = int(shuffled(30, 8)[-1])
    found = ask(capsys, "when", str(given.study), "--instance", str(tail))
    assert found["readings"][0]["batch"] == -1
    assert "unused tail" in found["readings"][0]["answer"]


def test_suite_lists_all_tasks_or_a_studys(
    given: Given, capsys: pytest.CaptureFixture[str]
) -> None:
    everything = ask(capsys, "suite")
    assert [row["task"] for row in everything["tasks"]] == list(tasks())
    task = everything["tasks"][0]
    counts = task["items_of_a_demo_seed"]
    assert counts["label"] > 0 < counts["verify"]
    assert task["example"]["prompt"].endswith(" A")
    assert task["example"]["rivals"] == [task["example"]["parrot"]]
    control = everything["tasks"][2]["example"]
    assert (len(control["rivals"]), control["parrot"]) == (14, "")
    assert control["right"] not in control["rivals"]
    few = ask(
        capsys, "suite", str(given.study), "--set", "suite.tasks=[successive_answer/addition]"
    )
    assert [row["task"] for row in few["tasks"]] == ["successive_answer/addition"]
    assert main(["suite"]) == 0
    out = capsys.readouterr().out
    assert "normal_control/addition" in out and "multihop_persona_qa" in out


def test_a_reader_that_has_enough_is_no_failure(given: Given) -> None:
    program = "import sys; from curate.cli import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "suite"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    process.wait(timeout=60)
    assert process.stderr is not None
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()


def test_help_is_quick() -> None:
    """A generous bound; what is reached is measured by the benchmark."""
    code = "import sys; from curate.cli import main; sys.exit(main(['--help']))"
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert time.monotonic() - started < 5
