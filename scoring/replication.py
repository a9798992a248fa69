"""Replication: whether two runs that read the same stream moved alike, window by window.

Two runs that consumed the same instances in the same order (OLMo 3 32B and OLMo Hybrid 7B; the
PolyPythias that share their data's seed) have the stream in common, and neither the optimizer's
noise nor a checkpoint's evaluation. So far as the effects of their windows correlate, the stream
did it. They share the data *and* the order, which this therefore cannot tell apart;
:mod:`scoring.transfer` can.

Compared are ranks. From each window's effect the mean of its neighbours' effects, `REACH` on either
side, is taken first: what moves slowly in both runs, as a learning curve or a schedule does, is no
effect of a window. Without that, two unrelated runs that share a learning curve (an exponential of
three standard deviations that decays over 15 % of the run) are called alike in 24, 73 and 98 % of
simulations of 40, 150 and 680 windows, and with a quadratic trend removed in 3, 8 and 14 %; with
the neighbours removed in 4, 5 and 6 % (2,000 each).

The null shifts one run against the other around the circle, all tasks together, by a block or more
either way: what is left of autocorrelation, and the likeness of tasks, stay as they are. p is
two-sided. Intervals are of a circular block bootstrap over windows. ``tests/bench/replication.py``
counts false positives, power and coverage.

==================  ===============================================================================
``replicated``      the pooled correlation of innovations is positive, with p at most alpha
``underpowered``    it is not, and of so many windows a correlation of interest would not have been
                    seen with the stated power
``not-replicated``  it is not, and one of interest would have been
==================  ===============================================================================
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from scoring.block_bootstrap import (
    block_length,
    block_shares,
    correlation_interval,
    fisher,
    resampled_correlations,
)
from scoring.hops import false_discovery
from scoring.series import POOLED
from windows.errors import ConfigError, DataError

Array = NDArray[np.float64]
Verdict = Literal["replicated", "not-replicated", "underpowered"]

EFFECTS = ("innovation", "delta")
"""What is compared; the first decides."""

MIN_WINDOWS = 8
POWER = 0.8
REACH = 2
"""How many neighbours on either side are taken for what moves slowly."""

_RESAMPLES = 1_999
_ROUNDING = 1e-9

LIMITS = (
    "What the two runs share is their stream, the same data in the same order; noise of optimizer "
    "and evaluation each has of its own. So a correlation is what the stream did, or what else "
    "changed abruptly at the same place in both, such as a learning rate.",
    "It cannot separate the data from their order, which both runs share: that is for the shuffled "
    "replay to say (modehop transfer).",
)


@dataclass(frozen=True, eq=False)
class Replication:
    """Whether windows did the same in two runs.

    Attributes
    ----------
    verdict
        See the table in the module's docstring.
    effects
        One row a task, by `task` and `effect` (``innovation``, ``delta``), and one of ``pooled``
        for each effect, last, the mean over tasks: `rho`, Spearman's correlation over windows, each
        less its neighbours' mean; `lo`, `hi`; `p`, two-sided; `q` (Benjamini-Hochberg) and `q_by`
        (Benjamini-Yekutieli) over the tasks of an effect, the pooled row by itself; `detectable`,
        the smallest correlation that would be seen with the stated power, 1 where none would;
        `pooled`, whether the task counts in the mean.
    windows
        How many were compared.
    shifts
        How many shifts the null has, the actual alignment left out.
    floor
        The smallest p there can be.
    power
        Of `detectable`.
    sentences
        In words, limits included.
    """

    verdict: Verdict
    effects: pl.DataFrame
    windows: int
    shifts: int
    floor: float
    power: float
    sentences: tuple[str, ...]


def replication(
    first: pl.DataFrame,
    second: pl.DataFrame,
    pairs: Sequence[tuple[str, str]],
    *,
    beside: Collection[str] = (),
    interest: float = 0.3,
    alpha: float = 0.05,
    seed: int = 0,
) -> Replication:
    """Correlate the effects of windows in two runs, task by task and pooled.

    Parameters
    ----------
    first, second
        Columns `window`, `task`, `delta`, `innovation`, as of :mod:`scoring.labels`; one row a
        window and task. Tasks that only one of them has are left out, and so is ``pooled``.
    pairs
        Names of a window of the first run and of the window of the second run that consumed the
        same instances, in the stream's order.
    beside
        Tasks that are shown and not pooled, such as controls.
    interest
        The smallest correlation of interest.
    alpha
        Level of the tests, and 1 - confidence of the intervals.
    seed
        Of the bootstrap.

    Raises
    ------
    DataError
        If there are fewer than eight pairs, no common task to pool, or a pair's window lacks,
        repeats or has no finite effect.
    ConfigError
        If `interest` or `alpha` is not between 0 and 1.
    """
    _check_options(interest, alpha)
    _check_pairs(pairs)
    tasks = _common_tasks(first, second, beside)
    block = block_length(len(pairs))
    shares = block_shares(len(pairs), block, _RESAMPLES, seed)
    tables = []
    for effect in EFFECTS:
        sides = [
            _matrix(table, [pair[side] for pair in pairs], tasks, effect)
            for side, table in enumerate((first, second))
        ]
        found = [
            _compared(x, y, block, shares) for x, y in zip(sides[0].T, sides[1].T, strict=True)
        ]
        tables.append(_effect_table(effect, tasks, beside, found, alpha))
    table = pl.concat(tables)
    judged = table.row(by_predicate=_decides(), named=True)
    verdict = _verdict(judged, interest, alpha)
    shifts = len(pairs) - 2 * block + 1
    return Replication(
        verdict=verdict,
        effects=table,
        windows=len(pairs),
        shifts=shifts,
        floor=1 / (1 + shifts),
        power=POWER,
        sentences=(
            _judgement(verdict, judged, interest),
            _facts(judged, table, len(pairs)),
            *LIMITS,
        ),
    )


def less_neighbours(effects: Array, reach: int = REACH) -> Array:
    """Take from every value of float64[n] the mean of its neighbours, fewer at the ends."""
    count = len(effects)
    index = np.arange(count)
    begin, end = np.maximum(index - reach, 0), np.minimum(index + reach + 1, count)
    sums = np.concatenate([[0.0], np.cumsum(effects)])
    others = (sums[end] - sums[begin] - effects) / (end - begin - 1)
    rest: Array = effects - others
    return rest


@dataclass(frozen=True, eq=False)
class _Compared:
    """One task, or a mean over tasks: correlations at every shift and in every resample.

    Attributes
    ----------
    rho
        The actual one.
    shifted
        float64[K]: at the shifts of the null.
    resampled
        float64[R].
    blocks
        How many blocks the bootstrap draws.
    """

    rho: float
    shifted: Array
    resampled: Array
    blocks: float


def _compared(x: Array, y: Array, block: int, shares: Array) -> _Compared:
    a, b = _ranked(x), _ranked(y)
    count = len(a)
    # All circular shifts at once: the circular cross-correlation of unit vectors.
    everywhere = np.fft.irfft(np.fft.rfft(a) * np.conj(np.fft.rfft(b)), count)
    shifted = everywhere[block : count - block + 1]
    resampled = resampled_correlations(a, b, shares)
    return _Compared(float(a @ b), shifted, resampled, count / block)


def _ranked(effects: Array) -> Array:
    """Return centred ranks of length 1 of what neighbours do not explain; of still effects, 0."""
    largest = np.abs(effects).max()
    # Rounding is no difference, and its order would say something.
    rest = np.round(less_neighbours(effects) / (largest if largest > 0 else 1.0), 9)
    ranks = stats.rankdata(rest) - (len(rest) + 1) / 2
    length = float(np.linalg.norm(ranks))
    ranked: Array = ranks / (length if length > 0 else 1.0)
    return ranked


def _mean(found: Sequence[_Compared]) -> _Compared:
    return _Compared(
        float(np.mean([each.rho for each in found])),
        np.mean([each.shifted for each in found], axis=0),
        np.mean([each.resampled for each in found], axis=0),
        found[0].blocks,
    )


def _effect_table(
    effect: str,
    tasks: Sequence[str],
    beside: Collection[str],
    found: Sequence[_Compared],
    alpha: float,
) -> pl.DataFrame:
    counted = [task not in beside for task in tasks]
    rows = [_row(each, alpha) for each in found]
    p = np.array([row["p"] for row in rows])
    mean = _row(_mean([each for each, counts in zip(found, counted, strict=True) if counts]), alpha)
    frame = pl.DataFrame([*rows, mean])
    return frame.select(
        task=pl.Series([*tasks, POOLED]),
        effect=pl.lit(effect),
        rho="rho",
        lo="lo",
        hi="hi",
        p="p",
        q=pl.Series([*false_discovery(p), mean["p"]]),
        q_by=pl.Series([*false_discovery(p, method="fdr_by"), mean["p"]]),
        detectable="detectable",
        pooled=pl.Series([*counted, True]),
    )


def _row(found: _Compared, alpha: float) -> dict[str, float]:
    lo, hi = correlation_interval(found.rho, found.resampled, found.blocks - 1, alpha)
    as_large = np.count_nonzero(np.abs(found.shifted) >= abs(found.rho) - _ROUNDING)
    return {
        "rho": found.rho,
        "lo": lo,
        "hi": hi,
        "p": (1 + as_large) / (1 + len(found.shifted)),
        "detectable": _detectable(found.shifted, alpha),
    }


def _detectable(shifted: Array, alpha: float) -> float:
    """Return the smallest correlation that exceeds the null's critical value with power `POWER`.

    On Fisher's scale, with the null's own spread for the error.
    """
    allowed = int(alpha * (1 + len(shifted)) + _ROUNDING) - 1
    spread = float(np.sqrt(np.mean(fisher(shifted) ** 2)))
    if allowed < 0 or spread == 0:
        return 1.0
    critical = float(np.sort(np.abs(shifted))[::-1][allowed])
    return float(np.tanh(fisher(critical) + stats.norm.ppf(POWER) * spread))


def _decides() -> pl.Expr:
    return (pl.col("task") == POOLED) & (pl.col("effect") == EFFECTS[0])


def _verdict(row: dict[str, float], interest: float, alpha: float) -> Verdict:
    if row["rho"] > 0 and row["p"] <= alpha:
        return "replicated"
    return "underpowered" if row["detectable"] > interest else "not-replicated"


def _judgement(verdict: Verdict, row: dict[str, float], interest: float) -> str:
    seen = (
        f"a correlation of {row['detectable']:.2f} is the smallest that would be seen with "
        f"{POWER:.0%} power"
    )
    if row["detectable"] >= 1:
        seen = "so few windows cannot show any correlation"
    if verdict == "replicated":
        return f"The effects of windows replicate: windows move the two runs alike ({seen})."
    if verdict == "underpowered":
        return f"Too few windows to say whether their effects replicate: {seen}."
    return (
        f"The effects of windows are not shown to replicate, and a correlation of {interest:g} or "
        f"more would have been: {seen}."
    )


def _facts(row: dict[str, float], table: pl.DataFrame, windows: int) -> str:
    tasks = table.filter(pl.col("effect") == EFFECTS[0], pl.col("pooled")).height - 1
    return (
        f"Rank correlation of innovations, each less its neighbours', over {windows} windows "
        f"that both runs consumed, mean of {tasks} {'task' if tasks == 1 else 'tasks'}: "
        f"{row['rho']:.2f}, interval [{row['lo']:.2f}, {row['hi']:.2f}], two-sided p "
        f"{row['p']:.2g} against circular shifts."
    )


def _check_options(interest: float, alpha: float) -> None:
    for name, value in (("interest", interest), ("alpha", alpha)):
        if not 0 < value < 1:
            raise ConfigError(
                "not between 0 and 1", where=name, got=str(value), do="give a number between them"
            )


def _check_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    if len(pairs) < MIN_WINDOWS:
        raise DataError(
            f"replication needs at least {MIN_WINDOWS} windows that both runs consumed",
            got=str(len(pairs)),
            do="label more of them, in both runs between the same instances",
        )


def _common_tasks(first: pl.DataFrame, second: pl.DataFrame, beside: Collection[str]) -> list[str]:
    """Return the tasks that both tables have, pooled ones first."""
    known = (set(first["task"]) & set(second["task"])) - {POOLED}
    if not known - set(beside):
        raise DataError(
            "the two runs have no task in common that could be pooled",
            got=", ".join(sorted(known)) or "none",
            do="label the same tasks in both studies",
        )
    return sorted(known, key=lambda task: (task in beside, task))


def _matrix(
    table: pl.DataFrame, windows: Sequence[str], tasks: Sequence[str], effect: str
) -> Array:
    """Return float64[n, tasks]: the effect of every window on every task."""
    wanted = pl.DataFrame({"window": windows}).join(pl.DataFrame({"task": tasks}), how="cross")
    rows = table.select("window", "task", effect)
    # Windows and tasks vary as in `wanted`; a doubled row would shift those behind it.
    found = wanted.join(rows, on=["window", "task"], how="left", maintain_order="left")
    values = found[effect].cast(pl.Float64).fill_null(np.nan).to_numpy()
    if len(found) != len(wanted) or not np.isfinite(values).all():
        raise DataError(
            "a window's effect is missing, doubled or not finite",
            where=f"{effect} of windows {windows[0]} to {windows[-1]}",
            got=f"{len(found)} values for {len(windows)} windows and {len(tasks)} tasks",
            do="label both runs again",
        )
    return np.asarray(values.reshape(len(windows), len(tasks)), dtype=np.float64)
