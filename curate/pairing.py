"""Windows of two runs that consumed the same instances."""

from collections.abc import Sequence

import numpy as np

from curate.stream import Stream
from windows.errors import ConfigError
from windows.run import Window


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
    ):
        if a != b:
            raise ConfigError(
                f"runs {stream.run.name} and {other.run.name} did not read the same order",
                where="--with",
                got=f"another {what}",
                do="name a run of the same files, seed and epoch",
            )


def _shuffle(stream: Stream) -> tuple[int, int | None, int]:
    permutation = stream.order.permutation
    return permutation.count, permutation.seed, stream.order.chunk


def _twin(stream: Stream, each: Window, other: Stream) -> str | None:
    start, end = stream.order.positions(each.first_batch, each.end_batch)
    sizes = other.order.batch_sizes
    first, stop = sizes.batch_at(np.array([start, end])).tolist()
    if (sizes.position(first), sizes.position(stop)) != (start, end):
        return None
    steps = [other.run.steps_of_batch(batch) for batch in (first, stop)]
    if not all(steps) or steps[1][0] > other.end_step:
        return None
    return f"{other.run.name} {steps[0][0]}:{steps[1][0]}"
