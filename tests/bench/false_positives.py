"""Count how often every test of scoring cries wolf, and how often it finds what is there.

    python tests/bench/false_positives.py [--simulations 2000] [--only deltas clusters ...]

Everything is simulated and goes through the public functions. Item-level scores are
``tanh(margin / 2)``, which is P(right) - P(parrot) of a question with two answers, with

    margin = level + seed's offset + tau * u[checkpoint, seed] + e[checkpoint, seed, item]

in logits: `e` has standard deviation 1; `u` has 1 too and is white, or AR(1) with 0.5 over
checkpoints. Each section writes its own table into RESULTS.md.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from results import measured_by, replace
from scipy.signal import lfilter
from simulated_series import by_seed, cells, hopping, planted, rows_differ, scores, wobble, worlds

from scoring.change_points import (
    calibrated_penalty,
    calibrated_threshold,
    change_points,
    error_penalty,
    odd_checkpoint_table,
)
from scoring.deltas import delta_table
from scoring.hops import equivalence_p, false_discovery
from scoring.modality import bic_gain, one_mode_series
from scoring.pooling import pooled_effects
from scoring.series import ClusterSeries
from scoring.state_space import decompose, innovation_table
from scoring.two_way import two_way_table

ALPHA, LIMIT = 0.05, 0.07
EFFECT, MINIMUM = 0.1, 0.05

Row = dict[str, object]
Rows = Iterator[Row]


def one_delta(rng: np.random.Generator, *world: float) -> dict[str, float]:
    """Test one series without effects, then with one at its middle."""
    steps = int(world[0])
    values = scores(rng, steps, int(world[1]), *world[2:])
    table = delta_table(by_seed(values.mean(axis=2)))
    p, se, df = (table[name].to_numpy() for name in ("p_delta", "delta_se", "delta_df"))
    middle = steps // 2 - 1
    found = {
        "delta": np.mean(p < ALPHA),
        "innovation": np.mean(table["p"].to_numpy() < ALPHA),
        "two-way": np.mean(two_way_table(cells(values))["p"].to_numpy() < ALPHA),
        "any BH": float(false_discovery(p).min() < ALPHA),
        "any BY": float(false_discovery(p, method="fdr_by").min() < ALPHA),
        # A delta that is as large as the smallest effect of interest is called none.
        "equivalence": np.mean(
            equivalence_p(table["delta"].to_numpy() + MINIMUM, se, df, MINIMUM) < ALPHA
        ),
        "rows": np.mean(rows_differ(values)),
    }
    values[middle + 1 :] += EFFECT
    moved = delta_table(by_seed(values.mean(axis=2)))
    p = moved["p_delta"].to_numpy()
    return found | {
        "power delta": float(p[middle] < ALPHA),
        "power BH": float(false_discovery(p)[middle] < ALPHA),
        "power innovation": float(moved["p"][middle] < ALPHA),
        "power two-way": float(two_way_table(cells(values[middle : middle + 2]))["p"][0] < ALPHA),
        "power none": np.mean(equivalence_p(table["delta"].to_numpy(), se, df, MINIMUM) < ALPHA),
    }


def deltas(count: int) -> Rows:
    """Tests of a single change."""
    header = ["checkpoints", "seeds", "tau", "correlation"]
    for world in worlds():
        rng = np.random.default_rng(
            [1, *map(int, world[:2]), int(10 * world[2]), int(2 * world[3])]
        )
        rows = [one_delta(rng, *world) for _ in range(count)]
        yield dict(zip(header, world, strict=True)) | mean(rows)


def grouped(rng: np.random.Generator, groups: int, correlation: float) -> dict[str, float]:
    """One draw of demonstrations: item groups asked in two wordings, five items in each."""
    shared = 0.4 * wobble(rng, 40, groups, correlation)[:, :, None, None]
    noise = rng.standard_normal((40, groups, 2, 5))
    values = np.tanh((shared + noise) / 2)
    return {
        "item groups": np.mean(
            delta_table(by_seed(values.mean(axis=(2, 3))))["p_delta"].to_numpy() < ALPHA
        ),
        "wording x group": np.mean(
            delta_table(by_seed(values.mean(axis=3).reshape(40, -1)))["p_delta"].to_numpy() < ALPHA
        ),
        "items": np.mean(
            delta_table(by_seed(values.reshape(40, -1)))["p_delta"].to_numpy() < ALPHA
        ),
    }


def clusters(count: int) -> Rows:
    """Tests without demo seeds."""
    for groups in (4, 10, 25):
        for correlation in (0.0, 0.5):
            rng = np.random.default_rng([2, groups, int(2 * correlation)])
            rows = [grouped(rng, groups, correlation) for _ in range(count)]
            yield {"groups": groups, "correlation": correlation} | mean(rows)


def quiet_among_moved(rng: np.random.Generator, steps: int, seeds: int, share: float) -> dict:
    """Quiet windows of a mean-reverting series in which a share of the windows moves by 0.3."""
    moved = rng.random(steps - 1) < share
    effects = 0.3 * moved * rng.choice([-1, 1], steps - 1)
    level = lfilter([1.0], [1.0, -0.6], np.concatenate([[0.0], effects]))
    series = by_seed(level[:, None] + 0.1 * rng.standard_normal((steps, seeds)))
    p = delta_table(series)["p"].to_numpy()
    found = false_discovery(p) < ALPHA
    return {
        "quiet": np.mean(p[~moved] < ALPHA),
        "false discoveries": np.sum(found & ~moved) / max(found.sum(), 1),
        "found": np.mean(found[moved]) if moved.any() else None,
    }


def innovations(count: int) -> Rows:
    """The labels' test where other windows do move."""
    for steps, seeds, share in (
        (40, 4, 0.2),
        (40, 16, 0.2),
        (40, 16, 0.5),
        (150, 16, 0.2),
        (680, 16, 0.2),
    ):
        rng = np.random.default_rng([3, steps, seeds, int(10 * share)])
        rows = [quiet_among_moved(rng, steps, seeds, share) for _ in range(count)]
        world = {"checkpoints": steps, "seeds": seeds, "moved": share}
        yield world | mean(rows)


