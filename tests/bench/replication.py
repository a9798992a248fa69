"""Count how often two unrelated runs are called alike, and how often a shared stream is found.

    python tests/bench/replication.py [--simulations 2000]

Effects of windows on three tasks, normal, AR(1) over the windows or differences of independent
levels as deltas are, of which a share is common to both runs. `curve`: both also follow a learning
curve of three standard deviations that decays over 15 % of the run.
"""

import argparse
from collections.abc import Iterator

import numpy as np
import polars as pl
from false_positives import ALPHA, LIMIT, mean, text_of
from results import measured_by, replace
from simulated_series import wobble

from scoring.replication import replication

TASKS = 3
Row = dict[str, float | int | str]

NOTE = """Pooled over three tasks, innovations of `scoring.replication`, blocks of the cube root of
the windows. `share`: of the variance of effects, common to both runs; `replicated`: verdicts, with
share 0 the false ones; `any p`: p < 0.05 either way; `any task`: of single tasks; `any q`: any of
the tasks with q < 0.05; `detectable`: the correlation that is said to be seen with 80 % power;
`rho`: the mean one; `covered`: 95 % intervals that hold the true rank correlation."""


def effects(rng: np.random.Generator, windows: int, world: str) -> np.ndarray:
    """Effects of one run, float64[windows, tasks], without the curve."""
    if world == "delta":
        return np.diff(rng.standard_normal((windows + 1, TASKS)), axis=0)
    return wobble(rng, windows, TASKS, {"ar 0.5": 0.5, "ar 0.8": 0.8}.get(world, 0.0))


def labels(values: np.ndarray) -> pl.DataFrame:
    """A table of labels; what a label's own delta would be is not looked at."""
    windows = [f"w{index}" for index in range(len(values))]
    return pl.DataFrame(
        {
            "window": np.repeat(windows, TASKS),
            "task": [f"bench/{task}" for task in range(TASKS)] * len(values),
            "innovation": values.ravel(),
            "delta": values.ravel(),
        }
    )


def one(rng: np.random.Generator, windows: int, world: str, share: float) -> dict[str, float]:
    """Compare two runs."""
    common, *own = (effects(rng, windows, world) for _ in range(3))
    curve = 3 * np.exp(-np.arange(windows) / (0.15 * windows))[:, None] * (world == "curve")
    runs = [labels(np.sqrt(share) * common + np.sqrt(1 - share) * each + curve) for each in own]
    pairs = [(f"w{index}", f"w{index}") for index in range(windows)]
    found = replication(*runs, pairs, alpha=ALPHA)
    rows = found.effects.filter(effect="innovation")
    pooled, tasks = rows.row(-1, named=True), rows[:-1]
    true = 6 / np.pi * np.arcsin(share / 2)
    return {
        "replicated": float(found.verdict == "replicated"),
        "any p": float(pooled["p"] <= ALPHA),
        "any task": float((tasks["p"] <= ALPHA).mean()),
        "any q": float((tasks["q"] <= ALPHA).any()),
        "detectable": pooled["detectable"],
        "rho": pooled["rho"],
        "covered": float(pooled["lo"] <= true <= pooled["hi"]),
    }


def rows_of(count: int) -> Iterator[Row]:
    """Every world, without a common share and with one."""
    for windows, shares in ((40, (0.3, 0.5)), (150, (0.15, 0.3)), (680, (0.07, 0.15))):
        for world in ("white", "ar 0.5", "ar 0.8", "delta", "curve"):
            for share in (0.0, *(shares if world in ("white", "delta") else ())):
                rng = np.random.default_rng([9, windows, len(world), int(100 * share)])
                times = count // 4 if share else count
                found = mean([one(rng, windows, world, share) for _ in range(times)])
                yield {"windows": windows, "effects": world, "share": share} | found


def main() -> None:
    """Measure, print, and put the table into RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--simulations", type=int, default=2_000)
    count = parser.parse_args().simulations
    rows = []
    for row in rows_of(count):
        rows.append(row)
        print(*(f"{key}={text_of(value)}" for key, value in row.items()), flush=True)
    lines = [f"| {' | '.join(rows[0])} |", f"| {' | '.join('---' for _ in rows[0])} |"]
    lines += [f"| {' | '.join(text_of(value) for value in row.values())} |" for row in rows]
    worst = max(max(row["any p"], row["any task"]) for row in rows if not row["share"])
    passed = f"- {'yes' if worst <= LIMIT else 'NO'}: at most 7 %, the highest is {worst:.1%}"
    said = f"{measured_by('replication.py')} {count:,} simulations a row, a quarter with a share."
    body = ["### False positives: replication", said, NOTE, "\n".join(lines), passed]
    replace("replication", "\n\n".join(body))


if __name__ == "__main__":
    main()
