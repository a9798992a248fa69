"""Packing under Olmo3, Llama and Gemma, peaked and with windows shorter than the prompts."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Olmo3Config,
    Olmo3ForCausalLM,
    PreTrainedTokenizerFast,
)

from scoring.engine import PrefixScorer
from scoring.trie import ScoringPlan, plan_scoring
from windows.errors import DataError

VOCABULARY = 41
LONGEST = 96
TOLERANCE = 1e-4
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "intermediate_size": 64,
    "max_position_embeddings": LONGEST,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SLIDING = {
    "sliding_window": 6,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}
GEMMA = {**SLIDING, "query_pre_attn_scalar": 12, "final_logit_softcapping": 20.0}


def peaked(kind: Any, config: type, attention: str, **changes: Any) -> Any:
    """Attention and next token are nearly flat in a random model, which hides errors: sharpen."""
    torch.manual_seed(11)
    settings = {"tie_word_embeddings": False, **SIZES, **changes}
    model = kind(config(**settings, attn_implementation=attention))
    gain = 0.6 if settings["tie_word_embeddings"] else 0.8
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2:
                torch.nn.init.normal_(weight, std=gain if "embed" in name else 0.15)
            if "q_proj" in name or "k_proj" in name:
                weight.mul_(2.5)
        model.get_output_embeddings().weight.mul_(1.0 if settings["tie_word_embeddings"] else 8.0)
    return model.eval()


def of(kind: Any, config: type, attention: str = "sdpa", **changes: Any) -> Callable[[], Any]:
    return lambda: peaked(kind, config, attention, **changes)


MODELS: dict[str, Callable[[], Any]] = {
    "olmo3": of(Olmo3ForCausalLM, Olmo3Config, **SLIDING),
    "olmo3-eager": of(Olmo3ForCausalLM, Olmo3Config, "eager", **SLIDING),
    "llama": of(LlamaForCausalLM, LlamaConfig),
    "llama-tied": of(LlamaForCausalLM, LlamaConfig, tie_word_embeddings=True),
    "gemma2": of(Gemma2ForCausalLM, Gemma2Config, "eager", **GEMMA, attn_logit_softcapping=30.0),
    "gemma3": of(Gemma3ForCausalLM, Gemma3TextConfig, **GEMMA),
    "gemma3-tied": of(Gemma3ForCausalLM, Gemma3TextConfig, **GEMMA, tie_word_embeddings=True),
    "granite": of(GraniteForCausalLM, GraniteConfig, logits_scaling=1.5, attention_multiplier=0.29),
}


@pytest.fixture(scope="module", params=list(MODELS))
def model(request: pytest.FixtureRequest) -> Any:
    return MODELS[request.param]()


def words(*, bos: bool) -> Any:
    vocabulary = {"<pad>": 0, "<bos>": 1, "<eos>": 2}
    vocabulary |= {f"t{i}": i for i in range(3, VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<bos> $A", special_tokens=[("<bos>", 1)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>")


def pairs(seed: int, prompts: int = 8) -> tuple[list[str], list[list[str]]]:
    """Two demonstration blocks longer than the windows, questions behind them, two answers each."""
    rng = np.random.default_rng(seed)

    def text(length: int) -> str:
        return " ".join(f"t{i}" for i in rng.integers(3, VOCABULARY, size=length))

    blocks = [text(20), text(13)]
    asked = [f"{blocks[i % 2]} {text(int(rng.integers(1, 8)))}" for i in range(prompts)]
    return asked, [[f" {text(1 + i % 3)} t4", f" {text(2)} t4"] for i in range(prompts)]


def likely(model: Any, tokenizer: Any, prompts: list[str], length: int = 3) -> list[list[str]]:
    """What the model itself would say: log-probabilities near 0, where rounding may pass it."""
    answers = []
    for prompt in prompts:
        ids = tokenizer(prompt)["input_ids"]
        said = []
        for _ in range(length):
            with torch.no_grad():
                said.append(
                    int(model(input_ids=torch.tensor([ids + said])).logits[0, -1, 3:].argmax()) + 3
                )
        answers.append([" " + " ".join(f"t{i}" for i in said)])
    return answers


def token_logprobs(model: Any, ids: list[int], n_prompt: int) -> np.ndarray:
    """The oracle: one sequence alone, no mask, no padding, softmax in float64."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0].double()
    found = logits.log_softmax(-1)[torch.arange(len(ids) - 1), torch.tensor(ids[1:])]
    return found[n_prompt - 1 :].numpy()


def one_by_one(model: Any, tokenizer: Any, prompts: list[str], answers: Any) -> np.ndarray:
    return np.array(
        [
            token_logprobs(
                model, tokenizer(prompt + answer)["input_ids"], len(tokenizer(prompt)["input_ids"])
            ).sum()
            for prompt, own in zip(prompts, answers, strict=True)
            for answer in own
        ]
    )


