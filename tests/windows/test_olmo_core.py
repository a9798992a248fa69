"""What this package rebuilds, beside the real ai2-olmo-core."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from olmo_core.data import DataCollator, NumpyFSLDatasetConfig, TokenizerConfig
from olmo_core.data.data_loader import NumpyDataLoaderBase
from olmo_core.data.utils import iter_document_indices

from windows.order import DataOrder
from windows.run import RunConfig, TokenizerFields
from windows.shards import InstanceRow, ShardWriter, read_bounds, read_tokens
from windows.tokens import TokenFiles

TOKENIZER = TokenizerFields(vocab_size=100_000, eos_id=1, pad_id=0)
COUNTS = (333, 40, 7, 1000, 801)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Uneven files, one too short for an instance, whose every token is its position among all."""
    folder = tmp_path_factory.mktemp("tokens")
    found, start = [], 0
    for number, count in enumerate(COUNTS):
        found.append(folder / f"{number:05d}.npy")
        np.arange(start, start + count, dtype=np.uint32).tofile(found[-1])
        start += count
    return found


def olmo_dataset(paths: list[Path], work: Path, tokenizer: TokenizerFields, **settings: Any) -> Any:
    dataset = NumpyFSLDatasetConfig(
        paths=[str(path) for path in paths],
        tokenizer=TokenizerConfig(
            vocab_size=tokenizer.vocab_size,
            eos_token_id=tokenizer.eos_id,
            pad_token_id=tokenizer.pad_id,
            bos_token_id=tokenizer.bos_id,
        ),
        work_dir=str(work),
        **({"dtype": "uint32"} | settings),
    ).build()
    dataset.prepare()
    return dataset


def olmo_loader(dataset: Any, *, batch_tokens: int, seed: int, epoch: int) -> Any:
    loader = NumpyDataLoaderBase.wrap_numpy_dataset(
        dataset,
        global_batch_size=batch_tokens,
        collator=DataCollator(pad_token_id=dataset.pad_token_id, vocab_size=dataset.vocab_size),
        seed=seed,
    )
    loader.reshuffle(epoch, in_memory=True)
    return loader


def olmo_batches(loader: Any) -> Iterator[tuple[list[int], list[list[int]]]]:
    for batch in loader:
        yield batch["index"].tolist(), batch["input_ids"].tolist()


@pytest.mark.parametrize(
    ("seed", "epoch", "lengths", "batch"),
    [
        (*grid, lengths, batch)
        for lengths, batch in itertools.product(
            [(16, None), (16, 16), (16, 32), (8, 32), (5, 15)], [1, 6]
        )
        for grid in [(34521, 1), (0, 2), (7, 3)]
    ],
)
def test_every_batch_is_olmo_cores(
    paths: list[Path],
    tmp_path: Path,
    seed: int,
    epoch: int,
    lengths: tuple[int, int | None],
    batch: int,
):
    length, longest = lengths
    dataset = olmo_dataset(
        paths, tmp_path, TOKENIZER, sequence_length=length, max_target_sequence_length=longest
    )
    loader = olmo_loader(dataset, batch_tokens=batch * length, seed=seed, epoch=epoch)
    files = TokenFiles(paths, sequence_length=length)
    order = DataOrder.from_sizes(
        files.sizes,
        sequence_length=length,
        batch_tokens=batch * length,
        seed=seed,
        epoch=epoch,
        max_sequence_length=longest,
    )
    assert order.num_instances == len(dataset)
    assert order.num_batches == loader.total_batches
    for number, (ids, tokens) in enumerate(olmo_batches(loader)):
        ours = order.instances(number, number + 1)
        assert ours.tolist() == ids
        assert files.instances(order, ours).tolist() == tokens
        assert (order.batch_of(ids) == number).all()
    assert number + 1 == order.num_batches


@pytest.mark.parametrize("longest", [None, 16, 32])
@pytest.mark.parametrize(
    ("dtype", "vocab_size", "bos_id"),
    [("uint32", 100_278, None), ("uint32", 127, 2), ("uint16", 127, None), ("uint8", 200, None)],
)
def test_the_fingerprint_is_olmo_cores(
    paths: list[Path],
    tmp_path: Path,
    longest: int | None,
    dtype: str,
    vocab_size: int,
    bos_id: int | None,
):
    fields = TokenizerFields(vocab_size=vocab_size, eos_id=1, pad_id=0, bos_id=bos_id)
    dataset = olmo_dataset(
        paths,
        tmp_path,
        fields,
        dtype=dtype,
        sequence_length=16,
        max_target_sequence_length=longest,
    )
    order = DataOrder.from_sizes(
        [path.stat().st_size for path in paths],
        sequence_length=16,
        batch_tokens=16,
        seed=0,
        max_sequence_length=longest,
        token_bytes=np.dtype(dtype).itemsize,
    )
    assert order.fingerprint([path.as_posix() for path in paths], fields) == dataset.fingerprint


