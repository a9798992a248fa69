"""Every predictor against a direct computation: explicit gradients, numpy's SVD, loops."""

import math
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel, Olmo3Config, Olmo3ForCausalLM

from scoring.loading import load_model
from scoring.sweep import SweepRequest, sweep
from trainers.predictors import (
    PREDICTED,
    PREDICTORS,
    PredictorRequest,
    abs_cosine,
    examples_of,
    participation_ratio,
    predictor_cost,
    predictor_table,
    rankme,
    read_predictors,
    spectrum,
)
from trainers.representations import Example, activation_grams, gradient_grams
from windows.checkpoints.folder import catalog
from windows.errors import ConfigError, DataError
from windows.progress import Reporter
from windows.workers import WorkerPool

BUDGET = 1 << 30


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def olmo() -> Any:
    config = Olmo3Config(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        layer_types=["sliding_attention", "full_attention"],
        sliding_window=3,
        max_position_embeddings=32,
        initializer_range=0.3,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=1,
    )
    return Olmo3ForCausalLM(config)


def gpt2() -> Any:
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32, "vocab_size": 50}
    return GPT2LMHeadModel(
        GPT2Config(**sizes, initializer_range=0.3, bos_token_id=1, eos_token_id=1)
    )


@pytest.fixture(scope="module", params=[olmo, gpt2])
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    return request.param()


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    rng = np.random.default_rng(1)
    return [
        Example(tuple(rng.integers(2, 50, 4 + k).tolist()), tuple(rng.integers(2, 50, 1 + k % 3)))
        for k in range(5)
    ]


def explicit_gradients(model: Any, examples: list[Example], layer: int) -> np.ndarray:
    """One row an example: an ordinary backward pass over the chain rule of probabilities."""
    model.eval()
    name = f".{layer}."
    rows = []
    for example in examples:
        model.zero_grad()
        loss = 0.0
        for at, token in enumerate(example.answer):
            ids = torch.tensor([[*example.prompt, *example.answer[:at]]])
            loss = loss - torch.log_softmax(model(input_ids=ids).logits[0, -1], -1)[int(token)]
        loss.backward()
        own = [p.grad.flatten() for key, p in model.named_parameters() if name in key]
        rows.append(torch.cat(own).double().numpy())
    model.zero_grad()
    return np.stack(rows)


def test_each_predictor_by_explicit_gradients_and_svd(model: Any, examples: list[Example]):
    table = predictor_table(model, examples)
    assert table["predictor"].to_list() == [*PREDICTORS, *PREDICTORS]
    for layer in (0, 1):
        found = dict(table.filter(layer=layer).select("predictor", "value").iter_rows())
        states = residual_stream(model, examples, layer)
        shares = np.linalg.svd(states, compute_uv=False) ** 2
        shares /= shares.sum()
        gradients = explicit_gradients(model, examples, layer)
        curvature = np.linalg.svd(gradients, compute_uv=False) ** 2
        cosines = [abs(a @ b) / math.sqrt((a @ a) * (b @ b)) for a, b in combinations(gradients, 2)]
        expected = {
            "rankme": math.exp(-sum(p * math.log(p) for p in shares)),
            "participation_ratio": 1 / sum(p * p for p in shares),
            "log_tr_f": math.log(sum(float(g @ g) for g in gradients)),
            "sigma1_tr_f": curvature[0] / curvature.sum(),
            "abs_cosine": sum(cosines) / len(cosines),
        }
        assert found == pytest.approx(expected, rel=1e-4)


def residual_stream(model: Any, examples: list[Example], layer: int) -> np.ndarray:
    """Input of the next layer, or of the last norm, at the last token of every prompt."""
    base = model.eval().get_decoder()
    after = [*getattr(base, "layers", getattr(base, "h", ())), getattr(base, "norm", None)]
    after[-1] = after[-1] or base.ln_f
    seen: list[np.ndarray] = []
    hook = after[layer + 1].register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0][0, -1].detach().double().numpy())
    )
    for example in examples:
        model(input_ids=torch.tensor([example.prompt]))
    hook.remove()
    return np.stack(seen)


def test_a_budget_costs_passes_and_changes_nothing(model: Any, examples: list[Example]):
    model.train()
    model.requires_grad_(True)
    next(model.parameters()).requires_grad_(False)
    before = [p.requires_grad for p in model.parameters()]
    whole = gradient_grams(model, examples, (0, 1), budget=BUDGET)
    pieces = gradient_grams(model, examples, (1,), budget=1)
    np.testing.assert_allclose(whole[1], pieces[1], rtol=1e-5)
    assert [p.requires_grad for p in model.parameters()] == before
    assert model.training and all(p.grad is None for p in model.parameters())
    model.requires_grad_(True)


def test_layers_are_measured_by_themselves(model: Any, examples: list[Example]):
    whole = predictor_table(model, examples)
    one = predictor_table(model, examples, layers=[1])
    np.testing.assert_allclose(one["value"], whole.filter(layer=1)["value"], rtol=1e-5)
    order = predictor_table(model, examples[::-1], layers=[1])
    np.testing.assert_allclose(order["value"], one["value"], rtol=1e-5)
    assert set(one["layer"]) == {1}
    for wrong in ([2], [-1], []):
        with pytest.raises(ConfigError, match="no such layer"):
            predictor_table(model, examples, layers=wrong)


