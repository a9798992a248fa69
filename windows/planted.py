"""The planted corpus: token files whose known order delivers windows of a chosen composition.

A run reads a uniform permutation of its instances, which makes all windows alike. So the content is
laid out backwards: instance `order.instances(...)[j]` receives the j-th row that the run is to
read. What was planted where is *truth*; it goes to a file of its own, which no step of a study reads.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from windows.bounds import Bound, write_bounds
from windows.errors import ConfigError
from windows.files import atomic_path, write_atomic
from windows.manifest import Manifest, describe_shard, write_manifest
from windows.order import DataOrder
from windows.planted_documents import (
    EOS,
    TYPES,
    VOCABULARY,
    DocumentWriter,
    word_soup,
    write_tokenizer,
)
from windows.run import RunConfig
from windows.settings import Section

TRUTH = "truth.parquet"
VARIED = ("succ", "break", "rep", "repbreak")
# Instances that no batch uses, and tokens behind the last instance of a file: a run has both.
_UNUSED_INSTANCES = 7
_TAIL_TOKENS = 17
_SOURCES = ("ledger", "almanac")


class PlantedSection(Section):
    """What the planted corpus holds.

    Shares are of documents. In the `planted` regime the log-shares of the four varied types follow,
    window by window, a stationary AR(1) process of standard deviation `sigma` and persistence
    `rho`, scaled so that their sum stays what it is in `mix`; in the `iid` regime all windows share
    `mix`.
    After the windows come `heldout_steps` batches that the run never trains on.
    """

    regime: Literal["planted", "iid"]
    warmup_steps: int = Field(gt=0)
    windows: int = Field(gt=0)
    window_steps: int = Field(gt=0)
    heldout_steps: int = Field(gt=0)
    warmup_mix: dict[str, float]
    mix: dict[str, float]
    sigma: float = Field(default=1.2, ge=0)
    rho: float = Field(default=0.5, gt=-1, lt=1)
    files: int = Field(default=4, ge=1)

    @property
    def trained_steps(self) -> int:
        """Steps that the run trains: the warm-up and the windows."""
        return self.warmup_steps + self.windows * self.window_steps


@dataclass(frozen=True)
class PlantedDocument:
    """Where one document stands and what it was planted as; `start` and `end` are half-open."""

    row: int
    start: int
    end: int
    kind: str


@dataclass(frozen=True)
class PlantedRows:
    """Rows in the order in which they are consumed.

    Attributes
    ----------
    tokens
        uint32[rows, sequence_length]; every row ends with EOS, its last document being cut there.
    documents
        The documents of the rows, by row and start.
    """

    tokens: NDArray[np.uint32]
    documents: tuple[PlantedDocument, ...]


def window_shares(section: PlantedSection, seed: int) -> NDArray[np.float64]:
    """Return float64[windows, types]: the planted shares, columns in the order of `TYPES`."""
    base = np.array([section.mix.get(kind, 0.0) for kind in TYPES])
    shares = np.tile(base / base.sum(), (section.windows, 1))
    if section.regime == "iid":
        return shares
    varied = [TYPES.index(kind) for kind in VARIED]
    noise = _stationary_ar1(
        np.random.default_rng([seed, 1]), section.rho, (section.windows, len(varied))
    )
    scaled = shares[:, varied] * np.exp(section.sigma * noise)
    mass = shares[:, varied].sum(axis=1, keepdims=True)
    shares[:, varied] = scaled / scaled.sum(axis=1, keepdims=True) * mass
    return shares


def _stationary_ar1(
    rng: np.random.Generator, rho: float, shape: tuple[int, int]
) -> NDArray[np.float64]:
    noise = rng.standard_normal(shape)
    for index in range(1, shape[0]):
        noise[index] = rho * noise[index - 1] + np.sqrt(1 - rho**2) * noise[index]
    return noise


def plant_rows(section: PlantedSection, *, batch: int, length: int, seed: int) -> PlantedRows:
    """Write every row that the run consumes, in order of consumption.

    Parameters
    ----------
    batch
        Instances per step.
    length
        Tokens per instance.
    """
    rng = np.random.default_rng([seed, 2])
    writer = DocumentWriter(rng, word_soup(np.random.default_rng([seed, 3])))
    mixes = _mix_of_each_step(section, seed)
    tokens = np.empty((len(mixes) * batch, length), dtype=np.uint32)
    documents: list[PlantedDocument] = []
    for step, mix in enumerate(mixes):
        kinds = iter(rng.choice(len(TYPES), size=batch * length // 8, p=mix))
        for row in range(step * batch, (step + 1) * batch):
            filled = 0
            while filled < length:
                kind = TYPES[next(kinds)]
                body = writer.write(kind)[: length - filled]
                end = filled + len(body)
                tokens[row, filled:end] = body
                documents.append(PlantedDocument(row, filled, end, kind))
                filled = end
            tokens[row, -1] = EOS
    return PlantedRows(tokens, tuple(documents))


def _mix_of_each_step(section: PlantedSection, seed: int) -> list[NDArray[np.float64]]:
    warmup = np.array([section.warmup_mix.get(kind, 0.0) for kind in TYPES])
    heldout = np.array([section.mix.get(kind, 0.0) for kind in TYPES])
    mixes = [warmup / warmup.sum()] * section.warmup_steps
    for shares in window_shares(section, seed):
        mixes += [shares] * section.window_steps
    return mixes + [heldout / heldout.sum()] * section.heldout_steps


def instances_per_batch(run: RunConfig) -> int:
    """Instances of one step of a run whose batch size never changes."""
    return run.step_map[0].batch_tokens // run.sequence_length


def file_sizes(section: PlantedSection, run: RunConfig) -> list[int]:
    """Bytes of every token file: uneven instance counts and a tail shorter than an instance."""
    steps = section.trained_steps + section.heldout_steps
    instances = steps * instances_per_batch(run) + _UNUSED_INSTANCES
    edges = np.linspace(0, 1, section.files + 1) ** 0.8 * instances
    counts = np.diff(np.round(edges).astype(int))
    return [int((n * run.sequence_length + _TAIL_TOKENS) * run.token_bytes) for n in counts]


def write_corpus(section: PlantedSection, run: RunConfig, folder: Path, *, seed: int) -> None:
    """Write the corpus as a folder of token shards, with the tokenizer beside it.

    The bounds name every document by its place; nothing in the folder tells its type.
    """
    planted = _plant(section, run, seed)
    order = run.order(tuple(file_sizes(section, run)))
    _write_files(planted, order, section, folder)
    shards = tuple(
        describe_shard(folder, f"{name}.npy", f"{name}.csv.gz", token_bytes=run.token_bytes)
        for name in _file_names(section)
    )
    write_tokenizer(folder)
    write_manifest(
        folder,
        Manifest(
            vocab_size=run.tokenizer.vocab_size,
            eos_id=run.tokenizer.eos_id,
            sequence_length=run.sequence_length,
            # Documents lie end to end; a file's tail is shorter than an instance.
            unit="document",
            shards=shards,
        ),
    )


def write_truth(section: PlantedSection, run: RunConfig, folder: Path, *, seed: int) -> None:
    """Write `truth.parquet`: batch, instance, start, end, type of every planted document."""
    planted = _plant(section, run, seed)
    order = run.order(tuple(file_sizes(section, run)))
    ids = order.instances(0, order.num_batches)
    batch = instances_per_batch(run)
    frame = pl.DataFrame(
        {
            "batch": [document.row // batch for document in planted.documents],
            "instance": [int(ids[document.row]) for document in planted.documents],
            "start": [document.start for document in planted.documents],
            "end": [document.end for document in planted.documents],
            "type": [document.kind for document in planted.documents],
        }
    )
    with atomic_path(folder / TRUTH) as path:
        frame.write_parquet(path)


def _plant(section: PlantedSection, run: RunConfig, seed: int) -> PlantedRows:
    if run.tokenizer.vocab_size < len(VOCABULARY):
        raise ConfigError(
            "the planted corpus needs a larger vocabulary",
            where="tokenizer.vocab_size",
            got=str(run.tokenizer.vocab_size),
            do=f"set it to {len(VOCABULARY)}",
        )
    return plant_rows(
        section, batch=instances_per_batch(run), length=run.sequence_length, seed=seed
    )


def _file_names(section: PlantedSection) -> list[str]:
    return [f"{_SOURCES[index % len(_SOURCES)]}/{index:02d}" for index in range(section.files)]


def _write_files(
    planted: PlantedRows, order: DataOrder, section: PlantedSection, folder: Path
) -> None:
    """Lay the rows out such that the order delivers them; unused instances repeat the first row."""
    length = planted.tokens.shape[1]
    ids = order.instances(0, order.num_batches)
    row_of = np.zeros(order.num_instances, dtype=np.int64)
    row_of[ids] = np.arange(len(ids))
    spans: dict[int, list[PlantedDocument]] = {}
    for document in planted.documents:
        spans.setdefault(document.row, []).append(document)
    files, _ = order.locate(np.arange(order.num_instances))
    for index, name in enumerate(_file_names(section)):
        instances = np.flatnonzero(files == index)
        tail = planted.tokens[0, :_TAIL_TOKENS]
        tokens = np.concatenate([planted.tokens[row_of[instances]].ravel(), tail])
        write_atomic(folder / f"{name}.npy", tokens.astype("<u4").tobytes())
        bounds = [
            Bound(
                start=position * length + document.start,
                end=position * length + document.end,
                id=f"{name}:{position}:{document.start}",
                source=name.split("/")[0],
                file=index,
                instance=int(instance),
            )
            for position, instance in enumerate(instances)
            for document in spans[int(row_of[instance])]
        ]
        write_bounds(folder / f"{name}.csv.gz", bounds)