def test_equals_one_sequence_at_a_time(model: Any) -> None:
    tokenizer = words(bos=True)
    prompts, answers = pairs(0)
    answers = [a + b for a, b in zip(answers, likely(model, tokenizer, prompts), strict=True)]
    expected = one_by_one(model, tokenizer, prompts, answers)
    for budget in (40, 1024):
        scores = PrefixScorer(model, tokenizer, token_budget=budget).score(prompts, answers)
        got = np.concatenate(scores)
        assert np.abs(got - expected).max() <= TOLERANCE
        assert got.max() <= 0
    assert expected.max() > -1, "not peaked"
    assert expected.std() > 2


@pytest.mark.parametrize("name", ["olmo3", "gemma2", "gemma3"])
def test_the_windows_matter_to_the_oracle(name: str) -> None:
    model, tokenizer = MODELS[name](), words(bos=False)
    prompts, answers = pairs(0)
    narrow = one_by_one(model, tokenizer, prompts, answers)
    model.config.sliding_window = LONGEST
    for layer in model.model.layers:
        if layer.self_attn.sliding_window is not None:
            layer.self_attn.sliding_window = LONGEST
    wide = one_by_one(model, tokenizer, prompts, answers)
    assert np.abs(narrow - wide).max() > 0.1


def test_left_context_limit(model: Any) -> None:
    tokenizer = words(bos=True)
    fits, over = " ".join(["t5"] * (LONGEST - 2)), " ".join(["t5"] * (LONGEST - 1))
    scorer = PrefixScorer(model, tokenizer)
    expected = one_by_one(model, tokenizer, [fits], [[" t6 t7"]])
    assert np.abs(np.array(scorer.score([fits], [[" t6 t7"]])[0]) - expected).max() <= TOLERANCE
    with pytest.raises(DataError, match=f"{LONGEST + 1} tokens of at most {LONGEST}"):
        scorer.score([over], [[" t6 t7"]])


def body_and_head(
    model: Any, tokenizer: Any, plan: ScoringPlan
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score, and beside it by hand from the body's own output: head in float64, logits rounded."""
    seen: list[torch.Tensor] = []
    head = model.get_output_embeddings()
    handle = model.base_model.register_forward_hook(
        lambda _module, _inputs, output: seen.append(output.last_hidden_state[0])
    )
    got = PrefixScorer(model, tokenizer).run(plan).logprob
    handle.remove()
    exact, rounded = [], []
    for pack, hidden in zip(plan.packs, seen, strict=True):
        logits = hidden[torch.from_numpy(pack.reads)].double() @ head.weight.double().T
        for kept, tokens in ((logits, exact), (logits.bfloat16().double(), rounded)):
            scaled = kept / getattr(model.config, "logits_scaling", 1.0)
            if cap := getattr(model.config, "final_logit_softcapping", None):
                scaled = cap * torch.tanh(scaled / cap)
            tokens += scaled.log_softmax(-1)[pack.rows, pack.targets].tolist()
    sums = [np.add.reduceat(np.array(x), plan.bounds[:-1])[plan.pairs] for x in (exact, rounded)]
    return got, sums[0], sums[1]


@pytest.mark.parametrize("name", ["olmo3", "llama-tied", "gemma2", "gemma3", "granite"])
def test_bfloat16_loses_nothing_behind_the_body(name: str) -> None:
    """The head, its scaling and softcapping are computed in float32, whatever the body's type."""
    model, tokenizer = MODELS[name]().bfloat16(), words(bos=False)
    prompts, answers = pairs(1)
    answers = [a + b for a, b in zip(answers, likely(model, tokenizer, prompts), strict=True)]
    plan = plan_scoring(tokenizer, prompts, answers)
    head = model.get_output_embeddings()
    got, expected, rounded = body_and_head(model, tokenizer, plan)
    assert np.abs(got - expected).max() <= TOLERANCE
    assert np.abs(rounded - expected).max() > 20 * TOLERANCE
    assert got.max() <= 0
    assert model.get_output_embeddings() is head
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}


def test_a_failed_run_leaves_the_head_as_it_was() -> None:
    model, tokenizer = MODELS["llama"]().bfloat16(), words(bos=False)
    head = model.get_output_embeddings()
    model.base_model.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        PrefixScorer(model, tokenizer).score(["t5"], [[" t6"]])
    assert model.get_output_embeddings() is head


def test_the_items_alone_fix_the_plan(model: Any) -> None:
    """Checkpoints are scored by one plan, so nothing of a score is owed to what it ran beside."""
    tokenizer = words(bos=False)
    prompts, answers = pairs(3, prompts=12)
    plan = plan_scoring(tokenizer, prompts, answers, token_budget=40)
    assert len(plan.packs) > 1
    again = plan_scoring(tokenizer, prompts[::-1], answers[::-1], token_budget=40)
    for one, other in zip(plan.packs, again.packs, strict=True):
        for field in one.__dataclass_fields__:
            assert np.array_equal(getattr(one, field), getattr(other, field))
    first = PrefixScorer(model, tokenizer).run(plan).logprob
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(1.1)
        other_checkpoint = PrefixScorer(model, tokenizer).run(plan).logprob
        model.get_output_embeddings().weight.div_(1.1)
    assert not np.allclose(first, other_checkpoint, atol=1e-3)
    alone = PrefixScorer(MODELS["llama"](), tokenizer)
    assert np.array_equal(
        alone.run(plan).logprob, alone.run(again).logprob.reshape(-1, 2)[::-1].ravel()
    )
