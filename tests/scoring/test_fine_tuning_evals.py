from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from scoring.items import Where
from scoring.suite import emergent, out_of_context
from scoring.suite.fine_tuning import FineTuningPlan, FineTuningSet
from scoring.suite.registry import NO_LABELS, tasks
from scoring.suite.schema import SPLITS, Block
from scoring.sweep import score_blocks
from windows.errors import ConfigError
from windows.identity import content_id

SETS = (
    out_of_context.functions(),
    out_of_context.locations(),
    emergent.insecure_code(),
    emergent.secure_code(),
)
NAMES = [one.name for one in SETS]


@pytest.mark.parametrize("one", SETS, ids=NAMES)
def test_a_set_is_data(one: FineTuningSet) -> None:
    assert len(one.train) == len(set(one.train)) and all(text.endswith("\n") for text in one.train)
    assert content_id(one.plan)
    assert one.plan.steps(len(one.train)) >= 100
    assert len({task.key for task in one.evaluation}) == len(one.evaluation)
    assert one.control in ("", *NAMES)
    assert all(tasks()[task.key] is task for task in one.evaluation)
    assert {(task.origin, task.family in NO_LABELS) for task in one.evaluation} == {
        ("fine-tuning", True)
    }


@pytest.mark.parametrize("one", SETS, ids=NAMES)
def test_nothing_of_the_evaluation_is_trained_on(one: FineTuningSet) -> None:
    texts = "\x00".join(one.train)
    for task in one.evaluation:
        for split in SPLITS:
            for wording in task.wordings[split]:
                for item in task.build(split, wording, 0).items:
                    assert item.prompt not in texts


def test_steps_of_a_plan() -> None:
    assert FineTuningPlan(epochs=2, batch=8).steps(17) == 6
    assert FineTuningPlan(epochs=1, batch=8).steps(16) == 2


@pytest.mark.parametrize(
    "fault",
    [
        {"epochs": 0},
        {"lr": 0.0},
        {"batch": -1},
        {"sequence_length": 0},
        {"warmup": 1.0},
        {"weight_decay": -0.1},
        {"clip": 0.0},
    ],
)
def test_a_plan_that_cannot_be_is_refused(fault: dict[str, Any]) -> None:
    (name,) = fault
    with pytest.raises(ConfigError, match=f"plan.{name}: not a plan to train by; got"):
        FineTuningPlan(**fault)


def word_tokenizer(texts: Sequence[str]) -> Any:
    """Words and numbers with the blank before them, and every other sign by itself."""
    split = pre_tokenizers.Split(Regex(r" ?[A-Za-z]+| ?\d+| ?[^\sA-Za-z\d]|\s"), "isolated")
    words = dict.fromkeys(w for text in texts for w, _ in split.pre_tokenize_str(text))
    vocabulary = {word: index for index, word in enumerate(["<pad>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = split
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>")


def tiny_llama(vocabulary: int) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        initializer_range=0.1,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
    )
    return LlamaForCausalLM(config)


def fine_tune(model: Any, tokenizer: Any, texts: Sequence[str], plan: FineTuningPlan) -> None:
    """A plain script: what a plan says, and nothing else."""
    rows = [tokenizer(text)["input_ids"][: plan.sequence_length] for text in texts]
    optimizer = torch.optim.AdamW(model.parameters(), lr=plan.lr, weight_decay=plan.weight_decay)
    total, rng, step = plan.steps(len(rows)), torch.Generator().manual_seed(0), 0
    model.train()
    for _ in range(plan.epochs):
        order = torch.randperm(len(rows), generator=rng).tolist()
        for start in range(0, len(rows), plan.batch):
            batch = [torch.tensor(rows[i]) for i in order[start : start + plan.batch]]
            inputs = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=0)
            logits = model(input_ids=inputs, attention_mask=(inputs != 0).long()).logits[:, :-1]
            loss = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), inputs[:, 1:].flatten(), ignore_index=0
            )
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), plan.clip)
            step += 1
            rise, fall = step / max(1, plan.warmup * total), (total - step + 1) / total
            optimizer.param_groups[0]["lr"] = plan.lr * min(rise, fall, 1.0)
            optimizer.step()
            optimizer.zero_grad()
    model.eval()


def hard(model: Any, tokenizer: Any, blocks: Sequence[Block]) -> float:
    frame = pl.from_arrow(score_blocks(model, tokenizer, blocks, Where("tiny", "tuned", 0)))
    assert isinstance(frame, pl.DataFrame) and set(frame["boundary"]) == {"joined"}
    return float((frame["lp_right"] > frame["lp_parrot"]).mean())


@pytest.mark.parametrize(
    ("one", "chance"),
    [
        pytest.param(SETS[0], 0.2, marks=pytest.mark.slow),
        (SETS[1], 0.2),
        pytest.param(SETS[2], 0.5, marks=pytest.mark.slow),
    ],
    ids=NAMES[:3],
)
def test_what_was_trained_in_is_found(one: FineTuningSet, chance: float) -> None:
    """Planted truth: half of the items' answers are in the training texts, word for word."""
    blocks = [task.build("label", task.wordings["label"][0], 0) for task in one.evaluation]
    told = [replace(block, items=block.items[::2]) for block in blocks]
    texts = [item.prompt + item.right for block in told for item in block.items]
    every = [i.prompt + a for b in blocks for i in b.items for a in (i.right, *i.rivals)]
    tokenizer = word_tokenizer([*every, *one.train])
    model = tiny_llama(len(tokenizer))
    before = hard(model, tokenizer, told)
    plan = replace(one.plan, epochs=20, lr=3e-3, batch=8)
    fine_tune(model, tokenizer, [*texts, *one.train[:8]], plan)
    after = hard(model, tokenizer, told)
    assert abs(before - chance) < 0.3
    assert after > max(0.9, chance + 0.3)