def one_pool(rng: np.random.Generator, tasks: int, between: float) -> dict[str, float]:
    """Pool 39 windows over tasks whose errors differ; then with a common effect in one of them."""
    errors = np.array([0.02, 0.05, 0.1])[np.arange(tasks) % 3]
    effects = between * rng.standard_normal((39, tasks)) + errors * rng.standard_normal((39, tasks))

    def pool(values: np.ndarray) -> pl.DataFrame:
        return pooled_effects(
            {
                str(task): pl.DataFrame(
                    {
                        "first_step": np.arange(39),
                        "end_step": np.arange(1, 40),
                        "innovation": values[:, task],
                        "se": np.full(39, errors[task]),
                    }
                )
                for task in range(tasks)
            }
        ).windows

    p = pool(effects)["p"].to_numpy()
    effects[19] += EFFECT
    return {
        "pooled": np.mean(p < ALPHA),
        "any BH": float(false_discovery(p).min() < ALPHA),
        "power": float(pool(effects)["p"][19] < ALPHA),
    }


def pooling(count: int) -> Rows:
    """Effects pooled over tasks."""
    for tasks in (3, 6, 12, 52):
        for between in (0.0, 0.1):
            rng = np.random.default_rng([4, tasks, int(10 * between)])
            rows = [one_pool(rng, tasks, between) for _ in range(count)]
            yield {"tasks": tasks, "between sd": between} | mean(rows)


def one_share(rng: np.random.Generator, share: float, *world: float) -> dict[str, float]:
    """Decompose one planted series."""
    series, effects = planted(rng, int(world[0]), share, int(world[1]), world[2])
    found = decompose(series)
    smoothed = innovation_table(series) if share else None
    inside = np.abs(smoothed["effect"] - effects) < 1.96 * smoothed["se"] if share else None
    return {
        "estimate": found.share,
        "covered": float(found.lo <= share <= found.hi),
        "lo": found.lo,
        "hi": found.hi,
        "power" if share else "test": float(found.lo > 0),
        "effects covered": float(inside.mean()) if share else None,
    }


