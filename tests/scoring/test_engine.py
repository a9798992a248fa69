import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Olmo3Config,
    Olmo3ForCausalLM,
    PreTrainedTokenizerFast,
)

from scoring.encoding import encode_spans
from scoring.engine import PrefixScorer
from scoring.trie import plan_scoring
from windows.errors import ConfigError, ModehopError

VOCABULARY = 31
WINDOW = 5
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY + 2,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 1,
}
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return word_tokenizer()


def word_tokenizer(*, bos: bool = False) -> Any:
    vocabulary = {f"t{i}": i for i in range(VOCABULARY)} | {"<pad>": 31, "<eos>": 32}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="t0"))
    words.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    if bos:
        words.post_processor = processors.TemplateProcessing(
            single="t2 $A", special_tokens=[("t2", 2)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>", pad_token="<pad>")


def sharpened(model: Any) -> Any:
    """Random attention is nearly flat and would hide a wrong mask; make it and the head peaked."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "q_norm" in name or "k_norm" in name:
                weight.mul_(3.0)
            elif "q_proj" in name or "k_proj" in name:
                weight.mul_(2.0)
            elif name.endswith("lm_head.weight"):
                weight.mul_(3.0)
    return model.eval()


def olmo3(attention: str = "sdpa", **changes: Any) -> Any:
    torch.manual_seed(3)
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    sizes = {**SIZES, "layer_types": kinds, "sliding_window": WINDOW, **changes}
    return sharpened(Olmo3ForCausalLM(Olmo3Config(**sizes, attn_implementation=attention)))


def llama(attention: str = "sdpa") -> Any:
    torch.manual_seed(4)
    return sharpened(LlamaForCausalLM(LlamaConfig(**SIZES, attn_implementation=attention)))


def mistral() -> Any:
    torch.manual_seed(5)
    return sharpened(MistralForCausalLM(MistralConfig(**SIZES, sliding_window=WINDOW)))


MODELS: dict[str, Callable[[], Any]] = {
    "olmo3-sliding": olmo3,
    "olmo3-sliding-eager": lambda: olmo3("eager"),
    "olmo3-full": lambda: olmo3(layer_types=["full_attention"] * 3),
    "llama": llama,
    "llama-eager": lambda: llama("eager"),
    "mistral-sliding-without-layer-types": mistral,
}


@pytest.fixture(scope="module", params=list(MODELS))
def model(request: pytest.FixtureRequest) -> Any:
    return MODELS[request.param]()


def text(ids: Sequence[int]) -> str:
    return " ".join(f"t{i}" for i in ids)


def draw(seed: int, prompts: int = 12) -> tuple[list[str], list[list[str]]]:
    """Prompts that share beginnings of several lengths, longer than the window, and candidates."""
    rng = np.random.default_rng(seed)
    stem = rng.integers(VOCABULARY, size=14).tolist()
    said, answers = [], []
    for _ in range(prompts):
        kept = stem[: int(rng.integers(15))]
        tail = rng.integers(VOCABULARY, size=int(rng.integers(1, 9))).tolist()
        said.append(text(kept + tail))
        answers.append(
            [
                " " + text(rng.integers(6, size=int(rng.integers(1, 4))).tolist())
                for _ in range(int(rng.integers(1, 4)))
            ]
        )
    return said, answers


@torch.no_grad()
def row_by_row(model: Any, tokenizer: Any, prompt: str, candidate: str) -> np.ndarray:
    """The oracle: one unpadded row, no mask, log-probability of each of the candidate's tokens."""
    context = tokenizer(prompt)["input_ids"]
    ids = torch.tensor([tokenizer(prompt + candidate)["input_ids"]])
    logprobs = torch.log_softmax(model(input_ids=ids).logits[0].float(), dim=-1)
    wanted = [logprobs[i - 1, ids[0, i]] for i in range(len(context), ids.shape[1])]
    return np.array([float(x) for x in wanted])


def flat(scores: list[list[float]]) -> np.ndarray:
    return np.array([x for own in scores for x in own])


def oracle(model: Any, tokenizer: Any, prompts: list[str], answers: list[list[str]]) -> np.ndarray:
    return np.array(
        [
            row_by_row(model, tokenizer, p, c).sum()
            for p, own in zip(prompts, answers, strict=True)
            for c in own
        ]
    )


def test_equals_one_row_at_a_time(model: Any, tokenizer: Any) -> None:
    prompts, answers = draw(0, prompts=24)
    got = flat(PrefixScorer(model, tokenizer, token_budget=100).score(prompts, answers))
    assert np.abs(got - oracle(model, tokenizer, prompts, answers)).max() <= TOLERANCE
    assert got.max() <= 0
    assert got.std() > 1


def test_the_oracle_sees_the_sliding_window(tokenizer: Any) -> None:
    prompts, answers = draw(0)
    narrow, wide = olmo3(), olmo3(sliding_window=64)
    wide.load_state_dict(narrow.state_dict())
    differ = oracle(narrow, tokenizer, prompts, answers) - oracle(wide, tokenizer, prompts, answers)
    assert np.abs(differ).max() > 0.1


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), budget=st.integers(1, 80))
def test_exact_on_any_trie_and_budget(seed: int, budget: int) -> None:
    model, tokenizer = _SLIDING
    prompts, answers = draw(seed, prompts=5)
    got = flat(PrefixScorer(model, tokenizer, token_budget=budget).score(prompts, answers))
    expected = oracle(model, tokenizer, prompts, answers)
    # Among random models some give -30 nats, where float32 itself is coarser.
    assert (np.abs(got - expected) <= TOLERANCE + 1e-5 * np.abs(expected)).all()