def test_what_cannot_be_measured_is_refused(model: Any, examples: list[Example]):
    with pytest.raises(ConfigError, match="two examples"):
        predictor_table(model, examples[:1])
    with pytest.raises(DataError, match="does not"):
        predictor_table(model, [examples[0], Example((3,), (50,))], layers=[0])
    with pytest.raises(DataError, match="a prompt and an answer"):
        Example((3,), ())
    broken = [p.clone() for p in model.parameters()]
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(float("nan"))
    try:
        with pytest.raises(DataError, match="layer 0"):
            activation_grams(model, examples, [0])
    finally:
        with torch.no_grad():
            for p, old in zip(model.parameters(), broken, strict=True):
                p.copy_(old)


def rows(count: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, width))


@given(st.integers(2, 6), st.integers(0, 99))
def test_ranks_of_what_is_known(count: int, seed: int):
    orthogonal = np.linalg.qr(rows(8, 8, seed))[0][:count]
    equal = spectrum(orthogonal @ orthogonal.T)
    assert rankme(equal) == pytest.approx(count) and participation_ratio(equal) == pytest.approx(
        count
    )
    line = np.outer(np.arange(1, count + 1), orthogonal[0])
    single = spectrum(line @ line.T)
    assert rankme(single) == pytest.approx(1) and participation_ratio(single) == pytest.approx(1)
    assert abs_cosine(orthogonal @ orthogonal.T) == pytest.approx(0, abs=1e-12)
    assert abs_cosine(line @ line.T) == pytest.approx(1)


@given(st.integers(2, 7), st.floats(0.01, 100), st.integers(0, 99))
def test_scale_and_rotation_change_no_shape(count: int, scale: float, seed: int):
    own = rows(count, 5, seed)
    turned = scale * own @ np.linalg.qr(rows(5, 5, seed + 1))[0]
    for of in (rankme, participation_ratio):
        assert of(spectrum(turned @ turned.T)) == pytest.approx(of(spectrum(own @ own.T)))
    assert abs_cosine(turned @ turned.T) == pytest.approx(abs_cosine(own @ own.T))
    values = spectrum(own @ own.T)
    assert 1 <= participation_ratio(values) <= rankme(values) * (1 + 1e-9) <= count * (1 + 1e-8)


def test_a_gradient_of_zero_is_aligned_with_none():
    own = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 0.0]])
    assert abs_cosine(own @ own.T) == pytest.approx(1 / 3)


def test_a_sweep_of_predictors_resumes(tiny: Any, tmp_path: Path):
    items = SweepRequest(("normal_control/addition",), "label", 2)
    request = PredictorRequest(items=items, examples=4, layers=(0,))
    checkpoints = catalog(tiny.folder / "checkpoints", "tiny")[:2]

    def run(asked: PredictorRequest) -> None:
        sweep(checkpoints, asked, tmp_path, WorkerPool(0), Reporter(quiet=True))

    run(request)
    whole = read_predictors(tmp_path)
    assert whole.height == 2 * len(PREDICTORS)
    assert whole.columns == PREDICTED.names
    paths = sorted(tmp_path.rglob("*.parquet"))
    lost, kept = paths[0], paths[1]
    lost.unlink()
    stamp = kept.stat().st_mtime_ns
    run(request)
    assert kept.stat().st_mtime_ns == stamp and read_predictors(tmp_path).equals(whole)
    run(PredictorRequest(items=items, examples=5, layers=(0,)))
    assert not read_predictors(tmp_path).equals(whole), "another request's table was kept"
    model, tokenizer = load_model(checkpoints[1].path)
    examples = examples_of(tokenizer, items.blocks("normal_control/addition"), 4)
    direct = predictor_table(model, examples, layers=[0])
    own = whole.filter(step=checkpoints[1].step)
    by_name = dict(own.select("predictor", "value").iter_rows())
    assert by_name == pytest.approx(dict(direct.select("predictor", "value").iter_rows()))


def test_the_price_counts_tokens_and_passes_without_weights(tiny: Any):
    model, tokenizer = load_model(tiny.checkpoint(5))
    items = SweepRequest(("normal_control/addition",), "label", 2)
    request = PredictorRequest(items=items, examples=3)
    tokens = sum(
        len(one.prompt + one.answer)
        for one in examples_of(tokenizer, items.blocks("normal_control/addition"), 3)
    )
    with torch.device("meta"):
        empty = type(model)(model.config)
    found = predictor_cost(empty, tokenizer, request, checkpoints=7)
    parameters = sum(p.numel() for p in model.parameters())
    assert (found.tokens, found.passes, found.checkpoints) == (tokens, 1, 7)
    assert found.flops == 8 * parameters * tokens * 7
    poor = PredictorRequest(items=items, examples=3, budget=1)
    one_each = sum(1 for _ in model.get_decoder().layers.parameters())
    assert predictor_cost(empty, tokenizer, poor).passes == one_each


def test_examples_are_items_with_their_right_answers(tiny: Any):
    _, tokenizer = load_model(tiny.checkpoint(5))
    blocks = SweepRequest(("successive_answer/addition",), "label", 3).blocks(
        "successive_answer/addition"
    )
    known = {(block.prefix + item.prompt, item.right) for block in blocks for item in block.items}
    encoded = {
        (tuple(tokenizer(p)["input_ids"]), tuple(tokenizer(p + a)["input_ids"])) for p, a in known
    }
    few = examples_of(tokenizer, blocks, 6)
    assert len(few) == len(set(few)) == 6
    assert {(one.prompt, one.prompt + one.answer) for one in few} <= encoded
    assert set(examples_of(tokenizer, blocks[::-1], 6)) == set(few)
    assert set(few) < set(examples_of(tokenizer, blocks, 9))
    with pytest.raises(ConfigError, match="at least 2"):
        PredictorRequest(items=SweepRequest(("a/b",), "label", 3), examples=1)
