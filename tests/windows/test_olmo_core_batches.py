"""Ten thousand batches and more, of every setting that decides their order, beside OLMo-core's."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from olmo_core.data import DataCollator, NumpyFSLDatasetConfig, TokenizerConfig
from olmo_core.data.data_loader import NumpyDataLoaderBase

from windows.order import DataOrder
from windows.run import TokenizerFields
from windows.tokens import TokenFiles

TOKENIZER = TokenizerFields(vocab_size=100_278, eos_id=100_257, pad_id=100_277)
COUNTS = (33, 6999, 1, 517, 2048, 15, 3001, 640, 64)

Batches = list[tuple[list[int], list[list[int]]]]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Uneven files, some without an instance, whose every token is its position among all."""
    folder = tmp_path_factory.mktemp("tokens")
    parts = np.split(np.arange(sum(COUNTS), dtype=np.uint32), np.cumsum(COUNTS)[:-1])
    found = [folder / f"{number:05d}.npy" for number in range(len(parts))]
    for path, part in zip(found, parts, strict=True):
        part.tofile(path)
    return found


def olmo_dataset(paths: Sequence[Path], length: int, longest: int | None) -> Any:
    dataset = NumpyFSLDatasetConfig(
        paths=[str(path) for path in paths],
        tokenizer=TokenizerConfig(
            vocab_size=TOKENIZER.vocab_size,
            eos_token_id=TOKENIZER.eos_id,
            pad_token_id=TOKENIZER.pad_id,
        ),
        work_dir=str(paths[0].parent / "work"),
        sequence_length=length,
        max_target_sequence_length=longest,
    ).build()
    dataset.prepare()
    return dataset


def olmo_loader(dataset: Any, batch: int, *, seed: int, rank: int = 0, world: int = 1) -> Any:
    """The loader of one of `world` ranks, for batches of `batch` instances."""
    return NumpyDataLoaderBase.wrap_numpy_dataset(
        dataset,
        global_batch_size=batch * dataset.sequence_length,
        collator=DataCollator(pad_token_id=TOKENIZER.pad_id, vocab_size=TOKENIZER.vocab_size),
        seed=seed,
        dp_world_size=world,
        dp_rank=rank,
    )


def olmo_batches(loader: Any) -> Iterator[tuple[list[int], list[list[int]]]]:
    for batch in loader:
        yield batch["index"].tolist(), batch["input_ids"].tolist()


def mismatches(order: DataOrder, files: TokenFiles, theirs: Batches, rank: int, world: int) -> int:
    """How many batches differ from this rank's share of ours, every `world`-th instance."""
    ours = [order.instances(b, b + 1)[rank::world] for b in range(order.num_batches)]
    assert len(theirs) == len(ours)
    tokens = np.split(
        files.instances(order, np.concatenate(ours)), np.cumsum([len(ids) for ids in ours])[:-1]
    )
    return sum(
        (ids.tolist(), rows.tolist()) != batch
        for ids, rows, batch in zip(ours, tokens, theirs, strict=True)
    )


@pytest.mark.slow
def test_ten_thousand_batches_are_olmo_cores(paths: list[Path]):
    compared = different = shares = 0
    for length, times in itertools.product([16, 32], [None, 1, 2, 4]):
        longest = times and times * length
        dataset = olmo_dataset(paths, length, longest)
        files = TokenFiles(paths, sequence_length=length)
        for seed, epoch, batch in itertools.product([0, 1, 34521], [1, 2], [4, 6]):
            order = DataOrder.from_sizes(
                files.sizes,
                sequence_length=length,
                batch_tokens=batch * length,
                seed=seed,
                epoch=epoch,
                max_sequence_length=longest,
            )
            assert order.num_instances == len(dataset)
            assert order.fingerprint([p.name for p in paths], TOKENIZER) == dataset.fingerprint
            for world in (1, 2):
                for rank in range(world):
                    loader = olmo_loader(dataset, batch, seed=seed, rank=rank, world=world)
                    loader.reshuffle(epoch, in_memory=True)
                    assert loader.total_batches == order.num_batches
                    read = list(olmo_batches(loader))
                    different += mismatches(order, files, read, rank, world)
                    shares += len(read)
            compared += order.num_batches
    assert different == 0
    assert compared >= 10_000, "whole batches; each was compared once whole and once by halves"
    assert shares == 3 * compared


