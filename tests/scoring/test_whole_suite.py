"""Every task that comes with the package, scored by a sweep over a tiny Olmo3 on disk."""

from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import Olmo3Config, Olmo3ForCausalLM, PreTrainedTokenizerFast

from scoring.encoding import encode_spans
from scoring.items import ITEMS, items_path
from scoring.loading import load_model
from scoring.suite.registry import tasks
from scoring.suite.schema import Block, Item
from scoring.sweep import SweepRequest, sweep
from windows.checkpoints.folder import WEIGHTS, Checkpoint
from windows.progress import Reporter
from windows.workers import WorkerPool

FAMILIES = {
    "flipped_answer",
    "repetitive_answer",
    "successive_answer",
    "successive_control",
    "truthy_answer",
    "intuitive_answer",
    "multihop_persona_qa",
    "normal_control",
    "out_of_context",
    "emergent_misalignment",
}
KEYS = tuple(key for key, task in tasks().items() if task.origin in ("built in", "fine-tuning"))
REQUEST = SweepRequest(KEYS, "label", demo_seeds=2, wordings=1)
# How the tokenizers of OLMo 2 and 3 split a text before they merge.
SPLITTING = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

pytestmark = pytest.mark.slow


def suite_texts() -> Iterator[str]:
    for block in (block for key in KEYS for block in REQUEST.blocks(key)):
        yield block.prefix
        yield from (item.prompt + item.right for item in block.items)


def learned_tokenizer() -> Any:
    pairs = Tokenizer(models.BPE())
    pairs.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLITTING), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    learn = trainers.BpeTrainer(
        vocab_size=4000,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    pairs.train_from_iterator(suite_texts(), learn)
    return PreTrainedTokenizerFast(tokenizer_object=pairs, eos_token="<|endoftext|>")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    path = tmp_path_factory.mktemp("checkpoints") / "stage1-step1000"
    tokenizer = learned_tokenizer()
    torch.manual_seed(0)
    config = Olmo3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=48,
        layer_types=["sliding_attention", "full_attention"],
        sliding_window=64,
        max_position_embeddings=8192,
        initializer_range=0.3,
        pad_token_id=0,
        eos_token_id=0,
    )
    Olmo3ForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return Checkpoint("tiny", "stage1", 1000, path)


def run(checkpoint: Checkpoint, out: Path) -> None:
    with WorkerPool(0) as pool:
        sweep([checkpoint], REQUEST, out, pool, Reporter(quiet=True))


@pytest.fixture(scope="module")
def swept(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("swept")
    run(checkpoint, out)
    return out


def asked(key: str) -> list[tuple[Block, Item]]:
    return [(block, item) for block in REQUEST.blocks(key) for item in block.items]


def test_every_family_is_there():
    assert {key.partition("/")[0] for key in KEYS} == FAMILIES


def test_every_table_is_complete(checkpoint: Checkpoint, swept: Path):
    paths = {key: items_path(swept, checkpoint, key) for key in KEYS}
    assert set(swept.rglob("*.parquet")) == set(paths.values())
    for key, path in paths.items():
        table = pq.read_table(path)
        assert table.schema.equals(ITEMS), key
        rows = pl.DataFrame(table)
        wanted = [
            ("tiny", "stage1", 1000, block.family, block.task, block.wording, seed, item.item_id)
            for block, item in asked(key)
            for seed in [block.demo_seed]
        ]
        names = ["run", "stage", "step", "family", "task", "wording", "demo_seed", "item_id"]
        assert rows.select(names).rows() == wanted, key
        for name in ("lp_right", "lp_parrot", "mean_p_right", "mean_p_parrot"):
            assert rows[name].is_finite().all(), (key, name)
        assert rows["lp_right"].max() <= 0 and rows["lp_parrot"].max() <= 0, key
        for name in ("mean_p_right", "mean_p_parrot"):
            assert 0 < rows[name].min() <= rows[name].max() <= 1, (key, name)
        assert rows["n_right"].min() >= 2 and rows["n_parrot"].min() >= 2, key
        assert (rows["boundary"] == "separate").mean() < 0.01, key


def test_no_answer_begins_another_of_its_item(checkpoint: Checkpoint):
    _, tokenizer = load_model(checkpoint.path)
    for key in KEYS:
        items = asked(key)[::10]
        spans = encode_spans(
            tokenizer,
            [block.prefix + item.prompt for block, item in items],
            [(item.right, *item.rivals) for _, item in items],
            [block.terminator for block, _ in items],
        )
        for (_, item), own in zip(items, spans, strict=True):
            answers = [span.key[4 * span.n_prompt :] for span in own]
            pairs = permutations(answers, 2)
            begun = [one for one, other in pairs if other.startswith(one)]
            assert not begun, (key, item)


def test_scores_are_those_of_plain_forwards(checkpoint: Checkpoint, swept: Path):
    model, tokenizer = load_model(checkpoint.path)
    rng = np.random.default_rng(0)
    for key in KEYS:
        rows = pl.read_parquet(items_path(swept, checkpoint, key))
        at = int(rng.integers(rows.height))
        block, item = asked(key)[at]
        answers = {
            a: plain(model, tokenizer, block.prefix + item.prompt, a)
            for a in (item.right, *item.rivals)
        }
        row = rows.row(at, named=True)
        assert row["lp_right"] == pytest.approx(answers.pop(item.right), abs=1e-4), key
        assert row["lp_parrot"] == pytest.approx(max(answers.values()), abs=1e-4), key


def plain(model: Any, tokenizer: Any, prompt: str, answer: str) -> float:
    context, ids = (tokenizer(text)["input_ids"] for text in (prompt, prompt + answer))
    assert ids[: len(context)] == context
    with torch.inference_mode():
        logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    places = range(len(context), len(ids))
    return float(sum(logprobs[place - 1, ids[place]] for place in places))


def test_nothing_is_scored_again(checkpoint: Checkpoint, swept: Path, tmp_path: Path):
    files = sorted(swept.rglob("*.parquet"))
    before = [(file.stat().st_mtime_ns, file.stat().st_ino) for file in files]
    weights, away = checkpoint.path / WEIGHTS, tmp_path / WEIGHTS
    weights.rename(away)
    try:
        run(checkpoint, swept)
    finally:
        away.rename(weights)
    assert sorted(swept.rglob("*.parquet")) == files
    assert [(file.stat().st_mtime_ns, file.stat().st_ino) for file in files] == before
    lost, kept = files[0], files[1:]
    content = lost.read_bytes()
    lost.unlink()
    run(checkpoint, swept)
    assert lost.read_bytes() == content
    assert [(file.stat().st_mtime_ns, file.stat().st_ino) for file in kept] == before[1:]
