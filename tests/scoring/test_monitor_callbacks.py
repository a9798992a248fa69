from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch


def trained(
    toy: Any, folder: Path, callbacks: list[Any], *, resume: bool = False
) -> tuple[Any, list[float]]:
    """The real Trainer: nine steps, losses logged at every one of them."""
    from transformers import Trainer, TrainingArguments

    rows = [{"input_ids": row, "labels": row} for i in range(9) for row in toy.batch(i)]
    model = toy.model()
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=9,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        logging_steps=1,
        save_steps=4,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        seed=3,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, callbacks=callbacks)
    trainer.train(resume_from_checkpoint=str(folder / "checkpoint-4") if resume else None)
    history = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return model, history


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_transformers_trainer(toy: Any, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    alone, losses = trained(toy, tmp_path / "alone", [])
    monitor = toy.monitor(tmp_path / "a.jsonl", every=4)
    watched, same = trained(toy, tmp_path / "watched", [monitor.transformers_callback()])
    assert losses == same
    for one, other in zip(alone.parameters(), watched.parameters(), strict=True):
        assert torch.equal(one, other)
    rows = toy.lines(monitor.out)
    assert [(r["step"], r["loss"]) for r in rows[::2]] == [
        (0, None),
        (4, losses[3]),
        (8, losses[7]),
    ]
    before = monitor.out.read_bytes()
    again = toy.monitor(monitor.out, every=4)
    trained(toy, tmp_path / "watched", [again.transformers_callback()], resume=True)
    assert monitor.out.read_bytes() == before


def olmo_core_model(toy: Any) -> Any:
    """OLMo 3's architecture, tiny, with a window that is shorter than the prompts."""
    from olmo_core.nn.attention import AttentionBackendName, SlidingWindowAttentionConfig
    from olmo_core.nn.transformer import TransformerBlockType, TransformerConfig

    torch.manual_seed(5)
    config = TransformerConfig.llama_like(
        d_model=32,
        vocab_size=len(toy.words),
        n_layers=4,
        n_heads=4,
        block_name=TransformerBlockType.reordered_norm,
        qk_norm=True,
        layer_norm_eps=1e-6,
        hidden_size_multiplier=1.5,
        attn_backend=AttentionBackendName.torch,
        sliding_window=SlidingWindowAttentionConfig(
            force_full_attention_on_first_layer=False,
            force_full_attention_on_last_layer=True,
            pattern=[6, 6, 6, -1],
        ),
    )
    return config.build(init_device="cpu")


def olmo_core_trained(toy: Any, folder: Path, callbacks: dict[str, Any]) -> Any:
    """OLMo-core's real Trainer: six steps."""
    from olmo_core.data import DataCollator, NumpyFSLDatasetConfig, TokenizerConfig
    from olmo_core.data.data_loader import NumpyDataLoaderBase
    from olmo_core.optim import AdamWConfig
    from olmo_core.train import Duration, TrainerConfig
    from olmo_core.train.train_module import TransformerTrainModuleConfig

    tokens = np.random.default_rng(0).integers(2, len(toy.words), 800)
    tokens.astype(np.uint32).tofile(folder / "a.npy")
    dataset = NumpyFSLDatasetConfig(
        paths=[str(folder / "a.npy")],
        tokenizer=TokenizerConfig(vocab_size=len(toy.words), eos_token_id=1, pad_token_id=0),
        work_dir=str(folder / "work"),
        sequence_length=16,
    ).build()
    dataset.prepare()
    loader = NumpyDataLoaderBase.wrap_numpy_dataset(
        dataset,
        global_batch_size=64,
        collator=DataCollator(pad_token_id=0, vocab_size=len(toy.words)),
        dp_world_size=1,
        dp_rank=0,
    )
    module = TransformerTrainModuleConfig(
        rank_microbatch_size=64, max_sequence_length=16, optim=AdamWConfig(lr=1e-2)
    ).build(olmo_core_model(toy), device=torch.device("cpu"))
    trainer = TrainerConfig(
        save_folder=str(folder / "save"),
        save_overwrite=True,
        max_duration=Duration.steps(6),
        metrics_collect_interval=1,
        device="cpu",
        callbacks=callbacks,
        no_checkpoints=True,
        no_evals=True,
    ).build(module, loader)
    trainer.fit()
    return module.model


def test_the_twin_of_an_olmo_core_model_follows_it(toy: Any) -> None:
    from scoring.monitor_callbacks import olmo_core_twin

    model = olmo_core_model(toy)
    state = torch.get_rng_state()
    twin = olmo_core_twin(model)
    assert torch.equal(state, torch.get_rng_state())
    tokens = toy.batch(0)
    for _ in range(2):
        with torch.no_grad():
            expected = model(tokens)
            found = twin()(input_ids=tokens).logits
        assert (found - expected).abs().max() < 1e-4
        assert all(p.requires_grad for p in model.parameters())
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_olmo_core_trainer(toy: Any, tmp_path: Path) -> None:
    monitor = toy.monitor(tmp_path / "a.jsonl", every=3)
    watched = olmo_core_trained(toy, tmp_path, {"monitor": monitor.olmo_core_callback()})
    alone = olmo_core_trained(toy, tmp_path, {})
    for one, other in zip(alone.parameters(), watched.parameters(), strict=True):
        assert torch.equal(one, other)
    rows = toy.lines(monitor.out)
    assert [row["step"] for row in rows[::2]] == [0, 3, 6]
    assert [row["loss"] is None for row in rows[::2]] == [True, False, False]
    assert rows[0]["margin"] != rows[-2]["margin"]
