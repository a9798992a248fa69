"""Whether a predictor goes with a task's series beyond what the best of many layers does by chance.

A predictor has one series a layer. Spearman's correlation of each with the task's series is taken,
and the best layer either way is named; with 36 checkpoints and 64 independent layers the best of
them reaches 0.4 where nothing goes with anything (`expected_best`), which is the random baseline of
Wen, Wu, Song, Chen (2026), section 5.3.

The null keeps what makes such maxima large: the task's series is shifted against the layers' around
the circle, which keeps the autocorrelation of both and the likeness of layers, and the best layer
is chosen anew for every shift. p is the share of the T shifts, the actual one included, whose best
is as good, so that it cannot fall below 1 / T. Pooled over tasks all of them are shifted together.

A trend that both follow, as everything in a run follows the run, is a correlation and no chance,
and the shifts do not take it for one: `trend` removes a polynomial in the checkpoints' order from
both sides first.

Measured, 64 layers and 36 checkpoints: p <= 0.05 in 3, 2 and 4 % of 2,000 simulations where all is
AR(1) of 0, 0.5 and 0.8, but in 14 % (of 400) at 0.95 and 38 % where both are random walks, which no
trend removed mends. Where both follow a linear trend with AR(1) of 0.5 about it, it is 78 %, and
with ``trend=1`` 5 % (of 400). One layer that goes with the series at a correlation of 0.5, 0.6, 0.7
and 0.8 is found in 36, 61, 84 and 97 % of 300 without autocorrelation, in 21, 40, 69 and 91 % at
AR(1) of 0.5.

Intervals are of a circular block bootstrap's error on Fisher's scale, with Student's quantile of as
many degrees of freedom as there are blocks, less one. Their measured coverage at 95 %, 36
checkpoints, blocks of 3: 95 % for white noise, 91 to 93 % at AR(1) of 0.5, 81 % at 0.8. They speak
of the layer as if it had been named before, so that p, not the interval, says that it is more than
the best of many.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from scoring.hops import false_discovery
from scoring.series import POOLED
from windows.errors import ConfigError, DataError

Array = NDArray[np.float64]

MIN_CHECKPOINTS = 8

_CELL = ["task", "predictor", "layer"]
_SIGNS = {"positive": 1.0, "negative": -1.0}
_RESAMPLES = 1_999
# A correlation of 1 in a resample has no place on Fisher's scale.
_NEARLY = 1 - 1e-6

_Key = tuple[str, str, str]
"""Task, predictor, sign."""


@dataclass(frozen=True)
class _Best:
    """The best layer of one predictor for one task, one way.

    Attributes
    ----------
    layer
        Its number; None for a mean over tasks.
    layers
        How many it is the best of.
    shifted
        float64 of shape (T,): the best over layers at every circular shift, the actual one first.
    resampled
        float64 of shape (R,): the correlation of the chosen layer in block resamples.
    """

    layer: int | None
    layers: int | None
    shifted: Array
    resampled: Array


def best_layers(
    predictors: pl.DataFrame,
    series: pl.DataFrame,
    *,
    trend: int = 0,
    block: int | None = None,
    alpha: float = 0.05,
    seed: int = 0,
) -> pl.DataFrame:
    """Name the best layer of every predictor for every task, either way, with its null.

    Parameters
    ----------
    predictors
        `step`, `task`, `layer`, `predictor`, `value`, as of `trainers.predictors.PREDICTED`; of
        one run and stage.
    series
        `task`, `step`, `value`: the task's level at the same checkpoints. Further columns are
        ignored.
    trend
        Degree of the polynomial in the order of checkpoints that is removed from both sides; 0
        removes nothing that ranks see.
    block
        Checkpoints of a block of the bootstrap; the cube root of their number, rounded, where
        absent.
    alpha
        1 - confidence of the intervals, and 1 - level of `null_high`.
    seed
        Of the bootstrap.

    Returns
    -------
    polars.DataFrame
        By `task` (the last is ``pooled``, whose `layer` and `layers` are null and whose figures are
        means over tasks), `predictor` and `sign` (``positive``, ``negative``): `layer`; `rho`;
        `lo`, `hi`; `null`, the mean over shifts of the best layer's correlation; `null_high`, what
        a share alpha of them reaches; `p`, one-sided; `floor`, the smallest p there can be;
        `checkpoints`; `layers`, how many there were to choose from; `q` (Benjamini-Hochberg) and
        `q_by` (Benjamini-Yekutieli), over all tasks, the pooled rows among themselves.

    Raises
    ------
    DataError
        If the two tables are not of the same tasks and checkpoints, a value is doubled, missing or
        not finite, or there are fewer than eight checkpoints.
    ConfigError
        If `trend` or `block` leaves nothing to correlate.
    """
    steps = _checked(predictors, series)
    _check_options(len(steps), trend, block)
    length = round(len(steps) ** (1 / 3)) if block is None else block
    weights = _block_weights(len(steps), length, seed)
    found: dict[_Key, _Best] = {}
    for task, predictor, numbers, values in _matrices(predictors):
        level = series.filter(task=task).sort("step")["value"].cast(pl.Float64).to_numpy()
        own, target = _scored(values, trend), _scored(level[None, :], trend)[0]
        for sign, best in _bests(own, target, numbers, weights).items():
            found[task, predictor, sign] = best
    found |= _pooled(found)
    degrees = len(steps) / length - 1
    rows = [_row(key, best, degrees, alpha) for key, best in found.items()]
    return _adjusted(pl.DataFrame(rows, schema=_SCHEMA))


def expected_best(checkpoints: int, layers: int, *, draws: int = 2_000, seed: int = 0) -> float:
    """Return how well the best of independent layers goes with a series that none goes with.

    The mean of the best correlation, by simulation of independent values, in which only ranks
    matter. Below sqrt(2 log(layers) / checkpoints); 0.40 for 36 checkpoints and 64 layers.
    Layers that are alike lower it, series that are autocorrelated raise it (0.61 at AR(1) of 0.8):
    `best_layers` says what it is for the run at hand.

    Parameters
    ----------
    checkpoints, layers
        How many there are; at least 2 and 1.
    draws
        Of the simulation.
    """
    rng = np.random.default_rng(seed)
    # Against a series whose ranks are those of time, which loses nothing: the layers are shuffled.
    target = _scored(np.arange(float(checkpoints))[None, :], 0)[0]
    best = [
        (_scored(rng.standard_normal((layers, checkpoints)), 0) @ target).max()
        for _ in range(draws)
    ]
    return float(np.mean(best))


_SCHEMA = {
    "task": pl.String,
    "predictor": pl.String,
    "sign": pl.String,
    "layer": pl.Int32,
    "rho": pl.Float64,
    "lo": pl.Float64,
    "hi": pl.Float64,
    "null": pl.Float64,
    "null_high": pl.Float64,
    "p": pl.Float64,
    "floor": pl.Float64,
    "checkpoints": pl.Int64,
    "layers": pl.Int64,
}


def _matrices(predictors: pl.DataFrame) -> Iterator[tuple[str, str, list[int], Array]]:
    """Yield task, predictor, its L layers and their values, float64[L, T]."""
    ordered = predictors.sort(*_CELL, "step")
    for part in ordered.partition_by("task", "predictor", maintain_order=True):
        numbers = part["layer"].unique().sort().to_list()
        values = part["value"].cast(pl.Float64).to_numpy().reshape(len(numbers), -1)
        yield part["task"][0], part["predictor"][0], numbers, values


def _scored(values: Array, trend: int) -> Array:
    """Return centred ranks of length 1, float64[L, T], of what no polynomial in time explains."""
    count = values.shape[1]
    if trend:
        basis = np.linalg.qr(np.vander(np.linspace(-1, 1, count), trend + 1))[0]
        explained = values @ basis @ basis.T
        rest = values - explained
        # What is left of an exact polynomial is rounding, whose order says nothing.
        noise = np.abs(rest).max(axis=1) < 1e-9 * np.abs(values).max(axis=1)
        values = np.where(noise[:, None], 0.0, rest)
    ranks = stats.rankdata(values, axis=1) - (count + 1) / 2
    length = np.linalg.norm(ranks, axis=1, keepdims=True)
    scored: Array = ranks / np.where(length > 0, length, 1.0)
    return scored


def _bests(own: Array, target: Array, numbers: Sequence[int], weights: Array) -> dict[str, _Best]:
    shifted = own @ np.stack([np.roll(target, by) for by in range(len(target))], axis=1)
    found = {}
    for sign, way in _SIGNS.items():
        at = int(np.argmax(way * shifted[:, 0]))
        best = way * (way * shifted).max(axis=0)
        found[sign] = _Best(numbers[at], len(numbers), best, _resampled(own[at], target, weights))
    return found


def _block_weights(count: int, block: int, seed: int) -> Array:
    """Return float64[R, T]: how often every checkpoint is in a resample, as shares.

    Circular block bootstrap (Politis and Romano 1992): blocks start anywhere on the circle.
    """
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, count, (_RESAMPLES, -(-count // block)))
    drawn = (starts[:, :, None] + np.arange(block)).reshape(_RESAMPLES, -1)[:, :count] % count
    flat = drawn + count * np.arange(_RESAMPLES)[:, None]
    counts = np.bincount(flat.ravel(), minlength=_RESAMPLES * count)
    shares: Array = counts.reshape(_RESAMPLES, count) / count
    return shares


def _resampled(x: Array, y: Array, weights: Array) -> Array:
    """Return the correlation of ranks float64[T] in every resample; ranks are not taken anew."""
    moments = weights @ np.stack([x, y, x * x, y * y, x * y], axis=1)
    mean_x, mean_y, square_x, square_y, product = moments.T
    scale = np.sqrt(np.clip((square_x - mean_x**2) * (square_y - mean_y**2), 0.0, None))
    cross = product - mean_x * mean_y
    # Rounding is no spread: a resample of one value says nothing.
    defined = scale > 1e-12
    rho: Array = np.divide(cross, scale, out=np.zeros_like(cross), where=defined)
    return rho


def _pooled(found: dict[_Key, _Best]) -> dict[_Key, _Best]:
    """Average tasks: predictor by predictor, shift by shift, resample by resample."""
    groups: dict[tuple[str, str], list[_Best]] = {}
    for (_, predictor, sign), best in found.items():
        groups.setdefault((predictor, sign), []).append(best)
    return {
        (POOLED, *key): _Best(
            None,
            None,
            np.mean([best.shifted for best in own], axis=0),
            np.mean([best.resampled for best in own], axis=0),
        )
        for key, own in groups.items()
    }


def _row(
    key: _Key, best: _Best, degrees: float, alpha: float
) -> dict[str, str | int | float | None]:
    task, predictor, sign = key
    way, count = _SIGNS[sign], len(best.shifted)
    rho = float(best.shifted[0])
    lo, hi = _interval(rho, best.resampled, degrees, alpha)
    as_good = np.count_nonzero(way * best.shifted >= way * rho - 1e-12)
    return {
        "task": task,
        "predictor": predictor,
        "sign": sign,
        "layer": best.layer,
        "rho": rho,
        "lo": lo,
        "hi": hi,
        "null": float(best.shifted[1:].mean()),
        "null_high": float(way * np.quantile(way * best.shifted[1:], 1 - alpha)),
        "p": as_good / count,
        "floor": 1 / count,
        "checkpoints": count,
        "layers": best.layers,
    }


def _interval(rho: float, resampled: Array, degrees: float, alpha: float) -> tuple[float, float]:
    """Return the interval of a correlation whose error on Fisher's scale is that of resamples."""
    error = float(np.arctanh(np.clip(resampled, -_NEARLY, _NEARLY)).std(ddof=1))
    half = float(stats.t.isf(alpha / 2, degrees)) * error
    z = float(np.arctanh(np.clip(rho, -_NEARLY, _NEARLY)))
    return float(np.tanh(z - half)), float(np.tanh(z + half))


