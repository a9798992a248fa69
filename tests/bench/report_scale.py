"""Label and report a synthetic study of OLMo 3 32B's size, and open the page in a browser.

    python tests/bench/report_scale.py --out DIR [--checkpoints 680] [--items 80]

The study is written first, outside the timing: a run of `checkpoints` checkpoints a thousand
steps apart, with token files of three sources that hold one instance a step; and item scores of 52
tasks behind 16 demo seeds, `items` items each. Levels stand still but for a wobble; in the planted
windows they hop, all tasks of a family together. What stands in for the sweep is the writing of the
tables: everything after it is the command's own. Then `modehop label` and `modehop report` are run,
each a process of its own, whose tree's resident memory is watched.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import lru_cache
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import yaml
from acceptance import peak_memory
from results import measured_by, replace
from safetensors.numpy import save_file

import curate.chain
from curate.command import Call
from curate.study import load_study
from scoring.items import ITEMS, items_path, write_items
from scoring.labels import label_windows
from scoring.series import ClusterSeries
from windows.checkpoints.folder import Checkpoint
from windows.run import Window

FAMILIES = {
    "successive_answer": 12,
    "repetitive_answer": 12,
    "flipped_answer": 8,
    "intuitive_answer": 6,
    "truthy_answer": 6,
    "normal_control": 8,
}
TASK = "successive_answer/addition"
TASKS = tuple(
    f"{family}/{'addition' if index == 0 else f'task{index:02d}'}"
    for family, count in FAMILIES.items()
    for index in range(count)
)
SEEDS, EVERY = 16, 1000
OF_SEED = 0.055
"""Standard deviation of a demo seed's mean at one checkpoint: its own 0.05, and 80 items' 0.2."""
SOURCES = {"web": 6, "code": 3, "math": 1}
HOP, SHARE, WOBBLE = 0.25, 0.08, 0.01
"""Size of a planted hop, in soft score; the share of a family's windows that have one; the standard
deviation of what every checkpoint has of its own, which no error by demo seed covers."""


def main() -> None:
    """Write the study if it is not there, measure, and rewrite the part of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--checkpoints", type=int, default=680)
    parser.add_argument("--items", type=int, default=80)
    parser.add_argument("--print", action="store_true", help="leave RESULTS.md as it is")
    options = parser.parse_args()
    study = written(options)
    for made in ("labels", "report"):
        shutil.rmtree(options.out / "made" / made, ignore_errors=True)
    figures = {name: run(name, study, options.out) for name in ("label", "report")}
    text = told(options, figures, opened(options.out / "made" / "report.html"))
    print(text)
    if not options.print:
        replace("report_scale", text)


def written(options: argparse.Namespace) -> Path:
    """Write run, checkpoints, token files, study and scores; return the study file."""
    out, path = options.out, options.out / "study.yaml"
    done = out / "written"
    if done.exists():
        return path
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    write_run(out, options.checkpoints)
    study = {
        "name": "scale",
        "run": "./run.yaml",
        "suite": {"tasks": [TASK], "demo_seeds": SEEDS, "wordings": 1},
        "windows": {"stage": "stage1", "first_step": 0, "every": EVERY},
        "labels": {"task": TASK},
    }
    path.write_text(yaml.safe_dump(study))
    # The sweep's place in the chain: what it is given is written, and no model is run.
    curate.chain.run_sweep = lambda study, targets, asked, part, *rest: write_scores(
        targets, options.items, part
    )
    with Call(load_study(path), out / "made", quiet=True).making() as chain:
        chain.scores()
    done.touch()
    return path


