"""What the clusters of a task are, and what so many of them can show.

====================  ===========================================================================
two or more           the demo seeds, over which demonstrations vary
demo seeds
one draw, and groups  item groups: what a question is about (a template's scene, an equation),
of items are named    averaged over the wordings in which it is asked
one draw, no groups   items; one worded twice counts twice, since its identity holds its wording
====================  ===========================================================================

Errors by item group or by item are conditional on the one draw of demonstrations: that others would
have moved the same way is not in them, and :func:`sentence` says so. A group is one cluster however
many wordings it is asked in: where the (wording, group) cells were the clusters, a group's own
movement, shared by its wordings, would be counted once a wording. Wordings are few and chosen, not
drawn; how much they matter is a null of its own.
"""

import polars as pl

from scoring.series import ClusterSeries, Metric, averaged, checked_rows, seed_series
from windows.errors import DataError


def cluster_series(
    items: pl.DataFrame,
    task: str,
    *,
    metric: Metric = "soft",
    groups: pl.DataFrame | None = None,
) -> ClusterSeries:
    """Average the items of one task within every (checkpoint, cluster).

    Parameters
    ----------
    items, task, metric
        As of :func:`scoring.series.seed_series`, which this is where there are several demo seeds.
    groups
        Columns `item_id` and `group` (str): which group an item belongs to. Items of other tasks
        are ignored.

    Raises
    ------
    DataError
        As in :func:`scoring.series.seed_series`, or if an item has no group or several.
    """
    rows = checked_rows(items, task)
    if rows["demo_seed"].n_unique() > 1:
        return seed_series(items, task, metric=metric)
    if groups is None:
        return averaged(rows, task, metric, by="item_id", unit="item")
    return averaged(_grouped(rows, task, groups), task, metric, by="group", unit="item group")


def _grouped(rows: pl.DataFrame, task: str, groups: pl.DataFrame) -> pl.DataFrame:
    named = groups.select("item_id", pl.col("group").cast(pl.String)).unique()
    named = named.filter(pl.col("item_id").is_in(rows["item_id"].unique().implode()))
    doubled = named.filter(pl.col("item_id").is_duplicated())
    joined = rows.join(named, on="item_id", how="left")
    odd = doubled if doubled.height else joined.filter(pl.col("group").is_null())
    if odd.height:
        first = odd["item_id"].sort().to_list()[0]
        raise DataError(
            "every item belongs to one group",
            where=f"item groups of {task}",
            got=f"item {first} in {'several' if doubled.height else 'none'}",
            do="build the groups from the suite that was scored",
        )
    return joined


def smallest_p(clusters: int) -> float:
    """Return the least two-sided p that flipping the signs of n clusters can give, 2^(1 - n).

    All n changes agree in sign: of the 2^n ways to flip them two are as extreme.
    """
    return float(min(1.0, 2.0 ** (1 - clusters)))


def sentence(series: ClusterSeries, df: float) -> str:
    """Say what the clusters of a series are, how small a p they can support, and on what it rests.

    Parameters
    ----------
    series
        The series that was tested.
    df
        Degrees of freedom of its moderated t: `delta_df` of :func:`scoring.deltas.delta_table`.
    """
    count = len(series.clusters)
    said = (
        f"{series.task}: errors over {count} {series.unit}s. Flipping their signs could not give a "
        f"p below {smallest_p(count):.2g}; the t test's {df:.3g} degrees of freedom are "
        f"{count - 1} of the window's own and {max(df - count + 1, 0):.3g} borrowed from the other "
        f"windows."
    )
    if series.unit == "demo seed":
        return said
    return f"{said} Demonstrations were drawn once: other ones might move otherwise."
