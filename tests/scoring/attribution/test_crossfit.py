import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.attribution.crossfit import (
    Features,
    attribute,
    folds,
    standardised,
    window_average,
)
from scoring.attribution.evidence import SCORES, Evidence
from scoring.attribution.null import (
    chosen_shifts,
    correlations,
    judged,
    max_t,
    rolled,
)
from windows.errors import ConfigError, DataError


@given(st.integers(4, 60), st.integers(2, 9))
def test_folds_tile_and_keep_their_neighbours_out(windows, count):
    if count > windows:
        with pytest.raises(ConfigError, match="cannot be cross-fitted"):
            folds(windows, count)
        return
    made = folds(windows, count)
    assert [w for fold in made for w in range(fold.first, fold.end)] == list(range(windows))
    for fold in made:
        barred = set(range(fold.first - 1, fold.end + 1))
        assert set(fold.training.tolist()) == set(range(windows)) - barred


def test_a_window_does_not_reach_its_own_scores_nor_its_neighbours(world):
    """Whatever becomes of a fold's strengths and its neighbours', its scores stay as they are."""
    features = _one_hot(world)

    def scored(evidence):
        return world.scores(attribute(evidence, "m", features, _correlated(evidence, features)))

    before = scored(world.evidence)
    fold = folds(40, 5)[2]
    strength = world.evidence.strength.copy()
    strength[fold.first - 1 : fold.end + 1] = -7 * strength[fold.first - 1 : fold.end + 1]
    after = scored(world.with_strength(strength))
    window = world.evidence.documents.window
    own = (window >= fold.first) & (window < fold.end)
    assert np.array_equal(before[own], after[own])
    assert not np.array_equal(before[~own], after[~own])


def test_the_table_has_the_schema_and_the_documents_order(world):
    features = _one_hot(world)
    found = attribute(world.evidence, "m", features, _correlated(world.evidence, features)).scores
    held = world.evidence.documents
    assert dict(found.schema) == SCORES
    assert found["instance"].to_list() == held.instances[held.row].tolist()
    assert found["start"].to_list() == held.start.tolist()
    assert found["score"].is_finite().all()


def test_folds_of_different_fits_are_on_one_scale(world):
    """A fit that is larger and shifted in one fold gives the same scores."""
    features = _one_hot(world)
    plain = _correlated(world.evidence, features)

    def uneven(fold, shifts):
        return (13 + 10 * fold.first) * plain(fold, shifts) + fold.first

    one, other = (
        world.scores(attribute(world.evidence, "m", features, f)) for f in (plain, uneven)
    )
    assert np.allclose(one, other, atol=1e-5)


def test_a_fit_without_effect_scores_nothing(world):
    features = _one_hot(world)
    found = attribute(
        world.evidence, "m", features, lambda fold, shifts: np.zeros((2, len(shifts)))
    )
    assert found.scores["score"].abs().max() == 0
    assert (found.null.p, found.null.statistic) == (1.0, 0.0)


def test_window_average_weighs_tokens_and_late_batches(world):
    held = world.evidence.documents
    feature = (held.batch % 4)[:, None].astype(float)
    assert np.allclose(window_average(world.evidence, feature), 1.5)
    late = np.array([0.125, 0.25, 0.5, 1.0])
    assert np.allclose(window_average(world.evidence, feature, 1.0), late @ range(4) / late.sum())


def test_evidence_is_refused_where_it_does_not_fit(world):
    old = world.evidence
    with pytest.raises(DataError, match="one finite strength a window"):
        Evidence(old.documents, old.windows, old.strength[:-1])
    with pytest.raises(DataError, match="a window has no document"):
        Evidence(old.documents, (*old.windows, old.windows[0]), np.append(old.strength, 0.0))


@given(st.integers(2, 30), st.integers(1, 40))
def test_shifts_begin_with_none_and_are_distinct(windows, most):
    shifts = chosen_shifts(windows, most, 0)
    assert shifts[0] == 0
    assert len(set(shifts.tolist())) == len(shifts) == min(windows, most + 1)
    series = np.arange(windows)
    for column, shift in zip(rolled(series, shifts).T, shifts, strict=True):
        assert np.array_equal(column, np.roll(series, shift))


def test_correlations_are_numpys_and_of_a_constant_none():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 3)), rng.standard_normal((20, 2))
    oracle = np.corrcoef(x.T, y.T)[:3, 3:]
    assert np.allclose(correlations(x, y), oracle)
    x[:, 1] = 0.1
    assert np.allclose(correlations(x, y)[1], 0)


def test_p_counts_the_shifts_that_do_as_well():
    strengths = rolled(np.array([3.0, 1.0, 2.0, 5.0, 4.0]), chosen_shifts(5, 9, 0))
    found = judged(np.repeat(strengths[:, :1], 5, axis=1), strengths)
    assert (found.statistic, found.p, found.floor) == (pytest.approx(1), 0.2, 0.2)


def test_max_t_is_the_direct_count():
    rng = np.random.default_rng(1)
    features = rng.standard_normal((30, 4))
    strength = features[:, 2] + 0.1 * rng.standard_normal(30)
    strengths = rolled(strength, chosen_shifts(30, 99, 0))
    found = max_t(features, strengths, list("abcd"))
    assert found["feature"][0] == "c"
    assert found["p"][0] == pytest.approx(1 / 30)
    for name, rho, p in found.iter_rows():
        column = features[:, "abcd".index(name)]
        best = [
            max(abs(_rank_correlation(features[:, f], np.roll(strength, s))) for f in range(4))
            for s in range(30)
        ]
        assert rho == pytest.approx(_rank_correlation(column, strength))
        assert p == pytest.approx(np.mean([b >= abs(rho) - 1e-9 for b in best]))


def test_max_t_over_noise_is_uniform():
    """Of any feature of 20 p <= .1 in about a tenth of 200 draws of noise."""
    rng = np.random.default_rng(2)
    low = 0
    for _ in range(200):
        strengths = rolled(rng.standard_normal(40), chosen_shifts(40, 99, 0))
        names = [str(n) for n in range(20)]
        low += max_t(rng.standard_normal((40, 20)), strengths, names)["p"].min() <= 0.1
    assert 8 <= low <= 35  # binomial 200 x .1: 99.9 % within 8..36


def test_standardised_refuses_to_make_much_of_rounding():
    values = np.full((5, 1), 0.1) + np.array([[0], [1], [0], [0], [0]]) * 1e-17
    assert not standardised(values, np.arange(5)).any()


def _one_hot(world):
    up = world.types == "up"
    documents = np.stack([up, ~up], axis=1).astype(float)
    return Features(documents, window_average(world.evidence, documents))


def _correlated(evidence, features):
    def fit(fold, shifts):
        strengths = rolled(evidence.strength, shifts)[fold.training]
        return correlations(features.windows[fold.training], strengths)

    return fit


def _rank_correlation(x, y):
    return pl.DataFrame({"x": x, "y": y}).select(pl.corr("x", "y", method="spearman")).item()
