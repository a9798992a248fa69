from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from ruptures import Pelt
from scipy.signal import lfilter

from scoring.change_points import (
    calibrated_penalty,
    calibrated_threshold,
    change_points,
    error_penalty,
    odd_checkpoint_table,
    segment_table,
)
from scoring.series import ClusterSeries
from scoring.state_space import checkpoint_errors
from windows.errors import DataError

SEEDS = 8


def series_of(level: np.ndarray, *, noise: float = 1.0, correlation: float = 0.0, seed: int = 0):
    """A level with an error of `noise`, by eight demo seeds."""
    drawn = np.random.default_rng(seed).standard_normal((len(level), SEEDS))
    drawn[1:] *= np.sqrt(1 - correlation**2)
    error = lfilter([1.0], [1.0, -correlation], drawn, axis=0) * np.sqrt(SEEDS) * noise
    values = level[:, None] + error
    return ClusterSeries("a/b", 16 * np.arange(len(level)), np.arange(SEEDS), values)


def test_a_dip_of_one_checkpoint_is_found_at_both_its_edges() -> None:
    level = np.zeros(40)
    level[20] = -10
    series = series_of(level)
    assert change_points(series, error_penalty(40)) == [20, 21]
    table = segment_table(series, error_penalty(40))
    assert table.select("first_step", "last_step", "checkpoints").rows() == [
        (0, 304, 20),
        (320, 320, 1),
        (336, 624, 19),
    ]
    assert table["level"][1] == pytest.approx(series.level[20])
    assert table["change"][0] is None
    assert table["change"][1] == pytest.approx(table["level"][1] - table["level"][0])


@pytest.mark.parametrize("penalty", [2.0, 5.0, 12.0])
def test_the_segmentation_is_pelts_in_units_of_the_measured_error(penalty: float) -> None:
    for seed in range(4):
        series = series_of(np.repeat([0.0, 3.0, 1.0], 8), correlation=0.3, seed=seed)
        errors, shared = checkpoint_errors(series)
        scale = np.mean(errors**2) * (1 + shared) / (1 - shared)
        search = Pelt(model="l2", min_size=1, jump=1).fit(series.level[:, None])
        assert change_points(series, penalty) == search.predict(pen=penalty * scale)[:-1]
        moved = replace(series, values=5 * series.values - 2)
        assert change_points(moved, penalty) == change_points(series, penalty)


def test_still_series_seldom_change_also_where_errors_are_shared_by_neighbours() -> None:
    for correlation in (0.0, 0.6):
        found = [
            change_points(
                series_of(np.zeros(60), correlation=correlation, seed=seed), error_penalty(60)
            )
            for seed in range(100)
        ]
        assert sum(map(bool, found)) <= 12


def test_controls_that_wobble_raise_the_penalty_until_they_change_as_agreed() -> None:
    rng = np.random.default_rng(0)
    controls = [series_of(3 * rng.standard_normal(60), seed=seed) for seed in range(4)]
    before = None
    for alarms in (10.0, 5.0, 1.0):
        found = calibrated_penalty(controls, alarms=alarms)
        changes = sum(len(change_points(one, found.penalty)) for one in controls)
        assert found.alarms == pytest.approx(100 * changes / 240)
        assert found.alarms <= alarms
        assert found.raised and found.checkpoints == 240
        assert before is None or found.penalty >= before
        before = found.penalty
    fresh = [series_of(3 * rng.standard_normal(60), seed=seed) for seed in range(20)]
    found = calibrated_penalty(controls, alarms=5.0)
    assert sum(len(change_points(one, found.penalty)) for one in fresh) < 0.1 * 1200


def test_still_controls_ask_for_no_more_than_the_error_does() -> None:
    found = calibrated_penalty([series_of(np.zeros(40))], alarms=1.0)
    assert not found.raised
    assert found.penalty == error_penalty(40)
    with pytest.raises(DataError, match="normal controls"):
        calibrated_penalty([], alarms=1.0)


def test_new_values_exceed_the_threshold_as_often_as_agreed() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.standard_t(2, (4000, 60)) ** 2
    exceeded = [one[-1] > calibrated_threshold(one[:-1], alarms=5.0) for one in drawn]
    assert np.mean(exceeded) == pytest.approx(0.05, abs=0.011)
    assert calibrated_threshold(np.arange(99), alarms=1.0) == 98.0
    assert calibrated_threshold(np.arange(98), alarms=1.0) == np.inf


def test_an_odd_checkpoint_is_paired_by_seed() -> None:
    level = np.zeros(30)
    level[12] = -4
    series = series_of(level, correlation=0.9, seed=3)
    table = odd_checkpoint_table(series)
    by_hand = series.values[12] - (series.values[11] + series.values[13]) / 2
    row = table.filter(step=16 * 12).row(0, named=True)
    assert row["excess"] == pytest.approx(by_hand.mean())
    assert table.filter(pl.col("q") < 0.05)["step"].to_list() == [16 * 11, 16 * 12, 16 * 13]
    assert table["p"].arg_min() == 11
    np.testing.assert_allclose(table["excess"][10], -table["excess"][11] / 2, atol=0.8)
    # A lasting step is no odd checkpoint: half of it at either side.
    lasting = odd_checkpoint_table(series_of(np.repeat([0.0, 8.0], 15), noise=0.1))
    assert lasting["excess"].abs().max() == pytest.approx(4, abs=0.5)
    np.testing.assert_allclose(lasting["excess"][13], -lasting["excess"][14], atol=0.6)


def test_series_without_any_error() -> None:
    flat = series_of(np.zeros(12), noise=0.0)
    assert change_points(flat, 5.0) == []
    step = series_of(np.repeat([0.0, 1e-6], 6), noise=0.0)
    assert change_points(step, 5.0) == [6]
    with pytest.raises(DataError, match="positive"):
        change_points(flat, 0.0)