def _adjusted(rows: pl.DataFrame) -> pl.DataFrame:
    pooled = pl.col("task") == POOLED
    return pl.concat([_with_q(rows.filter(~pooled)), _with_q(rows.filter(pooled))])


def _with_q(rows: pl.DataFrame) -> pl.DataFrame:
    p = rows["p"].to_numpy()
    q, q_by = false_discovery(p), false_discovery(p, method="fdr_by")
    return rows.with_columns(q=pl.Series(q), q_by=pl.Series(q_by))


def _checked(predictors: pl.DataFrame, series: pl.DataFrame) -> list[int]:
    """Return the steps of both tables; refuse what is not one value a cell and checkpoint."""
    steps = predictors["step"].unique().sort().to_list()
    if len(steps) < MIN_CHECKPOINTS:
        raise DataError(
            f"a predictor's correlation needs at least {MIN_CHECKPOINTS} checkpoints",
            got=str(len(steps)),
            do="measure more of them",
        )
    own = series.join(predictors.select("task").unique(), on="task", how="semi")
    _refuse_uneven(predictors, _CELL, steps, "predictors")
    _refuse_uneven(own, ["task"], steps, "the tasks' series")
    if absent := sorted(set(predictors["task"]) - set(own["task"])):
        raise DataError(
            "there is no series for a task whose predictors were measured",
            where="the tasks' series",
            got=f"none of {', '.join(absent)}",
            do="score it at the same checkpoints",
        )
    return steps