def read_with_changes(loader: Any, changes: dict[int, int]) -> Batches:
    """Read an epoch whose batch size changes, from the given batches on, to so many instances."""
    read: Batches = []
    for batch in olmo_batches(loader):
        read.append(batch)
        if len(read) in changes:
            loader.global_batch_size = changes[len(read)] * loader.dataset.sequence_length
    return read


@pytest.mark.parametrize("longest", [None, 32])
@pytest.mark.parametrize("world", [1, 2])
def test_a_batch_size_changed_on_the_way_changes_every_ranks_share(
    paths: list[Path], longest: int | None, world: int
):
    changes = {8: 8, 22: 24, 30: 6}
    dataset = olmo_dataset(paths, 16, longest)
    files = TokenFiles(paths, sequence_length=16)
    order = DataOrder.from_sizes(
        files.sizes,
        sequence_length=16,
        batch_tokens=[(batch, 16 * size) for batch, size in {0: 4, **changes}.items()],
        seed=34521,
        max_sequence_length=longest,
    )
    for rank in range(world):
        loader = olmo_loader(dataset, 4, seed=34521, rank=rank, world=world)
        loader.reshuffle(1, in_memory=True)
        read = read_with_changes(loader, changes)
        assert {len(ids) * world for ids, _ in read} == {4, 8, 24, 6}
        assert mismatches(order, files, read, rank, world) == 0


@pytest.mark.parametrize("epoch", [1, 2])
@pytest.mark.parametrize("stop", [1, 50, 127])
def test_a_resumed_run_reads_on_in_the_order_of_its_checkpoint(
    paths: list[Path], epoch: int, stop: int
):
    """The checkpoint's seed holds, whatever the resumed loader was given."""
    dataset = olmo_dataset(paths, 16, None)
    files = TokenFiles(paths, sequence_length=16)
    order = DataOrder.from_sizes(
        files.sizes, sequence_length=16, batch_tokens=64, seed=34521, epoch=epoch
    )
    loader = olmo_loader(dataset, 4, seed=34521)
    loader.reshuffle(epoch, in_memory=True)
    read = list(itertools.islice(olmo_batches(loader), stop))
    resumed = olmo_loader(dataset, 4, seed=99)
    resumed.load_state_dict(loader.state_dict())
    resumed.reshuffle(resumed.epoch, in_memory=True)
    assert mismatches(order, files, read + list(olmo_batches(resumed)), 0, 1) == 0


@pytest.mark.parametrize(("stop", "factor"), [(10, 2), (9, 3), (10, 3), (1, 2)])
def test_a_run_resumed_with_larger_batches_starts_at_a_whole_one(
    paths: list[Path], stop: int, factor: int
):
    """Where the new size does not divide what was read, some of that is read again."""
    dataset = olmo_dataset(paths, 16, None)
    loader = olmo_loader(dataset, 4, seed=7)
    loader.reshuffle(1, in_memory=True)
    read = [ids for ids, _ in itertools.islice(olmo_batches(loader), stop)]
    resumed = olmo_loader(dataset, 4 * factor, seed=7)
    resumed.load_state_dict(loader.state_dict())
    resumed.reshuffle(resumed.epoch, in_memory=True)
    after = [ids for ids, _ in olmo_batches(resumed)]
    sizes = [path.stat().st_size for path in paths]
    larger = DataOrder.from_sizes(sizes, sequence_length=16, batch_tokens=64 * factor, seed=7)
    for number, ids in enumerate(after, start=stop // factor):
        assert larger.instances(number, number + 1).tolist() == ids
    again = {i for ids in read for i in ids} & {i for ids in after for i in ids}
    assert len(again) == 4 * (stop % factor)
    if not again:
        changed = DataOrder.from_sizes(
            sizes, sequence_length=16, batch_tokens=[(0, 64), (stop, 64 * factor)], seed=7
        )
        assert [changed.instances(b, b + 1).tolist() for b in range(changed.num_batches)] == [
            *read,
            *after,
        ]
