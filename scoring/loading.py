"""Models of transformers from the folders of checkpoints: as data, without running their code."""

from pathlib import Path
from typing import Any

from windows.checkpoints.folder import validate
from windows.errors import DataError


def load_model(path: Path) -> tuple[Any, Any]:
    """Load a checkpoint folder's model, in float32 and evaluation mode, and its tokenizer.

    Raises
    ------
    DataError
        If a file is absent or cut short, or transformers cannot make a whole model of them.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    validate(path)
    logging.disable_progress_bar()
    try:
        model, told = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=torch.float32,
            attn_implementation="sdpa",
            local_files_only=True,
            # Left out, transformers asks on the terminal whether to run a checkpoint's own code.
            trust_remote_code=False,
            # Nothing that could be a pickle is opened.
            use_safetensors=True,
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(
            path, local_files_only=True, trust_remote_code=False
        )
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
    return model.eval(), tokenizer
