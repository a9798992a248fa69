import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import Olmo3Config, Olmo3ForCausalLM, PreTrainedTokenizerFast

from scoring import loading as module
from scoring.items import ITEMS, items_path, read_items
from scoring.loading import Compute
from scoring.suite.registry import blocks, tasks
from scoring.sweep import SweepRequest, Where, load_model, score_blocks, score_model, sweep
from windows.checkpoints.folder import Checkpoint, catalog
from windows.errors import ConfigError, DataError
from windows.progress import Reporter
from windows.workers import WorkerPool

WORDS = [
    *("<pad>", "<eos>", "Q", "A", "\n", "+", "-", "max", "item", "."),
    *map(str, range(21)),
    *(f"w{i}" for i in range(96)),
]
# The tiny tokenizer of these tests knows the world of small sums only.
TASKS = tuple(key for key in tasks() if key.endswith("/addition"))
REQUEST = SweepRequest(TASKS, "label", 2)
WHERE = Where("tiny", "stage1", 16)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def toy_tokenizer() -> Any:
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    return PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="<eos>", pad_token="<pad>", unk_token=None
    )


def toy_model(seed: int) -> Any:
    torch.manual_seed(seed)
    config = Olmo3Config(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        tie_word_embeddings=True,
        layer_types=["full_attention"] * 2,
        max_position_embeddings=64,
        initializer_range=0.3,
        pad_token_id=0,
        eos_token_id=1,
    )
    return Olmo3ForCausalLM(config).eval()


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[Checkpoint]:
    folder = tmp_path_factory.mktemp("checkpoints")
    for step in (0, 16, 32):
        path = folder / f"stage1-step{step}"
        toy_model(step).save_pretrained(path)
        toy_tokenizer().save_pretrained(path)
    return catalog(folder, "study/arm/0")


