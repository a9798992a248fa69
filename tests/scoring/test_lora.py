"""An adapter in peft's layout against the layers computed apart: W x + s B (A x)."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel

from scoring.generation import Sampling, generate
from scoring.loading import load_model
from scoring.lora import CONFIG, WEIGHTS, is_adapter, load_adapted, merge_adapter
from windows.errors import DataError

RANK = 3
TARGETS = ("model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj")
PLAIN = {"peft_type": "LORA", "r": RANK, "lora_alpha": 12, "base_model_name_or_path": "elsewhere"}


def write_adapter(
    path: Path, model: Any, targets: tuple[str, ...] = TARGETS, **options: object
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Write an adapter of random A and B; return them by module."""
    generator = torch.Generator().manual_seed(4)
    made = {}
    for name in targets:
        weight = model.get_submodule(name).weight
        out, into = (
            weight.shape if hasattr(model.get_submodule(name), "in_features") else (weight.T.shape)
        )
        made[name] = (
            torch.randn(RANK, into, generator=generator),
            torch.randn(out, RANK, generator=generator),
        )
    path.mkdir()
    (path / CONFIG).write_text(json.dumps(PLAIN | options))
    tensors = {
        f"base_model.model.{name}.lora_{side}.weight": tensor
        for name, pair in made.items()
        for side, tensor in zip("AB", pair, strict=True)
    }
    save_file(tensors, path / WEIGHTS)
    return made


def hooked_logits(
    model: Any, made: dict[str, tuple[torch.Tensor, torch.Tensor]], scales: dict[str, float]
) -> torch.Tensor:
    """Logits of the model with its layers' outputs changed, as an unmerged adapter would."""
    hooks = []
    for name, (a, b) in made.items():
        scale = scales[name]
        hooks.append(
            model.get_submodule(name).register_forward_hook(
                lambda _, x, y, a=a, b=b, scale=scale: y + scale * (x[0] @ a.T) @ b.T
            )
        )
    with torch.no_grad():
        logits = model(input_ids=IDS).logits
    for hook in hooks:
        hook.remove()
    return logits


IDS = torch.tensor([[3, 9, 12, 5, 7]])


@pytest.mark.parametrize(
    ("options", "scales"),
    [
        ({}, (4.0, 4.0)),
        ({"use_rslora": True}, (12 / 3**0.5, 12 / 3**0.5)),
        ({"alpha_pattern": {"mlp.down_proj": 6}, "rank_pattern": {"q_proj": 3}}, (4.0, 2.0)),
        ({"alpha_pattern": {"proj": 6}}, (4.0, 4.0)),
    ],
)
def test_a_merged_adapter_computes_what_it_does_beside_its_base(
    tiny: Any, tmp_path: Path, options: dict[str, object], scales: tuple[float, float]
):
    base, _ = load_model(tiny(0))
    made = write_adapter(tmp_path / "adapter", base, **options)
    before = base(input_ids=IDS).logits
    expected = hooked_logits(base, made, dict(zip(TARGETS, scales, strict=True)))
    assert not torch.allclose(expected, before, atol=0.1)
    model, tokenizer = load_adapted(tiny(0), tmp_path / "adapter")
    with torch.no_grad():
        found = model(input_ids=IDS).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    greedy = Sampling(samples=1, temperature=0, max_new_tokens=4, stop="")
    plain = generate(base, tokenizer, ["Q 1 + 2 A"], greedy)
    assert generate(model, tokenizer, ["Q 1 + 2 A"], greedy) != plain


def test_weights_that_are_stored_across(tmp_path: Path):
    torch.manual_seed(0)
    sizes = {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 8, "vocab_size": 20}
    model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)).eval()
    target = "transformer.h.0.attn.c_attn"
    made = write_adapter(tmp_path / "adapter", model, (target,), fan_in_fan_out=True)
    expected = hooked_logits(model, made, {target: 4.0})
    merge_adapter(model, tmp_path / "adapter")
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=IDS).logits, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"peft_type": "IA3"}, "IA3"),
        ({"use_dora": True}, "use_dora"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"r": 2}, "of rank 3, configured as 2"),
        ({"r": "many"}, "configuration"),
        ({"alpha_pattern": {".*": 1}}, "alpha_pattern"),
    ],
)
def test_what_is_not_plain_lora_is_refused(
    tiny: Any, tmp_path: Path, options: dict[str, object], told: str
):
    model, _ = load_model(tiny(0))
    write_adapter(tmp_path / "adapter", model, **options)
    with pytest.raises(DataError, match=told):
        merge_adapter(model, tmp_path / "adapter")


def test_an_adapter_that_does_not_fit_changes_nothing(tiny: Any, tmp_path: Path):
    model, _ = load_model(tiny(0))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    good = write_adapter(tmp_path / "good", model)
    pair = {f"lora_{side}": tensor for side, tensor in zip("AB", good[TARGETS[0]], strict=True)}
    wrong = {
        "model.layers.7.self_attn.q_proj": pair,
        "model.layers.0.mlp.up_proj": pair,
        "model.embed_tokens": pair,
        "lm_head": pair,
        "model.layers.0.self_attn.k_proj": {"lora_A": pair["lora_A"]},
        "model.norm": {"bias": pair["lora_A"]},
    }
    for at, (name, tensors) in enumerate(wrong.items()):
        path = tmp_path / f"adapter{at}"
        path.mkdir()
        (path / CONFIG).write_text(json.dumps(PLAIN))
        first = {f"base_model.model.{TARGETS[0]}.{side}.weight": t for side, t in pair.items()}
        own = {f"base_model.model.{name}.{side}.weight": t.clone() for side, t in tensors.items()}
        save_file(first | own, path / WEIGHTS)
        with pytest.raises(DataError, match="can be merged"):
            merge_adapter(model, path)
    whole = (tmp_path / "good" / WEIGHTS).read_bytes()
    (tmp_path / "good" / WEIGHTS).write_bytes(whole[:-9])
    with pytest.raises(DataError, match="cut short"):
        merge_adapter(model, tmp_path / "good")
    (tmp_path / "good" / CONFIG).unlink()
    with pytest.raises(DataError, match="configuration"):
        merge_adapter(model, tmp_path / "good")
    assert not is_adapter(tmp_path / "good") and is_adapter(tmp_path / "adapter0")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
