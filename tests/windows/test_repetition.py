from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from olmo_core.data import NumpyFSLDatasetConfig, TokenizerConfig
from olmo_core.data.numpy_dataset import InstanceFilterConfig, NumpyDatasetBase
from pydantic import ValidationError

import windows.repetition as module
from windows.errors import ConfigError
from windows.repetition import RepetitionFilter, masked

LENGTH = 600


def olmo_core_masks(
    instance: np.ndarray, min_period: int = 1, max_period: int = 13, max_count: int = 32
) -> bool:
    settings = InstanceFilterConfig(
        repetition_min_period=min_period,
        repetition_max_period=max_period,
        repetition_max_count=max_count,
    )
    tokens = torch.tensor(instance.astype(np.int64))
    return not NumpyDatasetBase._validate_instance(None, tokens, settings)  # type: ignore[arg-type]


def planted(start: int, period: int, tokens: int, length: int = LENGTH) -> np.ndarray:
    """Distinct tokens, but for a stretch of `tokens` tokens that has a period."""
    instance = np.arange(1000, 1000 + length, dtype=np.uint32)
    instance[start : start + tokens] = np.resize(np.arange(period), tokens)
    return instance


@st.composite
def patchworks(draw: st.DrawFn) -> list[int]:
    """Patterns over few letters, each repeated for a while: neighbours may go on by chance."""
    letters = st.integers(0, draw(st.integers(0, 2)))
    tokens: list[int] = []
    for _ in range(draw(st.integers(1, 5))):
        pattern = draw(st.lists(letters, min_size=1, max_size=7))
        tokens += np.resize(pattern, draw(st.integers(1, 40))).tolist()
    return tokens


@given(
    patchworks(),
    st.integers(1, 4),
    st.integers(0, 8),
    st.integers(-1, 12),
)
@example([0] * 3, 1, 1, 3)
@example([0] * 2, 1, 1, 2)
@example([0, 1] * 3, 1, 2, 3)
def test_any_stretch_is_judged_as_olmo_core_judges_it(tokens, min_period, max_period, max_count):
    instance = np.array(tokens, dtype=np.uint32)
    ours = masked(instance[None], min_period=min_period, max_period=max_period, max_count=max_count)
    assert ours.tolist() == [olmo_core_masks(instance, min_period, max_period, max_count)]


@given(st.integers(0, 2**32), st.integers(1, 3), st.integers(1, LENGTH))
def test_random_tokens_are_judged_as_olmo_core_judges_them(seed, letters, length):
    instances = np.random.default_rng(seed).integers(0, letters, (3, length), dtype=np.uint32)
    ours = masked(instances, max_period=5, max_count=6)
    assert ours.tolist() == [olmo_core_masks(row, 1, 5, 6) for row in instances]


@pytest.mark.parametrize("period", range(1, 16))
def test_the_edge_is_at_the_32nd_repetition(period: int):
    """At both ends, in between, and at every offset to the rows that OLMo-core compares."""
    for tokens in (31 * period, 32 * period - 1, 32 * period, 32 * period + 1, 33 * period):
        starts = [*range(period + 1), LENGTH - tokens - 1, LENGTH - tokens]
        instances = np.stack([planted(start, period, tokens) for start in starts])
        expected = [period <= 13 and tokens >= 32 * period] * len(starts)
        assert masked(instances).tolist() == expected
        assert [olmo_core_masks(row) for row in instances] == expected


def test_the_pattern_before_and_after_a_gap_does_not_add_up():
    instance = planted(10, 1, 31)
    instance[42:73] = 0
    assert not masked(instance[None])[0]
    assert not olmo_core_masks(instance)
    instance[41] = 0
    assert masked(instance[None])[0]


def test_a_long_period_may_hide_in_a_short_one():
    """Period 14 is not looked for, but 14 equal tokens are a period of 1."""
    instance = np.zeros(14 * 32, dtype=np.uint32)
    assert masked(instance[None])[0]
    assert not masked(instance[None], min_period=14, max_period=14, max_count=33)[0]
    assert masked(np.resize(np.arange(7), 14 * 32)[None])[0]
    assert not masked(np.resize(np.arange(14), 14 * 32)[None])[0]


def test_instances_are_judged_one_by_one(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(2)
    instances = np.stack(
        [planted(int(s), 3, 96 - k % 2) for k, s in enumerate(rng.integers(500, size=40))]
    )
    expected = [k % 2 == 0 for k in range(40)]
    for block in (1, 7 * LENGTH, 1 << 18):
        monkeypatch.setattr(module, "_BLOCK", block)
        assert masked(instances).tolist() == expected


@pytest.mark.parametrize("shape", [(0, 16), (3, 0), (3, 1), (3, 13)])
def test_too_little_to_repeat(shape: tuple[int, int]):
    assert masked(np.zeros(shape, dtype=np.uint32)).tolist() == [False] * shape[0]


def test_a_data_set_masks_these_instances(tmp_path: Path):
    """In the whole of OLMo-core: what the filter says, in the order of the instances."""
    instances = np.stack([planted(20, 1 + k % 15, 32 * (1 + k % 15) - k % 2) for k in range(60)])
    instances.tofile(tmp_path / "a.npy")
    rule = RepetitionFilter(min_period=2, max_period=12, max_count=31)
    dataset = NumpyFSLDatasetConfig(
        paths=[str(tmp_path / "a.npy")],
        tokenizer=TokenizerConfig(vocab_size=100_000, eos_token_id=1, pad_token_id=0),
        work_dir=str(tmp_path),
        dtype="uint32",
        sequence_length=LENGTH,
        instance_filter_config=InstanceFilterConfig(
            repetition_min_period=rule.min_period,
            repetition_max_period=rule.max_period,
            repetition_max_count=rule.max_count,
        ),
    ).build()
    theirs = [not dataset[k]["instance_mask"] for k in range(len(dataset))]
    assert rule.masked(instances).tolist() == theirs
    assert 10 < sum(theirs) < 50


def test_the_defaults_are_olmo_cores():
    theirs = InstanceFilterConfig()
    assert RepetitionFilter() == RepetitionFilter(
        min_period=theirs.repetition_min_period,
        max_period=theirs.repetition_max_period,
        max_count=theirs.repetition_max_count,
    )
    instances = np.stack([planted(5, period, 32 * 13) for period in range(10, 16)])
    assert RepetitionFilter().masked(instances).tolist() == masked(instances).tolist()


def test_no_period_is_below_one():
    with pytest.raises(ConfigError, match=r"min_period.*got 0"):
        masked(planted(0, 1, 40)[None], min_period=0)
    with pytest.raises(ValidationError, match="min_period"):
        RepetitionFilter(min_period=0)
