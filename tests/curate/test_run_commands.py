"""Questions about runs by themselves: released ones as shipped, and small ones on disk."""

import gzip
import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from curate.cli import main
from curate.window_commands import source_groups
from windows.mixes import MixSection, installed_mix, mix_files
from windows.order_cache import CACHE_VARIABLE
from windows.permutation import shuffled
from windows.planted_documents import write_tokenizer

LENGTH, EOS, BATCH = 8, 1, 4
SIZES = {"web": 331, "wiki": 89, "code": 165}


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main([*arguments, "--json", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main([*arguments, "--quiet"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    return err


# --- A released run, as shipped -----------------------------------------------------------------


@pytest.fixture
def sizes(tmp_path: Path) -> Path:
    """Made-up sizes of the 32B's mix: the sources' true proportions are not known here."""
    text = installed_mix("OLMo-mix-0925-official")
    assert text is not None
    section = MixSection(name="x", base="https://d.test", tokenizer="allenai/dolma3-tokenizer")
    rng = np.random.default_rng(0)
    lines = ["# made up for a test", "path,bytes"]
    for file in mix_files(section, text):
        lines.append(
            f"{file.path},{int(rng.integers(100, 1500)) * 32768 + 4 * int(rng.integers(999))}"
        )
    path = tmp_path / "sizes.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def order_of(sizes: Path) -> np.ndarray[Any, Any]:
    bytes_of = [int(line.split(",")[1]) for line in sizes.read_text().splitlines()[2:]]
    return shuffled(sum(size // 32768 for size in bytes_of), 34522)


def test_the_32b_tells_what_its_windows_held(
    capsys: pytest.CaptureFixture[str], sizes: Path
) -> None:
    arguments = ("windows", "olmo3-32b", "--set", f"mix.sizes={sizes.name}", "--steps", "0:400")
    found = ask(capsys, *arguments, "--set", "windows.every=100")
    ids = order_of(sizes)
    assert found["instances"] == len(ids)
    assert found["batches"] == len(ids) // 1024
    assert found["unread_instances"] == len(ids) % 1024
    assert found["sizes"].endswith("made up for a test")
    assert [row["name"] for row in found["windows"]] == [
        f"stage1-{step}:{step + 100}" for step in range(0, 400, 100)
    ]
    for row in found["windows"]:
        assert (row["order"], row["exact"]) == ("not proved", False)
        assert row["tokens"] == 100 * 8_388_608
        assert len(row["sources"]) == 65
        assert sum(share["instances"] for share in row["sources"]) == 100 * 1024
    assert any("226,000" in remark for remark in found["remarks"])
    assert any("without loss" in remark for remark in found["remarks"])


def test_the_hybrid_read_the_same_windows(capsys: pytest.CaptureFixture[str], sizes: Path) -> None:
    """Half the batch, the same order: its steps are twice as many."""
    own = yaml.safe_load((Path(__file__).parents[2] / "configs/runs/olmo3-32b.yaml").read_text())
    own["mix"]["sizes"] = str(sizes)
    own["step_map"] = [{"first_step": 0, "first_batch": 0, "batch_tokens": 8_388_608}]
    Path("big.yaml").write_text(yaml.safe_dump(own))
    other = yaml.safe_load(
        (Path(__file__).parents[2] / "configs/runs/olmo-hybrid-7b.yaml").read_text()
    )
    other["mix"]["sizes"] = str(sizes)
    Path("half.yaml").write_text(yaml.safe_dump(other))
    grid = ("--steps", "0:300", "--set", "windows.every=100")
    found = ask(capsys, "windows", "./big.yaml", *grid, "--with", "./half.yaml")
    name = other["name"]
    assert [row["pair"] for row in found["windows"]] == [
        f"{name} {2 * step}:{2 * step + 200}" for step in (0, 100, 200)
    ]
    back = ask(capsys, "windows", "./half.yaml", "--steps", "0:150", "--set", "windows.every=75")
    assert back["instances"] == found["instances"]
    back = ask(
        capsys,
        "windows",
        "./half.yaml",
        *("--steps", "0:150", "--set", "windows.every=75", "--with", "./big.yaml"),
    )
    assert [row["pair"] for row in back["windows"]] == [None, None]
    other["seed"] += 1
    Path("half.yaml").write_text(yaml.safe_dump(other))
    line = refused(capsys, "windows", "./big.yaml", *grid, "--with", "./half.yaml")
    assert "did not read the same order; got another shuffle" in line


def test_two_shipped_runs_need_their_files_sizes_once(
    capsys: pytest.CaptureFixture[str], sizes: Path
) -> None:
    grid = ("--steps", "0:400", "--set", "windows.every=200", "--set", f"mix.sizes={sizes.name}")
    found = ask(capsys, "windows", "olmo-hybrid-7b", *grid, "--with", "olmo3-32b")
    pairs = [row["pair"] for row in found["windows"]]
    # For the 32B, step and batch are not known to agree.
    assert pairs == [f"olmo3-32b {steps}, steps not exact" for steps in ("0:100", "100:200")]


def test_what_and_when_agree_on_the_32b(capsys: pytest.CaptureFixture[str], sizes: Path) -> None:
    given = ("olmo3-32b", "--set", f"mix.sizes={sizes.name}")
    what = ask(capsys, "what", *given, "--steps", "100:101")
    ids = order_of(sizes)[100 * 1024 : 101 * 1024]
    assert what["instances"] == 1024 == sum(each["instances"] for each in what["sources"])
    when = ask(capsys, "when", *given, "--instance", str(ids[17]))["readings"]
    assert [(each["batch"], each["steps"], each["step_map_exact"]) for each in when] == [
        (100, [100], False)
    ]
    assert "not known exactly" in when[0]["answer"]
    path = "wikipedia"
    share = {each["source"]: each["instances"] for each in what["sources"]}[path]
    assert share > 0
    dry = ask(capsys, "what", *given, "--steps", "100:101", "--sample", "50", "--dry-run")
    assert dry["cost"] == {
        "instances": 50,
        "requests": 50,
        "bytes": 50 * 32768,
        "cached": 0,
    }
    assert dry["ids_to_shuffle"] == 0
    unsized = ask(capsys, "windows", "olmo3-32b", "--dry-run")
    assert unsized["sizes_to_ask_for"] == 950
    line = refused(capsys, "what", *given, "--steps", "0:700000")
    assert "no window of run" in line or "ended at step" in line


def test_a_run_whose_order_is_unknown_tells_windows_only(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = ask(capsys, "windows", "apertus-70b")
    assert {row["order"] for row in found["windows"]} == {"not proved"}
    assert all("sources" not in row for row in found["windows"])
    for steps in ("3000000:3100000", "10:5", "0:0", "0:1000000000000"):
        assert "no window of run" in refused(capsys, "windows", "apertus-70b", "--steps", steps)
    changes = [row["name"] for row in found["windows"] if row["batch_size_changes"]]
    assert changes == ["stage1-500000:525000"]
    line = refused(capsys, "what", "apertus-70b", "--steps", "25000:50000")
    assert "order in which run apertus-70b read its data cannot be rebuilt" in line


def test_many_sources_are_shown_by_group() -> None:
    few = [f"s{i}" for i in range(8)]
    assert source_groups(few) == {name: name for name in few}
    many = [f"common_crawl_{word}" for word in ("games", "health", "history")]
    many += [f"stack-edu_{word}" for word in ("C", "Go", "Rust", "SQL")] + ["wikipedia", "arxiv"]
    shown = source_groups(many)
    assert list(dict.fromkeys(shown.values())) == [
        "common_crawl",
        "stack-edu",
        "wikipedia",
        "arxiv",
    ]
    assert shown["common_crawl_health"] == "common_crawl"


# --- A small run on disk -------------------------------------------------------------------------


class Small:
    """Three raw token files whose tokens tell their place, listed in a run file."""

    def __init__(self, root: Path) -> None:
        self.root, self.path = root, root / "small.yaml"
        start = 2
        for name, size in SIZES.items():
            tokens = (2 + np.arange(start, start + size) % 120).astype("<u4")
            tokens[6::7] = EOS
            tokens.tofile(root / f"{name}.npy")
            start += size
        write_tokenizer(root)
        self.write()

    def write(self, **change: Any) -> None:
        run = {
            "name": "small",
            "sequence_length": LENGTH,
            "seed": 7,
            "step_map": [{"first_step": 0, "first_batch": 0, "batch_tokens": BATCH * LENGTH}],
            "tokenizer": {"vocab_size": 127, "eos_id": EOS, "pad_id": 0},
            "windows": {"every": 5},
            "files": [
                {"source": name, "path": f"{name}.npy", "bytes": 4 * size}
                for name, size in SIZES.items()
            ],
        }
        self.path.write_text(yaml.safe_dump({**run, **change}))

    @property
    def instances(self) -> int:
        return sum(size // LENGTH for size in SIZES.values())


@pytest.fixture
def small(tmp_path: Path) -> Small:
    return Small(tmp_path)


def state(path: Path, **change: Any) -> None:
    """Write a trainer state in the form of torch.save, as OLMo-core's loader fills it."""
    loader = {
        "dataset_fingerprint_version": "v2.0",
        "dataset_fingerprint": "",
        "batches_processed": 0,
        "tokens_processed": 0,
        "seed": 7,
        "epoch": 1,
        "dataset_type": "fsl",
        "sequence_length": LENGTH,
        "max_target_sequence_length": None,
    }
    step = change.pop("step", change.get("batches_processed", 0))
    loader["tokens_processed"] = change.get("batches_processed", 0) * BATCH * LENGTH
    loader |= change
    whole = {"global_step": step, "data_loader": loader, "epoch": 1}
    whole |= {"global_train_tokens_seen": 0}
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("rank0/data.pkl", pickle.dumps(whole, protocol=2))
        archive.writestr("rank0/version", "3\n")


def test_windows_are_proved_by_trainer_states_at_both_ends(
    capsys: pytest.CaptureFixture[str], small: Small
) -> None:
    small.write(released={"trainer_state": "states/step{step}/train/rank0.pt"})
    fingerprint = ask(capsys, "windows", "./small.yaml")["fingerprint"]
    for step in (0, 5, 10):
        state(
            small.root / f"states/step{step}/train/rank0.pt",
            dataset_fingerprint=fingerprint,
            batches_processed=step,
        )
    found = ask(capsys, "windows", "./small.yaml")["windows"]
    assert [row["order"] for row in found[:3]] == ["proved", "proved", "not proved"]
    assert "no trainer state of the checkpoint at one end" in found[2]["why"]
    state(
        small.root / "states/step10/train/rank0.pt",
        dataset_fingerprint=fingerprint,
        batches_processed=9,
        step=10,
    )
    assert main(["windows", "./small.yaml", "--json", "--quiet"]) == 1
    out, err = capsys.readouterr()
    found = json.loads(out)["windows"]
    assert [row["order"] for row in found[:3]] == ["proved", "disproved", "disproved"]
    assert "batches processed: the checkpoint says 9, the rebuilt order has 10" in found[1]["why"]
    # The fingerprint covers no batch size: with batches twice as large, the tokens do not match.
    state(
        small.root / "states/step10/train/rank0.pt",
        dataset_fingerprint=fingerprint,
        batches_processed=10,
        tokens_processed=10 * BATCH * LENGTH * 2,
    )
    assert main(["windows", "./small.yaml", "--json", "--quiet"]) == 1
    found = json.loads(capsys.readouterr()[0])["windows"]
    assert "tokens processed" in found[1]["why"]
    state(
        small.root / "states/step10/train/rank0.pt",
        dataset_fingerprint=fingerprint,
        batches_processed=9,
        step=10,
    )
    assert main(["windows", "./small.yaml", "--quiet"]) == 1
    _, err = capsys.readouterr()
    assert "other instances were read in stage1-5:10, stage1-10:15" in err


def test_another_version_of_the_fingerprint_proves_nothing(
    capsys: pytest.CaptureFixture[str], small: Small
) -> None:
    small.write(released={"trainer_state": "{step}.pt"})
    for step in (0, 5):
        state(small.root / f"{step}.pt", dataset_fingerprint_version="v1.1")
    found = ask(capsys, "windows", "./small.yaml", "--steps", "0:5")["windows"][0]
    assert (found["order"], found["why"][-4:]) == ("not proved", "v2.0")


def test_a_window_that_is_not_exact_is_never_proved(
    capsys: pytest.CaptureFixture[str], small: Small
) -> None:
    maps = [
        {"first_step": 0, "first_batch": 0, "batch_tokens": BATCH * LENGTH},
        {"first_step": 7, "first_batch": 4, "batch_tokens": BATCH * LENGTH, "exact": False},
    ]
    small.write(
        step_map=maps,
        released={"trainer_state": "states/{step}.pt"},
        remarks=[{"says": "Restarted here.", "first_step": 7, "end_step": 8}],
    )
    found = ask(capsys, "windows", "./small.yaml", "--steps", "0:15")
    fingerprint = found["fingerprint"]
    for step, batch in ((0, 0), (5, 5), (10, 7), (15, 12)):
        state(
            small.root / f"states/{step}.pt",
            dataset_fingerprint=fingerprint,
            batches_processed=batch,
            step=step,
        )
    found = ask(capsys, "windows", "./small.yaml", "--steps", "0:15")
    rows = found["windows"]
    # Windows tile the steps, cut where the map jumps.
    assert [row["name"] for row in rows] == [
        "stage1-0:5", "stage1-5:7", "stage1-7:10", "stage1-10:15",
    ]  # fmt: skip
    assert [(row["first_batch"], row["end_batch"]) for row in rows] == [
        (0, 5), (5, 7), (4, 7), (7, 12),
    ]  # fmt: skip
    assert [row["order"] for row in rows] == ["proved", "not proved", "not proved", "not proved"]
    assert [row["seam"] for row in rows] == [[], [7], [7], []]
    assert [row["remarks"] for row in rows] == [[], [], [1], []]
    assert any(line.startswith("seam: at step 7 ") for line in found["remarks"])


def test_states_speak_even_where_steps_are_not_exact(
    capsys: pytest.CaptureFixture[str], small: Small
) -> None:
    maps = [
        {"first_step": 0, "first_batch": 0, "batch_tokens": BATCH * LENGTH, "exact": False},
    ]
    small.write(step_map=maps, released={"trainer_state": "{step}.pt"})
    fingerprint = ask(capsys, "windows", "./small.yaml")["fingerprint"]
    for step, batch in ((0, 0), (5, 4)):
        state(
            small.root / f"{step}.pt",
            dataset_fingerprint=fingerprint,
            batches_processed=batch,
            step=step,
        )
    (row,) = ask(capsys, "windows", "./small.yaml", "--steps", "0:5")["windows"]
    assert (row["order"], row["why"].endswith("say batch 0 at step 0 and 4 at step 5")) == (
        "not proved", True,
    )  # fmt: skip
    state(small.root / "5.pt", dataset_fingerprint=fingerprint, seed=8, step=5)
    assert main(["windows", "./small.yaml", "--steps", "0:5", "--quiet"]) == 1
    assert "other instances were read" in capsys.readouterr().err


def test_a_pair_does_not_span_the_other_runs_jumps(
    capsys: pytest.CaptureFixture[str], small: Small
) -> None:
    ours = yaml.safe_load(small.path.read_text())
    maps = [
        {"first_step": 0, "first_batch": 0, "batch_tokens": BATCH * LENGTH},
        {"first_step": 4, "first_batch": 2, "batch_tokens": BATCH * LENGTH},
    ]
    Path("other.yaml").write_text(yaml.safe_dump({**ours, "name": "other", "step_map": maps}))
    pairs = ask(
        capsys, "windows", "./small.yaml", "--set", "windows.every=1", "--with", "./other.yaml"
    )
    # Batches 2 and 3 were read twice, at steps 2 and 3 and again at 4 and 5.
    assert [row["pair"] for row in pairs["windows"][:5]] == [
        "other 0:1", "other 1:2", "other 2:3 and 4:5", "other 3:4 and 5:6", "other 6:7",
    ]  # fmt: skip
    wide = ask(
        capsys, "windows", "./small.yaml", "--set", "windows.every=6", "--with", "./other.yaml"
    )
    assert wide["windows"][0]["pair"] is None
    renamed = [{**file, "path": f"./{file['path']}x"} for file in ours["files"]]
    for name in SIZES:
        (small.root / f"{name}.npyx").write_bytes((small.root / f"{name}.npy").read_bytes())
    Path("other.yaml").write_text(yaml.safe_dump({**ours, "files": renamed}))
    line = refused(capsys, "windows", "./small.yaml", "--with", "./other.yaml")
    assert "another list of files" in line


def test_bounds_with_gaps_leave_the_rest_to_eos(
    capsys: pytest.CaptureFixture[str], small: Small
) -> None:
    for name, size in SIZES.items():
        lines = "".join(f"{i},{i + 9},{name}-{i},src\n" for i in range(0, size // 2, 20))
        (small.root / f"{name}.csv.gz").write_bytes(gzip.compress(lines.encode()))
    found = ask(capsys, "what", "./small.yaml", "--steps", "0:18", "--sample", "72")["documents"]
    named = [each for each in found if each["document"]]
    assert 0 < len(named) < len(found)
    for each in named:
        start = int(each["document"].split("-")[1])
        assert start <= each["first_token"] < start + 9


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["when", "--instance", "99999999999999999999"],
            "no such instance; got 99999999999999999999",
        ),
        (["when", "--file", "web.npy", "--tokens", "5:5"], "no tokens of a file of 331; got 5:5"),
        (
            ["what", "--steps", "0:5", "--sample", "1", "--stratify"],
            "--sample: too few to see every",
        ),
        (["windows", "--with", "demo"], "run tiny is made here"),
        (["windows", "--with", "tiny"], "name a study of it"),
    ],
)
def test_questions_that_make_no_sense(
    capsys: pytest.CaptureFixture[str], small: Small, arguments: list[str], says: str
) -> None:
    assert says in refused(capsys, arguments[0], "./small.yaml", *arguments[1:])


def test_documents_are_those_of_the_files(capsys: pytest.CaptureFixture[str], small: Small) -> None:
    small.write(repetition_filter={"min_period": 1, "max_period": 3, "max_count": 3})
    found = ask(capsys, "what", "./small.yaml", "--steps", "5:15", "--sample", "12")
    again = ask(capsys, "what", "./small.yaml", "--steps", "5:15", "--sample", "20")
    read = shuffled(small.instances, 8)[5 * BATCH : 15 * BATCH]
    assert found["documents"] == [
        {**each, "weight": len(read) / 12} for each in again["documents"][:12]
    ]
    for each in again["documents"]:
        assert each["instance"] in read[(each["batch"] - 5) * BATCH :][:BATCH]
        tokens = np.fromfile(each["path"], "<u4")[each["first_token"] :]
        tokens = tokens[: each["end"] - each["start"]]
        assert (tokens[:-1] != EOS).all()
        assert (tokens[-1] == EOS) is np.True_ or each["tail_cut"]
        assert each["masked"] is False
    assert found["sha256"] != again["sha256"]


def test_a_stratified_sample_sees_every_source(
    capsys: pytest.CaptureFixture[str], small: Small
) -> None:
    found = ask(capsys, "what", "./small.yaml", "--steps", "0:15", "--sample", "6", "--stratify")
    weights = {
        source: sum(each["weight"] for each in found["documents"] if each["source"] == source)
        for source in SIZES
    }
    read = {each["source"]: each["instances"] for each in found["sources"]}
    assert weights == pytest.approx(read)


def test_a_file_that_is_listed_twice_was_read_twice(
    capsys: pytest.CaptureFixture[str], small: Small
) -> None:
    files = yaml.safe_load(small.path.read_text())["files"]
    small.write(files=[*files, files[0]])
    found = ask(capsys, "when", "./small.yaml", "--file", "web.npy", "--tokens", "0:8")
    once = small.instances
    assert [each["instance"] for each in found["readings"]] == [0, once]


def test_when_answers_for_tokens_of_a_file(
    capsys: pytest.CaptureFixture[str], small: Small
) -> None:
    found = ask(capsys, "when", "./small.yaml", "--file", "wiki.npy", "--tokens", "7:17")
    first = SIZES["web"] // LENGTH
    assert [each["instance"] for each in found["readings"]] == [first, first + 1, first + 2]
    order = shuffled(small.instances, 8).tolist()
    for each in found["readings"]:
        assert each["batch"] == order.index(each["instance"]) // BATCH
    line = refused(capsys, "when", "./small.yaml", "--file", "wiki.npy", "--document", "3")
    assert "it has no bounds" in line and "--tokens A:B" in line


def test_preshuffled_parts_are_read_from_front_to_back(
    capsys: pytest.CaptureFixture[str], small: Small
) -> None:
    small.write(loader="preshuffled", overlap=1)
    found = ask(capsys, "what", "./small.yaml", "--steps", "9:11", "--sample", "8")
    stream = np.concatenate([np.fromfile(small.root / f"{name}.npy", "<u4") for name in SIZES])
    assert sorted(each["instance"] for each in found["documents"]) == list(range(36, 44))
    assert found["tokens"] == 8 * (LENGTH - 1)
    for each in found["documents"]:
        place = each["instance"] * LENGTH + each["start"]
        tokens = stream[place : place + each["end"] - each["start"]]
        assert (tokens[:-1] != EOS).all()
    shown = ask(capsys, "windows", "./small.yaml")
    assert shown["fingerprint"] is None


def test_a_source_mixture_reads_the_heads_of_its_files(
    capsys: pytest.CaptureFixture[str], small: Small, tmp_path: Path
) -> None:
    from olmo_core.data import NumpyFSLDatasetConfig, TokenizerConfig
    from olmo_core.data.source_mixture import (
        SourceMixtureConfig,
        SourceMixtureDatasetConfig,
        SourceMixtureList,
    )

    ratios = {"web": 0.5, "wiki": 0.2, "code": 0.3}
    sources = [
        {"source_name": name, "target_ratio": ratio, "paths": [f"{name}.npy"]}
        for name, ratio in ratios.items()
    ]
    small.write(
        files=[],
        dataset_class="NumpyFSLDatasetMixture",
        source_mixture={"sources": sources, "requested_tokens": 300},
    )
    found = ask(capsys, "windows", "./small.yaml")
    theirs = NumpyFSLDatasetConfig(
        source_mixture_config=SourceMixtureDatasetConfig(
            source_list=SourceMixtureList(
                sources=[
                    SourceMixtureConfig(
                        source_name=name, target_ratio=ratio, paths=[str(tmp_path / f"{name}.npy")]
                    )
                    for name, ratio in ratios.items()
                ]
            ),
            requested_tokens=300,
            global_batch_size=BATCH * LENGTH,
            render_tables=False,
        ),
        sequence_length=LENGTH,
        tokenizer=TokenizerConfig(vocab_size=127, eos_token_id=EOS, pad_token_id=0),
        dtype="uint32",
        work_dir=str(tmp_path / "work"),
    ).build()
    theirs.prepare()
    capsys.readouterr()
    assert found["instances"] == len(theirs)
    assert found["fingerprint"] == theirs.fingerprint
    read = ask(capsys, "what", "./small.yaml", "--steps", "0:5", "--sample", "20")["documents"]
    for each in read:
        row = theirs[each["instance"]]["input_ids"].tolist()
        tokens = np.fromfile(each["path"], "<u4")[each["first_token"] :]
        assert tokens[: each["end"] - each["start"]].tolist() == row[each["start"] : each["end"]]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"windows": None}, "at which steps its checkpoints lie"),
        ({"files": []}, "either corpus and pretraining, or data, files, mix"),
        ({"dataset_class": "NumpyPackedFSLDataset"}, "NumpyPackedFSLDataset"),
        ({"released": {"trainer_state": "rank0.pt"}}, "must have {step}"),
    ],
)
def test_run_files_that_cannot_be_asked(
    capsys: pytest.CaptureFixture[str], small: Small, change: dict[str, Any], says: str
) -> None:
    small.write(**change)
    run = yaml.safe_load(small.path.read_text())
    small.path.write_text(yaml.safe_dump({k: v for k, v in run.items() if v is not None}))
    assert says in refused(capsys, "windows", "./small.yaml")


def test_a_run_that_a_study_makes_is_asked_about_by_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "name a study of it" in refused(capsys, "windows", "tiny")


def test_a_numpy_header_is_named(capsys: pytest.CaptureFixture[str], small: Small) -> None:
    with io.BytesIO() as buffer:
        np.save(buffer, np.zeros(SIZES["web"] - 32, "<u4"))
        (small.root / "web.npy").write_bytes(buffer.getvalue())
    line = refused(capsys, "what", "./small.yaml", "--steps", "0:5", "--sample", "3")
    assert "as numpy.save writes it" in line