_SLIDING = (olmo3(), word_tokenizer())


def test_budget_does_not_matter_and_bounds_the_packs(model: Any, tokenizer: Any) -> None:
    prompts, answers = draw(1, prompts=30)
    reference = flat(PrefixScorer(model, tokenizer).score(prompts, answers))
    for budget in (1, 30, 60, 400):
        got = flat(PrefixScorer(model, tokenizer, token_budget=budget).score(prompts, answers))
        assert np.abs(got - reference).max() <= TOLERANCE
    plan = plan_scoring(tokenizer, prompts, answers, token_budget=60)
    assert len(plan.packs) > 1
    assert max(len(pack.tokens) for pack in plan.packs) <= 60


def test_shared_beginnings_are_read_once(tokenizer: Any) -> None:
    stem = text(range(20))
    prompts = [f"{stem} t{i}" for i in range(20, 25)] + [stem]
    answers = [[" t3 t1", " t4 t1"]] * 5 + [[" t20 t3 t5"]]
    plan = plan_scoring(tokenizer, prompts, answers)
    # The last prompt's candidate runs along another's prompt: it adds no token of its own.
    assert plan.tokens_read == 20 + 5 * (1 + 2)
    (pack,) = plan.packs
    assert len(pack.reads) == 1 + 5 * 3
    assert len({(int(d), int(t)) for d, t in zip(pack.depths, pack.tokens, strict=True)}) < 40


def test_candidates_that_run_along_other_prompts(model: Any, tokenizer: Any) -> None:
    """Later sequences ask for distributions at nodes before those of earlier ones."""
    prompts = [text([9, 1, 2, 3, 4]), text([9]), text([9, 1]), text([9, 1, 2])]
    answers = [[" t5", " t4 t4"], [" t1 t2 t8", " t1 t2 t3 t4 t5"], [" t2 t3 t7", " t3"], [" t9"]]
    got = flat(PrefixScorer(model, tokenizer).score(prompts, answers))
    assert np.abs(got - oracle(model, tokenizer, prompts, answers)).max() <= TOLERANCE


def test_permuted_inputs_permute_the_outputs(model: Any, tokenizer: Any) -> None:
    prompts, answers = draw(2, prompts=20)
    scorer = PrefixScorer(model, tokenizer, token_budget=64)
    scores = scorer.score(prompts, answers)
    assert scores == scorer.score(prompts, answers)
    order = np.random.default_rng(0).permutation(len(prompts))
    turned = scorer.score([prompts[i] for i in order], [answers[i][::-1] for i in order])
    assert turned == [scores[i][::-1] for i in order]


