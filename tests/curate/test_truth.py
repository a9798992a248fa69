"""Labels held against a truth small enough to be worked out by hand."""

from math import log
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from curate.truth import check_truth, window_composition
from windows.planted import TRUTH
from windows.run import Window


def window(first: int, end: int, tokens: int = 100) -> Window:
    return Window(f"stage1-{first}:{end}", "stage1", first, end, first, end, tokens)


def write(folder: Path, rows: list[tuple[int, int, str]]) -> None:
    """Write a truth of (batch, tokens, type)."""
    pl.DataFrame(
        {
            "batch": [batch for batch, _, _ in rows],
            "instance": range(len(rows)),
            "start": [3 * row for row in range(len(rows))],
            "end": [3 * row + tokens for row, (_, tokens, _) in enumerate(rows)],
            "type": [kind for _, _, kind in rows],
        }
    ).write_parquet(folder / TRUTH)


def test_the_composition_is_that_of_the_windows_own_tokens(tmp_path: Path):
    write(
        tmp_path,
        [
            (0, 50, "break"),  # before the first window
            (1, 20, "break"),
            (1, 10, "succ"),
            (2, 20, "break"),
            (2, 50, "repbreak"),
            (3, 9, "succ"),  # the second window's first batch
            (3, 41, "rep"),
            (4, 30, "succ"),
            (5, 90, "succ"),  # behind the last window
        ],
    )
    found = window_composition(tmp_path, [window(1, 3), window(3, 5), window(6, 8)])
    expected = [log(0.40 + 0.01) - log(0.10 + 0.01), log(0.01) - log(0.39 + 0.01), 0.0]
    assert found == pytest.approx(expected)


def test_shares_are_of_the_windows_tokens(tmp_path: Path):
    write(tmp_path, [(0, 20, "break")])
    (found,) = window_composition(tmp_path, [window(0, 1, tokens=200)])
    assert found == pytest.approx(log(0.11 / 0.01))


def test_correlations_are_with_the_own_the_previous_and_of_the_truth(tmp_path: Path):
    # Compositions rank 1, 3, 2, 5, 4.
    write(tmp_path, [(batch, 10 * rank, "break") for batch, rank in enumerate([1, 3, 2, 5, 4])])
    windows = [window(batch, batch + 1) for batch in range(5)]
    check = check_truth(tmp_path, windows, np.array([0.1, 0.2, 0.3, 0.4, 0.5]))
    assert np.argsort(np.argsort(check.composition)).tolist() == [0, 2, 1, 4, 3]
    # Spearman's rho is 1 - 6 sum d^2 / (n (n^2 - 1)).
    assert check.rho == pytest.approx(1 - 6 * (0 + 1 + 1 + 1 + 1) / (5 * 24))
    # Strengths 2..5 rank 1, 2, 3, 4 against 1, 3, 2, 4.
    assert check.rho_previous == pytest.approx(1 - 6 * (0 + 1 + 1 + 0) / (4 * 15))
    # 3, 2, 5, 4 ranks 2, 1, 4, 3 against 1, 3, 2, 4.
    assert check.autocorrelation == pytest.approx(1 - 6 * (1 + 4 + 4 + 1) / (4 * 15))


def test_a_perfect_label_and_its_opposite(tmp_path: Path):
    write(tmp_path, [(batch, 5 + 3 * batch, "succ") for batch in range(6)])
    windows = [window(batch, batch + 1) for batch in range(6)]
    strength = window_composition(tmp_path, windows)
    assert check_truth(tmp_path, windows, strength).rho == pytest.approx(1)
    assert check_truth(tmp_path, windows, -strength).rho == pytest.approx(-1)
