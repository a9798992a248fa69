import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from scoring.hops import equivalence_p, false_discovery, hop_table, with_study_q


def table(delta: list[float], se: list[float], df: float = 30.0) -> pl.DataFrame:
    effect, error = np.array(delta), np.array(se)
    p = 2 * stats.t.sf(np.abs(effect) / error, df)
    return pl.DataFrame(
        {"delta": effect, "delta_se": error, "delta_df": np.full(len(effect), df), "p_delta": p}
    )


def test_the_four_verdicts() -> None:
    deltas = table([0.3, -0.3, 0.0, 0.04, 0.3], [0.02, 0.02, 0.01, 0.005, 0.2])
    hops = hop_table(deltas, alpha=0.05, minimum=0.05)
    # The fourth is significant and too small to matter: equivalence says so.
    assert hops["hop"].to_list() == ["up", "down", "none", "none", "undecided"]
    assert hops["q"][3] < 0.05


def test_q_by_hand() -> None:
    p = np.array([0.01, 0.04, 0.03, 0.5])
    np.testing.assert_allclose(false_discovery(p), [0.04, 0.16 / 3, 0.16 / 3, 0.5])
    harmonic = 1 + 1 / 2 + 1 / 3 + 1 / 4
    np.testing.assert_allclose(false_discovery(p, method="fdr_by")[0], 0.04 * harmonic)


@settings(deadline=None)
@given(
    effect=st.floats(-0.2, 0.2),
    se=st.floats(1e-4, 0.2),
    df=st.floats(2, 100),
    minimum=st.floats(0, 0.2),
)
def test_equivalence_is_the_interval_inside(
    effect: float, se: float, df: float, minimum: float
) -> None:
    p = equivalence_p(np.array([effect]), np.array([se]), np.array([df]), minimum)[0]
    half = stats.t.isf(0.05, df) * se
    inside = -minimum < effect - half and effect + half < minimum
    assert (p < 0.05) == inside or p == pytest.approx(0.05)


def test_equivalence_without_error() -> None:
    p = equivalence_p(np.array([0.01, 0.05, 0.1]), np.zeros(3), np.full(3, 5.0), 0.05)
    np.testing.assert_array_equal(p, [0.0, 1.0, 1.0])


def test_q_over_a_study_is_over_all_its_pairs_and_pooled_keeps_to_itself() -> None:
    rng = np.random.default_rng(0)
    made = {
        task: rng.uniform(0, 1, size) ** 3 for task, size in (("a/b", 6), ("pooled", 5), ("c/d", 4))
    }
    tables = {task: pl.DataFrame({"p": p, "q": false_discovery(p)}) for task, p in made.items()}
    found = with_study_q(tables)
    assert list(found) == list(made)
    both = np.concatenate([made["a/b"], made["c/d"]])
    for name, method in (("q_study", "fdr_bh"), ("q_study_by", "fdr_by")):
        expected = false_discovery(both, method=method)
        np.testing.assert_array_equal(found["a/b"][name], expected[:6])
        np.testing.assert_array_equal(found["c/d"][name], expected[6:])
        np.testing.assert_array_equal(
            found["pooled"][name], false_discovery(made["pooled"], method=method)
        )
    assert found["a/b"]["q"].equals(tables["a/b"]["q"])
    assert with_study_q({}) == {}
