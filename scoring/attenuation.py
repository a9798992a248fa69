"""Correlations of series with and without the noise of their clusters, with intervals.

Pearson's, over checkpoints. Noise of the demo seeds makes every such correlation too small, or,
where two series were asked behind the same demonstrations and share some of it, too large. Beside
the raw one stands that of the levels without it: covariances are taken between *different* clusters
only, both of a series with itself and of two series that have the same clusters. That is Spearman's
(1904) correction for attenuation, with a reliability that shared noise does not spoil. It can
exceed 1, and is given only where both reliabilities reach `MIN_RELIABILITY`.

Intervals resample checkpoints in blocks and clusters, together for all series, so that they hold
for means over pairs as well. They speak of other demonstrations and of other stretches of the same
run; not of other runs, and not of other tasks.

Measured, two levels that correlate at 0.5, eight demo seeds, noise of the mean between 3 and 50 %
of a level's variance, own or partly shared (150 simulations each): no bias above 0.02, raw or
corrected. 95 % intervals hold the truth in 97 to 99 % (raw) and 95 to 100 % (corrected) with 60
checkpoints, white or AR(1) of 0.5; in 88 to 92 and 86 to 97 % with 200 at AR(1) of 0.8, for which
blocks of the cube root are short.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from scoring.block_bootstrap import block_length, block_shares, correlation_interval
from scoring.series import ClusterSeries
from windows.errors import ConfigError, DataError

Array = NDArray[np.float64]
Of = Literal["level", "change"]

MIN_CHECKPOINTS = 8
MIN_RELIABILITY = 0.2

_ROUNDING = 1e-12
CORRELATIONS = dict.fromkeys(
    ("r", "lo", "hi", "corrected", "corrected_lo", "corrected_hi"), pl.Float64()
)
"""Columns of a correlation, raw and corrected, with intervals."""


@dataclass(frozen=True)
class Options:
    """How series are compared.

    Attributes
    ----------
    of
        Levels, or changes between neighbouring checkpoints.
    trend
        Degree of the polynomial in the order of checkpoints that is removed first; 0 removes the
        mean alone.
    block
        Checkpoints of a block of the bootstrap; the cube root of their number where absent.
    resamples
        How many.
    alpha
        1 - confidence.
    seed
        Of the bootstrap.
    """

    of: Of = "level"
    trend: int = 0
    block: int | None = None
    resamples: int = 499
    alpha: float = 0.05
    seed: int = 0


class Mean(NamedTuple):
    """The mean over pairs: its correlation, and the same in every resample."""

    r: float
    resampled: Array
    corrected: float
    corrected_resampled: Array
    pairs: int
    corrected_pairs: int
    degrees: float

    def row(self, alpha: float) -> dict[str, float | int | None]:
        """Return it with its intervals."""
        lo, hi = correlation_interval(self.r, self.resampled, self.degrees, alpha)
        row: dict[str, float | int | None] = {"pairs": self.pairs, "r": self.r, "lo": lo, "hi": hi}
        corrected = _corrected_interval(
            self.corrected, self.corrected_resampled, self.degrees, alpha
        )
        return row | corrected | {"corrected_pairs": self.corrected_pairs}


@dataclass(frozen=True, eq=False)
class Compared:
    """Correlations of P pairs of series.

    Attributes
    ----------
    r, corrected
        float64[P]; `corrected` is NaN where it cannot be had.
    reliability
        float64[P, 2].
    resampled, corrected_resampled
        float64[R, P].
    degrees
        Of freedom of the intervals: blocks, less one.
    """

    r: Array
    corrected: Array
    reliability: Array
    resampled: Array
    corrected_resampled: Array
    degrees: float

    def table(self, alpha: float) -> pl.DataFrame:
        """Return one row a pair: correlations with their intervals, reliabilities."""
        rows = []
        for pair in range(len(self.r)):
            row = self.mean([pair]).row(alpha)
            first, second = (float(value) for value in self.reliability[pair])
            row |= {"reliability_first": first, "reliability_second": second}
            rows.append(row)
        reliable = dict.fromkeys(("reliability_first", "reliability_second"), pl.Float64())
        frame = pl.DataFrame(rows, schema_overrides={**CORRELATIONS, **reliable})
        return frame.drop("pairs", "corrected_pairs").fill_nan(None)

    def mean(self, chosen: Sequence[int]) -> Mean:
        """Average pairs, in the whole and in every resample."""
        sound = [pair for pair in chosen if np.isfinite(self.corrected[pair])]
        corrected = self.corrected_resampled[:, sound]
        there = np.isfinite(corrected)
        total, count = np.where(there, corrected, 0.0).sum(axis=1), there.sum(axis=1)
        return Mean(
            r=float(self.r[chosen].mean()),
            resampled=self.resampled[:, chosen].mean(axis=1),
            corrected=float(self.corrected[sound].mean()) if sound else np.nan,
            corrected_resampled=np.where(count > 0, total / np.maximum(count, 1), np.nan),
            pairs=len(chosen),
            corrected_pairs=len(sound),
            degrees=self.degrees,
        )


def compared(
    series: Sequence[ClusterSeries], index: NDArray[np.int64], options: Options
) -> Compared:
    """Correlate pairs of series, int64[P, 2], that have the same number of checkpoints.

    Raises
    ------
    ConfigError
        If `options` leave nothing to correlate.
    """
    values = [_prepared(each.values, options) for each in series]
    count = len(values[0])
    block = _checked_block(count, options)
    groups = _same_clusters(series)
    rng = np.random.default_rng([options.seed, 1])
    equal = [np.full(values[group[0]].shape[1], 1.0) for group in groups]
    r, corrected, reliability = _correlated(values, groups, np.full(count, 1 / count), equal)
    weak = ~(reliability[index].min(axis=1) >= MIN_RELIABILITY)
    raw, without = [], []
    for shares in block_shares(count, block, options.resamples, options.seed):
        drawn = [
            rng.multinomial(len(each), np.full(len(each), 1 / len(each))).astype(np.float64)
            for each in equal
        ]
        again, again_corrected, _ = _correlated(values, groups, shares, drawn)
        raw.append(again[index[:, 0], index[:, 1]])
        without.append(again_corrected[index[:, 0], index[:, 1]])
    whole = corrected[index[:, 0], index[:, 1]]
    return Compared(
        r=r[index[:, 0], index[:, 1]],
        corrected=np.where(weak, np.nan, whole),
        reliability=reliability[index],
        resampled=np.array(raw),
        corrected_resampled=np.array(without),
        degrees=count / block - 1,
    )


def _prepared(values: Array, options: Options) -> Array:
    moved = np.diff(values, axis=0) if options.of == "change" else values
    # A constant offset of the whole series is no part of any covariance, but costs digits.
    centred: Array = moved - moved.mean()
    if options.trend:
        basis = np.linalg.qr(np.vander(np.linspace(-1, 1, len(moved)), options.trend + 1))[0]
        centred = centred - basis @ (basis.T @ centred)
    return centred


def _same_clusters(series: Sequence[ClusterSeries]) -> list[list[int]]:
    """Group series that were asked behind the same demonstrations, or in the same item groups."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, each in enumerate(series):
        groups.setdefault((each.unit, *map(str, each.clusters)), []).append(index)
    return list(groups.values())


