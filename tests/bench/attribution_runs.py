"""Runs of the attribution benchmark: made once, and what is true of each."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np
import polars as pl
import yaml
from transformers import AutoTokenizer

from curate.chain import Chain
from curate.chain_steps import EFFECTS, LABELS, SERIES
from curate.settings_file import read_mapping
from curate.shipped import shipped
from curate.study import Study, load_study
from scoring.attribution.evidence import NO_WINDOW, Documents, Evidence, sample_documents
from scoring.suite.registry import blocks
from trainers.attribution.margins import Answers, answers
from trainers.attribution.retraining import Retraining, random_subsets, subset_outcomes
from trainers.schedule import schedule
from windows.files import atomic_path, write_atomic
from windows.planted import TRUTH, PlantedRows, plant_rows
from windows.planted_documents import TYPES
from windows.progress import Reporter
from windows.store import StoreLock
from windows.workers import WorkerPool

REGIMES = MappingProxyType(
    {
        "A": ("demo", {}),
        "A-rho0": ("demo", {"rho": 0.0}),
        **{f"A-{share}": ("demo", {"sigma": 2.0 * share}) for share in (0.0, 0.25, 0.5, 0.75)},
        "B": ("demo-iid", {}),
    }
)
"""The shipped study that a regime is made of, and what it changes in the run's corpus."""

OFFSET = 0.01


@dataclass(frozen=True)
class Size:
    """How much is spent on a run: instances read of a window, checkpoints, items, trainings.

    Attributes
    ----------
    subsets, arm_seeds
        Trainings for the linear datamodeling score, and of each arm.
    steps
        Of each training.
    """

    instances: int = 256
    checkpoints: int = 8
    items: int = 192
    subsets: int = 40
    arm_seeds: int = 4
    steps: int = 48


QUICK = Size(instances=64, checkpoints=3, items=64, subsets=16, arm_seeds=1, steps=24)


class Run:
    """One run of one regime: what was made, what is true of it, and what methods may see."""

    def __init__(self, chain: Chain, folder: Path, size: Size) -> None:
        self.chain, self.folder, self.size = chain, folder, size
        self.study, self.sources = chain.study, chain.sources
        self.task, self.seed = self.study.config.labels.task, self.study.config.seed
        self.windows = tuple(self.sources.windows())
        self.tokenizer = AutoTokenizer.from_pretrained(
            self.path(0), local_files_only=True, trust_remote_code=False
        )

    def path(self, edge: int) -> Path:
        return self.sources.checkpoint(self.study.edges[edge]).path

    @cached_property
    def evidence(self) -> Evidence:
        labels = pl.read_parquet(self.chain.labels().path / LABELS).filter(task=self.task)
        strength = dict(labels.select("window", "strength").iter_rows())
        documents = sample_documents(
            self.sources.token_files(),
            self.sources.order(),
            self.windows,
            eos_id=self.sources.run.tokenizer.eos_id,
            count=self.size.instances,
            seed=self.seed,
        )
        documents = joined(documents, self.fresh, self.places)
        values = np.array([strength[window.name] for window in self.windows])
        return Evidence(documents, self.windows, values, seed=self.seed)

    @cached_property
    def levels(self) -> np.ndarray:
        series = pl.read_parquet(self.chain.labels().path / SERIES).filter(task=self.task)
        return series.group_by("step").agg(pl.col("soft").mean()).sort("step")["soft"].to_numpy()

    @cached_property
    def effects(self) -> np.ndarray:
        table = pl.read_parquet(self.chain.transfer().path / EFFECTS)
        return table.select(pl.mean_horizontal(pl.selectors.starts_with("shuffle"))).to_series()

    @cached_property
    def truth(self) -> pl.DataFrame:
        return pl.read_parquet(self.sources.truth().path / TRUTH)

    @cached_property
    def fresh(self) -> PlantedRows:
        """Rows that nothing trained on, in which every type is as frequent as any other.

        They take the places of the held-out instances.
        """
        mix = dict.fromkeys(TYPES, 1.0)
        steps = {"warmup_steps": 1, "windows": 1, "window_steps": 1, "heldout_steps": 6}
        changes = {"regime": "iid", "mix": mix, "warmup_mix": mix, **steps}
        section = self.study.run.corpus.model_copy(update=changes)
        length = self.sources.run.sequence_length
        return plant_rows(section, batch=32, length=length, seed=self.seed)

    @property
    def places(self) -> np.ndarray:
        return self.sources.order().instances(*self.sources.heldout_batches())

    @cached_property
    def types(self) -> np.ndarray:
        held = self.evidence.documents
        fresh = [document.kind for document in self.fresh.documents]
        inside = slice(0, len(held.row) - len(fresh))
        return np.append(self._planted_types(held, inside), fresh)

    def _planted_types(self, held: Documents, inside: slice) -> np.ndarray:
        found = pl.DataFrame(
            {"instance": held.instances[held.row], "start": held.start, "end": held.end}
        )[inside].cast(pl.Int64)
        planted = self.truth.select(pl.col("instance", "start", "end").cast(pl.Int64), "type")
        joined = found.join(planted, on=found.columns, how="left", maintain_order="left")
        assert joined["type"].null_count() == 0, "documents are not those that were planted"
        return joined["type"].to_numpy()

    def composition(self, up: tuple[str, ...], down: tuple[str, ...]) -> np.ndarray:
        """The log-ratio of two groups' shares of tokens, by window, of all that was planted."""
        tokens = self.truth.with_columns(tokens=pl.col("end") - pl.col("start"))
        found = []
        for window in self.windows:
            inside = tokens.filter(
                pl.col("batch").is_between(window.first_batch, window.end_batch, closed="left")
            )
            share = [
                inside.filter(pl.col("type").is_in(kinds))["tokens"].sum() / window.tokens
                for kinds in (up, down)
            ]
            found.append(np.log(share[0] + OFFSET) - np.log(share[1] + OFFSET))
        return np.array(found)

    def items(self, split: str) -> tuple[Answers, ...]:
        section = self.study.config.suite
        asked = blocks(
            self.task, split=split, demo_seeds=section.demo_seeds, wordings=section.wordings
        )
        return answers(self.tokenizer, asked, self.size.items)

    @property
    def retraining(self) -> Retraining:
        training, run = self.study.config.training, self.study.run
        base = training.base_step
        return Retraining(
            self.sources.checkpoint(base).path,
            training.optimizer,
            self.sources.run.instances_per_batch(base),
            training.lr or schedule(run.pretraining).lr(base),
        )

    @cached_property
    def pool(self) -> np.ndarray:
        """Instances of windows, twice as many as a training takes, or all."""
        inside = np.flatnonzero(self.evidence.documents.windows != NO_WINDOW)
        count = min(2 * self.size.steps * self.retraining.batch, len(inside))
        return np.random.default_rng([self.seed, 5]).choice(inside, count, replace=False)

    @cached_property
    def halves(self) -> np.ndarray:
        return random_subsets(self.size.subsets, len(self.pool), seed=self.seed)

    @cached_property
    def outcomes(self) -> np.ndarray:
        kept = self.folder / "outcomes.npy"
        if not kept.exists():
            tokens = self.evidence.documents.tokens[self.pool]
            found = subset_outcomes(self.retraining, tokens, self.halves, self.items("verify"))
            with atomic_path(kept) as part, part.open("wb") as file:
                np.save(file, found)
        return np.load(kept)


