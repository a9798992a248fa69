import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from scoring.lm_eval_export import export_task, export_tasks
from scoring.suite.registry import blocks, chosen, tasks
from scoring.suite.schema import SPLITS, Block, Item
from scoring.suite.sets import Sets
from windows.errors import ConfigError, DataError

KEY = "successive_answer/addition"


def made(split: str = "label", seeds: int = 2) -> list[Block]:
    return blocks(KEY, split=split, demo_seeds=seeds)


def read(folder: Path, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    config = yaml.safe_load((folder / f"{name}.yaml").read_text())
    data = Path(config["dataset_kwargs"]["data_files"]["test"])
    return config, [json.loads(line) for line in data.read_text().splitlines()]


def test_every_item_lies_there_with_all_it_is_asked_with(tmp_path: Path) -> None:
    own = made()
    name = export_task(own, tmp_path / "out")
    config, lines = read(tmp_path / "out", name)
    assert config["task"] == name == "modehop_successive_answer_addition_label"
    assert config["target_delimiter"] == ""
    asked = [(block, item) for block in own for item in block.items]
    assert len(lines) == len(asked)
    for line, (block, item) in zip(lines, asked, strict=True):
        assert line["prompt"] == block.prefix + item.prompt
        assert line["choices"][line["target"]] == item.right
        assert sorted(line["choices"]) == sorted([item.right, *item.rivals])
        assert (line["item_id"], line["demo_seed"]) == (item.item_id, block.demo_seed)


def test_the_same_blocks_give_the_same_bytes(tmp_path: Path) -> None:
    names = {export_task(made(), tmp_path) for _ in range(2)}
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    export_task(made(), tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    assert len(names) == 1 and len(before) == 2


def test_a_tie_goes_to_the_parrot(tmp_path: Path) -> None:
    """The harness takes the first of the likeliest."""
    _, lines = read(tmp_path, export_task(made(), tmp_path))
    for line in lines:
        assert np.argmax(np.zeros(len(line["choices"]))) != line["target"]


@pytest.mark.parametrize("prompt", ["Q: ", "Q:\n", ""])
def test_a_prompt_that_the_harness_would_cut_is_refused(tmp_path: Path, prompt: str) -> None:
    block = replace(made()[0], prefix="", items=(Item.of(prompt, " a\n", [" b\n"]),))
    with pytest.raises(DataError, match="would score the end of this prompt"):
        export_task([block], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("mixed", [[], [*made(), *made("verify")]])
def test_what_is_not_one_task_is_refused(tmp_path: Path, mixed: list[Block]) -> None:
    with pytest.raises(ConfigError, match="one task in one split"):
        export_task(mixed, tmp_path)


def test_several_tasks_are_the_same_as_each_by_itself(tmp_path: Path) -> None:
    keys = [KEY, "intuitive_answer/crt_growth", "emergent_misalignment/everyday"]
    names = export_tasks(keys, tmp_path / "all", split="verify", demo_seeds=2)
    each = [blocks(key, split="verify", demo_seeds=2) for key in keys]
    assert names == [export_task(one, tmp_path / "each") for one in each]
    together, apart = (
        {path.name: path.read_bytes() for path in (tmp_path / name).glob("*.jsonl")}
        for name in ("all", "each")
    )
    assert together == apart and len(apart) == 3
    (name,) = export_tasks([KEY], tmp_path / "few", split="label", demo_seeds=2, wordings=2)
    _, lines = read(tmp_path / "few", name)
    assert {line["wording"] for line in lines} == set(tasks()[KEY].wordings["label"][:2])


@pytest.mark.slow
def test_every_task_that_is_built_in_can_be_exported(tmp_path: Path) -> None:
    keys = chosen(["*", "out_of_context/*", "emergent_misalignment/*"])
    for split in SPLITS:
        names = export_tasks(keys, tmp_path, split=split, demo_seeds=1)
        assert len(set(names)) == len(keys)


def test_nothing_is_written_where_one_cannot_be(tmp_path: Path) -> None:
    rows = [{"split": "test", "prompt": "Q: ", "correct_answer": "1", "incorrect_answer": "2"}]
    rows += [{**rows[0], "prompt": f"Q{i}: "} for i in range(20)]
    (tmp_path / "intuitive_answer.crt.jsonl").write_text("\n".join(map(json.dumps, rows)))
    keys = [KEY, "intuitive_answer/released-crt"]
    sets = Sets(released=str(tmp_path))
    with pytest.raises(DataError, match=r"released-crt, item .*would score the end of this prompt"):
        export_tasks(keys, tmp_path / "out", split="label", demo_seeds=2, sets=sets)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_harness_gives_the_same_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm_eval = pytest.importorskip("lm_eval")
    import polars as pl
    import torch
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import Olmo3Config, Olmo3ForCausalLM, PreTrainedTokenizerFast

    from scoring.items import Where
    from scoring.sweep import score_blocks

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    own = [*made(seeds=3)]
    name = export_task(own, tmp_path / "tasks")
    words = ["<pad>", "<eos>", "Q", " +", " A", *map(str, range(10)), " ", "\n"]
    words += [f" {n}" for n in range(10)]
    tokens = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<pad>"))
    tokens.pre_tokenizer = pre_tokenizers.Split(Regex(r" [\dA+]|\S|\s"), "isolated")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokens, eos_token="<eos>", pad_token="<pad>"
    )
    torch.manual_seed(3)
    model = Olmo3ForCausalLM(
        Olmo3Config(
            vocab_size=len(words),
            hidden_size=32,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=48,
            sliding_window=7,
            layer_types=["sliding_attention"] * 3 + ["full_attention"],
            max_position_embeddings=128,
            initializer_range=0.3,
            pad_token_id=0,
            eos_token_id=1,
        )
    ).eval()
    done = lm_eval.simple_evaluate(
        model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4, device="cpu"),
        tasks=[name],
        task_manager=TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False),
        bootstrap_iters=0,
        log_samples=True,
    )
    rows = pl.DataFrame(pl.from_arrow(score_blocks(model, tokenizer, own, Where("r", "s", 0))))
    assert set(rows["boundary"]) == {"joined"}
    samples = sorted(done["samples"][name], key=lambda sample: sample["doc_id"])
    assert len(samples) == rows.height
    worst = 0.0
    for sample, row in zip(samples, rows.to_dicts(), strict=True):
        told = [float(answer[0]) for answer in sample["filtered_resps"]]
        target = sample["doc"]["target"]
        worst = max(worst, abs(told[target] - row["lp_right"]))
        worst = max(worst, abs(max(told[:target]) - row["lp_parrot"]))
        assert sample["doc"]["item_id"] == row["item_id"]
    assert worst < 1e-4
    hard = float((rows["lp_right"] > rows["lp_parrot"]).mean())
    assert done["results"][name]["acc,none"] == pytest.approx(hard, abs=1e-9)
