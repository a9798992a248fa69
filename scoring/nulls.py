"""Named nulls: whether a hop is there again when one thing that should not matter is changed.

A null looks at a hop through *replicates*: the same window and the same clusters, but one wording
alone, another metric, rescored in another precision, and so on. Of each replicate the change is
estimated and tested twice, by one-sided t over clusters:

================  ==============================================================================
``repeated``      above zero in the hop's direction, at alpha
``contradicted``  below the smallest effect of interest in that direction, at alpha over the
                  number of replicates: where the hop is real, one null in twenty says so wrongly
``undecided``     neither
================  ==============================================================================

A null *explains* the hop where a replicate contradicts it, the hop *survives* it where every one
repeats it, and else the null is *undecided*. A replicate can be both repeated and contradicted (a
change shown to be there and to be small); it counts as contradicted.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from scoring.series import Metric, checked_rows, score
from windows.errors import DataError

Null = Literal[
    "identity",
    "numerics",
    "boundary",
    "noise",
    "instruction",
    "metric",
    "wording",
    "averaging",
    "stability",
    "order",
]
NULLS: tuple[Null, ...] = (
    "identity",
    "numerics",
    "boundary",
    "noise",
    "instruction",
    "metric",
    "wording",
    "averaging",
    "stability",
    "order",
)
"""In the order in which they are asked: the first that explains a hop names it."""

Says = Literal["explains", "survives", "undecided", "untested"]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Hop:
    """A change of one task between two checkpoints; `delta` gives its direction."""

    task: str
    first_step: int
    end_step: int
    delta: float


@dataclass(frozen=True)
class Criteria:
    """What counts: the level of the tests, and the smallest effect of interest in soft score."""

    alpha: float = 0.05
    minimum: float = 0.05


@dataclass(frozen=True)
class Replicate:
    """One replicate's change, in the hop's direction.

    Attributes
    ----------
    name
        Which wording, metric, precision.
    change, se, df
        Its mean over clusters, standard error and degrees of freedom.
    says
        ``repeated``, ``contradicted`` or ``undecided``.
    """

    name: str
    change: float
    se: float
    df: int
    says: Literal["repeated", "contradicted", "undecided"]


@dataclass(frozen=True)
class Finding:
    """What one null says of one hop."""

    null: Null
    says: Says
    sentence: str
    replicates: tuple[Replicate, ...] = ()


def replicate(
    name: str, changes: Array, hop: Hop, criteria: Criteria, *, minimum: float, of: int
) -> Replicate:
    """Test a replicate's changes, one a cluster.

    Parameters
    ----------
    changes
        float64 of shape (C,), at least two: after less before, in the replicate's own unit.
    minimum
        The smallest change of interest in that unit.
    of
        How many replicates the null has.
    """
    signed = np.sign(hop.delta) * changes
    mean, df = float(signed.mean()), len(signed) - 1
    se = float(signed.std(ddof=1) / np.sqrt(len(signed)))
    above, below = _tail(mean, se, df), _tail(minimum - mean, se, df)
    if below < criteria.alpha / of:
        return Replicate(name, mean, se, df, "contradicted")
    return Replicate(name, mean, se, df, "repeated" if above < criteria.alpha else "undecided")


def _tail(distance: float, se: float, df: int) -> float:
    if se == 0:
        return 0.0 if distance > 0 else 1.0
    return float(stats.t.sf(distance / se, df))


def weigh(null: Null, replicates: Sequence[Replicate], untested: str = "") -> Finding:
    """Sum a null's replicates up; without any it is untested, for the reason given."""
    if not replicates:
        return Finding(null, "untested", untested)
    against = [each for each in replicates if each.says == "contradicted"]
    repeated = [each for each in replicates if each.says == "repeated"]
    count = f"{len(repeated)} of {len(replicates)} replicates repeat the hop"
    if against:
        worst = min(against, key=lambda each: each.change)
        said = f"{count}; {worst.name} changes by {worst.change:+.3f} in its direction"
        return Finding(null, "explains", said, tuple(replicates))
    says: Says = "survives" if len(repeated) == len(replicates) else "undecided"
    return Finding(null, says, count, tuple(replicates))


