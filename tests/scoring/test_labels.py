from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy import stats

from scoring.deltas import delta_table
from scoring.labels import RULE_VERSION, label_windows, may_label
from scoring.series import ClusterSeries
from scoring.state_space import Decomposition
from windows.errors import DataError
from windows.run import Window

SCHEMA = {
    "window": pl.String,
    "task": pl.String,
    "label": pl.String,
    "first_batch": pl.Int64,
    "end_batch": pl.Int64,
    "delta": pl.Float64,
    "innovation": pl.Float64,
    "se": pl.Float64,
    "lo": pl.Float64,
    "hi": pl.Float64,
    "p": pl.Float64,
    "q": pl.Float64,
    "strength": pl.Float64,
    "rule_version": pl.Int32,
    "hop": pl.String,
}


def planted(
    effects: np.ndarray, *, persistence: float = 0.6, seeds: int = 16, noise: float = 0.05
) -> ClusterSeries:
    rng = np.random.default_rng(7)
    level = np.zeros(len(effects) + 1)
    for window, effect in enumerate(effects):
        level[window + 1] = persistence * level[window] + effect
    values = level[:, None] + rng.normal(0, 0.2, seeds) + rng.normal(0, noise, (len(level), seeds))
    return ClusterSeries(
        "successive/addition", 340 + 16 * np.arange(len(level)), np.arange(seeds), values
    )


def tiles(series: ClusterSeries) -> list[Window]:
    return [
        Window(f"stage1-{a}:{b}", "stage1", int(a), int(b), int(a), int(b), int(b - a) * 2048)
        for a, b in zip(series.steps, series.steps[1:], strict=False)
    ]


def test_planted_windows_are_found() -> None:
    effects = np.zeros(40)
    effects[[5, 20, 33]] = 0.3
    effects[[11, 27]] = -0.4
    series = planted(effects)
    labels = label_windows(series, tiles(series), rule="innovation", alpha=0.05, minimum=0.05)
    found = labels["label"].to_list()
    assert [found[w] for w in (5, 20, 33)] == ["generalization"] * 3
    assert [found[w] for w in (11, 27)] == ["pattern"] * 2
    others = [one for w, one in enumerate(found) if effects[w] == 0]
    assert not {"generalization", "pattern"} & set(others)


def test_the_schema_and_its_arithmetic() -> None:
    series = planted(np.random.default_rng(0).normal(0, 0.2, 20))
    labels = label_windows(series, tiles(series), rule="innovation", alpha=0.1, minimum=0.05)
    assert dict(labels.schema) == SCHEMA
    assert labels["rule_version"].unique().to_list() == [RULE_VERSION]
    assert labels["window"][0] == "stage1-340:356"
    assert labels["strength"].to_list() == labels["innovation"].to_list()
    deltas = delta_table(series)
    half = stats.t.ppf(0.95, deltas["df"].to_numpy()) * deltas["se"].to_numpy()
    np.testing.assert_allclose(labels["hi"] - labels["strength"], half)
    np.testing.assert_allclose(labels["strength"] - labels["lo"], half)
    assert (labels["q"] >= labels["p"]).all()


def test_the_delta_rule_labels_by_the_plain_change() -> None:
    series = planted(np.random.default_rng(0).normal(0, 0.2, 20))
    labels = label_windows(series, tiles(series), rule="delta", alpha=0.05, minimum=0.05)
    assert labels["strength"].to_list() == labels["delta"].to_list()
    hop_of = {
        "generalization": "up",
        "pattern": "down",
        "neutral": "none",
        "undecided": "undecided",
    }
    assert [hop_of[label] for label in labels["label"]] == labels["hop"].to_list()


def test_quiet_windows_are_neutral_and_noisy_ones_undecided() -> None:
    quiet = planted(np.zeros(20), noise=0.01)
    labels = label_windows(quiet, tiles(quiet), rule="innovation", alpha=0.05, minimum=0.05)
    assert set(labels["label"]) == {"neutral"}
    noisy = planted(np.zeros(20), noise=0.5)
    labels = label_windows(noisy, tiles(noisy), rule="innovation", alpha=0.05, minimum=0.05)
    assert set(labels["label"]) == {"undecided"}


def test_windows_may_come_in_any_order_but_must_fit() -> None:
    series = planted(np.random.default_rng(0).normal(0, 0.2, 8))
    windows = tiles(series)
    settings = {"rule": "innovation", "alpha": 0.05, "minimum": 0.05}
    plain = label_windows(series, windows, **settings)
    assert label_windows(series, windows[::-1], **settings).equals(plain)
    for wrong in (windows[1:], windows[:3] + windows[4:], [*windows, windows[0]]):
        with pytest.raises(DataError, match="windows are not those"):
            label_windows(series, wrong, **settings)


@pytest.mark.parametrize("lo", [0.0, 0.2])
@pytest.mark.parametrize("transfer", [None, "transferable", "not-transferable", "underpowered"])
def test_windows_are_labelled_on_persistence_or_transfer(lo: float, transfer: str | None) -> None:
    found = Decomposition(0.4, lo, 0.7, 0.95, 0.5, 0.9, 0.1, 0.1, 0.05, 0.0)
    allowed, sentence = may_label(found, transfer)
    assert allowed == (lo > 0 or transfer == "transferable")
    assert sentence.startswith(
        "Windows are labelled" if allowed else "Windows are described and not"
    )
    assert f"95% interval {lo:.0%} to 70%" in sentence


def test_series_by_item_group_are_labelled_alike() -> None:
    series = planted(np.random.default_rng(0).normal(0, 0.2, 20))
    names = np.array([f"group{c}" for c in series.clusters])
    grouped = replace(series, clusters=names, unit="item group")
    settings = {"rule": "innovation", "alpha": 0.05, "minimum": 0.05}
    assert label_windows(grouped, tiles(series), **settings).equals(
        label_windows(series, tiles(series), **settings)
    )
