"""Attribution inside windows: scorers put to a study's documents, each with its null."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from curate.chain_steps import LABELS, SERIES
from curate.command import Answer, Call
from curate.sweeping import identity
from curate.tables import plain, table
from scoring.attribution.bm25 import Bm25
from scoring.attribution.composition import SourceComposition, count_sources
from scoring.attribution.evidence import Attribution, Evidence, sample_documents
from scoring.attribution.regression import NgramRegression
from windows.composition import SourceCounter
from windows.errors import ConfigError
from windows.files import atomic_path
from windows.store import Artefact, Recipe

if TYPE_CHECKING:
    from curate.chain import Chain
    from curate.study import Study
    from trainers.attribution.margins import Answers

SCORES, NULLS = "document_scores.parquet", "nulls.parquet"
ITEMS_ASKED = 192
"""Items of the suite whose margin a gradient is taken of, and whose texts are looked for."""


def attribute(call: Call, methods: list[str]) -> Answer:
    """Score sampled documents of every window, by every method that is named."""
    _check(call.study, methods)
    with call.making() as chain:
        made = document_scores(chain, tuple(dict.fromkeys(methods)) or tuple(METHODS))
    nulls = pl.read_parquet(made.path / NULLS)
    scores = pl.read_parquet(made.path / SCORES)
    counts = scores.group_by("method").agg(documents=pl.len())
    told = nulls.join(counts, on="method", maintain_order="left")
    task = call.study.labels.task
    title = f"document scores for {task}: held-out windows' strength against their mean score"
    limits = (
        "statistic is over windows that did not make the score; p is over circular shifts of the"
        " strength. A method whose p is not small has found nothing to attribute."
    )
    data = {
        "artefact": str(made.path),
        "id": made.id,
        "task": task,
        "table": str(made.path / SCORES),
        "methods": [plain(row) for row in told.to_dicts()],
    }
    where = f"artefact: {made.path}"
    return Answer(data, (table(title, told.columns, told.rows()), limits, where))


def document_scores(chain: "Chain", methods: tuple[str, ...]) -> Artefact:
    """Make the table of document scores, of the design's schema, and its nulls."""
    section, run, labels = chain.config.attribution, chain.pretrain(), chain.labels()
    asked = identity(chain.study, (chain.request("label"),))
    parameters = {
        **asked,
        "task": chain.study.labels.task,
        "attribution": section,
        "methods": methods,
        "seed": chain.config.seed,
    }
    parents = (run, labels, chain.corpus())
    recipe = Recipe("document-scores", "windows", 1, parameters, parents)
    return chain.made.artefact(
        "attribute", recipe, lambda part: _write(_Material(chain, labels.path), methods, part)
    )


def _write(material: "_Material", methods: tuple[str, ...], part: Path) -> None:
    found = []
    with material.chain.reporter.task("scoring documents", len(methods)) as advance:
        for method in methods:
            found.append(METHODS[method](material))
            advance(1)
    nulls = [
        {
            "method": each.method,
            "statistic": each.null.statistic,
            "p": each.null.p,
            "floor": each.null.floor,
        }
        for each in found
    ]
    for name, frame in ((SCORES, pl.concat(e.scores for e in found)), (NULLS, pl.DataFrame(nulls))):
        with atomic_path(part / name) as aside:
            frame.write_parquet(aside)


class _Material:
    """What scorers may see of a study."""

    def __init__(self, chain: "Chain", labels: Path) -> None:
        self.chain, self.labels = chain, labels
        self.task = chain.study.labels.task
        self.windows = tuple(chain.sources.windows())
        self.evidence = self._evidence()

    def _evidence(self) -> Evidence:
        table = pl.read_parquet(self.labels / LABELS).filter(pl.col("task") == self.task)
        strength = dict(table.select("window", "strength").iter_rows())
        section, sources = self.chain.config.attribution, self.chain.sources
        documents = sample_documents(
            sources.token_files(),
            sources.order(),
            self.windows,
            eos_id=sources.run.tokenizer.eos_id,
            count=section.instances,
            seed=self.chain.config.seed,
        )
        values = np.array([strength[window.name] for window in self.windows])
        return Evidence(documents, self.windows, values, section.folds, seed=self.chain.config.seed)

    @property
    def levels(self) -> Any:
        series = pl.read_parquet(self.labels / SERIES).filter(pl.col("task") == self.task)
        return series.group_by("step").agg(pl.col("soft").mean()).sort("step")["soft"].to_numpy()

    def checkpoints(self, edges: list[int]) -> dict[int, Path]:
        steps = self.chain.study.edges
        return {edge: self.chain.sources.checkpoint(steps[edge]).path for edge in edges}

    def items(self) -> "tuple[Answers, ...]":
        from transformers import AutoTokenizer

        from trainers.attribution.margins import answers

        tokenizer = AutoTokenizer.from_pretrained(
            self.checkpoints([0])[0], local_files_only=True, trust_remote_code=False
        )
        return answers(tokenizer, self.chain.request("label").blocks(self.task), ITEMS_ASKED)


def _composition(material: _Material) -> Attribution:
    sources, order = material.chain.sources, material.chain.sources.order()
    counter = SourceCounter(order.layout, [file.source for file in sources.files()])
    counted = count_sources(order, counter, material.windows, material.evidence)
    half_life = material.chain.config.attribution.half_life
    return SourceComposition(counted, half_life).attribute(material.evidence)


def _ngrams(material: _Material) -> Attribution:
    half_life = material.chain.config.attribution.half_life
    return NgramRegression(half_life=half_life).attribute(material.evidence)


def _bm25(material: _Material) -> Attribution:
    items = material.items()
    right, pattern = (tuple(item.texts[kind] for item in items) for kind in (0, 1))
    return Bm25(right, pattern).attribute(material.evidence)


def _contrast(material: _Material) -> Attribution:
    from trainers.attribution.contrast import CheckpointContrast

    count = material.chain.config.attribution.checkpoints
    every = material.checkpoints(list(range(len(material.windows) + 1)))
    return CheckpointContrast(material.levels, every, count).attribute(material.evidence)


def _gradient(material: _Material) -> Attribution:
    from trainers.attribution.gradient_similarity import GradientSimilarity

    count = material.chain.config.attribution.checkpoints
    edges = sorted({*np.linspace(0, len(material.windows), count).round().astype(int).tolist()})
    optimizer = material.chain.study.training.optimizer
    scorer = GradientSimilarity(material.checkpoints(edges), material.items(), optimizer)
    return scorer.attribute(material.evidence)


METHODS: Mapping[str, Callable[[_Material], Attribution]] = {
    "composition": _composition,
    "ngrams": _ngrams,
    "bm25": _bm25,
    "contrast": _contrast,
    "gradient": _gradient,
}


def _check(study: "Study", methods: list[str]) -> None:
    if unknown := [name for name in methods if name not in METHODS]:
        raise ConfigError(
            "no such way to score documents",
            where="--method",
            got=", ".join(map(repr, unknown)),
            do=f"use {', '.join(METHODS)}",
        )
    if not study.has_data or study.released:
        raise ConfigError(
            "documents are read and losses taken, and data or checkpoints are not here",
            where=str(study.run_path),
            do="name their folders in data and checkpoints",
        )
    if (not methods or "gradient" in methods) and study.config.training is None:
        raise ConfigError(
            "method gradient takes the run's optimizer, which no section describes",
            where=f"{study.path}: training",
            do="add a section training, or name other methods (--method)",
        )
