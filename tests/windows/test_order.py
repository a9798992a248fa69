import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from windows.errors import ConfigError, DataError
from windows.order import DataOrder
from windows.run import TokenizerFields


@st.composite
def orders(draw: st.DrawFn) -> DataOrder:
    length = draw(st.integers(1, 8))
    chunk = draw(st.sampled_from([None, 1, 2, 3]))
    files = draw(st.lists(st.integers(0, 400), min_size=1, max_size=6))
    sizes = [draw(st.integers(1, 5)) * length for _ in range(draw(st.integers(1, 3)))]
    token_bytes = draw(st.sampled_from([1, 2, 4]))
    span = length * (chunk or 1) * token_bytes
    instances = sum(size // span for size in files) * (chunk or 1)
    firsts, used = [0], 0
    for size in sizes[:-1]:
        room = (instances - used) // (size // length)
        if room < 1:
            break
        step = draw(st.integers(1, room))
        firsts.append(firsts[-1] + step)
        used += step * (size // length)
    return DataOrder.from_sizes(
        files,
        sequence_length=length,
        batch_tokens=list(zip(firsts, sizes, strict=False)),
        seed=draw(st.integers(0, 5)),
        epoch=draw(st.integers(1, 3)),
        max_sequence_length=chunk and chunk * length,
        token_bytes=token_bytes,
    )


@given(orders())
def test_every_instance_is_read_at_most_once_and_only_the_tail_never(order: DataOrder):
    ids = order.instances(0, order.num_batches)
    assert len(np.unique(ids)) == len(ids)
    unread = order.num_instances - len(ids)
    assert 0 <= unread < order.batch_sizes.changes[-1][1]


@given(orders())
def test_batch_of_inverts_instances(order: DataOrder):
    everything = np.arange(order.num_instances)
    expected = np.full(order.num_instances, -1)
    for batch in range(order.num_batches):
        expected[order.instances(batch, batch + 1)] = batch
    assert order.batch_of(everything).tolist() == expected.tolist()
    twice = np.concatenate([everything[::-1], everything])
    assert order.batch_of(twice).tolist() == expected[twice].tolist()


@given(orders())
def test_batches_concatenate(order: DataOrder):
    middle = order.num_batches // 2
    parts = [order.instances(0, middle), order.instances(middle, order.num_batches)]
    assert (np.concatenate(parts) == order.instances(0, order.num_batches)).all()


@given(orders())
def test_locate_agrees_with_counting(order: DataOrder):
    expected = []
    size = order.sequence_length * order.token_bytes
    for file, available in enumerate(order.file_bytes):
        offset = 0
        while available - offset >= size * order.chunk:
            expected += [(file, offset + member * size) for member in range(order.chunk)]
            offset += size * order.chunk
    assert order.num_instances == len(expected)
    files, offsets = order.locate(np.arange(order.num_instances))
    assert files.dtype == offsets.dtype == np.int64
    assert list(zip(files.tolist(), offsets.tolist(), strict=True)) == expected


def test_a_worker_is_sent_no_permutation():
    order = order_of_ten()
    before = pickle.dumps(order)
    ids = order.instances(0, 5)
    assert pickle.dumps(order) == before
    copy = pickle.loads(before)
    assert copy == order
    assert (copy.instances(0, 5) == ids).all()


def order_of_ten(**change: object) -> DataOrder:
    arguments: dict[str, object] = {"sequence_length": 4, "batch_tokens": 8, "seed": 0}
    return DataOrder.from_sizes([160], **(arguments | change))  # type: ignore[arg-type]


def test_an_order_without_files_is_refused():
    with pytest.raises(DataError, match="no token files"):
        DataOrder.from_sizes([], sequence_length=4, batch_tokens=8, seed=0)


def test_too_many_instances_are_refused():
    with pytest.raises(DataError, match="32-bit"):
        DataOrder.from_sizes([2**34], sequence_length=1, batch_tokens=1, seed=0)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"sequence_length": 0}, "sequence_length"),
        ({"max_sequence_length": 6}, "max_sequence_length"),
        ({"max_sequence_length": 2}, "max_sequence_length"),
        ({"token_bytes": 3}, "token_bytes"),
        ({"epoch": 0}, "epoch"),
        ({"batch_tokens": 0}, "batch_tokens"),
        ({"batch_tokens": 6}, "batch_tokens"),
        ({"batch_tokens": []}, "batch_tokens"),
        ({"batch_tokens": [(1, 8)]}, "batch_tokens"),
        ({"batch_tokens": [(0, 8), (3, 16), (2, 8)]}, "batch_tokens"),
        ({"batch_tokens": [(0, 8), (6, 16)]}, "batch_tokens"),
    ],
)
def test_what_cannot_be_a_run_is_refused(change: dict[str, object], where: str):
    with pytest.raises(ConfigError) as refusal:
        order_of_ten(**change)
    assert refusal.value.where == where


@pytest.mark.parametrize("asked", [(-1, 2), (0, 6), (3, 2)])
def test_batches_outside_the_run_are_refused(asked: tuple[int, int]):
    with pytest.raises(ConfigError, match=r"whose last is 4.*got \[.*within \[0, 5\)"):
        order_of_ten().instances(*asked)


@pytest.mark.parametrize("instance", [-1, 10])
def test_instances_outside_the_run_are_refused(instance: int):
    with pytest.raises(ConfigError, match=rf"got {instance}; choose from \[0, 10\)"):
        order_of_ten().locate([instance])
    with pytest.raises(ConfigError, match=f"got {instance}"):
        order_of_ten().batch_of([0, instance])


def test_a_fingerprint_needs_a_name_for_each_file():
    with pytest.raises(ConfigError, match="as many names"):
        order_of_ten().fingerprint([], TokenizerFields(vocab_size=9, eos_id=1, pad_id=0))


def test_a_folder_is_no_part_of_the_fingerprint():
    fields = TokenizerFields(vocab_size=9, eos_id=1, pad_id=0)
    order = order_of_ten()
    assert order.fingerprint(["a.npy"], fields) == order.fingerprint(
        [Path("/x/a.npy").as_posix()], fields
    )
    assert order.fingerprint(["a.npy"], fields) != order.fingerprint(["b.npy"], fields)
