"""Which windows a mixture takes, and in which order it reads their instances.

Everything here is a function of names, ids and seeds, never of row positions: the same labels in
another row order, or read by another number of workers, give the same mixture.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256

import numpy as np
import numpy.typing as npt
import polars as pl

from curate.settings import SelectSection
from windows.errors import CheckFailed, DataError
from windows.sampling import splitmix64

DRAW_SCHEMA: dict[str, pl.DataType] = {
    "position": pl.Int64(),
    "window": pl.String(),
    "batch": pl.Int64(),
    "instance": pl.Int64(),
    "repetition": pl.Int32(),
}

Integers = npt.NDArray[np.integer]


def choose_windows(
    labels: pl.DataFrame, select: SelectSection, *, seed: int, name: str
) -> tuple[str, ...]:
    """Choose the windows a mixture draws from.

    Parameters
    ----------
    labels
        One row per window: `window` str, `label` str, `first_batch` i64 and `strength` f64, the
        labels of a single task.
    select
        The mixture's own rule.
    seed
        Arm seed; only `by: placebo` depends on it.
    name
        Name of the mixture, so that two placebo mixtures of one study differ.

    Returns
    -------
    tuple of str
        `by: label`: strongest first, fewer than asked where fewer windows carry the label.
        `by: any`: all, in the order of the run. `by: placebo`: in the order of their hash.

    Raises
    ------
    CheckFailed
        No window carries the label.
    DataError
        A window has more than one row, or there are fewer windows than a placebo asks for.
    """
    _refuse_repeated(labels)
    if select.by == "label":
        return _strongest(labels, select, name)
    if select.by == "any":
        return tuple(labels.sort("first_batch", "window")["window"])
    return _placebo(labels["window"].to_list(), select.windows or 0, seed, name)


def draw(
    windows: Sequence[str],
    instances_of: Mapping[str, tuple[Integers, Integers]],
    *,
    seed: int,
    repetitions: int,
) -> pl.DataFrame:
    """Lay the instances of the chosen windows out in training order.

    The order is made of blocks. Pass 1 takes every chosen window once, in an order given by a hash
    of (seed, window, pass), and the instances of each in an order given by a hash of (seed,
    instance, pass); pass 2 does the same anew, and so on.

    Parameters
    ----------
    windows
        Names of the chosen windows, each once.
    instances_of
        Window name -> (batches, instance ids), two integer arrays of equal length, any row order.
    seed
        Arm seed.
    repetitions
        Number of passes, hence the most often any instance occurs.

    Returns
    -------
    polars.DataFrame
        `position` i64 (0, 1, ...), `window` str, `batch` i64, `instance` i64, `repetition` i32
        (1 where an instance is read for the first time).

    Raises
    ------
    DataError
        An instance lies in two of the windows, or twice in one.
    """
    _refuse_shared_instances(windows, instances_of)
    blocks = [
        _block(window, *instances_of[window], seed=seed, repetition=repetition)
        for repetition in range(1, repetitions + 1)
        for window in sorted(
            windows, key=lambda window: (_digest("window", seed, repetition, window), window)
        )
    ]
    table = pl.concat([pl.DataFrame(schema=DRAW_SCHEMA).drop("position"), *blocks])
    return table.select(pl.int_range(pl.len(), dtype=pl.Int64).alias("position"), pl.all())


def _strongest(labels: pl.DataFrame, select: SelectSection, name: str) -> tuple[str, ...]:
    carrying = labels.filter(
        (pl.col("label") == select.label) & pl.col("strength").is_not_null()
    ).filter(pl.col("strength").is_finite())
    if carrying.is_empty():
        raise CheckFailed(
            f"no window is labelled {select.label}, so there is nothing to select",
            where=f"mixtures.{name}.select",
            got=f"labels {_counts(labels)}",
            do="look at the labels first; more demo seeds or longer windows give them more power",
        )
    ranked = carrying.sort(
        "strength", "first_batch", "window", descending=[select.label != "pattern", False, False]
    )
    return tuple(ranked["window"].head(select.windows or len(ranked)))


def _placebo(windows: list[str], number: int, seed: int, name: str) -> tuple[str, ...]:
    if number > len(windows):
        raise DataError(
            "a placebo cannot take more windows than there are",
            where=f"mixtures.{name}.select.windows",
            got=f"{number}, with {len(windows)} windows",
            do=f"ask for at most {len(windows)}",
        )
    ranked = sorted(windows, key=lambda window: (_digest("placebo", name, seed, window), window))
    return tuple(ranked[:number])


def _block(
    window: str, batches: Integers, instances: Integers, *, seed: int, repetition: int
) -> pl.DataFrame:
    order = np.argsort(splitmix64(instances, _digest("instance", seed, repetition)), kind="stable")
    return pl.DataFrame(
        {
            "window": pl.repeat(window, len(order), dtype=pl.String, eager=True),
            "batch": batches[order].astype(np.int64),
            "instance": instances[order].astype(np.int64),
            "repetition": pl.repeat(repetition, len(order), dtype=pl.Int32, eager=True),
        }
    )


def _digest(*parts: str | int) -> int:
    # repr keeps 1 and "1" apart and quotes strings, so that no two tuples spell the same bytes.
    return int.from_bytes(sha256(repr(parts).encode()).digest()[:8], "big")


def _refuse_repeated(labels: pl.DataFrame) -> None:
    repeated = labels.filter(pl.col("window").is_duplicated())["window"].unique().sort().to_list()
    if repeated:
        raise DataError(
            "a window has more than one label",
            where="labels",
            got=", ".join(repeated[:3]),
            do="pass the labels of one task",
        )


def _refuse_shared_instances(
    windows: Sequence[str], instances_of: Mapping[str, tuple[Integers, Integers]]
) -> None:
    if not windows:
        return
    ids = np.concatenate([np.asarray(instances_of[window][1]) for window in windows])
    ordered = np.sort(ids)
    shared = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(shared):
        raise DataError(
            "an instance lies in more than one place of the chosen windows",
            where="windows",
            got=f"instance {int(shared[0])}",
            do="choose windows that do not overlap, each once",
        )


def _counts(labels: pl.DataFrame) -> str:
    counts = labels["label"].value_counts().sort("label")
    return ", ".join(f"{label} {count}" for label, count in counts.iter_rows()) or "none"
