"""The planted corpus: token files whose known order delivers windows of a chosen composition.

A run reads a uniform permutation of its instances, which makes all windows alike. So the content is
laid out backwards: instance `order.instances(...)[j]` receives the j-th row that the run is to
read. What was planted where is *truth*; it goes to a file of its own, which no step of a study
reads.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from windows.bounds import Bound, write_bounds
from windows.errors import ConfigError
from windows.files import atomic_path, write_atomic
from windows.manifest import Manifest, describe_shard, write_manifest
from windows.order import TOKEN_DTYPES, DataOrder
from windows.planted_documents import (
    EOS,
    PAD,
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
# Instances that no batch uses, and tokens behind the last instance of a file: a run has both. Fewer
# where batches or instances are smaller than that.
_UNUSED_INSTANCES = 7
_TAIL_TOKENS = 17
_NO_INSTANCE = -1
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

    @field_validator("warmup_mix", "mix")
    @classmethod
    def _shares_of_types(cls, shares: dict[str, float]) -> dict[str, float]:
        if unknown := sorted(set(shares) - set(TYPES)):
            raise ValueError(f"no document type {unknown[0]!r}; use {', '.join(TYPES)}")
        if min(shares.values(), default=0.0) < 0 or not sum(shares.values()) > 0:
            raise ValueError(f"shares must not be negative nor all zero, got {shares}")
        return shares

    @model_validator(mode="after")
    def _something_varies(self) -> "PlantedSection":
        if self.regime == "planted" and not any(self.mix.get(kind) for kind in VARIED):
            raise ValueError(f"a planted mix needs one of {', '.join(VARIED)}, which vary")
        return self

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
    shares = np.tile(_shares(section.mix), (section.windows, 1))
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


def _shares(mix: dict[str, float]) -> NDArray[np.float64]:
    shares = np.array([mix.get(kind, 0.0) for kind in TYPES], dtype=np.float64)
    shares /= shares.sum()
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
        # More than are needed: no document is shorter than 8 tokens.
        kinds = iter(rng.choice(len(TYPES), size=batch * -(-length // 8), p=mix))
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
    mixes = [_shares(section.warmup_mix)] * section.warmup_steps
    for shares in window_shares(section, seed):
        mixes += [shares] * section.window_steps
    return mixes + [_shares(section.mix)] * section.heldout_steps


def file_sizes(section: PlantedSection, run: RunConfig) -> list[int]:
    """Return every token file's bytes: uneven instance counts, a tail shorter than an instance."""
    batch, length = run.instances_per_batch(0), run.sequence_length
    steps = section.trained_steps + section.heldout_steps
    instances = steps * batch + min(_UNUSED_INSTANCES, batch - 1)
    edges = np.linspace(0, 1, section.files + 1) ** 0.8 * instances
    counts = np.diff(np.round(edges).astype(int))
    return [int((n * length + _tail_tokens(length)) * run.token_bytes) for n in counts]


def _tail_tokens(length: int) -> int:
    return min(_TAIL_TOKENS, length - 1)


def write_corpus(section: PlantedSection, run: RunConfig, folder: Path, *, seed: int) -> None:
    """Write the corpus as a folder of token shards, with the tokenizer beside it.

    The bounds name every document by its place; nothing in the folder tells its type.

    Raises
    ------
    ConfigError
        The run's tokenizer or batches are not such as the corpus can be laid out for.
    """
    planted = _plant(section, run, seed)
    order = run.order(file_sizes(section, run))
    _write_files(planted, order, section, folder)
    shards = tuple(
        describe_shard(folder, f"{name}.npy", f"{name}.csv.gz", token_bytes=run.token_bytes)
        for name in _file_names(section)
    )
    write_tokenizer(folder)
    # Documents lie end to end, and a file's tail is shorter than an instance: the unit is theirs.
    content = {
        "dtype": TOKEN_DTYPES[run.token_bytes].__name__,
        "vocab_size": run.tokenizer.vocab_size,
        "eos_id": run.tokenizer.eos_id,
        "sequence_length": run.sequence_length,
        "unit": "document",
    }
    write_manifest(folder, Manifest.model_validate({**content, "shards": shards}))