def _correlated(
    values: Sequence[Array], groups: Sequence[Sequence[int]], shares: Array, seeds: Sequence[Array]
) -> tuple[Array, Array, Array]:
    """Correlate all K series, checkpoints and clusters weighted.

    Parameters
    ----------
    values
        float64[T, S], S a series' own.
    groups
        Series with the same clusters.
    shares
        float64[T], of sum 1: of the checkpoints.
    seeds
        float64[S] for every group: how often a cluster counts.

    Returns
    -------
    r, corrected
        float64[K, K]; `corrected` is from covariances between different clusters alone, NaN where
        a series has none that is positive.
    reliability
        float64[K]: what of a level's variance is not noise of its clusters.
    """
    levels = np.empty((len(shares), len(values)))
    for group, weights in zip(groups, seeds, strict=True):
        for index in group:
            levels[:, index] = values[index] @ (weights / weights.sum())
    covariance = _covariance(levels, shares)
    between = covariance.copy()
    for group, weights in zip(groups, seeds, strict=True):
        between[np.ix_(group, group)] = _without_same(
            covariance[np.ix_(group, group)], [values[index] for index in group], shares, weights
        )
    variance = np.diag(covariance)
    reliability = np.divide(
        np.diag(between), variance, out=np.full(len(variance), np.nan), where=variance > 0
    )
    return _scaled(covariance, 0.0), _scaled(between, np.nan), reliability