def cluster_changes(items: pl.DataFrame, hop: Hop, value: pl.Expr, *, clusters: str = "") -> Array:
    """Return what a value changed by over the hop, cluster by cluster: float64 of shape (C,).

    Parameters
    ----------
    items
        Rows of the `items` schema, of one run and stage, the hop's two checkpoints among them.
    value
        What is averaged over a cluster's items.
    clusters
        A column; by default demo seeds, or items where there is but one seed.

    Raises
    ------
    DataError
        As `scoring.series.seed_series`, or if a checkpoint of the hop was not scored.
    """
    ends = [hop.first_step, hop.end_step]
    rows = checked_rows(items.filter(pl.col("step").is_in(ends)), hop.task)
    if rows["step"].n_unique() < 2:
        raise DataError(
            "a checkpoint of this hop was not scored",
            where=f"{hop.task}, steps {hop.first_step}:{hop.end_step}",
            do="score both",
        )
    seeds = rows["demo_seed"].n_unique()
    by = clusters or ("demo_seed" if seeds > 1 else "item_id")
    rows = rows.sort(by, "step", "wording", "demo_seed", "item_id").select("step", by, v=value)
    means = rows.group_by(by, "step", maintain_order=True).agg(pl.col("v").mean())
    wide = means.pivot("step", index=by, values="v").sort(by)
    changes: Array = (wide[str(hop.end_step)] - wide[str(hop.first_step)]).to_numpy()
    return changes


def wording_null(items: pl.DataFrame, hop: Hop, criteria: Criteria) -> Finding:
    """Look at every wording alone."""
    task = _of(items, hop.task)
    wordings = task["wording"].unique().sort().to_list()
    if len(wordings) < 2:
        return weigh("wording", (), "the task was asked in one wording")
    return weigh(
        "wording",
        [
            _soft(name, task.filter(pl.col("wording") == name), hop, criteria, len(wordings))
            for name in wordings
        ],
    )


def boundary_null(items: pl.DataFrame, hop: Hop, criteria: Criteria) -> Finding:
    """Look at the items alone whose answers were encoded joined with their prompts."""
    task = _of(items, hop.task)
    joined = task.filter(pl.col("boundary") == "joined")
    if joined.height == task.height:
        return Finding("boundary", "survives", "every answer was encoded joined with its prompt")
    if joined.is_empty():
        return weigh("boundary", (), "no answer was encoded joined with its prompt")
    return weigh("boundary", [_soft("joined answers", joined, hop, criteria, 1)])


def metric_null(items: pl.DataFrame, hop: Hop, criteria: Criteria) -> Finding:
    """Look at the hard score and at the margin, of which any change in the direction will do."""
    task = _of(items, hop.task)
    names: tuple[Metric, ...] = ("hard", "margin")
    return weigh(
        "metric",
        [
            replicate(
                name,
                cluster_changes(task, hop, score(name)),
                hop,
                criteria,
                minimum=0.0,
                of=len(names),
            )
            for name in names
        ],
    )


def instruction_null(items: pl.DataFrame, hop: Hop, criteria: Criteria) -> Finding:
    """Look at the soft score among the two answers alone.

    Where a model stops answering in the asked form, P(right) and P(parrot) fall together and with
    them their difference. Given that one of the two is said, it is tanh(margin / 2).
    """
    conditional = (score("margin") / 2).tanh()
    changes = cluster_changes(_of(items, hop.task), hop, conditional)
    found = replicate(
        "soft score given that one of the two answers is said",
        changes,
        hop,
        criteria,
        minimum=criteria.minimum,
        of=1,
    )
    return weigh("instruction", [found])


def noise_null(items: pl.DataFrame, hop: Hop, criteria: Criteria, *, control: str) -> Finding:
    """Ask whether the normal controls moved over the same window.

    A control that is shown to change in accuracy by more than the smallest effect, either way,
    explains the hop: then it is capability that moved, or the measurement.

    Parameters
    ----------
    control
        The family of controls.
    """
    tasks = items.filter(pl.col("family") == control).select("task").unique().sort("task")
    if tasks.is_empty():
        return weigh("noise", (), "the suite has no normal control")
    found = []
    for (name,) in tasks.iter_rows():
        key = f"{control}/{name}"
        changes = cluster_changes(_of(items, key), _as(hop, key), score("hard"))
        found.append(_still(key, changes, criteria, tasks.height))
    weighed = weigh("noise", found)
    still = sum(each.says == "repeated" for each in found)
    most = max(found, key=lambda each: abs(each.change))
    said = f"{still} of {len(found)} normal controls stood still; {most.name} changed most"
    return replace(weighed, sentence=f"{said}, by {most.change:+.3f} in accuracy")


def _still(name: str, changes: Array, criteria: Criteria, of: int) -> Replicate:
    """Test a control's changes: `repeated` says that it stood still, `contradicted` that not."""
    mean, df = float(changes.mean()), len(changes) - 1
    se = float(changes.std(ddof=1) / np.sqrt(len(changes)))
    beyond = _tail(abs(mean) - criteria.minimum, se, df)
    within = _tail(criteria.minimum - abs(mean), se, df)
    if beyond < criteria.alpha / of:
        return Replicate(name, mean, se, df, "contradicted")
    return Replicate(name, mean, se, df, "repeated" if within < criteria.alpha else "undecided")


