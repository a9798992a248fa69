"""Which instances of a window to read, when reading all of them would cost too much.

An instance is drawn by the hash of the seed and its id, never by its place in a list. So the same
instances come out whatever the order of the ids or the number of workers, and a larger sample holds
every smaller one of the same seed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from windows.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Sample:
    """Instances drawn from a window.

    The mean of any quantity over the window is estimated without bias by its mean over the sample
    weighted with `weights` (Horvitz and Thompson 1952).

    Attributes
    ----------
    ids
        The instances, ``[n]``, by ascending hash: a shorter uniform sample is the head of a longer.
    weights
        How many instances of the window each stands for, float64[n]: the instances of its stratum
        over those drawn from it. They sum to the number of instances of the window.
    strata
        The stratum each was drawn from, int64[n]; 0 throughout in a uniform sample.
    """

    ids: npt.NDArray[np.uint32]
    weights: npt.NDArray[np.float64]
    strata: npt.NDArray[np.int64]


def splitmix64(values: npt.NDArray[np.integer], key: int) -> npt.NDArray[np.uint64]:
    """Hash integers to 64 bits under a key, one by one.

    The output function of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number
    generators", OOPSLA 2014), applied to `value XOR key`. Both are bijections, so different values
    never share a hash.

    Parameters
    ----------
    values
        Integers in [0, 2**64), any shape.
    key
        Integer in [0, 2**64).

    Returns
    -------
    uint64, the shape of `values`
    """
    state = (values.astype(np.uint64) ^ np.uint64(key)) + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def uniform(ids: npt.NDArray[np.uint32], count: int, seed: int) -> Sample:
    """Draw instances, each with the same chance.

    Parameters
    ----------
    ids
        The window's instances, each once, ``[n]`` in any order.
    count
        How many to draw; all of them where there are not as many.
    seed
        Another seed draws another sample, independently.

    Raises
    ------
    ConfigError
        An instance comes twice, or `count` is below 1.
    """
    return stratified(ids, np.zeros(len(ids), dtype=np.int64), count, seed)


def stratified(
    ids: npt.NDArray[np.uint32],
    strata: npt.NDArray[np.int64],
    count: int | Mapping[int, int],
    seed: int,
) -> Sample:
    """Draw instances from every stratum, say every source, uniformly within each.

    Parameters
    ----------
    ids
        The window's instances, each once, ``[n]`` in any order.
    strata
        The stratum of each, ``[n]``.
    count
        How many to draw in all, shared out by `allocate`; or how many from each stratum, by
        stratum. From a stratum that has not as many, all are drawn.
    seed
        Another seed draws another sample, independently.

    Raises
    ------
    ConfigError
        An instance comes twice, there is not one stratum for each, or a stratum would go without,
        so that its part of the window would stay unknown.
    """
    if len(strata) != len(ids):
        raise ConfigError(
            f"{len(ids)} instances need as many strata", where="strata", got=str(len(strata))
        )
    order = _by_hash(ids, seed)
    known, member, sizes = np.unique(strata[order], return_inverse=True, return_counts=True)
    drawn = _given(known, sizes, count) if isinstance(count, Mapping) else allocate(sizes, count)
    kept = np.flatnonzero(_rank(member, sizes) < drawn[member])
    stratum = member[kept]
    weights = sizes[stratum] / drawn[stratum]
    return Sample(ids[order[kept]], weights, known[stratum].astype(np.int64))


def allocate(sizes: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Share a sample out over strata, in proportion to the square roots of their sizes.

    Between proportional shares, under which a rare source is not seen at all, and equal shares,
    under which the window's mean rests on few instances of its large sources, lies a power of the
    size (Bankier 1988), here 1/2. The instances are given out one by one, each to the stratum
    that is furthest behind its share (Huntington and Hill's method of apportionment: the next, the
    `j`-th, goes where ``j (j - 1) / size`` is least). So every stratum has one before any has two,
    none has more than it holds, and a larger count never takes one back.

    Parameters
    ----------
    sizes
        Instances of every stratum, ``[k]``.
    count
        How many instances to share out.

    Returns
    -------
    int64[k]
        They sum to `count`, or to all instances where there are not as many.

    Raises
    ------
    ConfigError
        There are more strata than instances to share out, or `count` is below 1.
    """
    least = max(1, int(np.count_nonzero(sizes)))
    if count < least:
        raise ConfigError(
            f"a sample needs at least {least} instances, one from each stratum",
            where="count",
            got=str(count),
            do=f"ask for {least} or more",
        )
    most = np.minimum(sizes, count)
    owner = np.repeat(np.arange(len(sizes)), most)
    turn = np.arange(len(owner)) - np.repeat(np.cumsum(most) - most, most) + 1.0
    first = np.argsort(turn * (turn - 1) / sizes[owner], kind="stable")[:count]
    return np.bincount(owner[first], minlength=len(sizes))


def _given(
    known: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], counts: Mapping[int, int]
) -> npt.NDArray[np.int64]:
    """How many are drawn from each stratum where the caller says so, int64[k]."""
    for stratum in known.tolist():
        if counts.get(stratum, 0) < 1:
            raise ConfigError(
                f"nothing is drawn from stratum {stratum}, which the window holds",
                where="count",
                got=str(counts.get(stratum, 0)),
                do="draw 1 or more from every stratum",
            )
    asked = np.array([counts[stratum] for stratum in known.tolist()], dtype=np.int64)
    return np.minimum(sizes, asked)


def _rank(member: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many before it are of the same stratum, int64[n]."""
    rank = np.empty(len(member), dtype=np.int64)
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    rank[np.argsort(member, kind="stable")] = np.arange(len(member)) - starts
    return rank


def _by_hash(ids: npt.NDArray[np.uint32], seed: int) -> npt.NDArray[np.int64]:
    """Order of the ids by hash, int64[n]. Different ids never share one, so equal ones are seen."""
    # Hashed itself, or the ids under neighbouring seeds would be the same but for a few bits.
    key = int(splitmix64(np.array([seed % 2**64], dtype=np.uint64), 0)[0])
    hashes = splitmix64(ids, key)
    order = np.argsort(hashes)
    twice = np.flatnonzero(np.diff(hashes[order]) == 0)
    if twice.size:
        raise ConfigError(
            "an instance comes twice",
            where="ids",
            got=str(int(ids[order[twice[0]]])),
            do="give every instance of the window once",
        )
    return order
