"""Batches hold what the order, the shards and the shuffle say."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainers.batches import ListedBatches, OrderedBatches, shard_batches, shuffled_window
from windows.errors import ConfigError, DataError
from windows.run import RunConfig
from windows.shards import InstanceRow, ShardWriter
from windows.tokens import TokenFiles

LENGTH = 8


def tokens_of(instances: int) -> Any:
    """Toy rows whose tokens are their positions, above the EOS."""
    return np.arange(2, 2 + instances * LENGTH, dtype=np.uint32).reshape(instances, LENGTH)


def write(folder: Path, instances: int, unit: str = "instance") -> list[int]:
    """Write shards of 3 instances each, with ids that are in no order; return the ids."""
    ids = [(7 * row + 3) % 101 for row in range(instances)]
    with ShardWriter(
        folder,
        vocab_size=10**4,
        eos_id=1,
        sequence_length=LENGTH,
        unit=unit,
        shard_tokens=3 * LENGTH,
    ) as writer:
        for row, instance in zip(tokens_of(instances), ids, strict=True):
            place = InstanceRow("toy", "stage1-0:4", 0, 0, 0, instance, "pattern", True, False)
            writer.add(row, place)
    return ids


def test_a_runs_batches_are_its_orders(tiny: Any):
    batches = OrderedBatches(tiny.files, tiny.order)
    for index in (0, 3, tiny.order.num_batches - 1):
        ids, tokens = batches.batch(index)
        assert ids.tolist() == tiny.order.instances(index, index + 1).tolist()
        assert (tokens == tiny.files.instances(tiny.order, ids)).all()
    with pytest.raises(ConfigError, match="batches outside the run"):
        batches.batch(tiny.order.num_batches)


def test_shards_are_read_in_their_order_across_files(tmp_path: Path):
    ids = write(tmp_path, 11)
    batches = shard_batches(tmp_path, batch=4, steps=2)
    assert batches.num_batches == 2, "3 instances are no batch"
    for index in range(2):
        found, tokens = batches.batch(index)
        assert found.dtype == np.uint32 and found.tolist() == ids[4 * index : 4 * index + 4]
        assert (tokens == tokens_of(11)[4 * index : 4 * index + 4]).all()


def test_shards_that_end_early_are_refused(tmp_path: Path):
    write(tmp_path, 11)
    says = r"end before the training does; got 11 instances where 3 steps of 4 need 12; raise"
    with pytest.raises(DataError, match=says) as caught:
        shard_batches(tmp_path, batch=4, steps=3)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
    assert shard_batches(tmp_path, batch=4, steps=2).num_batches == 2


@pytest.mark.parametrize(
    ("name", "says"),
    [("manifest.json", "manifest"), ("instances.parquet", "rows"), ("part-00001.npy", "cut|read")],
)
@pytest.mark.parametrize("damage", ["absent", "cut"])
def test_damaged_shards_are_refused(tmp_path: Path, name: str, says: str, damage: str):
    write(tmp_path, 8)
    path = tmp_path / name
    data = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(data[:-9])
    with pytest.raises(DataError, match=says) as caught:
        shard_batches(tmp_path, batch=4, steps=2)
    assert "\n" not in str(caught.value)


def test_documents_are_no_batches(tmp_path: Path):
    write(tmp_path, 4, unit="document")
    with pytest.raises(DataError, match="unit document"):
        shard_batches(tmp_path, batch=2, steps=2)


def test_a_list_is_cut_at_its_edges():
    ids = np.arange(7, dtype=np.uint32)
    batches = ListedBatches(ids, tokens_of(7), [0, 2, 3, 7])
    assert [batches.batch(b)[0].tolist() for b in range(3)] == [[0, 1], [2], [3, 4, 5, 6]]
    assert (batches.batch(2)[1] == tokens_of(7)[3:]).all()
    for index in (-1, 3):
        with pytest.raises(DataError, match="no such batch"):
            batches.batch(index)


def all_of(batches: ListedBatches) -> tuple[list[int], Any]:
    parts = [batches.batch(index) for index in range(batches.num_batches)]
    return (
        np.concatenate([ids for ids, _ in parts]).tolist(),
        np.concatenate([tokens for _, tokens in parts]),
    )


def test_a_shuffle_takes_away_the_order_and_nothing_else(tiny: Any):
    own = tiny.order.instances(3, 9)
    orders = [own.tolist()]
    for seed in ((0, 3, 0), (0, 3, 1), (1, 3, 0)):
        batches = shuffled_window(tiny.files, tiny.order, (3, 9), seed=seed)
        ids, tokens = all_of(batches)
        assert batches.num_batches == 6
        assert sorted(ids) == sorted(own.tolist())
        assert (tokens == tiny.files.instances(tiny.order, ids)).all()
        again = shuffled_window(tiny.files, tiny.order, (3, 9), seed=seed)
        assert all_of(again)[0] == ids
        orders.append(ids)
    assert len(set(map(tuple, orders))) == 4, "no two orders are alike"
    own_batches = [set(orders[0][start : start + 4]) for start in range(0, 24, 4)]
    for ids in orders[1:]:
        theirs = [set(ids[start : start + 4]) for start in range(0, 24, 4)]
        assert theirs != own_batches, "instances change batches, not only places in them"


def test_a_shuffle_keeps_the_sizes_of_batches(tmp_path: Path):
    tokens_of(40).tofile(tmp_path / "a.npy")
    run = RunConfig.model_validate(
        {
            "name": "toy",
            "sequence_length": LENGTH,
            "seed": 1,
            "step_map": [
                {"first_step": 0, "first_batch": 0, "batch_tokens": 2 * LENGTH},
                {"first_step": 3, "first_batch": 3, "batch_tokens": 5 * LENGTH},
            ],
            "tokenizer": {"vocab_size": 10**4, "eos_id": 1, "pad_id": 0},
        }
    )
    files = TokenFiles([tmp_path / "a.npy"], sequence_length=LENGTH)
    order = run.order(files.sizes)
    batches = shuffled_window(files, order, (1, 5), seed=(0,))
    assert [len(batches.batch(index)[0]) for index in range(4)] == [2, 2, 5, 5]
    assert sorted(all_of(batches)[0]) == sorted(order.instances(1, 5).tolist())
