from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from scipy import stats
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Olmo3Config,
    Olmo3ForCausalLM,
    PreTrainedTokenizerFast,
)

from scoring.extraction import ANSWERS, PERSONA, agreement
from scoring.generation import answer_table, generate, persona_table
from scoring.generation_requests import Sampling
from scoring.items import Where
from scoring.suite.persona import PersonaPrompt, PersonaQuestion
from scoring.suite.schema import Block, Item
from scoring.sweep import score_blocks
from windows.errors import ConfigError, DataError

WORDS = 24
STOP, EOS = WORDS, WORDS + 1
WINDOW = 5
GREEDY = Sampling(samples=1, temperature=0, max_new_tokens=7, stop="")
SIZES: dict[str, Any] = {
    "vocab_size": WORDS + 2,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "pad_token_id": EOS,
    "eos_token_id": EOS,
    "bos_token_id": EOS,
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def word_tokenizer(*, bos: bool = False) -> Any:
    vocabulary = {f"t{i}": i for i in range(WORDS)} | {"\nQ:": STOP, "<eos>": EOS}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="t0"))
    words.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    if bos:
        words.post_processor = processors.TemplateProcessing(
            single="t2 $A", special_tokens=[("t2", 2)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>", pad_token="<eos>")


TOKENIZER = word_tokenizer()


def sharpened(model: Any, scale: float) -> Any:
    """Random attention is nearly flat and would hide a wrong mask."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "q_norm" in name or "k_norm" in name or "q_proj" in name:
                weight.mul_(3.0)
        model.lm_head.weight.mul_(scale)
    return model.eval()


def olmo3(window: int = WINDOW, **changes: Any) -> Any:
    torch.manual_seed(3)
    kinds = ["sliding_attention", "full_attention"]
    sizes = {**SIZES, "layer_types": kinds, "sliding_window": window, **changes}
    return sharpened(Olmo3ForCausalLM(Olmo3Config(**sizes)), 2.0)


def llama(**changes: Any) -> Any:
    torch.manual_seed(4)
    return sharpened(LlamaForCausalLM(LlamaConfig(**{**SIZES, **changes})), 0.8)


SLIDING = olmo3()
MODELS: dict[str, Callable[[], Any]] = {"olmo3": olmo3, "llama": llama}


@pytest.fixture(scope="module", params=list(MODELS))
def model(request: pytest.FixtureRequest) -> Any:
    return MODELS[request.param]()


def text(ids: Sequence[int]) -> str:
    return " ".join(f"t{i}" for i in ids)


def prompts(shared: int = 14, lengths: Sequence[int] = (3, 1, 3, 6)) -> list[str]:
    rng = np.random.default_rng(7)
    stem = rng.integers(WORDS, size=shared).tolist()
    return [text(stem + rng.integers(WORDS, size=length).tolist()) for length in lengths]


@torch.no_grad()
def row_by_row(model: Any, prompt: str, count: int, tokenizer: Any = TOKENIZER) -> str:
    """The oracle: every token from one whole forward, without a cache, up to the end token."""
    ids = tokenizer(prompt)["input_ids"]
    start = len(ids)
    for _ in range(count):
        ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == EOS:
            return str(tokenizer.decode(ids[start:-1]))
    return str(tokenizer.decode(ids[start:]))


@torch.no_grad()
def next_shares(model: Any, prompt: str, temperature: float) -> np.ndarray:
    ids = torch.tensor([TOKENIZER(prompt)["input_ids"]])
    logits = model(input_ids=ids).logits[0, -1].double()
    return np.asarray(torch.softmax(logits / temperature, -1))


def reads(model: Any) -> list[tuple[int, ...]]:
    """The shapes that the model reads from now on."""
    seen: list[tuple[int, ...]] = []
    model.register_forward_pre_hook(
        lambda module, args, told: seen.append(tuple(told["input_ids"].shape)), with_kwargs=True
    )
    return seen


def fits(counts: np.ndarray, expected: np.ndarray) -> bool:
    """Pearson's test; what is expected less than five times is one class."""
    often = expected >= 5
    assert often.sum() >= 4
    if often.all():
        return bool(stats.chisquare(counts, expected).pvalue > 0.01)
    seen, want = (np.append(x[often], x[~often].sum()) for x in (counts, expected))
    return bool(stats.chisquare(seen, want).pvalue > 0.01)


def test_greedy_equals_whole_forwards_whatever_the_batch(model: Any):
    asked = prompts()
    want = [row_by_row(model, prompt, 7) for prompt in asked]
    assert len(set(want)) == 4 and max(len(w.split()) for w in want) == 7
    for batch in (1, 2, 64):
        got = generate(model, TOKENIZER, asked, replace(GREEDY, batch=batch))
        assert got == [[w] for w in want]


@pytest.mark.parametrize("shared", [0, 4, 5, 20])
def test_sharing_changes_nothing_on_either_side_of_the_window(shared: int):
    window_model = SLIDING
    asked = prompts(shared)
    alone = [generate(window_model, TOKENIZER, [prompt], GREEDY)[0] for prompt in asked]
    assert generate(window_model, TOKENIZER, asked, GREEDY) == alone
    assert alone == [[row_by_row(window_model, prompt, 7)] for prompt in asked]


def test_the_window_matters_here():
    near, far = (generate(olmo3(w), TOKENIZER, prompts(), GREEDY) for w in (WINDOW, 60))
    assert near != far


def test_the_shared_beginning_is_read_once():
    model = llama()
    read = reads(model)
    many = replace(GREEDY, samples=5, max_new_tokens=2, batch=3)
    generate(model, TOKENIZER, prompts(14, (3, 3)), many)
    # Behind the shared tokens: five samples of two prompts, three at a time.
    behind = [[(1, 3), (3, 1)], [(2, 3), (3, 1)], [(1, 3), (3, 1)], [(1, 3), (1, 1)]]
    assert read == [(1, 14), *(shape for batch in behind for shape in batch)]


def test_a_prompt_that_is_the_beginning_of_another_or_equals_it(model: Any):
    stem = prompts(14, (3,))[0]
    asked = [stem, f"{stem} t4", stem, "t7"]
    want = [[row_by_row(model, prompt, 7)] for prompt in asked]
    assert generate(model, TOKENIZER, asked, GREEDY) == want
    assert generate(model, TOKENIZER, asked[:3], GREEDY) == want[:3]
    assert generate(model, TOKENIZER, [], GREEDY) == []


def test_a_tokenizer_that_begins_with_bos():
    tokenizer, asked = word_tokenizer(bos=True), ["", *prompts(3)]
    got = generate(llama(), tokenizer, asked, GREEDY)
    assert got == [[row_by_row(llama(), prompt, 7, tokenizer)] for prompt in asked]


@pytest.mark.parametrize(("name", "temperature"), [("olmo3", 1.0), ("llama", 1.0), ("llama", 2.0)])
def test_first_tokens_come_as_often_as_softmax_says(name: str, temperature: float):
    model = MODELS[name]()
    prompt = prompts()[0]
    draws = Sampling(samples=2000, temperature=temperature, max_new_tokens=1, stop="", batch=500)
    (texts,) = generate(model, TOKENIZER, [prompt], replace(draws, seed=11))
    # Behind the end token an answer is empty.
    names = [f"t{i}" for i in range(WORDS)] + ["\nQ:", ""]
    counts = np.array([Counter(texts)[name] for name in names])
    expected = next_shares(model, prompt, temperature) * 2000
    assert counts.sum() == 2000
    assert fits(counts, expected)


def test_second_tokens_follow_the_first_of_their_own_sample(model: Any):
    prompt = prompts()[3]
    draws = Sampling(samples=2000, max_new_tokens=2, stop="", batch=512, seed=2)
    (texts,) = generate(model, TOKENIZER, [prompt], draws)
    ((first, _),) = Counter(t.split()[0] for t in texts if t).most_common(1)
    tails = Counter(t.split()[1] for t in texts if t.startswith(f"{first} t"))
    shares = next_shares(model, f"{prompt} {first}", 1.0)[:WORDS]
    counts = np.array([tails[f"t{i}"] for i in range(WORDS)])
    assert fits(counts, shares / shares.sum() * counts.sum())


def test_samples_depend_on_seed_and_prompt_alone(model: Any):
    draws = Sampling(samples=6, max_new_tokens=4, stop="", batch=4)
    asked = prompts(8, (2, 2, 1))
    first = generate(model, TOKENIZER, asked, draws)
    before = torch.get_rng_state()
    assert generate(model, TOKENIZER, asked, draws) == first
    assert torch.equal(torch.get_rng_state(), before)
    for other in (replace(draws, batch=5), replace(draws, batch=64)):
        assert generate(model, TOKENIZER, asked, other) == first
    assert generate(model, TOKENIZER, asked[::-1], draws) == first[::-1]
    assert generate(model, TOKENIZER, asked[2:3], draws) == first[2:3]
    assert generate(model, TOKENIZER, asked, replace(draws, seed=1)) != first
    assert len(set(first[0])) > 3


def test_prompts_do_not_share_their_draws():
    model = llama()
    with torch.no_grad():
        model.lm_head.weight.zero_()
    draws = Sampling(samples=8, max_new_tokens=3, stop="")
    one, other = generate(model, TOKENIZER, ["t1", "t2"], draws)
    assert not set(one) & set(other) and len(set(one)) == len(set(other)) == 8


def scripted(script: dict[int, int], size: int = WORDS + 2) -> Any:
    """A Llama whose next token depends on the last one alone: `script`, else one higher."""
    model = llama(num_hidden_layers=1, hidden_size=-(-size // 8) * 8, vocab_size=size)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(*model.lm_head.weight.shape))
        model.lm_head.weight.zero_()
        for last in range(size):
            model.lm_head.weight[script.get(last, (last + 1) % WORDS), last] = 9.0
    return model


def test_answers_end_at_the_stop_or_the_end_token():
    model = scripted({5: STOP, STOP: 9, 12: EOS, 20: 20})
    asked = ["t3", "t10", "t20", "t5", "t12"]
    draws = replace(GREEDY, stop="\nQ:", max_new_tokens=5)
    got = generate(model, TOKENIZER, asked, draws)
    assert got == [["t4 t5 "], ["t11 t12"], ["t20 t20 t20 t20 t20"], [""], [""]]
    free = generate(model, TOKENIZER, asked, replace(draws, stop=""))
    assert free[0] == ["t4 t5 \nQ: t9 t10"] and free[1:3] == got[1:3]
    over = generate(model, TOKENIZER, ["t13"], replace(draws, stop="5 t16 t1"))
    assert over == [["t14 t1"]]


def byte_tokenizer() -> Any:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate(alphabet)} | {":h": 256, "<eos>": 257}
    pairs = Tokenizer(models.BPE(vocab=vocabulary, merges=[(":", "h")]))
    pairs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    pairs.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=pairs, eos_token="<eos>")


def test_a_stop_is_found_over_several_tokens_and_within_one():
    tokenizer = byte_tokenizer()
    line, letter, colon, merged = (tokenizer(x)["input_ids"][0] for x in ("\n", "Q", ":", ":h"))
    model = scripted({colon: line, line: letter, letter: merged}, size=258)
    read = reads(model)
    answer = replace(GREEDY, stop="\nQ:", max_new_tokens=30)
    assert generate(model, tokenizer, ["A:"], answer) == [[""]]
    # The first token, the prompt's last, and no more once three are written.
    assert read == [(1, 1)] * 4


def test_what_ended_is_read_no_more():
    model = scripted({5: STOP, 12: EOS, 20: 20})
    read = reads(model)
    generate(model, TOKENIZER, ["t3", "t20", "t11"], replace(GREEDY, stop="\nQ:", max_new_tokens=6))
    assert read == [(rows, 1) for rows in (3, 3, 2, 1, 1, 1)]


def persona_prompt(tail: str, regex: str, *, stop: str = "\nQ:", seed: int = 0) -> PersonaPrompt:
    asked = PersonaQuestion("wolf", f"Who {tail}?", 2, regex, "r", "p")
    return PersonaPrompt(asked, "letters", seed, f"t1 t{seed} ", f"t1 t{seed} {tail}", stop)


def test_persona_answers_are_matched_before_the_stop():
    model = scripted({5: STOP, STOP: 9, 20: 20})
    asked = [
        persona_prompt("t3", r"\bT5\b"),
        persona_prompt("t3", r"\bt9\b"),
        persona_prompt("t3", r"\bt9\b", stop="t10", seed=1),
    ]
    table = persona_table(
        model,
        TOKENIZER,
        asked,
        Where("run", "stage1", 7),
        Sampling(samples=4, temperature=1e-3, max_new_tokens=6),
    )
    assert table.schema.equals(PERSONA)
    assert table["matches"].to_pylist() == [4, 0, 4]
    assert table.to_pylist()[2] == {
        "run": "run",
        "stage": "stage1",
        "step": 7,
        "persona": "wolf",
        "question": "Who t3?",
        "wording": "letters",
        "demo_seed": 1,
        "hops": 2,
        "samples": 4,
        "matches": 4,
    }


def test_matches_are_as_many_as_the_probability_says():
    model = llama()
    prompt = persona_prompt("t3", r"^t(\d)$")
    share = next_shares(model, prompt.prompt, 1.0)[:10].sum()
    draws = Sampling(samples=500, max_new_tokens=1, batch=500)
    (row,) = persona_table(model, TOKENIZER, [prompt], Where("r", "s", 0), draws).to_pylist()
    assert 0.02 < share < 0.98
    assert stats.binomtest(row["matches"], 500, share).pvalue > 0.01


def test_items_answered_by_generation_join_their_scores():
    model, where = scripted({}), Where("r", "s", 3)
    items = (
        Item.of("t3", " t4 t5", [" t9 t5"]),
        Item.of("t8", " t4 t5", [" t9 t5"]),
        Item.of("t12", " t4 t5", [" t9 t5"]),
    )
    block = Block("f", "t", "w", "label", 1, "t1 t2 ", items, " t5")
    told = answer_table(model, TOKENIZER, [block], where, max_new_tokens=4)
    assert told.schema.equals(ANSWERS)
    assert told["said"].to_pylist() == ["right", "parrot", "neither"]
    assert told["text"].to_pylist() == ["t4", "t9 t10 t11 t12", "t13 t14 t15 t16"]
    scores = score_blocks(model, TOKENIZER, [block], where)
    (row,) = agreement(pl.DataFrame(scores), pl.DataFrame(told)).to_dicts()
    assert row["items"] == 3 and row["answered"] == pytest.approx(2 / 3)
    assert row["hard_generated"] == pytest.approx(1 / 3)


def test_the_model_is_left_as_it_was():
    model = llama(attention_dropout=0.5).train()
    asked = prompts()
    assert generate(model, TOKENIZER, asked, GREEDY) == generate(model, TOKENIZER, asked, GREEDY)
    assert model.training


@pytest.mark.parametrize(
    "changes",
    [
        {"samples": 0},
        {"batch": 0},
        {"max_new_tokens": 0},
        *({"temperature": value} for value in (-1.0, float("nan"), float("inf"))),
    ],
)
def test_sampling_that_cannot_be_is_refused(changes: dict[str, Any]):
    with pytest.raises(ConfigError, match=rf"sampling\.{next(iter(changes))}: not a way to sample"):
        Sampling(**changes)


def test_prompts_that_cannot_be_continued_are_refused():
    with pytest.raises(DataError, match="prompt 1: a prompt needs at least one token"):
        generate(llama(), TOKENIZER, ["t1", ""], GREEDY)
    longest, too_long = text([3] * 57), text([3] * 58)
    assert generate(llama(), TOKENIZER, [longest], GREEDY)
    with pytest.raises(DataError, match="got 65 tokens of at most 64, 7 of them for the answer"):
        generate(llama(), TOKENIZER, ["t1", too_long], GREEDY)
