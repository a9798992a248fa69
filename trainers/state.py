"""What a trainer holds between two steps, and the checkpoint folder it is kept in."""

import base64
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import Olmo3Config, Olmo3ForCausalLM

from scoring.sweep import load_model
from trainers.settings import ModelSection, OptimizerSection
from windows.checkpoints.folder import OPTIMIZER, TRAINER, check_safetensors
from windows.errors import DataError
from windows.files import atomic_path
from windows.run import TokenizerFields

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")
# What tokenizers of transformers save; a folder holds some of them.
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
)


@dataclass
class TrainingState:
    """A model and its optimizer between two steps.

    Attributes
    ----------
    step
        Optimizer steps taken; the checkpoint written now is called after it.
    next_batch
        The batch to be read next, 0-based, of the data that the steps read.
    """

    model: Any
    optimizer: torch.optim.Optimizer
    step: int
    next_batch: int


def new_state(
    model: ModelSection, optimizer: OptimizerSection, tokenizer: TokenizerFields, *, seed: int
) -> TrainingState:
    """Make an `Olmo3ForCausalLM` with weights drawn from `seed`, at step 0.

    Seeds torch's own generator, the only one that weights and dropout are drawn from.
    """
    torch.manual_seed(seed)
    config = Olmo3Config(
        vocab_size=tokenizer.vocab_size,
        hidden_size=model.hidden_size,
        intermediate_size=model.intermediate_size,
        num_hidden_layers=model.layers,
        num_attention_heads=model.heads,
        num_key_value_heads=model.heads,
        max_position_embeddings=model.max_positions,
        initializer_range=model.initializer_range,
        rope_theta=model.rope_theta,
        # A sliding window is longer than any sequence here; full attention says the same, plainly.
        layer_types=["full_attention"] * model.layers,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_id,
        eos_token_id=tokenizer.eos_id,
        bos_token_id=tokenizer.bos_id,
    )
    made = Olmo3ForCausalLM(config).train()
    return TrainingState(made, _adamw(made, optimizer), step=0, next_batch=0)


def _adamw(model: Any, section: OptimizerSection) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        model.parameters(), lr=0.0, betas=section.betas, weight_decay=section.weight_decay
    )


def save_state(state: TrainingState, folder: Path, *, tokenizer: Path) -> None:
    """Write a checkpoint folder that `transformers` loads and that training resumes from.

    Parameters
    ----------
    folder
        Must not exist yet; it appears whole or not at all.
    tokenizer
        Folder with the tokenizer's files, copied beside the weights.
    """
    transformers.logging.disable_progress_bar()
    record = {
        "step": state.step,
        "next_batch": state.next_batch,
        "rng": base64.b64encode(torch.get_rng_state().numpy().tobytes()).decode("ascii"),
    }
    with atomic_path(folder) as aside:
        aside.mkdir()
        state.model.save_pretrained(aside)
        for name in _tokenizer_files(tokenizer):
            shutil.copyfile(tokenizer / name, aside / name)
        save_file(_moments(state), aside / OPTIMIZER)
        (aside / TRAINER).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _tokenizer_files(folder: Path) -> list[str]:
    names = [name for name in _TOKENIZER_FILES if (folder / name).is_file()]
    if not names:
        raise DataError(
            "no tokenizer to go with the checkpoint",
            where=str(folder),
            do="put the tokenizer's files, as transformers saves them, beside the base checkpoint",
        )
    return names


def _moments(state: TrainingState) -> dict[str, torch.Tensor]:
    return {
        f"{name}/{moment}": torch.as_tensor(state.optimizer.state[parameter][moment])
        for name, parameter in state.model.named_parameters()
        for moment in _MOMENTS
        if parameter in state.optimizer.state
    }


def load_state(
    folder: Path, optimizer: OptimizerSection, *, with_optimizer: bool = True
) -> TrainingState:
    """Read a checkpoint folder back, ready for its next step.

    Parameters
    ----------
    with_optimizer
        Take over optimizer state, counts and torch's random state; without it the counts are 0, and
        the optimizer and torch's generator are left to the caller as they are.

    Raises
    ------
    DataError
        The weights, or the optimizer state where it is asked for, are absent, cut short, or another
        model's.
    """
    model = load_model(folder)[0].train()
    state = TrainingState(model, _adamw(model, optimizer), step=0, next_batch=0)
    if with_optimizer:
        _restore(state, folder)
    return state


def _restore(state: TrainingState, folder: Path) -> None:
    for name in (OPTIMIZER, TRAINER):
        if not (folder / name).is_file():
            raise DataError(
                f"the checkpoint has no {name}",
                where=str(folder),
                do="take one that was saved with its optimizer state; arms can do without it "
                "(training.init: weights)",
            )
    check_safetensors(folder / OPTIMIZER)
    _restore_moments(state, load_file(folder / OPTIMIZER), folder / OPTIMIZER)
    _restore_record(state, folder / TRAINER)


def _restore_moments(state: TrainingState, moments: dict[str, torch.Tensor], path: Path) -> None:
    parameters = dict(state.model.named_parameters())
    for name, parameter in parameters.items():
        own = {moment: moments.pop(f"{name}/{moment}", None) for moment in _MOMENTS}
        shapes = [None if tensor is None else tensor.shape for tensor in own.values()]
        # A parameter that no step has given a gradient has no moments.
        if shapes == [parameter.shape, parameter.shape, torch.Size()]:
            state.optimizer.state[parameter] = own
        elif any(tensor is not None for tensor in own.values()):
            raise _not_its_optimizer(path, name)
    if moments:
        raise _not_its_optimizer(path, min(moments))


def _not_its_optimizer(path: Path, name: str) -> DataError:
    return DataError(
        "the optimizer state is not that of this checkpoint's model",
        where=str(path),
        got=f"moments of {name}",
        do="restore the checkpoint",
    )


def _restore_record(state: TrainingState, path: Path) -> None:
    try:
        record = json.loads(path.read_bytes())
        state.step, state.next_batch = int(record["step"]), int(record["next_batch"])
        rng = bytearray(base64.b64decode(record["rng"]))
        torch.set_rng_state(torch.frombuffer(rng, dtype=torch.uint8))
    except (ValueError, LookupError, TypeError, RuntimeError) as error:
        raise DataError(
            "the trainer's record is damaged or cut short",
            where=str(path),
            got=" ".join(str(error).split()),
            do="restore the checkpoint",
        ) from error


def learning_rate(state: TrainingState, lr: float) -> None:
    """Set the learning rate of the next step."""
    for group in state.optimizer.param_groups:
        group["lr"] = lr
