"""What is asked of vLLM and how its answers are put together; and, where it is installed, vLLM.

The contract runs in an environment that has vLLM and pytest, with this project on its path.
"""

import gc
import importlib.util
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Olmo3Config,
    Olmo3ForCausalLM,
    PreTrainedTokenizerFast,
)

from scoring.encoding import Span
from scoring.engine import PairScores, PrefixScorer
from scoring.items import read_items
from scoring.loading import Compute
from scoring.sweep import SweepRequest, sweep
from scoring.trie import make_plan, plan_scoring
from scoring.vllm_backend import MOST_WANTED, VllmScorer, per_token, requests_of, start_engine
from windows.checkpoints.folder import Checkpoint
from windows.errors import ConfigError, DataError
from windows.progress import Reporter
from windows.workers import WorkerPool

# Where vLLM is installed, its imports and engines warn of much that is its own.
pytestmark = pytest.mark.filterwarnings("ignore") if importlib.util.find_spec("vllm") else []

VOCABULARY = 200
LONGEST = 320
SHARED = 200
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "intermediate_size": 64,
    "max_position_embeddings": LONGEST,
    "initializer_range": 0.3,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SLIDING = {"sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"]}


def of(name: str) -> Any:
    torch.manual_seed(5)
    if name == "llama":
        return LlamaForCausalLM(LlamaConfig(**SIZES)).eval()
    return Olmo3ForCausalLM(Olmo3Config(**SIZES, **SLIDING)).eval()