def write_run(out: Path, checkpoints: int) -> None:
    """Write a run whose batches are one instance each, and its checkpoints."""
    steps = (checkpoints - 1) * EVERY
    length, files = 2, []
    sizes = [steps * part // sum(SOURCES.values()) + 1 for part in SOURCES.values()]
    for source, instances in zip(SOURCES, sizes, strict=True):
        ids = np.full(instances * length, 5, dtype="<u4")
        ids.tofile(out / f"{source}.npy")
        files.append({"source": source, "path": f"{source}.npy", "bytes": ids.nbytes})
    run = {
        "name": "synthetic-32b",
        "sequence_length": length,
        "seed": 34521,
        "step_map": [{"first_step": 0, "first_batch": 0, "batch_tokens": length}],
        "tokenizer": {"vocab_size": 100, "eos_id": 1, "pad_id": 0},
        "files": files,
        "checkpoints": "checkpoints",
    }
    (out / "run.yaml").write_text(yaml.safe_dump(run))
    for index in range(checkpoints):
        folder = out / "checkpoints" / f"stage1-step{index * EVERY}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        save_file({"step": np.array([index])}, folder / "model.safetensors")


def write_scores(targets: list[Checkpoint], items: int, out: Path) -> None:
    """Write the tables of all checkpoints, in the form in which a sweep writes them."""
    levels = planted(len(targets))[0]
    for index, checkpoint in enumerate(targets):
        for number, task in enumerate(TASKS):
            rng = np.random.default_rng([index, number])
            table = scores(checkpoint, task, levels[task][index], items, rng)
            path = items_path(out, checkpoint, task)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_items(table, path)


@lru_cache
def planted(checkpoints: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return every task's level at every checkpoint, and in which windows it hops (-1, 0, 1)."""
    levels, hops = {}, {}
    for number, family in enumerate(FAMILIES):
        rng = np.random.default_rng([7, number])
        jumps = rng.random(checkpoints - 1) < SHARE * (family != "normal_control")
        way, at = np.zeros(checkpoints - 1, dtype=int), 0.0
        for window in np.flatnonzero(jumps):
            # Towards zero from far away, so that levels stay where soft scores can be.
            way[window] = -np.sign(at) if abs(at) > HOP else rng.choice([-1, 1])
            at += HOP * way[window]
        for task in (each for each in TASKS if each.startswith(f"{family}/")):
            wobble = rng.normal(0, WOBBLE, checkpoints)
            levels[task] = np.concatenate([[0], np.cumsum(HOP * way)]) + wobble
            hops[task] = way
    return levels, hops


@lru_cache
def constant(task: str, items: int) -> dict[str, list | np.ndarray]:
    """Return the columns that are the same at every checkpoint."""
    rows, (family, name) = SEEDS * items, task.split("/")
    ids = [sha256(f"{task} {index}".encode()).hexdigest()[:16] for index in range(items)]
    return {
        "stage": ["stage1"] * rows,
        "family": [family] * rows,
        "task": [name] * rows,
        "wording": ["label-0"] * rows,
        "item_id": ids * SEEDS,
        "demo_seed": np.repeat(np.arange(SEEDS), items).astype("i2"),
        "n_right": np.full(rows, 3, "i2"),
        "n_parrot": np.full(rows, 3, "i2"),
        "boundary": ["joined"] * rows,
    }


def scores(
    checkpoint: Checkpoint, task: str, level: float, items: int, rng: np.random.Generator
) -> pa.Table:
    """Return a checkpoint's scores on a task whose soft score is about `level`."""
    rows = SEEDS * items
    seeds = np.repeat(rng.normal(0, 0.05, SEEDS), items)
    soft = np.clip(level + seeds + rng.normal(0, 0.2, rows), -0.95, 0.95)
    columns = {
        **constant(task, items),
        "run": [checkpoint.run] * rows,
        "step": np.full(rows, checkpoint.step),
        "lp_right": np.log((1 + soft) / 2).astype("f4"),
        "lp_parrot": np.log((1 - soft) / 2).astype("f4"),
        "mean_p_right": ((1 + soft) / 2).astype("f4"),
        "mean_p_parrot": ((1 - soft) / 2).astype("f4"),
    }
    return pa.table({field.name: columns[field.name] for field in ITEMS}, schema=ITEMS)


def run(command: str, study: Path, out: Path) -> dict[str, float]:
    """Run a command on the study; return its wall time and its tree's peak resident memory."""
    modehop = Path(sys.executable).with_name("modehop")
    started = time.monotonic()
    process = subprocess.Popen(
        [str(modehop), command, str(study), "--out", str(out / "made"), "--quiet"],
        stdout=subprocess.DEVNULL,
    )
    peak = peak_memory(process)
    wall = time.monotonic() - started
    if process.returncode:
        raise SystemExit(f"modehop {command} ended with {process.returncode}")
    print(f"{command}: {wall:.0f} s, {peak / 1e9:.2f} GB", flush=True)
    return {"wall": wall, "peak": peak}


def opened(page: Path) -> float | None:
    """Return the seconds in which headless Chromium opens the page and runs its script."""
    chromium = shutil.which("chromium")
    if chromium is None:
        return None
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    with tempfile.TemporaryDirectory() as profile:
        command = [chromium, *flags, f"--user-data-dir={profile}", page.resolve().as_uri()]
        started = time.monotonic()
        found = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    assert "windows</span>" in found, "the script has said how many windows are shown"
    return time.monotonic() - started


def recalled(out: Path, checkpoints: int) -> str:
    """Say how many planted hops are labelled as they were planted, and how many labels are not."""
    (path,) = (out / "made" / "labels").glob("*/labels.parquet")
    labels, hops = pl.read_parquet(path), planted(checkpoints)[1]
    words = {"generalization": 1, "pattern": -1}
    right = wrong = 0
    for task, way in hops.items():
        named = labels.filter(pl.col("task") == task).sort("first_batch")["label"]
        found = np.array([words.get(name, 0) for name in named])
        right += int(((found == way) & (way != 0)).sum())
        wrong += int(((found != way) & (found != 0)).sum())
    total = sum(int((way != 0).sum()) for way in hops.values())
    return (
        f"Of {total:,} planted hops {right:,} are labelled as planted; {wrong:,} of "
        f"{right + wrong:,} labels stand where nothing, or the opposite, was planted: beside the "
        f"hops every checkpoint wobbles by {WOBBLE} (standard deviation), a difference between "
        "checkpoints that errors by demo seed rightly find and that no window's data made."
    )


def stray(rule: str, wobble: float, checkpoints: int) -> float:
    """Return the share of labels off the planted hops, of series drawn without their items."""
    labelled = wrong = 0
    words = {"generalization": 1, "pattern": -1}
    edges = (np.arange(checkpoints) * EVERY).tolist()
    windows = [Window(f"{a}:{b}", "stage1", a, b, a, b, 1) for a, b in pairwise(edges)]
    for number, (task, way) in enumerate(planted(checkpoints)[1].items()):
        rng = np.random.default_rng(number)
        level = np.concatenate([[0], np.cumsum(HOP * way)]) + rng.normal(0, 1, len(edges)) * wobble
        values = level[:, None] + rng.normal(0, OF_SEED, (len(edges), SEEDS))
        series = ClusterSeries(task, np.array(edges), np.arange(SEEDS), values)
        found = label_windows(series, windows, rule=rule, alpha=0.05, minimum=0.05)["label"]
        named = np.array([words.get(name, 0) for name in found])
        labelled += int((named != 0).sum())
        wrong += int(((named != way) & (named != 0)).sum())
    return wrong / labelled


def by_rule(checkpoints: int) -> str:
    """Say how many labels stray, by rule, with the wobble and without it."""
    found = {
        rule: [f"{stray(rule, wobble, checkpoints):.1%}" for wobble in (WOBBLE, 0.0)]
        for rule in ("innovation", "delta")
    }
    said = "; ".join(f"{rule} {a} and {b}" for rule, (a, b) in found.items())
    drawn = "Share of such labels on series drawn at the same levels, with the wobble and without"
    return f"{drawn}: {said}."


def told(options: argparse.Namespace, figures: dict, seconds: float | None) -> str:
    """Lay out what was measured."""
    count, made = options.checkpoints, options.out / "made"
    rows = count * len(TASKS) * SEEDS * options.items
    names = ("report.html", "summary.json")
    page, summary = (f"{(made / name).stat().st_size / 1e6:.1f} MB" for name in names)
    total = sum(each["wall"] for each in figures.values())
    peak = max(each["peak"] for each in figures.values())
    browser = "no browser here" if seconds is None else f"opened in {seconds:.1f} s by Chromium"
    lines = [
        f"| `modehop {name}` | {each['wall']:.0f} | {each['peak'] / 1e9:.2f} |"
        for name, each in figures.items()
    ]
    return "\n".join(
        [
            f"## A report of {count} checkpoints and {len(TASKS)} tasks\n",
            f"{measured_by('report_scale.py')} Load while it ran: {os.getloadavg()[1]:.1f}.\n",
            f"{rows:,} rows of item scores, {rows // count:,} a checkpoint, in "
            f"{count * len(TASKS):,} tables; writing them is not timed.\n",
            "| | wall s | peak GB of the process tree |",
            "| --- | --- | --- |",
            *lines,
            "",
            f"- {'yes' if total <= 600 else 'no'}: labelled and reported within 10 minutes "
            f"({total:.0f} s)",
            f"- {'yes' if peak <= 8e9 else 'no'}: within 8 GB ({peak / 1e9:.2f} GB)",
            "",
            f"The page has {page} and was {browser}; `summary.json` has {summary}. "
            f"{recalled(options.out, count)} {by_rule(count)}",
        ]
    )


if __name__ == "__main__":
    main()