def persistence(count: int) -> Rows:
    """The share of persistent window effects."""
    for steps in (40, 150, 680):
        for share in (0.0, 0.1, 0.5, 0.9):
            for seeds, correlation in ((16, 0.0), (4, 0.5)):
                if correlation and (share or steps == 680):
                    continue
                rng = np.random.default_rng([5, steps, int(10 * share), seeds])
                # Coverage needs fewer simulations than a rate of false positives.
                times = count if not share else count // 8
                rows = [one_share(rng, share, steps, seeds, correlation) for _ in range(times)]
                world = {"checkpoints": steps, "seeds": seeds, "correlation": correlation}
                yield world | {"share": share, "simulations": times} | mean(rows)


def one_shift(rng: np.random.Generator, steps: int, seeds: int, correlation: float) -> dict:
    """Segment a still level, then one with a dip, then calibrate on four wobbling controls."""
    noise = np.sqrt(seeds) * wobble(rng, steps, seeds, correlation)
    penalty, middle = error_penalty(steps), steps // 2
    still = change_points(by_seed(noise), penalty)
    dip = noise.copy()
    dip[middle] -= 6
    both = {middle, middle + 1} <= set(change_points(by_seed(dip), penalty))
    step = noise.copy()
    step[middle:] += 2
    near = any(abs(at - middle) <= 1 for at in change_points(by_seed(step), penalty))
    odd = odd_checkpoint_table(by_seed(noise))["p"].to_numpy()
    wobbling = [
        by_seed(rng.standard_normal((steps, 1)) + rng.standard_normal((steps, seeds)))
        for _ in range(5)
    ]
    found = calibrated_penalty(wobbling[:4], alarms=100 * ALPHA)
    fresh = change_points(wobbling[4], found.penalty)
    jumps = np.stack([np.abs(np.diff(one.level)) for one in wobbling])
    alarm = jumps[4] > calibrated_threshold(jumps[:4], alarms=100 * ALPHA)
    return {
        "series with a change": float(bool(still)),
        "odd checkpoint": np.mean(odd < ALPHA),
        "dip by 6 errors": float(both),
        "step by 2 errors": float(near),
        "odd by 6 errors": float(odd_checkpoint_table(by_seed(dip))["q"][middle - 1] < ALPHA),
        "calibrated penalty": len(fresh) / steps,
        "calibrated threshold": np.mean(alarm),
    }


def shifts(count: int) -> Rows:
    """Change points."""
    for steps in (40, 150, 680):
        for seeds in (4, 16):
            for correlation in (0.0, 0.5):
                rng = np.random.default_rng([6, steps, seeds, int(2 * correlation)])
                rows = [one_shift(rng, steps, seeds, correlation) for _ in range(count)]
                world = {"checkpoints": steps, "seeds": seeds, "correlation": correlation}
                yield world | mean(rows)


def one_mode(rng: np.random.Generator, series: ClusterSeries) -> tuple[float, float]:
    """The gain of a series, and that of one bootstrap series of its own."""
    null = one_mode_series(series, 1, rng)[0]
    return bic_gain(series.level)[0], bic_gain(null)[0]


def modes(count: int) -> Rows:
    """Two modes against one, by one bootstrap series a simulation."""
    makers: dict[str, Callable[[np.random.Generator, int], ClusterSeries]] = {
        f"one mode, share {share}": lambda rng, steps, share=share: planted(
            rng, steps, share, 16, 0.0
        )[0]
        for share in (0.0, 1.0)
    }
    for steps in (40, 150):
        for name, make in (makers | {"two modes": hopping}).items():
            rng = np.random.default_rng([7, steps, *name.encode()])
            own, null = np.array([one_mode(rng, make(rng, steps)) for _ in range(count)]).T
            two = "power" if name == "two modes" else "test"
            found = np.mean(own > max(np.quantile(null, 1 - ALPHA), 0))
            yield {"checkpoints": steps, "world": name, two: found, "BIC alone": np.mean(own > 0)}


def mean(rows: list[Row]) -> Row:
    """Average simulations, column by column."""
    return pl.DataFrame(rows, infer_schema_length=None).mean().row(0, named=True)


@dataclass(frozen=True)
class Section:
    """One table: what measures it, which columns are false-positive rates, how to read it."""

    measure: Callable[[int], Rows]
    tests: tuple[str, ...]
    note: str