def joined(documents: Documents, fresh: PlantedRows, places: np.ndarray) -> Documents:
    """Put fresh rows, whose types are told, behind the documents of the windows."""
    rows, before = len(fresh.tokens), len(documents.tokens)
    spans = [(each.row + before, each.start, each.end) for each in fresh.documents]
    row, start, end = np.array(spans).T
    return Documents(
        tokens=np.concatenate([documents.tokens, fresh.tokens]),
        instances=np.concatenate([documents.instances, places[:rows].astype(np.int64)]),
        batches=np.concatenate([documents.batches, np.full(rows, -1)]),
        windows=np.concatenate([documents.windows, np.full(rows, NO_WINDOW)]),
        row=np.concatenate([documents.row, row]),
        start=np.concatenate([documents.start, start.astype(np.int32)]),
        end=np.concatenate([documents.end, end.astype(np.int32)]),
    )


def study_of(regime: str, seed: int, out: Path) -> Study:
    """Load a regime's study; one of `REGIMES` that changes its corpus is written out first."""
    settings = [f"seed={seed}", "workers=1"]
    if regime not in REGIMES:
        return load_study(regime, settings)
    name, changes = REGIMES[regime]
    if not changes:
        return load_study(name, settings)
    study = read_mapping(shipped("studies")[name], "study")
    run = read_mapping(shipped("runs")[study["run"]], "run")
    run["corpus"] |= changes
    folder = out / "worlds" / regime
    write_atomic(folder / "run.yaml", yaml.safe_dump(run))
    write_atomic(folder / "study.yaml", yaml.safe_dump(study | {"run": "run.yaml"}))
    return load_study(folder / "study.yaml", settings)


@contextmanager
def opened(regime: str, seed: int, out: Path, size: Size) -> Iterator[Run]:
    """Make a regime's run, as far as it is not made, and hold its folder."""
    study = study_of(regime, seed, out)
    name = f"{Path(regime).stem}-{seed}"
    with StoreLock(out / name), WorkerPool(study.config.workers) as pool:
        chain = Chain(study, out / name, reporter=Reporter(quiet=True), pool=pool)
        chain.transfer()
        folder = out / f"{name}-{'quick' if size == QUICK else 'full'}"
        folder.mkdir(parents=True, exist_ok=True)
        yield Run(chain, folder, size)
