"""Models from folders: as they were saved, in the precision asked for, and refusals in one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, Gemma2Config, Gemma2ForCausalLM, Olmo3ForCausalLM

from scoring.engine import PrefixScorer
from scoring.loading import Compute, load_model
from windows.errors import ConfigError, ModehopError

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")


def test_weights_and_words_are_those_that_were_saved(tiny: Callable[[int], Path]) -> None:
    path = tiny(1000)
    model, tokenizer = load_model(path)
    saved = Olmo3ForCausalLM.from_pretrained(path)
    assert model.dtype == torch.float32 and not model.training
    assert model.config._attn_implementation == "sdpa"
    assert all(
        torch.equal(weight, model.get_parameter(name)) for name, weight in saved.named_parameters()
    )
    prompt = "Q 3 + 4 A 7 \n Q"
    assert (
        tokenizer(prompt)["input_ids"] == AutoTokenizer.from_pretrained(path)(prompt)["input_ids"]
    )


def test_bfloat16_rounds_the_weights(tiny: Callable[[int], Path]) -> None:
    model, _ = load_model(tiny(1000), dtype="bfloat16", device="cpu")
    saved, _ = load_model(tiny(1000))
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert all(
        torch.equal(weight.bfloat16(), model.get_parameter(name))
        for name, weight in saved.named_parameters()
    )


def test_which_device_auto_is() -> None:
    here = "cuda" if torch.cuda.is_available() else "cpu"
    assert Compute("auto", "bfloat16").settled() == Compute(here, "bfloat16")  # type: ignore[arg-type]
    assert Compute("auto").settled(gpus=True) == Compute("cuda")
    assert Compute("auto").settled(gpus=False) == Compute("cpu")
    assert Compute("cpu").settled(gpus=True) == Compute("cpu")


@pytest.mark.parametrize(("name", "value"), [("device", "tpu"), ("dtype", "float16")])
def test_what_cannot_be_computed_with_is_refused(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"compute\.{name}: no {name} to compute with; got"):
        Compute(**{name: value})  # type: ignore[arg-type]


@without_gpu
def test_a_gpu_that_is_not_there(tiny: Callable[[int], Path]) -> None:
    assert load_model(tiny(1000), device="auto")[0].device == torch.device("cpu")
    with pytest.raises(ConfigError, match="there is no GPU that torch can use here; got cuda"):
        load_model(tiny(1000), device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu(tiny: Callable[[int], Path]) -> None:
    prompts, answers = ["Q 3 + 4 A", "Q 2 + 2 A"], [[" 7 \n", " 8 \n"], [" 4 \n"]]
    here, there = (
        PrefixScorer(*load_model(tiny(1000), device=device)).score(prompts, answers)
        for device in ("cpu", "cuda")
    )
    assert np.abs(np.concatenate(here) - np.concatenate(there)).max() < 1e-3


@torch.no_grad()
def test_capped_attention_is_eager(tiny: Callable[[int], Path], tmp_path: Path) -> None:
    """Gemma 2 caps the logits of its attention, which sdpa cannot."""
    torch.manual_seed(5)
    config = Gemma2Config(
        vocab_size=127,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        intermediate_size=48,
        max_position_embeddings=64,
        attn_logit_softcapping=0.5,
        initializer_range=0.3,
    )
    Gemma2ForCausalLM(config).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny(1000) / name, tmp_path)
    model, tokenizer = load_model(tmp_path)
    prompts, answers = ["Q 3 + 4 A", "Q 3 + 5 A"], [[" 7 \n", " 8 \n"], [" 8 \n"]]
    got = PrefixScorer(model, tokenizer).score(prompts, answers)
    for prompt, own, scores in zip(prompts, answers, got, strict=True):
        for answer, score in zip(own, scores, strict=True):
            ids = tokenizer(prompt + answer)["input_ids"]
            logprobs = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0], -1)
            alone = float(logprobs[-3, ids[-2]] + logprobs[-2, ids[-1]])
            assert score == pytest.approx(alone, abs=1e-4)
    model.config._attn_implementation = "sdpa"
    with pytest.raises(ConfigError, match=r"capped attention logits.*attn_implementation='eager'"):
        PrefixScorer(model, tokenizer)


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda p: (p / "model.safetensors").unlink(), "no model.safetensors"),
        (lambda p: (p / "config.json").unlink(), "no config.json"),
        (lambda p: (p / "tokenizer.json").unlink(), "cannot load this checkpoint"),
        (lambda p: cut(p / "model.safetensors"), "cut short"),
        (lambda p: edit(p / "config.json", num_hidden_layers=3, layer_types=None), "lacks weights"),
        (lambda p: edit(p / "config.json", model_type="nothing"), "cannot load this checkpoint"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_folders_that_hold_no_whole_model_are_refused(
    tiny: Callable[[int], Path], tmp_path: Path, harm: Callable[[Path], Any], says: str
) -> None:
    path = tmp_path / "stage1-step0"
    shutil.copytree(tiny(1000), path)
    harm(path)
    with pytest.raises(ModehopError, match=says):
        load_model(path)