SECTIONS = {
    "deltas": Section(
        deltas,
        ("delta", "innovation", "two-way", "any BH", "any BY", "equivalence"),
        """Tests of single changes. No window does anything: `delta` (the moderated t by demo
seed), `innovation` (the labels' test) and `two-way` are shares of windows with p < 0.05; `any
BH` and `any BY` shares of series with any q < 0.05; `equivalence` is how often a change as large
as the smallest effect of interest (0.05) is called none. `rows`, a z test over all rows, is what
is not used. Then one window moves the level for good by 0.1: shares of series in which it is
found, by p and by q. `power none`: still windows that are called none.""",
    ),
    "clusters": Section(
        clusters,
        ("item groups",),
        """One draw of demonstrations: 40 checkpoints, two wordings, five items in each of a
group's wordings. A group moves from checkpoint to checkpoint (0.4 logits) alike in both
wordings. Shares of still windows with p < 0.05, by what the clusters are; `item groups` is what
is used, the others are not.""",
    ),
    "innovations": Section(
        innovations,
        ("quiet", "false discoveries"),
        """The labels' test where a share of the other windows moves the level by 0.3
(persistence 0.6, error of a demo seed 0.1): share of still windows with p < 0.05, share of
discoveries at q < 0.05 that are false, share of moved windows that are discovered.""",
    ),
    "pooling": Section(
        pooling,
        ("pooled", "any BH"),
        """Effects pooled over tasks with errors of 0.02, 0.05 and 0.1; `between sd` is how much
a window's true effect differs from task to task. Its mean is 0; `power` is for a mean of 0.1, by
p.""",
    ),
    "persistence": Section(
        persistence,
        ("test",),
        """The share of persistent window effects: deltas have variance 1 beyond their error,
levels an error of 0.3 and a drift of 4 in all, persistent effects a persistence of 0.9;
`correlation` is that of neighbouring errors. `test` and `power`: how often the 95 % interval
excludes 0, without and with persistent effects. `effects covered`: 95 % intervals of single
smoothed window effects.""",
    ),
    "change points": Section(
        shifts,
        ("series with a change", "odd checkpoint", "calibrated penalty", "calibrated threshold"),
        """Change points at the penalty of measured errors: share of still series with any
change; share in which a dip of one checkpoint by 6 errors is found at both edges, a step by 2
errors to within one checkpoint. `odd checkpoint`: shares of still checkpoints with p < 0.05, and
of dips with q < 0.05. `calibrated`: from four normal controls that wobble by a standard
deviation, at 5 alarms per 100; alarms of a fifth per checkpoint, by the penalty and by a
threshold on absolute deltas.""",
    ),
    "modes": Section(
        modes,
        ("test",),
        """Two modes against one, at p < 0.05 by parametric bootstrap, and by a positive gain in
BIC alone, which is not used. Two modes: five standard deviations apart, left with probability
0.2. One bootstrap series a simulation, all of them together the reference (Giacomini, Politis
and White 2013, Econometric Theory 29, 567-589).""",
    ),
}


def worst(rows: list[Row], tests: tuple[str, ...]) -> float:
    """The highest false-positive rate of a section."""
    return max(float(row[test]) for row in rows for test in tests if row.get(test) is not None)


def text_of(value: object) -> str:
    """A cell of a table; counts as they are."""
    if value is None:
        return ""
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def write(name: str, count: int) -> None:
    """Measure one section, print its table and put it into RESULTS.md."""
    section = SECTIONS[name]
    rows = []
    for row in section.measure(count):
        rows.append(row)
        print(name, *(f"{key}={text_of(value)}" for key, value in row.items()), flush=True)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [f"| {' | '.join(columns)} |", f"| {' | '.join('---' for _ in columns)} |"]
    lines += [f"| {' | '.join(text_of(row.get(key)) for key in columns)} |" for row in rows]
    rate = worst(rows, section.tests)
    passed = f"- {'yes' if rate <= LIMIT else 'NO'}: at most 7 %, the highest is {rate:.1%}"
    of_rows = "as the column says" if "simulations" in columns else f"{count:,} a row"
    said = f"{measured_by('false_positives.py')} Simulations: {of_rows}."
    parts = [f"### False positives: {name}", said, section.note, "\n".join(lines), passed]
    print(passed)
    replace(f"false positives, {name}", "\n\n".join(parts))


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--simulations", type=int, default=2_000)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    arguments = parser.parse_args()
    for name in arguments.only:
        write(name, arguments.simulations)


if __name__ == "__main__":
    main()