def _covariance(levels: Array, shares: Array) -> Array:
    centred = levels - shares @ levels
    covariance: Array = (centred * shares[:, None]).T @ centred
    # Rounding is no variance.
    still = np.diag(covariance) <= _ROUNDING * (shares @ levels**2)
    covariance[still], covariance[:, still] = 0.0, 0.0
    return covariance


def _without_same(
    covariance: Array, values: Sequence[Array], shares: Array, weights: Array
) -> Array:
    """Leave out of covariances of means what each cluster's series have with one another.

    A mean's covariance is the weighted mean over pairs of clusters, the same one twice included.
    """
    part = weights / weights.sum()
    same = np.zeros_like(covariance)
    for cluster in np.flatnonzero(part):
        own = np.stack([each[:, cluster] for each in values], axis=1)
        same += part[cluster] ** 2 * _covariance(own, shares)
    rest = 1 - float(part @ part)
    if rest <= _ROUNDING:
        return np.full_like(covariance, np.nan)
    different: Array = (covariance - same) / rest
    return different


def _scaled(covariance: Array, undefined: float) -> Array:
    variance = np.diag(covariance)
    scale = np.sqrt(np.where(variance > 0, variance, np.nan))
    scaled: Array = covariance / scale[:, None] / scale
    return np.where(np.isfinite(scaled), scaled, undefined)


def _corrected_interval(
    corrected: float, resampled: Array, degrees: float, alpha: float
) -> dict[str, float | None]:
    """Return the corrected correlation and its interval; it may exceed 1, so by plain errors."""
    names = ("corrected", "corrected_lo", "corrected_hi")
    sound = resampled[np.isfinite(resampled)]
    if not np.isfinite(corrected):
        return dict.fromkeys(names)
    if len(sound) < 0.9 * len(resampled):
        return dict(zip(names, (corrected, None, None), strict=True))
    # Of the middle two thirds: where a resample leaves hardly any variance, the ratio runs off.
    low, high = np.quantile(sound, stats.norm.cdf([-1, 1]))
    half = float(stats.t.isf(alpha / 2, degrees)) * float(high - low) / 2
    return dict(zip(names, (corrected, corrected - half, corrected + half), strict=True))


def check_values(series: Sequence[ClusterSeries]) -> None:
    """Raise a DataError if a series is too short to correlate, or a value is not finite."""
    for each in series:
        count = len(each.values)
        if count < MIN_CHECKPOINTS or not np.isfinite(each.values).all():
            raise DataError(
                f"a correlation needs at least {MIN_CHECKPOINTS} checkpoints of finite values",
                where=f"series of {each.task}",
                got=f"{count} checkpoints",
                do="score more checkpoints, and again what is not finite",
            )


def _checked_block(count: int, options: Options) -> int:
    block = block_length(count) if options.block is None else options.block
    allowed = {
        "trend": (options.trend, 0, count - 4),
        "block": (block, 1, count // 2),
        "resamples": (options.resamples, 2, 10**6),
    }
    for name, (value, least, most) in allowed.items():
        if not least <= value <= most:
            raise ConfigError(
                f"not a way to correlate {count} checkpoints",
                where=name,
                got=str(value),
                do=f"use {least} to {most}",
            )
    if not 0 < options.alpha < 1:
        raise ConfigError(
            "not between 0 and 1", where="alpha", got=str(options.alpha), do="use 0.05"
        )
    return block
