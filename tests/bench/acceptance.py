"""Run both embedded studies over several seeds and write what they reached into RESULTS.md.

    python tests/bench/acceptance.py --out DIR [--seeds 0 1 2 3 4] [--studies demo demo-iid]

Every seed is shown and none is chosen. A study that was measured is not run again: wall time, peak
memory, commit and day are kept in its folder's `measured.json`. One that was cut short starts from
an empty folder, so that what is timed is always the whole. `--untimed` is for runs beside other
work: their wall time is not kept, and nothing is said of it.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
from results import commit, replace, today
from scipy import stats

from curate.study import load_study

ARMS = ("control-generalization", "control-pattern", "uncontrolled", "placebo")


def main() -> None:
    """Measure what is asked for and rewrite the acceptance part of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--studies", nargs="+", default=["demo", "demo-iid"])
    parser.add_argument("--untimed", action="store_true")
    options = parser.parse_args()
    parts, every = [], []
    for study in options.studies:
        runs = [measured(study, seed, options) for seed in options.seeds]
        parts += [f"### `configs/studies/{study}.yaml`\n", table(runs), judgement(study, runs)]
        every += runs
    replace("acceptance", "\n".join([preamble(every), *parts]))


def measured(study: str, seed: int, options: argparse.Namespace) -> dict:
    """Run one study with one seed, or take what an earlier call measured."""
    out = options.out / f"{study}-{seed}"
    kept = out / "measured.json"
    if not kept.exists():
        shutil.rmtree(out, ignore_errors=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        modehop = Path(sys.executable).with_name("modehop")
        command = [str(modehop), "run", study_path(study), "--out", str(out)]
        started = time.monotonic()
        process = subprocess.Popen([*command, "--set", f"seed={seed}", "--quiet"])
        peak = peak_memory(process)
        wall = time.monotonic() - started
        if process.returncode:
            raise SystemExit(f"{study} seed {seed} ended with {process.returncode}")
        timed = None if options.untimed else wall
        kept.write_text(
            json.dumps({"wall": timed, "peak": peak, "commit": commit(), "day": today()})
        )
        print(f"{study} seed {seed}: {wall:.0f} s, {peak / 2**30:.2f} GB", flush=True)
    summary = json.loads((out / "summary.json").read_text())
    return {"seed": seed, **json.loads(kept.read_text()), "summary": summary}


def study_path(study: str) -> str:
    """Return the path of a shipped study."""
    return str(load_study(study).path)


def peak_memory(process: subprocess.Popen) -> int:
    """Return the largest sum of resident memory of the process and its children, in bytes."""
    peak = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        root = psutil.Process(process.pid)
        while not done.wait(0.2):
            total = 0
            for each in [root, *children(root)]:
                try:
                    total += each.memory_info().rss
                except psutil.Error:
                    continue
            peak = max(peak, total)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    process.wait()
    done.set()
    watcher.join()
    return peak


def children(root: psutil.Process) -> list[psutil.Process]:
    """Return the processes below `root` that are still there."""
    try:
        return root.children(recursive=True)
    except psutil.Error:
        return []


def facts(run: dict) -> dict[str, float | None]:
    """Return the numbers of one run that the acceptance speaks of."""
    summary = run["summary"]
    arms, transfer, truth = summary["arms"], summary["transfer_check"], summary["truth"]
    control = [arms[arm]["control"] for arm in ARMS]
    level = {arm: arms[arm]["mean_soft"] for arm in ARMS}
    return {
        "wall s": run["wall"],
        "peak GB": run["peak"] / 2**30,
        "rho truth": truth["rho"],
        "rho previous": truth["rho_previous"],
        "autocorrelation": truth["autocorrelation"],
        "excess": truth["rho_previous"] - truth["rho"] * truth["autocorrelation"],
        "rho replay": transfer["rho"],
        "lower bound": transfer["lower_bound"],
        "gen": level["control-generalization"],
        "unc": level["uncontrolled"],
        "plc": level["placebo"],
        "pat": level["control-pattern"],
        "gen - pat": level["control-generalization"] - level["control-pattern"],
        "switches gen": arms["control-generalization"]["switches"],
        "switches pat": arms["control-pattern"]["switches"],
        "switches unc": arms["uncontrolled"]["switches"],
        "control min": min(control),
        "control range": max(control) - min(control),
    }


def table(runs: list[dict]) -> str:
    """Lay out one row a number, one column a seed, with mean and 95 % t interval over seeds."""
    columns = [facts(run) for run in runs]
    head = ["", *(f"seed {run['seed']}" for run in runs), "mean [95 %]"]
    rows = [head, ["---"] * len(head)]
    for name in columns[0]:
        values = [column[name] for column in columns]
        digits = 0 if name == "wall s" else 2
        shown = ["-" if v is None else f"{v:.{digits}f}" for v in values]
        rows.append([name, *shown, interval([v for v in values if v is not None], digits)])
    for name, key in (("transfer check", "transfer_check"), ("verdict", "verdict")):
        field = "verdict" if key == "transfer_check" else "name"
        rows.append([name, *(run["summary"][key][field] for run in runs), ""])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def interval(values: list[float], digits: int) -> str:
    """Return the mean with its 95 % t interval."""
    if not values:
        return "-"
    mean = statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:.{digits}f}"
    half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:.{digits}f} [{mean - half:.{digits}f}, {mean + half:.{digits}f}]"