def test_repeated_pairs_cost_nothing_and_agree(tokenizer: Any) -> None:
    prompts, answers = draw(3, prompts=4)
    once = plan_scoring(tokenizer, prompts, answers)
    twice = plan_scoring(tokenizer, prompts * 2, answers * 2)
    assert once.tokens_read == twice.tokens_read
    scores = PrefixScorer(olmo3(), tokenizer).run(twice).logprob
    assert np.array_equal(scores[: len(scores) // 2], scores[len(scores) // 2 :])


def test_mean_probability_leaves_the_terminator_out(tokenizer: Any) -> None:
    model = olmo3()
    prompt, answer = text([5, 6, 7]), " t8 t9 t1"
    ((span,),) = PrefixScorer(model, tokenizer).score_spans([prompt], [[answer]], terminator=" t1")
    tokens = row_by_row(model, tokenizer, prompt, answer)
    assert span.n_tokens == 3
    assert span.boundary == "joined"
    assert span.logprob == pytest.approx(tokens.sum(), abs=TOLERANCE)
    assert span.mean_p == pytest.approx(np.exp(tokens[:2]).mean(), rel=1e-4)
    ((whole,),) = PrefixScorer(model, tokenizer).score_spans([prompt], [[answer]])
    assert whole.mean_p == pytest.approx(np.exp(tokens).mean(), rel=1e-4)


def test_probabilities_of_all_next_tokens_sum_to_one(model: Any, tokenizer: Any) -> None:
    every = [f" t{i}" for i in range(VOCABULARY)] + [" <pad>", " <eos>"]
    (scores,) = PrefixScorer(model, tokenizer).score([text(range(9))], [every])
    assert np.exp(scores).sum() == pytest.approx(1, abs=1e-5)


def test_tokenizer_that_adds_bos() -> None:
    model, tokenizer = olmo3(), word_tokenizer(bos=True)
    prompts, answers = draw(4, prompts=6)
    got = flat(PrefixScorer(model, tokenizer).score([*prompts, ""], [*answers, [" t4"]]))
    want = oracle(model, tokenizer, [*prompts, ""], [*answers, [" t4"]])
    assert np.abs(got - want).max() <= TOLERANCE
    span = encode_spans(tokenizer, [""], [[" t4"]], [""])[0][0]
    assert (span.n_prompt, span.n_tokens) == (1, 1)


def merging_tokenizer() -> Any:
    vocabulary = {"a": 0, "b": 1, "c": 2, ".": 3, "ab": 4, "c.": 5}
    pairs = Tokenizer(models.BPE(vocab=vocabulary, merges=[("a", "b"), ("c", ".")]))
    return PreTrainedTokenizerFast(tokenizer_object=pairs, eos_token=".")


def test_boundary_rule() -> None:
    tokenizer = merging_tokenizer()
    ((joined, apart),) = encode_spans(tokenizer, ["ca"], [["c", "b"]], [""])
    ids = [np.frombuffer(span.key, dtype=">u4").tolist() for span in (joined, apart)]
    assert ids == [[2, 0, 2], [2, 0, 1]]
    assert (joined.boundary, apart.boundary) == ("joined", "separate")
    model = llama()
    ((_, scored),) = PrefixScorer(model, tokenizer).score_spans(["ca"], [["c", "b"]])
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids[1]])).logits[0, 1]
    assert scored.boundary == "separate"
    assert scored.logprob == pytest.approx(float(logits.log_softmax(-1)[1]), abs=TOLERANCE)


def test_a_terminator_that_merges_with_the_answer_counts_as_answer() -> None:
    tokenizer = Tokenizer(models.BPE(vocab={"a": 0, "c": 1, ".": 2, "c.": 3}, merges=[("c", ".")]))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    ((merged, longer),) = encode_spans(fast, ["a"], [["c.", "aac."]], ["."])
    assert (merged.n_tokens, merged.n_body) == (1, 1)
    assert (longer.n_tokens, longer.n_body) == (3, 2)


def test_scores_in_evaluation_mode_and_leaves_the_model_as_it_was(tokenizer: Any) -> None:
    model = olmo3(attention_dropout=0.5).train()
    prompts, answers = draw(5)
    scorer = PrefixScorer(model, tokenizer)
    assert scorer.score(prompts, answers) == scorer.score(prompts, answers)
    assert model.training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_nothing_to_score(tokenizer: Any) -> None:
    scorer = PrefixScorer(olmo3(), tokenizer)
    assert scorer.score([], []) == []
    assert scorer.score(["t1"], [[]]) == [[]]


@pytest.mark.parametrize(
    ("prompts", "answers", "says"),
    [
        (["t1"], [[""]], "at least one token"),
        ([""], [[" t1"]], "at least one token"),
        (["t1"], [], "needs its candidates"),
        ([text([3] * 64)], [[" t1 t1"]], "65 tokens of at most 64"),
    ],
)
def test_refusals(tokenizer: Any, prompts: list[str], answers: list[list[str]], says: str) -> None:
    with pytest.raises(ModehopError, match=says):
        PrefixScorer(olmo3(), tokenizer).score(prompts, answers)


def test_the_longest_sequence_that_fits_is_scored(tokenizer: Any) -> None:
    prompts, answers = [text([3] * 64)], [[" t1"]]
    got = flat(PrefixScorer(olmo3(), tokenizer).score(prompts, answers))
    assert got == pytest.approx(oracle(olmo3(), tokenizer, prompts, answers), abs=TOLERANCE)


def test_refuses_a_model_it_would_score_wrongly(tokenizer: Any) -> None:
    bloom = BloomForCausalLM(BloomConfig(vocab_size=31, hidden_size=16, n_layer=1, n_head=2))
    with pytest.raises(ConfigError, match="position_ids"):
        PrefixScorer(bloom, tokenizer)
    chunked = copy.deepcopy(llama())
    chunked.config.layer_types = ["chunked_attention"] * 3
    with pytest.raises(ConfigError, match="chunked_attention"):
        PrefixScorer(chunked, tokenizer)
    with pytest.raises(ConfigError, match="token_budget"):
        PrefixScorer(llama(), tokenizer, token_budget=0).score(["t1"], [[" t1"]])
