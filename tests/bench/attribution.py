"""Score attribution methods where the truth is known, and print one table.

    python tests/bench/attribution.py --out DIR [--regimes A A-rho0 ... STUDY.yaml]
                                      [--seeds 0 1 2] [--methods ...] [--quick] [--write]

A regime is a name in `attribution_runs.py`, or a study file whose run plants its corpus: types,
mixes and strengths are the run file's. What is made is kept in DIR, run by run and method by
method, and not made again; `--write` puts the table into RESULTS.md.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from attribution_runs import QUICK, Run, Size, opened
from results import measured_by, replace
from transformers.utils import logging

from scoring.attribution.bm25 import Bm25
from scoring.attribution.composition import SourceComposition, SourceCounts, count_sources
from scoring.attribution.crossfit import Features, attribute, window_average
from scoring.attribution.evaluation import (
    against,
    control_effect,
    linear_datamodeling_score,
    type_auroc,
    unspecific,
    window_means,
)
from scoring.attribution.evidence import NO_WINDOW, Attribution
from scoring.attribution.regression import NgramRegression
from scoring.transfer import spearman
from trainers.attribution.contrast import CheckpointContrast
from trainers.attribution.gradient_similarity import GradientSimilarity
from trainers.attribution.margins import item_scores
from trainers.attribution.retraining import Retraining, tail_patch, trained
from windows.composition import SourceCounter
from windows.files import atomic_path, write_atomic
from windows.planted_documents import TYPES

UP, DOWN = ("break",), ("succ",)
OTHER_UP, OTHER_DOWN = ("repbreak",), ("rep",)
PROPONENTS = 10


# ---------------------------------------------------------------- methods


def by_chance(run: Run) -> Attribution:
    """Scores that know nothing: what every figure is without a method."""
    rng = np.random.default_rng([run.seed, 7])
    return _single(run, "random", rng.standard_normal(len(run.types)))


def by_label(run: Run) -> Attribution:
    """Every document has the strength of its window, which is not cross-fitted."""
    strength = np.append(run.evidence.strength, run.evidence.strength.mean())
    return _single(run, "label", strength[run.evidence.documents.window])


def _single(run: Run, method: str, values: np.ndarray) -> Attribution:
    found = values[:, None]
    features = Features(found, window_average(run.evidence, found))
    return attribute(run.evidence, method, features, lambda fold, shifts: np.ones((1, len(shifts))))


def composition(run: Run) -> Attribution:
    sources = [file.source for file in run.sources.files()]
    order = run.sources.order()
    counter = SourceCounter(order.layout, sources)
    counted = count_sources(order, counter, run.windows, run.evidence)
    return SourceComposition(counted, half_life=8.0).attribute(run.evidence)


def composition_of_types(run: Run) -> Attribution:
    """The same, told the types: what knowing every document's source would give."""
    batches = np.concatenate([np.arange(w.first_batch, w.end_batch) for w in run.windows])
    counts = np.zeros((batches.max() + 1, len(TYPES)), dtype=np.int64)
    known = run.truth.filter(pl.col("batch") <= batches.max())
    kinds = {kind: at for at, kind in enumerate(TYPES)}
    np.add.at(counts, (known["batch"].to_numpy(), [kinds[kind] for kind in known["type"]]), 1)
    documents = np.array([kinds[kind] for kind in run.types])
    counted = SourceCounts(TYPES, batches, counts[batches], documents)
    return SourceComposition(counted, half_life=8.0).attribute(run.evidence)


def bm25(run: Run) -> Attribution:
    items = run.items("label")
    right, pattern = (tuple(item.texts[kind] for item in items) for kind in (0, 1))
    return Bm25(right, pattern).attribute(run.evidence)


