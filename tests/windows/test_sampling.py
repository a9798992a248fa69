from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from windows.errors import ConfigError
from windows.sampling import Sample, allocate, splitmix64, stratified, uniform

WINDOW = np.random.default_rng(1).permutation(5000)[:600].astype(np.uint32)
SEEDS = range(400)

sets_of_ids = st.lists(st.integers(0, 2**32 - 2), min_size=1, max_size=60, unique=True)
seeds = st.integers(-(2**65), 2**65)


def test_the_hash_is_split_mix():
    """Its state starts at the seed and grows by the golden ratio; the outputs are published."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    states = np.uint64(1234567) + np.arange(3, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    assert splitmix64(states, 0).tolist() == published
    assert splitmix64(states ^ np.uint64(99), 99).tolist() == published


def reference_splitmix64(value):
    # The published generator's next() from state `value`, in Python's own integers.
    mask = 2**64 - 1
    z = (value + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_splitmix64_against_plain_integers(value, key):
    assert int(splitmix64(np.array([value], np.uint64), key)[0]) == reference_splitmix64(
        value ^ key
    )


@given(sets_of_ids, seeds)
def test_instances_are_drawn_by_hash(ids, seed):
    window = np.array(ids, dtype=np.uint32)
    key = int(splitmix64(np.array([seed % 2**64], dtype=np.uint64), 0)[0])
    hashes = dict(zip(ids, splitmix64(window, key).tolist(), strict=True))
    assert uniform(window, len(ids), seed).ids.tolist() == sorted(ids, key=hashes.__getitem__)


def as_pairs(sample: Sample) -> list[tuple[int, float, int]]:
    columns = (sample.ids, sample.weights, sample.strata)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@given(sets_of_ids, st.integers(1, 70), seeds, st.randoms())
def test_the_order_of_the_ids_does_not_matter(ids, count, seed, random):
    labels = [i % 3 for i in ids]
    assume(count >= len(set(labels)))
    shuffled = random.sample(list(zip(ids, labels, strict=True)), len(ids))
    one, other = (
        stratified(np.array(i, dtype=np.uint32), np.array(s), count, seed)
        for i, s in [(ids, labels), tuple(zip(*shuffled, strict=True))]
    )
    assert as_pairs(one) == as_pairs(other)


@given(sets_of_ids, seeds)
def test_a_smaller_uniform_sample_is_the_head_of_a_larger(ids, seed):
    window = np.array(ids, dtype=np.uint32)
    whole = uniform(window, len(ids), seed).ids
    assert sorted(whole.tolist()) == sorted(ids)
    for count in range(1, len(ids) + 2):
        assert uniform(window, count, seed).ids.tolist() == whole[:count].tolist()


@given(sets_of_ids, st.integers(1, 6), seeds)
def test_growing_a_stratified_sample_keeps_what_was_read(ids, strata, seed):
    window, labels = np.array(ids, dtype=np.uint32), np.array([i % strata for i in ids])
    read: set[int] = set()
    for count in range(len(np.unique(labels)), len(ids) + 1):
        now = stratified(window, labels, count, seed)
        assert len(now.ids) == len(set(now.ids.tolist())) == count
        assert read <= set(now.ids.tolist())
        assert (now.strata == now.ids % strata).all()
        read = set(now.ids.tolist())


@given(sets_of_ids, st.integers(1, 6), st.data())
def test_weights_count_the_window(ids, strata, data):
    window, labels = np.array(ids, dtype=np.uint32), np.array([i % strata - 2 for i in ids])
    held = dict(zip(*(c.tolist() for c in np.unique(labels, return_counts=True)), strict=True))
    count = data.draw(st.integers(len(held), len(ids) + 5))
    by_stratum = {stratum: data.draw(st.integers(1, 70)) for stratum in held} | {99: 3}
    for counts in (count, by_stratum):
        sample = stratified(window, labels, counts, 0)
        assert sample.ids.dtype == np.uint32
        assert sample.weights.dtype == np.float64
        assert sample.strata.dtype == np.int64
        for stratum, size in held.items():
            drawn = sample.strata == stratum
            assert sample.weights[drawn].sum() == pytest.approx(size)
            assert 1 <= drawn.sum() <= size
            if counts is by_stratum:
                assert drawn.sum() == min(size, by_stratum[stratum])
        assert sample.weights.sum() == pytest.approx(len(ids))


def test_a_uniform_sample_is_one_stratum():
    sample = uniform(WINDOW, 40, seed=3)
    assert (sample.strata == 0).all()
    assert (sample.weights == 15).all()
    assert as_pairs(sample) == as_pairs(stratified(WINDOW, np.zeros(600, dtype=int), 40, seed=3))


def test_every_instance_has_the_same_chance():
    drawn = np.concatenate([uniform(WINDOW, 60, seed).ids for seed in SEEDS])
    counts = np.array([np.count_nonzero(drawn == instance) for instance in WINDOW])
    # A hypergeometric count varies by 1 - 60/600 of a Poisson one.
    assert 0.001 < stats.chisquare(counts / 0.9, np.full(600, 40 / 0.9)).pvalue < 0.999


def test_different_seeds_are_independent():
    samples = [set(uniform(WINDOW, 60, seed).ids.tolist()) for seed in SEEDS]
    shared = np.array([len(a & b) for a, b in pairwise(samples)])
    sampling = stats.hypergeom(600, 60, 60)
    z = (shared.mean() - sampling.mean()) / (sampling.std() / np.sqrt(len(shared)))
    assert abs(z) < 3.3
    assert (
        stats.chisquare(
            [np.count_nonzero(shared <= 5), np.count_nonzero(shared > 5)],
            np.array([sampling.cdf(5), sampling.sf(5)]) * len(shared),
        ).pvalue
        > 0.001
    )


def test_a_weighted_mean_estimates_the_windows():
    labels = np.where(WINDOW < 40, 2, np.where(WINDOW < 900, 1, 0))
    held = np.bincount(labels)
    assert held.min() < 10 < 60 < held[1] < held[0], "rare, middling and common sources"
    values = np.sqrt(WINDOW) + 50 * (labels == 2)
    estimates = []
    for seed in SEEDS:
        sample = stratified(WINDOW, labels, 30, seed)
        read = np.sqrt(sample.ids) + 50 * (sample.strata == 2)
        estimates.append(np.average(read, weights=sample.weights))
    spread = np.std(estimates, ddof=1) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates) - values.mean()) < 3.3 * spread
    drawn = [stratified(WINDOW, labels, 30, seed).ids for seed in SEEDS]
    unweighted = np.mean([(np.sqrt(ids) + 50 * (ids < 40)).mean() for ids in drawn])
    assert abs(unweighted - values.mean()) > 10 * spread, "without the weights it is biased"


def huntington_hill(sizes: list[int]) -> Iterator[list[int]]:
    """Seat after seat, each where the square root of the size is worst represented."""
    seats = [0] * len(sizes)
    for _ in range(sum(sizes)):
        behind = [
            (-np.inf if not seats[k] else -size / (seats[k] * (seats[k] + 1)), k)
            for k, size in enumerate(sizes)
            if seats[k] < size
        ]
        seats[min(behind)[1]] += 1
        yield list(seats)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=7))
def test_a_growing_allocation_never_takes_back(sizes):
    held = np.array(sizes)
    before, expected = np.zeros_like(held), [[], *huntington_hill(sizes)]
    for count in range(len(sizes), sum(sizes) + 3):
        given_out = allocate(held, count)
        assert given_out.sum() == min(count, sum(sizes))
        assert (given_out >= 1).all() and (given_out <= held).all()
        assert (given_out >= before).all()
        assert given_out.tolist() == expected[min(count, sum(sizes))]
        before = given_out


def test_shares_go_by_square_roots():
    """The sources of a window of OLMo 3 32B; proportionally wikipedia would have 0.8 of 2,000."""
    sizes = np.array([778_957, 138_957, 70_554, 26_214, 8_806, 410])
    given_out = allocate(sizes, 2000)
    expected = 2000 * np.sqrt(sizes) / np.sqrt(sizes).sum()
    assert (np.abs(given_out - expected) < 1).all()
    assert given_out[-1] == 23


def test_strata_may_be_empty():
    assert allocate(np.array([0, 5, 0, 3]), 4).tolist() == [0, 2, 0, 2]
    assert allocate(np.array([], dtype=int), 4).tolist() == []
    nothing = uniform(np.array([], dtype=np.uint32), 4, 0)
    assert as_pairs(nothing) == []


@pytest.mark.parametrize("seed", [0, 5])
def test_an_instance_that_comes_twice_is_refused(seed: int):
    with pytest.raises(ConfigError, match="an instance comes twice; got 7"):
        uniform(np.array([3, 7, 1, 7, 5], dtype=np.uint32), 2, seed)


def test_what_leaves_a_stratum_unknown_is_refused():
    labels = WINDOW % 4
    with pytest.raises(
        ConfigError, match="at least 4 instances, one from each stratum; got 3; ask for 4 or more"
    ):
        stratified(WINDOW, labels, 3, 0)
    for counts in ({0: 5, 1: 5, 2: 5}, {0: 5, 1: 5, 2: 5, 3: 0}):
        with pytest.raises(ConfigError, match="nothing is drawn from stratum 3"):
            stratified(WINDOW, labels, counts, 0)
    with pytest.raises(ConfigError, match="got 0; ask for 1 or more"):
        uniform(WINDOW, 0, 0)
    with pytest.raises(ConfigError, match="600 instances need as many strata; got 599"):
        stratified(WINDOW, labels[1:], 30, 0)