def words() -> Any:
    vocabulary = {"t0": 0, "<bos>": 1, "<eos>": 2}
    vocabulary |= {f"t{i}": i for i in range(3, VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="t0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 1)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>")


def pairs(shared: int) -> tuple[list[str], list[list[str]]]:
    """Questions behind one long prefix; answers of some tokens, and of one token of very many."""
    rng = np.random.default_rng(0)

    def text(length: int) -> str:
        return " ".join(f"t{i}" for i in rng.integers(3, VOCABULARY, size=length))

    block = text(shared)
    prompts = [f"{block} {text(1 + i)}" for i in range(6)]
    answers = [[f" {text(1 + i % 3)} t4", f" {text(2)} t4", " t0 t4"] for i in range(6)]
    return prompts, [*answers[:-1], [f" t{i}" for i in range(3, 4 + MOST_WANTED)]]


def plain(model: Any, context: list[int]) -> Any:
    with torch.no_grad():
        return model(input_ids=torch.tensor([context])).logits[0, -1].double().log_softmax(-1)


Sequences = st.lists(
    st.tuples(
        st.lists(st.integers(0, 2), min_size=1, max_size=5),
        st.lists(st.integers(0, 3), min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=8,
)


def span(prompt: list[int], answer: list[int]) -> Span:
    key = np.array(prompt + answer, dtype=">u4").tobytes()
    return Span(key, len(prompt), len(answer), len(answer), "joined")


@given(Sequences, st.integers(1, 30))
def test_every_scored_token_is_asked_after_its_own_context(
    sequences: list[tuple[list[int], list[int]]], token_budget: int
) -> None:
    plan = make_plan([[span(*s)] for s in sequences], token_budget=token_budget, max_reads=16)
    asked = list(requests_of(plan))
    assert {(tuple(r.context), token) for r in asked for token in r.wanted} == {
        (tuple(prompt + answer[:i]), answer[i])
        for prompt, answer in sequences
        for i in range(len(answer))
    }
    where = [(r.pack, token, *r.context) for r in asked for token in r.wanted]
    assert len(where) == len(set(where)), "asked twice"
    said = {
        (r.pack, r.row, token): float(hash((*r.context, token)) % 1000)
        for r in asked
        for token in r.wanted
    }
    found = per_token(plan, said)
    for pair, (prompt, answer) in zip(plan.pairs, sequences, strict=True):
        assert found[plan.bounds[pair] : plan.bounds[pair + 1]].tolist() == [
            hash((*prompt, *answer[: i + 1])) % 1000 for i in range(len(answer))
        ]


def test_many_ids_after_one_context_are_asked_in_parts() -> None:
    wanted = list(range(2 * MOST_WANTED + 1))
    plan = make_plan([[span([7], [i]) for i in wanted]], token_budget=9, max_reads=16)
    asked = list(requests_of(plan))
    assert [len(r.wanted) for r in asked] == [MOST_WANTED, MOST_WANTED, 1]
    assert {(r.pack, r.row, *r.context) for r in asked} == {(0, 0, 7)}
    assert [i for r in asked for i in r.wanted] == wanted


def test_a_model_that_answers_the_requests_one_by_one_gives_the_scores_of_packing() -> None:
    model, tokenizer = of("olmo3"), words()
    plan = plan_scoring(tokenizer, *pairs(shared=30), token_budget=60)
    assert len(plan.packs) > 1
    said = {}
    for request in requests_of(plan):
        found = plain(model, request.context)
        said |= {(request.pack, request.row, i): float(found[i]) for i in request.wanted}
    sums = np.add.reduceat(per_token(plan, said), plan.bounds[:-1])[plan.pairs]
    assert np.abs(sums - PrefixScorer(model, tokenizer).run(plan).logprob).max() < 1e-4


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm_one_line_says_what_to_do(tmp_path: Path) -> None:
    for call in (VllmScorer, start_engine):
        with pytest.raises(ConfigError, match="No module named 'vllm'; make it one of its own: "):
            call(tmp_path)


@pytest.fixture(autouse=True, scope="module")
def collected() -> Iterator[None]:
    """What an engine leaves open warns when it is collected: let that be under this file's mark."""
    yield
    gc.collect()


class Contract:
    """One model under both, and what `PrefixScorer` said before vLLM was loaded."""

    def __init__(self, scorer: VllmScorer, plan: Any, expected: PairScores) -> None:
        self.scorer, self.plan, self.expected = scorer, plan, expected


@pytest.fixture(scope="module", params=["llama", "olmo3"])
def contract(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contract]:
    pytest.importorskip("vllm", reason="vLLM wants an environment of its own")
    path = tmp_path_factory.mktemp(request.param)
    model, tokenizer = of(request.param), words()
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    plan = plan_scoring(tokenizer, *pairs(SHARED))
    expected = PrefixScorer(model, tokenizer).run(plan)
    llm = start_engine(path, enforce_eager=True, kv_cache_memory_bytes=2**26)
    with closing(VllmScorer(llm)) as scorer:
        yield Contract(scorer, plan, expected)


@pytest.mark.slow
def test_vllm_gives_the_scores_of_packing(contract: Contract) -> None:
    for _cold_then_cached in range(2):
        got = contract.scorer.run(contract.plan)
        assert np.abs(got.logprob - contract.expected.logprob).max() < 1e-3
        assert np.abs(got.mean_p - contract.expected.mean_p).max() < 1e-3
        assert got.logprob.max() <= 0
    assert contract.expected.logprob.std() > 2, "flat"


@pytest.mark.slow
def test_the_engines_own_tokenizer_encodes_alike(contract: Contract) -> None:
    prompts, answers = pairs(SHARED)
    scores = contract.scorer.score(prompts, answers)
    assert [len(own) for own in scores] == [len(own) for own in answers]
    flat = [score for own in scores for score in own]
    assert np.abs(np.array(flat) - contract.expected.logprob).max() < 1e-3
    assert {type(score) for score in flat} == {float}


@pytest.mark.slow
def test_prefixes_are_read_from_the_cache_which_prompt_logprobs_would_not(
    contract: Contract,
) -> None:
    vllm = pytest.importorskip("vllm")
    contract.scorer.run(contract.plan)
    last = list(requests_of(contract.plan))[-1]
    prompt = {"prompt_token_ids": last.context}
    cached = []
    for more in ({"logprob_token_ids": last.wanted}, {"prompt_logprobs": 0}):
        params = vllm.SamplingParams(temperature=0.0, max_tokens=1, detokenize=False, **more)
        (output,) = contract.scorer.llm.generate([prompt], [params], use_tqdm=False)
        cached.append(output.num_cached_tokens)
    assert cached[0] >= SHARED // 2
    assert cached[1] == 0


@pytest.mark.slow
def test_what_leaves_no_room_is_refused(contract: Contract) -> None:
    fits, over = " ".join(["t5"] * (LONGEST - 3)), " ".join(["t5"] * (LONGEST - 2))
    assert contract.scorer.score([fits], [[" t6 t7"]])[0][0] < 0
    with pytest.raises(DataError, match=f"{LONGEST} tokens of at most {LONGEST - 1}"):
        contract.scorer.score([over], [[" t6 t7"]])


@pytest.mark.slow
def test_an_engine_that_returns_logits_is_refused(
    contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contract.scorer.llm.model_config, "logprobs_mode", "raw_logits")
    with pytest.raises(ConfigError, match="got raw_logits"):
        VllmScorer(contract.scorer.llm)


@pytest.mark.slow
def test_a_folder_that_vllm_cannot_run_is_refused_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="vLLM wants an environment of its own")
    of("llama").save_pretrained(tmp_path)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace("LlamaForCausalLM", "NoSuchForCausalLM"))
    words().save_pretrained(tmp_path)
    with pytest.raises(DataError, match="vLLM cannot start on this checkpoint") as refusal:
        start_engine(tmp_path)
    assert "\n" not in str(refusal.value)


@pytest.mark.slow
def test_a_sweep_under_vllm_gives_the_tables_of_transformers(tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="vLLM wants an environment of its own")
    path = tmp_path / "stage1-step5"
    of("llama").save_pretrained(path)
    words().save_pretrained(path)
    request = SweepRequest(("successive_answer/addition",), "label", 1, 1)
    tables = []
    for backend in ("transformers", "vllm"):
        options = (("enforce_eager", True), ("kv_cache_memory_bytes", 2**26))
        compute, out = Compute(backend=backend, options=options), tmp_path / backend
        with WorkerPool(0) as pool:
            targets = [Checkpoint("run", "stage1", 5, path)]
            sweep(targets, request, out, pool, Reporter(quiet=True), compute=compute)
        tables.append(read_items(out))
    ours, theirs = tables
    assert ours.drop("^(lp|mean_p)_.*$").equals(theirs.drop("^(lp|mean_p)_.*$"))
    for name in ("lp_right", "lp_parrot"):
        assert (ours[name] - theirs[name]).abs().max() < 1e-3
