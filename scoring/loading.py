"""Models of transformers from the folders of checkpoints: as data, without running their code."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from windows.checkpoints.folder import validate
from windows.errors import ConfigError, DataError

Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["float32", "bfloat16"]
Backend = Literal["transformers", "vllm"]


@dataclass(frozen=True, slots=True)
class Compute:
    """Where a model computes and how precisely: scores depend on both.

    Attributes
    ----------
    device
        ``cpu``, ``cuda`` (torch's current one), or ``auto``: cuda if there is one.
    dtype
        Of the weights and the layers' outputs; log-probabilities are float32 whatever it is.
    backend
        What runs the model: transformers, or vLLM (log-probabilities only), which has its own idea
        of the device.
    options
        What else ``vllm.LLM`` is given, by name.

    Raises
    ------
    ConfigError
        There is no such device, precision or backend.
    """

    device: Device = "cpu"
    dtype: Dtype = "float32"
    backend: Backend = "transformers"
    options: tuple[tuple[str, int | float | bool | str], ...] = ()

    def __post_init__(self) -> None:
        choices = {"device": Device, "dtype": Dtype, "backend": Backend}
        for name, known in ((name, get_args(choice)) for name, choice in choices.items()):
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"no {name} to compute with",
                    where=f"compute.{name}",
                    got=repr(getattr(self, name)),
                    do=f"use one of {', '.join(known)}",
                )

    def settled(self, *, gpus: bool | None = None) -> "Compute":
        """Say which device ``auto`` is.

        Parameters
        ----------
        gpus
            Whether there is a GPU where it will compute; None to look on this machine.
        """
        if self.device != "auto":
            return self
        if gpus is None:
            import torch

            gpus = torch.cuda.is_available()
        return replace(self, device="cuda" if gpus else "cpu")


FLOAT32_ON_CPU = Compute()


def load_model(path: Path, *, dtype: Dtype = "float32", device: Device = "cpu") -> tuple[Any, Any]:
    """Load a checkpoint folder's model, in evaluation mode, and its tokenizer.

    Attention runs as ``sdpa``, or as ``eager`` where the architecture has no other exact one.

    Parameters
    ----------
    dtype, device
        As of `Compute`.

    Raises
    ------
    DataError
        If a file is absent or cut short, or transformers cannot make a whole model of them.
    ConfigError
        If `device` or `dtype` is unknown, or there is no such device here.
    """
    place = Compute(device, dtype).settled().device
    _check_device(place)
    validate(path)
    try:
        model, told = _read_model(path, dtype)
        tokenizer = _read_tokenizer(path)
    except Exception as error:
        raise DataError(
            "cannot load this checkpoint",
            where=str(path),
            got=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
            do="see that it holds a causal language model and its tokenizer as transformers "
            "saves them",
        ) from error
    # transformers draws what the file lacks at random, and only warns.
    if absent := sorted({*told["missing_keys"], *(key for key, *_ in told["mismatched_keys"])}):
        raise DataError(
            "checkpoint lacks weights of its model",
            where=str(path),
            got=", ".join(absent[:3]) + (f" and {len(absent) - 3} more" if absent[3:] else ""),
            do="fetch it again",
        )
    return model.to(place).eval(), tokenizer


def load_scorer(path: Path, compute: Compute) -> tuple[Any, Any]:
    """Load a checkpoint as questionnaires are given it: a model, or vLLM's scorer; a tokenizer.

    Raises
    ------
    ModehopError
        As `load_model`, or `scoring.vllm_backend.VllmScorer`, does.
    """
    if compute.backend == "transformers":
        return load_model(path, dtype=compute.dtype, device=compute.device)
    from scoring.vllm_backend import VllmScorer, start_engine

    engine = start_engine(path, dtype=compute.dtype, **dict(compute.options))
    scorer = VllmScorer(engine, _read_tokenizer(path))
    return scorer, scorer.tokenizer


def _check_device(device: Device) -> None:
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "there is no GPU that torch can use here",
            where="compute.device",
            got=device,
            do="use cpu or auto, or a machine and a torch with CUDA",
        )


def _read_model(path: Path, dtype: Dtype) -> tuple[Any, dict[str, Any]]:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    model, told = AutoModelForCausalLM.from_pretrained(
        path,
        dtype=getattr(torch, dtype),
        local_files_only=True,
        # Left out, transformers asks on the terminal whether to run a checkpoint's own code.
        trust_remote_code=False,
        # Nothing that could be a pickle is opened.
        use_safetensors=True,
        output_loading_info=True,
    )
    return model, told


def _read_tokenizer(path: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
