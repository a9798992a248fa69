"""Universality: planted correlations come out, with and without the noise of demo seeds."""

import numpy as np
import polars as pl
import pytest

from scoring.across_runs import RunSeries, by_size, same_tasks, series_table, training_flops
from scoring.attenuation import Options, compared
from scoring.metrics import KEY
from scoring.series import ClusterSeries
from scoring.universality import WordedSeries, universality, wording_series
from windows.errors import ConfigError, DataError

STEPS, SEEDS = 80, 8
QUICK = Options(resamples=99)


def series(
    task: str,
    level: np.ndarray,
    rng: np.random.Generator,
    noise: float = 0.0,
    shared: np.ndarray | float = 0.0,
    wording: str = "",
) -> WordedSeries:
    """A series whose demo seeds have offsets, noise of their own, and noise shared with others."""
    values = level[:, None] + rng.standard_normal(SEEDS) + shared
    values = values + noise * rng.standard_normal((len(level), SEEDS))
    steps = 1000 * np.arange(len(level), dtype=np.int64)
    return WordedSeries(ClusterSeries(task, steps, np.arange(SEEDS), values), wording)


def suite(
    rng: np.random.Generator, mode: float, family: float, noise: float = 0.5
) -> list[WordedSeries]:
    """Two families of two tasks in two wordings: a mode common to all, and one of each family."""
    parts, found = rng.standard_normal((7, STEPS)), []
    for number, task in enumerate(("a/one", "a/two", "b/one", "b/two")):
        level = np.sqrt(mode) * parts[6] + np.sqrt(family) * parts[4 + number // 2]
        level = level + np.sqrt(1 - mode - family) * parts[number]
        found += [series(task, level, rng, noise, wording=wording) for wording in ("plain", "curt")]
    return found


def whole(found: pl.DataFrame, relation: str) -> dict[str, float]:
    one = (pl.col("relation") == relation) & pl.col("first_family").is_null()
    return found.row(by_predicate=one, named=True)


def test_planted_relations_come_out_in_order() -> None:
    found = universality(suite(np.random.default_rng(0), mode=0.3, family=0.3), QUICK)
    counts = dict(found.pairs.group_by("relation").len().iter_rows())
    assert counts == {"wording": 4, "family": 8, "between": 16} and found.checkpoints == STEPS
    # A level's variance is 1, the seeds' noise has 0.5^2 / 8.
    noisy = 1 / (1 + 0.25 / 8)
    for relation, planted in (("wording", 1.0), ("family", 0.6), ("between", 0.3)):
        row = whole(found.relations, relation)
        assert row["pairs"] == row["corrected_pairs"] == counts[relation]
        assert row["lo"] < planted * noisy < row["hi"]
        assert row["corrected_lo"] < planted < row["corrected_hi"]
        assert row["corrected"] > row["r"]
        assert found.resampled[relation].mean() == pytest.approx(row["r"], abs=0.1)
    families = found.relations.filter(pl.col("first_family").is_not_null())
    assert families.select("relation", "first_family", "second_family", "pairs").rows() == [
        ("between", "a", "b", 16),
        ("family", "a", "a", 4),
        ("family", "b", "b", 4),
        ("wording", "a", "a", 2),
        ("wording", "b", "b", 2),
    ]
    reliability = found.pairs["reliability_first"].to_numpy()
    assert reliability == pytest.approx(noisy, abs=0.02)


def test_one_pair_by_hand() -> None:
    rng = np.random.default_rng(1)
    x, y = (series(task, rng.standard_normal(30), rng, 1.0).series for task in ("a/x", "b/y"))
    found = compared([x, y], np.array([[0, 1]]), QUICK)
    assert found.r[0] == pytest.approx(np.corrcoef(x.level, y.level)[0, 1])
    pairs = [(s, t) for s in range(SEEDS) for t in range(SEEDS) if s != t]

    def different(first: ClusterSeries, second: ClusterSeries) -> float:
        each = [np.cov(first.values[:, s], second.values[:, t], ddof=0)[0, 1] for s, t in pairs]
        return float(np.mean(each))

    own = different(x, x), different(y, y)
    assert found.corrected[0] == pytest.approx(different(x, y) / np.sqrt(own[0] * own[1]))
    reliability = [own[0] / x.level.var(), own[1] / y.level.var()]
    assert found.reliability[0] == pytest.approx(reliability)


def test_noise_behind_the_same_demonstrations_is_no_likeness() -> None:
    rng = np.random.default_rng(10)
    shared = 3 * rng.standard_normal((STEPS, SEEDS))
    both = [
        series(task, rng.standard_normal(STEPS), rng, 0.5, shared).series for task in ("a/x", "a/y")
    ]
    found = compared(both, np.array([[0, 1]]), QUICK).table(0.05).row(0, named=True)
    # Of the noise of a mean, 9 / 8 of a level's variance is shared.
    assert found["r"] == pytest.approx(1.125 / 2.156, abs=0.15) and found["lo"] > 0.2
    assert found["corrected_lo"] < 0 < found["corrected_hi"]
    # Other demonstrations share no noise, and nothing is left out.
    apart = ClusterSeries("a/y", both[1].steps, 100 + both[1].clusters, both[1].values)
    pair = compared([both[0], apart], np.array([[0, 1]]), QUICK)
    assert pair.corrected[0] > pair.r[0] + 0.2


def test_what_is_all_noise_has_no_corrected_correlation() -> None:
    rng = np.random.default_rng(3)
    still = [series(task, np.zeros(STEPS), rng, 1.0) for task in ("a/x", "b/y")]
    row = universality(still, QUICK).pairs.row(0, named=True)
    assert row["corrected"] is row["corrected_lo"] is None
    assert row["reliability_first"] < 0.2 and row["lo"] < 0 < row["hi"]
    alone = [
        ClusterSeries(each.series.task, each.series.steps, np.arange(1), each.series.values[:, :1])
        for each in still
    ]
    row = compared(alone, np.array([[0, 1]]), QUICK).table(0.05).row(0, named=True)
    assert row["corrected"] is row["reliability_first"] is None and abs(row["r"]) < 0.5
    flat = [ClusterSeries(each.task, each.steps, each.clusters, 0 * each.values) for each in alone]
    assert compared(flat, np.array([[0, 1]]), QUICK).r[0] == 0


def test_a_common_trend_is_removed_where_asked() -> None:
    rng = np.random.default_rng(4)
    line = np.linspace(0, 6, STEPS)
    rising = [series(task, line + rng.standard_normal(STEPS), rng) for task in ("a/x", "b/y")]
    assert universality(rising, QUICK).pairs["lo"][0] > 0.5
    for options in (Options(trend=1, resamples=99), Options(of="change", resamples=99)):
        row = universality(rising, options).pairs.row(0, named=True)
        assert row["lo"] < 0 < row["hi"]


def test_nothing_depends_on_scale_order_or_offsets() -> None:
    own = suite(np.random.default_rng(5), 0.3, 0.3)[::3]
    base = universality(own, QUICK).pairs
    changed = [
        WordedSeries(
            ClusterSeries(
                each.series.task,
                each.series.steps,
                each.series.clusters,
                50 + 7 * each.series.values + np.arange(SEEDS),
            ),
            each.wording,
        )
        for each in own
    ]
    other = universality(changed, QUICK).pairs
    for name in ("r", "lo", "hi", "corrected", "reliability_first"):
        assert other[name].to_numpy() == pytest.approx(base[name].to_numpy())
    back = universality(own[::-1], QUICK).pairs
    assert sorted(back["r"]) == pytest.approx(sorted(base["r"]))
    assert universality(own, QUICK).pairs.equals(base)


def measured(steps: int = 9) -> pl.DataFrame:
    """A table of metrics of one task in two wordings, with three demo seeds."""
    rows = [
        ("run", "stage1", step, "a", "one", wording, seed, step + 10 * seed + len(wording))
        for step in range(steps)
        for wording in ("plain", "curt")
        for seed in range(3)
    ]
    frame = pl.DataFrame(rows, schema=[*KEY, "soft"], orient="row")
    return frame.sample(fraction=1.0, shuffle=True, seed=0)


def test_series_come_from_a_table_of_metrics() -> None:
    curt, plain = wording_series(measured())
    assert (curt.key, plain.key) == (("a/one", "curt"), ("a/one", "plain"))
    assert plain.family == "a" and plain.series.clusters.tolist() == [0, 1, 2]
    assert plain.series.values[3].tolist() == [8, 18, 28]
    with pytest.raises(DataError, match="lacks or repeats"):
        wording_series(measured()[1:])
    with pytest.raises(DataError, match="one run and stage"):
        wording_series(measured().with_columns(stage=pl.col("step").cast(pl.String)))


def test_faults() -> None:
    rng = np.random.default_rng(6)
    one, two = (series(task, rng.standard_normal(9), rng) for task in ("a/x", "b/y"))
    with pytest.raises(DataError, match="two series"):
        universality([one])
    with pytest.raises(DataError, match="comes twice"):
        universality([one, one])
    with pytest.raises(DataError, match="at different checkpoints"):
        universality([one, series("b/y", np.zeros(10), rng)])
    with pytest.raises(DataError, match="at least 8 checkpoints"):
        universality([series(task, np.zeros(7), rng) for task in ("a/x", "b/y")])
    for options in (Options(trend=6), Options(block=5), Options(resamples=1), Options(alpha=0.0)):
        with pytest.raises(ConfigError):
            universality([one, two], options)


# --- Across runs ---------------------------------------------------------------------------------


def run_of(name: str, parameters: int, own: list[WordedSeries], every: int = 1000) -> RunSeries:
    tokens = every * (1 + np.arange(len(own[0].series.steps), dtype=np.int64))
    return RunSeries(name, parameters, tokens, tuple(own))


def test_larger_models_that_are_more_alike_are_said_to_be() -> None:
    runs = [
        run_of(f"m{size}", size, suite(np.random.default_rng(size), mode, 0.1))
        for size, mode in ((10**9, 0.5), (10**7, 0.05), (10**8, 0.3))
    ]
    found = by_size(runs, QUICK)
    between = found.sizes.filter(relation="between")
    assert between["run"].to_list() == ["m10000000", "m100000000", "m1000000000"]
    assert between["r"].is_sorted()
    trend = found.trends.row(by_predicate=pl.col("relation") == "between", named=True)
    # Ten times the parameters add 0.225 to the mode's share.
    assert 0 < trend["lo"] < 0.225 < trend["hi"] and trend["sizes"] == 3
    said = dict(zip(found.trends["relation"], found.sentences, strict=True))
    assert "more alike in larger models" in said["between"] and "3 sizes" in said["between"]
    # Wordings of one task agree whatever the size.
    assert "no trend" in said["wording"]
    falling = by_size([RunSeries(r.name, 10**17 // r.parameters, r.tokens, r.series) for r in runs])
    assert (
        "less alike"
        in dict(zip(falling.trends["relation"], falling.sentences, strict=True))["between"]
    )


def test_one_stream_lines_up_in_tokens_and_one_curve_in_flops() -> None:
    rng = np.random.default_rng(8)
    time = np.arange(1, 2 * STEPS + 1) * 500.0

    def wave(x: np.ndarray) -> np.ndarray:
        return np.sin(x / 3000) + np.sin(x / 1700 + 1)

    small = run_of("small", 100, [series("a/x", wave(time), rng, 0.3)], every=500)
    in_tokens = run_of("big", 200, [series("a/x", wave(time[1::2]), rng, 0.3)])
    in_flops = run_of("big", 200, [series("a/x", wave(2 * time[1::2]), rng, 0.3)])
    assert training_flops(100, 500) == small.axis("flops")[0] == 300_000
    for big, fits, other in ((in_tokens, "tokens", "flops"), (in_flops, "flops", "tokens")):
        found = same_tasks(small, big, fits, QUICK)
        assert found["task"].to_list() == ["a/x", "mean"]
        assert found["r"][0] > 0.9 and found["corrected"][0] == pytest.approx(1, abs=0.02)
        assert same_tasks(small, big, other, QUICK)["r"][0] < 0.5
        back = same_tasks(big, small, fits, QUICK)
        assert back["r"].to_list() == pytest.approx(found["r"].to_list())
    assert same_tasks(small, in_tokens, "tokens", QUICK)["checkpoints"][0] == STEPS
    # Of the larger model's FLOPs the smaller one reached one half, with twice as many checkpoints.
    assert same_tasks(small, in_flops, "flops", QUICK)["checkpoints"][0] == STEPS // 2
    table = series_table([small, in_tokens])
    assert table.height == 3 * STEPS
    assert (table["flops"] == 6.0 * table["parameters"] * table["tokens"]).all()
    assert table.filter(run="big")["level"].to_numpy() == pytest.approx(
        in_tokens.series[0].series.level
    )


def test_faults_across_runs() -> None:
    rng = np.random.default_rng(9)
    own = [series(task, rng.standard_normal(20), rng) for task in ("a/x", "b/y")]
    one, two = run_of("one", 10, own), run_of("two", 100, own)
    with pytest.raises(DataError, match="two sizes"):
        by_size([one, run_of("again", 10, own)])
    with pytest.raises(DataError, match="different suites"):
        by_size([one, run_of("two", 100, [own[0]])])
    with pytest.raises(DataError, match="in common"):
        same_tasks(run_of("one", 10, own[:1]), run_of("two", 100, own[1:]))
    with pytest.raises(DataError, match="at least 8 checkpoints"):
        same_tasks(one, run_of("late", 100, own, every=10**6))
    with pytest.raises(DataError, match="ascending"):
        series_table([RunSeries("one", 10, one.tokens[::-1], two.series)])
