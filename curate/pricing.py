"""What a shuffled replay will cost at each dose, before a step is taken."""

from itertools import pairwise
from pathlib import Path
from typing import Any

from curate.study import Study
from scoring.across_runs import training_flops
from scoring.prefetch import Target
from windows.checkpoints.folder import catalog
from windows.checkpoints.weights import count_parameters, weight_files
from windows.run import Window, span

DOSES = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Shares of each window that are priced, beside the study's own."""


def transfer_price(study: Study, checkpoint: Path | None = None) -> list[dict[str, Any]]:
    """Price the shuffled replay of a study at every dose: training only, scoring left out.

    Parameters
    ----------
    checkpoint
        A folder whose weights are counted; by default the first of the run's checkpoints that is
        on this machine. Headers are read, and no tensor.

    Returns
    -------
    list of dict
        By dose: `dose`; `chosen`, whether it is the study's own; `replays`, windows times shuffled
        orders; `batches` and `tokens`, trained in all replays together; `parameters`, those of
        embeddings left out; `flops`, 6 a parameter and token. The last two are None where no
        checkpoint with weights in safetensors is here.

    Raises
    ------
    ConfigError
        The study has no section transfer, or a window jumps over batches.
    """
    section = study.transfer
    windows = [span(study.run_config, first, end) for first, end in pairwise(study.edges)]
    parameters = _parameters(checkpoint or _here(study))
    rows = []
    for dose in sorted({*DOSES, section.dose}):
        batches, tokens = _dosed(windows, dose)
        rows.append(
            {
                "dose": dose,
                "chosen": dose == section.dose,
                "replays": len(windows) * section.shuffles,
                "batches": batches * section.shuffles,
                "tokens": tokens * section.shuffles,
                "parameters": parameters,
                "flops": _flops(parameters, tokens * section.shuffles),
            }
        )
    return rows


def price_words(row: dict[str, Any]) -> str:
    """Say one row of `transfer_price` in a line."""
    line = f"dose {row['dose']:g}: {row['replays']:,} replays, {row['batches']:,} batches"
    line += f" of {row['tokens']:,} tokens in all"
    if row["flops"] is not None:
        line += f", {row['flops']:.2g} FLOPs"
    return line + (" (this study's)" if row["chosen"] else "")


def _dosed(windows: list[Window], dose: float) -> tuple[int, int]:
    """Return the batches and tokens of a dose of every window, each in one order."""
    from trainers.replay import dosed

    batches = [dosed(window, dose) for window in windows]
    # Where a window's batches differ in size, a dose of them is taken for as many mean ones.
    tokens = sum(
        round(window.tokens * count / (window.end_batch - window.first_batch))
        for window, count in zip(windows, batches, strict=True)
    )
    return sum(batches), tokens


def _flops(parameters: int | None, tokens: int) -> float | None:
    return None if parameters is None else training_flops(parameters, tokens)


def _parameters(folder: Path | None) -> int | None:
    count = count_parameters(folder) if folder is not None and weight_files(folder) else 0
    return count or None


def _here(study: Study) -> Path | None:
    """Return the folder of a checkpoint of the study that is on this machine, if there is one."""
    from curate.sweeping import local_checkpoint

    edges, targets = set(study.edges), list[Target](study.released)
    if study.checkpoint_folder is not None:
        targets += catalog(study.checkpoint_folder, study.run.name, study.run.stage)
    return local_checkpoint([each for each in targets if each.step in edges])