def contrast(run: Run) -> Attribution:
    every = {edge: run.path(edge) for edge in range(len(run.windows) + 1)}
    count = max(1, len(run.windows) // 10)
    scorer = CheckpointContrast(run.levels, every, count)
    if run.size == QUICK:
        needed = {edge: every[edge] for edge in scorer.needed(run.evidence)}
        scorer = CheckpointContrast(run.levels, needed, count)
    return scorer.attribute(run.evidence)


def gradients(run: Run, *, preconditioned: bool) -> Attribution:
    edges = np.linspace(0, len(run.windows), run.size.checkpoints).round().astype(int).tolist()
    scorer = GradientSimilarity(
        {edge: run.path(edge) for edge in edges},
        run.items("label"),
        run.study.config.training.optimizer,
        preconditioned=preconditioned,
    )
    return scorer.attribute(run.evidence)


METHODS: dict[str, Callable[[Run], Attribution]] = {
    "random": by_chance,
    "label": by_label,
    "composition": composition,
    "types told": composition_of_types,
    "ridge": lambda run: NgramRegression(half_life=8.0).attribute(run.evidence),
    "elastic net": lambda run: NgramRegression("elastic-net", half_life=8.0).attribute(
        run.evidence
    ),
    "bm25": bm25,
    "contrast": contrast,
    "gradient": lambda run: gradients(run, preconditioned=True),
    "gradient sgd": lambda run: gradients(run, preconditioned=False),
}


# ---------------------------------------------------------------- measures


def measured(run: Run, method: str) -> dict[str, Any]:
    """Score by one method and measure it, or take what an earlier call measured."""
    kept = run.folder / f"{method.replace(' ', '-')}.json"
    if not kept.exists():
        began = time.process_time()
        found = METHODS[method](run)
        seconds = time.process_time() - began
        with atomic_path(kept.with_suffix(".parquet")) as part:
            found.scores.write_parquet(part)
        values = {**figures(run, found), "CPU s": seconds}
        write_atomic(kept, json.dumps({"size": asdict(run.size), "figures": values}))
    return json.loads(kept.read_text())["figures"]


def figures(run: Run, found: Attribution) -> dict[str, float]:
    """Hold scores against all that is known of the run."""
    documents = run.evidence.documents
    scores = found.scores["score"].to_numpy().astype(np.float64)
    windows = window_means(documents, scores, len(run.windows))
    truth = run.composition(UP, DOWN)
    own = against(windows, truth)
    fresh = documents.window == NO_WINDOW
    values, types = scores[fresh], run.types[fresh]
    instances = _instance_scores(run, scores)
    return {
        "rho truth": own.rho,
        "rho replay": spearman(windows, np.asarray(run.effects)),
        "leakage": own.leakage,
        "unspecific": unspecific(windows, truth, run.composition(OTHER_UP, OTHER_DOWN)),
        "null p": found.null.p,
        "up/down": type_auroc(values, types, up=UP, down=DOWN),
        "up/rest": type_auroc(values, types, up=UP),
        "down/rest": type_auroc(-values, types, up=DOWN),
        "LDS": linear_datamodeling_score(instances[run.pool], run.halves, run.outcomes),
        "tail patch": _tail_patch(run, scores),
        "control": _control(run, instances),
    }


def _instance_scores(run: Run, scores: np.ndarray) -> np.ndarray:
    """The mean score of every instance's tokens."""
    documents = run.evidence.documents
    total = np.bincount(documents.row, documents.lengths * scores)
    return total / np.bincount(documents.row, documents.lengths)


def _tail_patch(run: Run, scores: np.ndarray) -> float:
    documents = run.evidence.documents
    usable = np.flatnonzero((documents.window != NO_WINDOW) & (documents.lengths > 1))
    # Equal scores in an order that says nothing.
    drawn = np.random.default_rng([run.seed, 6]).permutation(usable)
    best = drawn[np.argsort(-scores[drawn], kind="stable")[:PROPONENTS]]
    bodies = [documents.body(document) for document in best]
    return tail_patch(run.retraining.base, bodies, run.items("verify"))


def _control(run: Run, instances: np.ndarray) -> float:
    documents, job = run.evidence.documents, run.retraining
    inside = np.flatnonzero(documents.windows != NO_WINDOW)
    drawn = np.random.default_rng([run.seed, 8]).permutation(inside)
    ordered = drawn[np.argsort(-instances[drawn], kind="stable")]
    count = min(run.size.steps * job.batch, len(inside) // 2)
    arms = [
        np.array([_level(run, job, rows, seed) for seed in range(run.size.arm_seeds)])
        for rows in (ordered[:count], ordered[-count:])
    ]
    return control_effect(*arms).effect


def _level(run: Run, job: Retraining, rows: np.ndarray, seed: int) -> float:
    shuffled = np.random.default_rng([run.seed, seed]).permutation(rows)
    model = trained(job, run.evidence.documents.tokens[shuffled])
    margins, right = item_scores(model, run.items("verify"))
    return float(np.mean(right * (1 - np.exp(-margins))))


# ---------------------------------------------------------------- the table


def rows_of(regime: str, options: argparse.Namespace, size: Size) -> list[list[str]]:
    """One row a method: the mean over seeds."""
    found: dict[str, list[dict[str, float]]] = {method: [] for method in options.methods}
    for seed in options.seeds:
        with opened(regime, seed, options.out, size) as run:
            for method in options.methods:
                found[method].append(measured(run, method))
                print(regime, seed, method, _brief(found[method][-1]), flush=True)
    return [
        [Path(regime).stem, method, str(len(each)), *(_mean(each, name) for name in each[0])]
        for method, each in found.items()
    ]


def _mean(each: list[dict[str, float]], name: str) -> str:
    value = statistics.fmean(one[name] for one in each)
    return f"{value:.3f}" if name == "tail patch" else f"{value:.2f}"


def _brief(figures: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in figures.items())


NOTES = """\
Figures are means over seeds. `rho truth`: Spearman correlation of window scores with the planted
composition, log break/succ; `rho replay`: with the mean effect of shuffled replays; `leakage`: with
the previous window's composition, less what the composition's own persistence gives; `unspecific`:
with the other eval's, log repbreak/rep, less what the two have in common (0 is specific; repbreak
does promote generalization, though); `null p`: circular shifts, cross-fitted;
AUROC of fresh documents: `up/down` break above succ, `up/rest` break above all others, `down/rest`
succ below all others; `LDS`: linear datamodeling score over random halves of a pool of instances,
and `tail patch`: change of P(right) by single steps on the ten documents that score highest, both
as quanda defines them; `control`: soft score after training on the instances that score highest,
minus lowest. `random` knows nothing; `label` gives a document its window's strength and is not
cross-fitted; `types told` is composition where the sources are the planted types.
"""


def main() -> None:
    """Measure what is asked for and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--regimes", nargs="+", default=["A", "A-rho0", "B"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    size = QUICK if options.quick else Size()
    rows = [row for regime in options.regimes for row in rows_of(regime, options, size)]
    names = ["rho truth", "rho replay", "leakage", "unspecific", "null p", "up/down", "up/rest"]
    names += ["down/rest", "LDS", "tail patch", "control", "CPU s"]
    head = ["regime", "method", "seeds", *names]
    table = [head, ["---"] * len(head), *rows]
    text = "\n".join(f"| {' | '.join(row)} |" for row in table)
    print(text)
    if options.write:
        how = f"{measured_by('attribution.py')} {size}\n\n{NOTES}"
        replace("attribution", f"{how}\n{text}\n")


if __name__ == "__main__":
    main()
