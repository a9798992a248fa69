"""Windows of two runs that consumed the same instances."""

from collections.abc import Sequence

import numpy as np

from curate.stream import Stream
from windows.errors import ConfigError
from windows.run import Window, jumps


def paired(stream: Stream, windows: Sequence[Window], other: Stream) -> dict[str, str | None]:
    """Find, for each window, the steps at which another run read exactly its instances.

    Two orders that are equal position by position hold the same window wherever both runs have a
    step at both of its ends.

    Returns
    -------
    dict
        By the window's name, ``run A:B``; None where the other run has no such steps.

    Raises
    ------
    ConfigError
        The runs did not read the same instances in the same order.
    """
    _check_same(stream, other)
    return {each.name: _twin(stream, each, other) for each in windows}


def _check_same(stream: Stream, other: Stream) -> None:
    ours, theirs = stream.order, other.order
    for what, a, b in (
        ("sequence length", ours.sequence_length, theirs.sequence_length),
        ("shuffle", _shuffle(stream), _shuffle(other)),
        ("file sizes", ours.file_bytes, theirs.file_bytes),
        ("list of files", _names(stream), _names(other)),
    ):
        if a != b:
            raise ConfigError(
                f"runs {stream.run.name} and {other.run.name} did not read the same order",
                where="--with",
                got=f"another {what}",
                do="name a run of the same files, seed and epoch",
            )


def _names(stream: Stream) -> list[str]:
    return [file.path.rsplit("/", 1)[-1] for file in stream.files]


def _shuffle(stream: Stream) -> tuple[int, int | None, int]:
    permutation = stream.order.permutation
    return permutation.count, permutation.seed, stream.order.chunk


def _twin(stream: Stream, each: Window, other: Stream) -> str | None:
    start, end = stream.order.positions(each.first_batch, each.end_batch)
    sizes = other.order.batch_sizes
    first, stop = sizes.batch_at(np.array([start, end])).tolist()
    if (sizes.position(first), sizes.position(stop)) != (start, end):
        return None
    found = [
        f"{begin}:{begin + stop - first}"
        for begin in other.run.steps_of_batch(first)
        if _reads(other, begin, first, stop)
    ]
    if not found:
        return None
    exact = stream.run.exact_between(each.first_step, each.end_step) and all(
        other.run.exact_between(*map(int, steps.split(":"))) for steps in found
    )
    return f"{other.run.name} {' and '.join(found)}" + ("" if exact else ", steps not exact")


def _reads(other: Stream, begin: int, first: int, stop: int) -> bool:
    """Tell whether the other run read the batches ``[first, stop)`` in a row from a step on."""
    end = begin + stop - first
    if end > other.end_step:
        return False
    between = any(begin < step < end for step in jumps(other.run))
    return not between and other.run.batch_of_step(end - 1) == stop - 1