def test_a_batch_size_changed_on_the_way_is_olmo_cores(paths: list[Path], tmp_path: Path):
    dataset = olmo_dataset(paths, tmp_path, TOKENIZER, sequence_length=16)
    loader = olmo_loader(dataset, batch_tokens=32, seed=3, epoch=1)
    changes = {10: 64, 15: 128, 19: 32}
    seen: list[list[int]] = []
    for ids, _ in olmo_batches(loader):
        seen.append(ids)
        if len(seen) in changes:
            loader.global_batch_size = changes[len(seen)]
    run = RunConfig.model_validate(
        {
            "name": "toy",
            "sequence_length": 16,
            "seed": 3,
            "tokenizer": TOKENIZER,
            "step_map": [
                {"first_step": batch, "first_batch": batch, "batch_tokens": tokens}
                for batch, tokens in {0: 32, **changes}.items()
            ],
        }
    )
    order = run.order([path.stat().st_size for path in paths])
    assert len(seen) == order.num_batches
    for batch, ids in enumerate(seen):
        assert order.instances(batch, batch + 1).tolist() == ids
    assert run.last_step(order.num_batches) == len(seen)


def write_shards(folder: Path) -> np.ndarray[Any, np.dtype[np.uint32]]:
    tokens = np.arange(10, 10 + 23 * 16, dtype=np.uint32).reshape(23, 16)
    tokens[::3, 7] = TOKENIZER.eos_id
    tokens[::2, 15] = TOKENIZER.eos_id
    with ShardWriter(
        folder, vocab_size=100_000, eos_id=1, sequence_length=16, shard_tokens=128
    ) as writer:
        for instance, row in enumerate(tokens):
            place = InstanceRow("toy", "stage1-0:4", 0, 0, 0, instance, "neutral", True, False)
            writer.add(row, place)
    return tokens


def test_olmo_core_reads_the_shards(tmp_path: Path):
    tokens = write_shards(tmp_path / "shards")
    shards = sorted((tmp_path / "shards").glob("*.npy"))
    dataset = olmo_dataset(shards, tmp_path / "work", TOKENIZER, sequence_length=16)
    assert len(dataset) == len(tokens)
    read = np.stack([dataset[row]["input_ids"].numpy() for row in range(len(dataset))])
    assert (read == tokens).all()
    assert (read_tokens(tmp_path / "shards") == tokens).all()


def test_olmo_core_reads_the_bounds(tmp_path: Path):
    write_shards(tmp_path)
    for path in sorted(tmp_path.glob("*.npy")):
        ours = [(b.start, b.end) for b in read_bounds(path.with_suffix(".csv.gz"))]
        theirs = iter_document_indices(path, use_array_if_local=False, dtype=np.uint32)
        assert list(theirs) == ours
        by_eos = list(iter_document_indices(path, eos_token_id=1, dtype=np.uint32))
        ends = {end for _, end in ours}
        assert {end for _, end in by_eos} <= ends, "every EOS ends a document"
        assert ends - {end for _, end in by_eos} <= set(range(16, 129, 16)), "or an instance does"


def test_trained_shards_are_read_in_our_order(tmp_path: Path):
    """The way of an arm: shards out, then a run over them."""
    write_shards(tmp_path / "shards")
    shards = sorted((tmp_path / "shards").glob("*.npy"))
    dataset = olmo_dataset(shards, tmp_path / "work", TOKENIZER, sequence_length=16)
    loader = olmo_loader(dataset, batch_tokens=64, seed=11, epoch=1)
    files = TokenFiles(shards, sequence_length=16)
    order = DataOrder.from_sizes(files.sizes, sequence_length=16, batch_tokens=64, seed=11)
    for number, (ids, tokens) in enumerate(olmo_batches(loader)):
        assert order.instances(number, number + 1).tolist() == ids
        assert files.instances(order, ids).tolist() == tokens