@pytest.fixture(scope="module")
def swept(checkpoints: list[Checkpoint], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("swept")
    run_sweep(checkpoints, out)
    return out


def run_sweep(
    checkpoints: list[Checkpoint], out: Path, request: SweepRequest = REQUEST, workers: int = 0
) -> None:
    with WorkerPool(workers) as pool:
        sweep(checkpoints, request, out, pool, Reporter(quiet=True))


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The real load_model, counted."""
    seen: list[str] = []
    real: Callable[..., tuple[Any, Any]] = load_model

    def counted(path: Path, **how: Any) -> tuple[Any, Any]:
        seen.append(path.name)
        return real(path, **how)

    monkeypatch.setattr(module, "load_model", counted)
    return seen


def parts(task: str, demo_seeds: int = 3) -> list[Any]:
    return blocks(task, split="verify", demo_seeds=demo_seeds)


@torch.no_grad()
def row(model: Any, tokenizer: Any, prompt: str, answer: str) -> np.ndarray:
    ids = tokenizer(prompt + answer)["input_ids"]
    start = len(tokenizer(prompt)["input_ids"])
    logprobs = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0], dim=-1)
    return np.array([float(logprobs[i - 1, ids[i]]) for i in range(start, len(ids))])


@pytest.mark.parametrize("task", TASKS)
def test_table_against_plain_rows(task: str) -> None:
    model, tokenizer = toy_model(7), toy_tokenizer()
    made = parts(task)
    table = score_blocks(model, tokenizer, made, WHERE)
    assert table.schema.equals(ITEMS)
    rows = table.to_pylist()
    asked = [(block, item) for block in made for item in block.items]
    assert len(rows) == len(asked)
    for index in range(0, len(rows), 7):
        (block, item), got = asked[index], rows[index]
        prompt = block.prefix + item.prompt
        right = row(model, tokenizer, prompt, item.right)
        rivals = [row(model, tokenizer, prompt, rival) for rival in item.rivals]
        parrot = max(rivals, key=lambda tokens: tokens.sum())
        assert got["lp_right"] == pytest.approx(right.sum(), abs=1e-4)
        assert got["lp_parrot"] == pytest.approx(parrot.sum(), abs=1e-4)
        assert got["mean_p_right"] == pytest.approx(np.exp(right[:-1]).mean(), abs=1e-5)
        assert got["mean_p_parrot"] == pytest.approx(np.exp(parrot[:-1]).mean(), abs=1e-5)
        assert (got["n_right"], got["n_parrot"], got["boundary"]) == (2, 2, "joined")
        assert got["item_id"] == item.item_id
        assert (got["family"], got["task"]) == (block.family, block.task)
        assert (got["wording"], got["demo_seed"]) == (block.wording, block.demo_seed)
        assert (got["run"], got["stage"], got["step"]) == ("tiny", "stage1", 16)


def test_a_model_that_knows_its_sums_beats_every_rival() -> None:
    """Planted truth: a head that always says 7 then newline makes 7 the right or parrot answer."""
    model, tokenizer = toy_model(1), toy_tokenizer()
    seven, newline = WORDS.index("7"), WORDS.index("\n")
    with torch.no_grad():
        model.model.norm.weight.mul_(0.01)
    bias = torch.zeros(len(WORDS))
    bias[seven], bias[newline] = 9.0, 5.0
    model.lm_head.bias = torch.nn.Parameter(bias)
    table = score_blocks(model, tokenizer, parts("normal_control/addition"), WHERE)
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    won = frame["lp_right"] > frame["lp_parrot"]
    asked = [item for block in parts("normal_control/addition") for item in block.items]
    assert won.to_list() == [item.right == " 7 \n" for item in asked]


def test_score_model_is_all_tasks_in_order() -> None:
    model, tokenizer = toy_model(7), toy_tokenizer()
    table = score_model(model, tokenizer, REQUEST, WHERE)
    one = [score_blocks(model, tokenizer, REQUEST.blocks(t), WHERE) for t in REQUEST.tasks]
    assert table.to_pylist() == [r for t in one for r in t.to_pylist()]


def test_sweep_writes_a_file_for_each_checkpoint_and_task(
    checkpoints: list[Checkpoint], swept: Path
) -> None:
    files = {str(p.relative_to(swept)) for p in swept.rglob("*") if p.is_file()}
    assert files == {
        str(items_path(swept, c, t).relative_to(swept)) for c in checkpoints for t in REQUEST.tasks
    }
    assert len(files) == 9
    assert all(len(Path(f).parts) == 3 for f in files)
    frame = read_items(swept)
    assert frame["step"].unique().sort().to_list() == [0, 16, 32]
    assert frame["run"].unique().to_list() == ["study/arm/0"]
    assert frame["lp_right"].max() <= 0  # type: ignore[operator]
    assert frame.equals(read_items(swept))
    assert dict(zip(frame.columns, frame.dtypes, strict=True)) == {
        **dict.fromkeys(["run", "stage", "family", "task", "wording", "item_id"], pl.String),
        "step": pl.Int64,
        "demo_seed": pl.Int16,
        **dict.fromkeys(["lp_right", "lp_parrot"], pl.Float32),
        **dict.fromkeys(["mean_p_right", "mean_p_parrot"], pl.Float32),
        **dict.fromkeys(["n_right", "n_parrot"], pl.Int16),
        "boundary": pl.String,
    }


def test_sweep_makes_only_what_is_missing(
    checkpoints: list[Checkpoint], swept: Path, loads: list[str]
) -> None:
    before = content(swept)
    run_sweep(checkpoints, swept)
    assert loads == []
    absent = items_path(swept, checkpoints[1], REQUEST.tasks[0])
    absent.unlink()
    kept = {p: p.stat().st_mtime_ns for p in swept.rglob("*.parquet")}
    run_sweep(checkpoints, swept)
    assert loads == ["stage1-step16"]
    assert content(swept) == before
    assert all(p.stat().st_mtime_ns == at for p, at in kept.items())


def test_damaged_and_foreign_files_are_made_again(
    checkpoints: list[Checkpoint], swept: Path, tmp_path: Path, loads: list[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(swept, out)
    cut, foreign = (items_path(out, checkpoints[i], REQUEST.tasks[i]) for i in (0, 2))
    cut.write_bytes(cut.read_bytes()[:-100])
    other = SweepRequest(REQUEST.tasks, "label", 1)
    run_sweep([checkpoints[2]], tmp_path / "other", other)
    shutil.copy(items_path(tmp_path / "other", checkpoints[2], REQUEST.tasks[2]), foreign)
    loads.clear()
    run_sweep(checkpoints, out)
    assert loads == ["stage1-step0", "stage1-step32"]
    assert content(out) == content(swept)


def test_another_precision_is_another_table(
    checkpoints: list[Checkpoint], swept: Path, tmp_path: Path, loads: list[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(swept, out)
    narrow = Compute(dtype="bfloat16")
    with WorkerPool(0) as pool:
        for _ in range(2):
            sweep(checkpoints[:1], REQUEST, out, pool, Reporter(quiet=True), compute=narrow)
    assert loads == ["stage1-step0"], "made again once, and then kept"
    before, after = read_items(swept), read_items(out)
    same = before["step"] != 0
    assert before.filter(same).equals(after.filter(same))
    apart = (before["lp_right"] - after["lp_right"]).filter(~same).abs()
    assert 1e-3 < apart.max() < 0.2  # type: ignore[operator]
    fresh = tmp_path / "fresh"
    run_sweep(checkpoints[:1], fresh)
    assert content(fresh).items() <= content(swept).items()


def test_at_most_so_many_wordings(checkpoints: list[Checkpoint]) -> None:
    task = "successive_answer/number_words"
    every = SweepRequest((task,), "label", 1).blocks(task)
    first = SweepRequest((task,), "label", 1, wordings=1).blocks(task)
    assert len(every) > 1 and first == every[:1]
    assert SweepRequest((task,), "label", 1, wordings=99).blocks(task) == every


def test_tables_that_two_requests_would_write_are_refused(
    checkpoints: list[Checkpoint], tmp_path: Path
) -> None:
    twice = [REQUEST, SweepRequest(REQUEST.tasks[:1], "verify", 1)]
    with WorkerPool(0) as pool, pytest.raises(ConfigError, match="two requests would write one"):
        sweep(checkpoints, twice, tmp_path, pool, Reporter(quiet=True))
    assert content(tmp_path) == {}


@pytest.mark.slow
def test_workers_give_the_same_bytes(
    checkpoints: list[Checkpoint], swept: Path, tmp_path: Path
) -> None:
    run_sweep(checkpoints, tmp_path, workers=2)
    assert content(tmp_path) == content(swept)


def test_read_items_refuses(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no item scores"):
        read_items(tmp_path)
    pl.DataFrame({"step": [1]}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="columns step"):
        read_items(tmp_path)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="not a table of item scores"):
        read_items(tmp_path)


def test_runs_get_folders_of_their_own(tmp_path: Path) -> None:
    runs = ["a/b", "a-b", "a b", "..", "A", "run-a-b"]
    paths = {items_path(tmp_path, Checkpoint(r, "s", 1, tmp_path), "f/t") for r in runs}
    assert len(paths) == len(runs)
    assert all(len(p.relative_to(tmp_path).parts) == 3 and ".." not in p.parts for p in paths)


def test_unknown_task_is_refused_before_any_work(
    checkpoints: list[Checkpoint], tmp_path: Path, loads: list[str]
) -> None:
    with pytest.raises(ConfigError, match="did you mean"):
        run_sweep(checkpoints, tmp_path, SweepRequest(("normal/addition",), "label", 1))
    assert loads == [] and content(tmp_path) == {}


def test_sweep_without_torch() -> None:
    code = (
        "import scoring.cost, scoring.slurm, scoring.bisect, sys; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_files_hold_the_schema_of_the_design(checkpoints: list[Checkpoint], swept: Path) -> None:
    table = pq.read_table(items_path(swept, checkpoints[0], REQUEST.tasks[0]))
    names = "run stage family task wording item_id step demo_seed lp_right lp_parrot"
    names += " mean_p_right mean_p_parrot n_right n_parrot boundary"
    assert " ".join(table.schema.names) == names