def judgement(study: str, runs: list[dict]) -> str:
    """Say, criterion by criterion, whether the acceptance was reached."""
    every = [facts(run) for run in runs]
    mean = {
        name: statistics.fmean(one[name] for one in every) for name in every[0] if name != "wall s"
    }
    timed = [one["wall s"] for one in every if one["wall s"] is not None]
    names = [run["summary"]["verdict"]["name"] for run in runs]
    transfers = [run["summary"]["transfer_check"]["verdict"] for run in runs]
    speed = [
        *([(f"within 300 s ({len(timed)} runs timed)", max(timed) <= 300)] if timed else []),
        ("every run within 3 GB", all(one["peak GB"] <= 3 for one in every)),
    ]
    control = [
        ("normal control of every arm at least 0.85", all(o["control min"] >= 0.85 for o in every)),
        ("no two arms more than 0.1 apart", all(one["control range"] <= 0.1 for one in every)),
    ]
    if study.endswith("iid"):
        claims = ("controlled", "shifted", "stabilized-only")
        own = [
            ("no claim of transfer in any seed", "transferable" not in transfers),
            ("no claim of control in any seed", not set(names) & set(claims)),
        ]
        return checklist([*speed, *own])
    quiet = [
        one[f"switches {arm}"] < one["switches unc"] for one in every for arm in ("gen", "pat")
    ]
    own = [
        ("mean rho with the planted composition at least 0.6", mean["rho truth"] >= 0.6),
        ("mean excess over the autocorrelation's share at most 0.15", mean["excess"] <= 0.15),
        ("generalization minus pattern: mean at least 0.7", mean["gen - pat"] >= 0.7),
        (
            "above uncontrolled above pattern in every seed",
            all(one["gen"] > one["unc"] > one["pat"] for one in every),
        ),
        (
            "fewer switches per run in both controlled arms, mean over seeds",
            max(mean["switches gen"], mean["switches pat"]) < mean["switches unc"],
        ),
        ("the same in every seed", all(quiet)),
    ]
    return checklist([*speed, *own, *control])


def checklist(criteria: list[tuple[str, bool]]) -> str:
    """Lay out criteria with their answers."""
    return "\n".join(f"- {'yes' if held else '**no**'}: {what}" for what, held in criteria) + "\n"


def preamble(runs: list[dict]) -> str:
    """Say when and on what this was measured."""
    days, commits = (sorted({run[key] for run in runs}) for key in ("day", "commit"))
    return (
        f"Measured {', '.join(days)} on {os.cpu_count()} cores at commit {', '.join(commits)} by "
        "`python tests/bench/acceptance.py`.\n\n"
        "`rho` are Spearman correlations over the 40 windows: of label strength with the planted "
        "composition of the window, of the previous window, and with the mean effect of shuffled "
        "replay. `autocorrelation` is the composition's own; `excess` is rho previous minus rho "
        "truth times autocorrelation, what a label takes from its neighbour beyond what the "
        "composition's own persistence gives. Levels are soft scores on the verifying items, "
        "switches are per run.\n"
    )


if __name__ == "__main__":
    main()