def write_truth(section: PlantedSection, run: RunConfig, folder: Path, *, seed: int) -> None:
    """Write `truth.parquet`: batch, instance, start, end, type of every planted document.

    Raises
    ------
    ConfigError
        As `write_corpus`.
    """
    documents = _plant(section, run, seed).documents
    order = run.order(file_sizes(section, run))
    rows = np.array([document.row for document in documents])
    frame = pl.DataFrame(
        {
            "batch": rows // run.instances_per_batch(0),
            "instance": order.instances(0, order.num_batches)[rows].astype(np.int64),
            "start": [document.start for document in documents],
            "end": [document.end for document in documents],
            "type": [document.kind for document in documents],
        }
    )
    with atomic_path(folder / TRUTH) as path:
        frame.write_parquet(path)


def _plant(section: PlantedSection, run: RunConfig, seed: int) -> PlantedRows:
    check_run(run)
    return plant_rows(
        section, batch=run.instances_per_batch(0), length=run.sequence_length, seed=seed
    )


def check_run(run: RunConfig) -> None:
    """Check that the corpus can be laid out for a run; `write_corpus` does so itself.

    Raises
    ------
    ConfigError
        The run's tokenizer or batches are not the corpus's.
    """
    tokenizer = run.tokenizer
    if tokenizer.vocab_size < len(VOCABULARY):
        raise ConfigError(
            "the planted corpus needs a larger vocabulary",
            where="tokenizer.vocab_size",
            got=str(tokenizer.vocab_size),
            do=f"set it to {len(VOCABULARY)}",
        )
    if (tokenizer.eos_id, tokenizer.pad_id) != (EOS, PAD):
        raise ConfigError(
            "the planted corpus has ids of its own",
            where="tokenizer",
            got=f"eos_id {tokenizer.eos_id}, pad_id {tokenizer.pad_id}",
            do=f"set eos_id to {EOS} and pad_id to {PAD}",
        )
    if len(run.step_map) > 1 or run.step_map[0].first_step:
        raise ConfigError(
            "the planted corpus is made for one batch size, from step 0 on",
            where="step_map",
            got=f"{len(run.step_map)} entries from step {run.step_map[0].first_step}",
            do="write one entry with first_step 0",
        )
    if run.max_sequence_length not in (None, run.sequence_length):
        raise ConfigError(
            "the planted corpus is made for one sequence length",
            where="max_sequence_length",
            got=str(run.max_sequence_length),
            do="leave it out",
        )


def _file_names(section: PlantedSection) -> list[str]:
    return [f"{_SOURCES[index % len(_SOURCES)]}/{index:02d}" for index in range(section.files)]


def _write_files(
    planted: PlantedRows, order: DataOrder, section: PlantedSection, folder: Path
) -> None:
    """Lay the rows out such that the order delivers them; unused instances repeat the first row."""
    row_of = np.zeros(order.num_instances, dtype=np.int64)
    ids = order.instances(0, order.num_batches)
    assert len(ids) == len(planted.tokens), "the files' sizes were made for these rows"
    row_of[ids] = np.arange(len(ids))
    spans: dict[int, list[PlantedDocument]] = {}
    for document in planted.documents:
        spans.setdefault(document.row, []).append(document)
    files, _ = order.locate(np.arange(order.num_instances))
    tail = planted.tokens[0, : _tail_tokens(order.sequence_length)]
    for index, name in enumerate(_file_names(section)):
        instances = np.flatnonzero(files == index)
        tokens = np.concatenate([planted.tokens[row_of[instances]].ravel(), tail])
        write_atomic(folder / f"{name}.npy", tokens.astype(f"<u{order.token_bytes}").tobytes())
        places = [
            (position * order.sequence_length, int(instance), document.start, document.end)
            for position, instance in enumerate(instances)
            for document in spans[int(row_of[instance])]
        ]
        if len(tail):
            places.append((len(tokens) - len(tail), _NO_INSTANCE, 0, len(tail)))
        write_bounds(folder / f"{name}.csv.gz", _bounds(places, index, name))


def _bounds(places: list[tuple[int, int, int, int]], file: int, name: str) -> Iterator[Bound]:
    """Yield the bounds of documents at (offset of the instance, instance, start, end)."""
    source = name.split("/")[0]
    for offset, instance, start, end in places:
        yield Bound(
            offset + start, offset + end, f"{name}:{offset + start}", source, file, instance
        )