def rescored_null(
    null: Null, rescored: Mapping[str, pl.DataFrame], hop: Hop, criteria: Criteria
) -> Finding:
    """Look at the hop in tables that were scored otherwise: numerics, averaged checkpoints.

    Parameters
    ----------
    rescored
        Item tables by the name of what was done; each with both checkpoints of the hop.
    """
    return weigh(
        null,
        [
            _soft(name, _of(table, hop.task), hop, criteria, len(rescored))
            for name, table in rescored.items()
        ],
        "the checkpoints were not scored again",
    )


def identity_null(digests: Mapping[int, str], hop: Hop) -> Finding:
    """Ask whether both checkpoints are what they claim: no other step has the same weights.

    Parameters
    ----------
    digests
        Of every checkpoint's weights, by step.
    """
    ends = (hop.first_step, hop.end_step)
    if absent := [step for step in ends if step not in digests]:
        return weigh("identity", (), f"the weights of step {absent[0]} were not compared")
    for step in ends:
        twins = [other for other, digest in digests.items() if digest == digests[step]]
        if len(twins) > 1:
            said = f"steps {' and '.join(map(str, sorted(twins)))} have the same weights"
            return Finding("identity", "explains", said)
    return Finding("identity", "survives", "no other checkpoint has the weights of either")


def order_null(transfer: str) -> Finding:
    """Say what the transfer check, which is of all windows together, says of a hop.

    Parameters
    ----------
    transfer
        Its verdict, as of `scoring.transfer`.
    """
    says: Says = "undecided"
    if transfer == "transferable":
        says = "survives"
    elif transfer == "not-transferable":
        says = "explains"
    return Finding("order", says, f"shuffled replay of the windows: {transfer}")


def diffusion_null(perturbed: pl.DataFrame, hop: Hop) -> Finding:
    """Compare a hop with what as many single steps on random documents add up to.

    N independent changes of standard deviation s have one of s sqrt(N) together. A hop within 1.96
    of these is explained.

    Parameters
    ----------
    perturbed
        Item tables of `trainers.local_stability`: runs ``step<S>-lr<LR>-draw<D>``, of which the
        smallest learning rate above 0 is the run's own.
    """
    runs = _of(perturbed, hop.task).filter(pl.col("step") == hop.first_step)
    parts = runs.with_columns(
        lr=pl.col("run").str.extract(r"-lr([^-]+(?:-\d+)?)-draw").cast(pl.Float64),
        soft=score("soft"),
    )
    levels = parts.group_by("run", "lr").agg(pl.col("soft").mean()).sort("run")
    rates = levels.filter(pl.col("lr") > 0)["lr"].unique().sort()
    base = levels.filter(pl.col("lr") == 0)["soft"].to_list()
    if not base or rates.is_empty():
        return weigh("stability", (), "no single step was taken from its first checkpoint")
    lines = []
    for rate in rates:
        changes = levels.filter(pl.col("lr") == rate)["soft"].to_numpy() - base[0]
        lines.append((float(rate), float(np.sqrt(np.mean(changes**2)))))
    spread = lines[0][1] * float(np.sqrt(hop.end_step - hop.first_step))
    told = ", ".join(f"{size:.4f} at {rate:g}" for rate, size in lines)
    said = (
        f"one step moves the mode by {told}; {hop.end_step - hop.first_step} of the run's own"
        f" diffuse to {spread:.3f}, and the hop is {abs(hop.delta):.3f}"
    )
    says: Says = "explains" if abs(hop.delta) <= 1.96 * spread else "survives"
    return Finding("stability", says, said)


def hop_verdict(findings: Sequence[Finding]) -> str:
    """Return ``confirmed``, the null that explains a hop, ``underpowered``, or ``untested``.

    A hop is confirmed where it survives every null that was tested; which were not is told beside
    it.
    """
    by_order = sorted(findings, key=lambda finding: NULLS.index(finding.null))
    for finding in by_order:
        if finding.says == "explains":
            return finding.null
    tested = [finding for finding in by_order if finding.says != "untested"]
    if not tested:
        return "untested"
    undecided = any(finding.says == "undecided" for finding in tested)
    return "underpowered" if undecided else "confirmed"


OF_TABLES: Mapping[Null, Callable[[pl.DataFrame, Hop, Criteria], Finding]] = {
    "boundary": boundary_null,
    "instruction": instruction_null,
    "metric": metric_null,
    "wording": wording_null,
}
"""The nulls that need nothing but the sweep's own table."""


def _of(items: pl.DataFrame, task: str) -> pl.DataFrame:
    family, _, name = task.partition("/")
    return items.filter((pl.col("family") == family) & (pl.col("task") == name))


def _as(hop: Hop, task: str) -> Hop:
    return Hop(task, hop.first_step, hop.end_step, hop.delta)


def _soft(name: str, items: pl.DataFrame, hop: Hop, criteria: Criteria, of: int) -> Replicate:
    changes = cluster_changes(items, hop, score("soft"))
    return replicate(name, changes, hop, criteria, minimum=criteria.minimum, of=of)
