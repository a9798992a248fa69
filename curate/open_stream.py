"""Open what a run read: its token files found, its order rebuilt or taken from the cache."""

from curate.command import Ask
from curate.run_data import RunData, given_data, made_data
from curate.stream import Stream
from windows.order_cache import OrderCache, cache_folder
from windows.reading.limits import ReadLimits
from windows.store import Artefact


def open_stream(ask: Ask, *, inverse: bool = False, max_remote_bytes: int | None = None) -> Stream:
    """Return a subject's stream.

    An embedded run's corpus is written where it is missing; its training, which takes longer, is
    not.

    Parameters
    ----------
    inverse
        Keep the inverse of the order as well.
    max_remote_bytes
        How much may be fetched; by default `ReadLimits`'s own.

    Raises
    ------
    ConfigError, DataError
        The run's data cannot be had, or have no order that can be rebuilt.
    """
    subject = ask.subject
    data = _data(ask, max_remote_bytes)
    order = subject.run.order([file.bytes for file in data.files])
    order = OrderCache(cache_folder() / "orders", ask.reporter).kept(order, inverse=inverse)
    end_step = subject.run.last_step(order.num_batches)
    if subject.study is not None:
        end_step = subject.study.checkpoint_steps[-1]
    elif subject.grid is not None and subject.grid.end_step is not None:
        end_step = min(end_step, subject.grid.end_step)
    return Stream(subject.given.run, subject.run, data, order, end_step)


def order_to_make(ask: Ask) -> int:
    """Return how many ids would have to be shuffled and kept first; 0 where none."""
    data = _data(ask, None)
    order = ask.subject.run.order([file.bytes for file in data.files])
    lacking = OrderCache(cache_folder() / "orders", ask.reporter).lacks(order)
    return order.permutation.count if lacking else 0


def _data(ask: Ask, max_remote_bytes: int | None) -> RunData:
    given = ask.subject.given
    if given.run.embedded:
        return made_data(given.run, _corpus(ask).path)
    limits = ReadLimits(max_remote_bytes=max_remote_bytes) if max_remote_bytes else None
    return given_data(given, ask.reporter, limits)


def _corpus(ask: Ask) -> Artefact:
    assert ask.call is not None, "an embedded run is asked about by its study"
    found = ask.call.looking().corpus()
    if found.id:
        return found
    with ask.call.making() as chain:
        return chain.corpus()
