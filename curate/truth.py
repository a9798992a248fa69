"""Labels held against what was planted: for the report's truth panel and the benchmark, only."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from scoring.transfer import spearman
from windows.planted import TRUTH
from windows.run import Window

COMPOSITION = "log (break + 0.01) / (succ + 0.01), shares of the window's tokens"
# Keeps the log-ratio finite where a window holds none of a type.
_OFFSET = 0.01


@dataclass(frozen=True)
class TruthCheck:
    """How labels stand to a planted corpus; Spearman correlations over windows.

    Attributes
    ----------
    composition
        float64[W], log-ratio of the planted shares that promote and those that hinder.
    rho
        Of strength with the window's own composition.
    rho_previous
        Of strength with the previous window's: what a label takes from its neighbour.
    autocorrelation
        Of the composition with its own previous value.
    """

    composition: NDArray[np.float64]
    rho: float
    rho_previous: float
    autocorrelation: float


def check_truth(
    folder: Path, windows: Sequence[Window], strength: NDArray[np.float64]
) -> TruthCheck:
    """Compare label strengths float64[W] with the composition planted in the windows."""
    composition = window_composition(folder, windows)
    return TruthCheck(
        composition,
        rho=spearman(strength, composition),
        rho_previous=spearman(strength[1:], composition[:-1]),
        autocorrelation=spearman(composition[1:], composition[:-1]),
    )


def window_composition(folder: Path, windows: Sequence[Window]) -> NDArray[np.float64]:
    """Return float64[W]: the planted composition of every window, realised and in tokens."""
    documents = pl.read_parquet(folder / TRUTH)
    rows = []
    for window in windows:
        inside = documents.filter(
            pl.col("batch").is_between(window.first_batch, window.end_batch, closed="left")
        )
        tokens = inside.with_columns(tokens=pl.col("end") - pl.col("start"))
        share = {
            kind: float(tokens.filter(pl.col("type") == kind)["tokens"].sum()) / window.tokens
            for kind in ("break", "succ")
        }
        rows.append(np.log(share["break"] + _OFFSET) - np.log(share["succ"] + _OFFSET))
    return np.array(rows)
