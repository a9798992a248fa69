"""What a study's windows held, for its report: by source where the data are here, and who tells."""

from collections.abc import Sequence

from curate.shipped import shipped
from curate.sources import Sources
from curate.study import Study
from windows.composition import SourceCounter
from windows.run import Window

Held = tuple[int, ...]


def held(sources: Sources, windows: Sequence[Window]) -> tuple[tuple[str, ...], list[Held]]:
    """Return the sources, and of every window how many instances it read from each, exactly.

    Where the run's files are not here there are no sources, and nothing is known of a window.
    Of files that are elsewhere, the sizes would have to be asked for and a large order made, which
    is for ``modehop windows`` to do and not for a report.
    """
    if not (sources.study.has_data and _has_order(sources.study)):
        return (), [()] * len(windows)
    order = sources.order()
    counter = SourceCounter(order.layout, [file.source for file in sources.files()])
    counts = [counter.counts(order.instances(w.first_batch, w.end_batch)) for w in windows]
    return counter.names, [tuple(row.tolist()) for row in counts]


def name_for_commands(study: Study) -> str:
    """Return what a user calls the study; "" where nobody can tell what its windows held."""
    if not _has_order(study):
        return ""
    # Where the file lies is no part of a report, and would not be true elsewhere.
    return study.path.stem if study.path in shipped("studies").values() else study.path.name


def _has_order(study: Study) -> bool:
    return study.run.loader != "unknown"