def _refuse_uneven(table: pl.DataFrame, cell: Sequence[str], steps: list[int], what: str) -> None:
    sound = pl.col("value").cast(pl.Float64).is_finite().fill_null(False).all()
    uneven = (
        table.group_by(cell)
        .agg(pl.col("step").sort(), sound=sound)
        .filter((pl.col("step") != pl.lit(steps, dtype=pl.List(pl.Int64))) | ~pl.col("sound"))
        .sort(cell)
    )
    if uneven.is_empty():
        return
    row = uneven.row(0, named=True)
    raise DataError(
        f"{what} are not one finite value at each of the same checkpoints",
        where=", ".join(f"{name} {row[name]}" for name in cell),
        got=f"{len(row['step'])} values at {len(set(row['step']))} checkpoints of {len(steps)}"
        + ("" if row["sound"] else ", some not finite"),
        do="measure and score the same checkpoints, of one run and stage",
    )


def _check_options(count: int, trend: int, block: int | None) -> None:
    allowed = {"trend": (trend, 0, count - 4), "block": (block, 1, count // 2)}
    for name, (value, least, most) in allowed.items():
        if value is not None and not least <= value <= most:
            raise ConfigError(
                f"not a way to correlate {count} checkpoints",
                where=name,
                got=str(value),
                do=f"use {least} to {most}",
            )
