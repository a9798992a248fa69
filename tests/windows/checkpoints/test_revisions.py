import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windows.checkpoints.revisions import Revision, label_fits, parse_revision


@pytest.mark.parametrize(
    ("name", "stage", "ingredient", "step", "tokens", "suffix"),
    [
        # OLMo 1
        ("step20000-tokens84B", "", None, 20_000, "84B", ""),
        # OLMo 2
        ("stage1-step50000-tokens210B", "stage1", None, 50_000, "210B", ""),
        ("stage1-step928646-tokens3896B", "stage1", None, 928_646, "3896B", ""),
        ("stage2-ingredient1-step11921-tokens101B", "stage2", 1, 11_921, "101B", ""),
        # OLMo 3 and Hybrid
        ("stage1-step656000", "stage1", None, 656_000, None, ""),
        ("stage1-step590120", "stage1", None, 590_120, None, ""),
        ("stage2-ingredient2-step23842", "stage2", 2, 23_842, None, ""),
        ("stage2-step47684", "stage2", None, 47_684, None, ""),
        (
            "stage2-step47684-mix-round3-from-2T-ckpt",
            "stage2",
            None,
            47_684,
            None,
            "mix-round3-from-2T-ckpt",
        ),
        ("stage3-step11921", "stage3", None, 11_921, None, ""),
        # Apertus
        ("step50000-tokens210B", "", None, 50_000, "210B", ""),
        ("step2627139-tokens15T", "", None, 2_627_139, "15T", ""),
        ("longctx-step1700", "longctx", None, 1_700, None, ""),
        # Pythia and PolyPythias
        ("step0", "", None, 0, None, ""),
        ("step512", "", None, 512, None, ""),
        ("step143000", "", None, 143_000, None, ""),
        # folders
        ("step1000-unsharded", "", None, 1000, None, "unsharded"),
        ("ingredient2-step1000", "", 2, 1000, None, ""),
        ("my-run_2-step7", "my-run_2", None, 7, None, ""),
    ],
)
def test_every_published_form_is_read(
    name: str, stage: str, ingredient: int | None, step: int, tokens: str | None, suffix: str
):
    assert parse_revision(name) == Revision(name, stage, ingredient, step, tokens, suffix)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "main",
        "step",
        "step-1",
        "step007",
        "step1.5",
        "steps10",
        "stage1-",
        "-step1",
        "stage1-step3.part",
        "checkpoint-1000",
        "stage2/step1",
        "stage2-ingredient1+2-step23842",
    ],
)
def test_other_names_are_none(name: str):
    assert parse_revision(name) is None


def test_an_ingredient_is_a_stage_of_its_own():
    parsed = [parse_revision(name) for name in ("step5", "ingredient2-step5", "stage2-step5")]
    assert [revision.stage_or("stage1") for revision in parsed if revision] == [
        "stage1",
        "stage1-ingredient2",
        "stage2",
    ]


stages = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(
    lambda text: not text.startswith(("step", "ingredient"))
)
optional_numbers = st.none() | st.integers(0, 10**7)
labels = st.none() | st.from_regex(r"[1-9][0-9]{0,4}(\.[0-9]{1,2})?[MBT]", fullmatch=True)
suffixes = st.just("") | st.from_regex(r"[a-z]{1,5}(-[a-z0-9]{1,5}){0,3}", fullmatch=True).filter(
    lambda text: not text.startswith("tokens")
)


@given(st.just("") | stages, optional_numbers, st.integers(0, 10**7), labels, suffixes)
def test_what_is_put_together_comes_apart(
    stage: str, ingredient: int | None, step: int, label: str | None, suffix: str
):
    parts = [stage] if stage else []
    parts += [] if ingredient is None else [f"ingredient{ingredient}"]
    parts += [f"step{step}"]
    parts += [] if label is None else [f"tokens{label}"]
    parts += [suffix] if suffix else []
    name = "-".join(parts)
    assert parse_revision(name) == Revision(name, stage, ingredient, step, label, suffix)


@given(st.integers(1, 10**14), st.sampled_from([("M", 10**6), ("B", 10**9), ("T", 10**12)]))
def test_every_way_of_rounding_fits(tokens: int, unit: tuple[str, int]):
    letter, size = unit
    exact = tokens / size
    for rounded in {math.floor(exact), math.ceil(exact), round(exact)}:
        assert label_fits(f"{rounded}{letter}", tokens)
    assert not label_fits(f"{math.ceil(exact) + 1}{letter}", tokens)
    assert not label_fits(f"{math.floor(exact) + 2}{letter}", tokens)


@pytest.mark.parametrize(
    ("label", "step", "batch_tokens"),
    # Published ones, some rounded up and some to the nearest.
    [
        ("84B", 20_000, 4 << 20),
        ("210B", 50_000, 4 << 20),
        ("3896B", 928_646, 4 << 20),
        ("1259B", 300_000, 4 << 20),
        ("735B", 175_000, 4 << 20),
        ("6056B", 721_901, 8 << 20),
        ("101B", 11_921, 8 << 20),
    ],
)
def test_published_labels_fit(label: str, step: int, batch_tokens: int):
    assert label_fits(label, step * batch_tokens)
    assert not label_fits(label, step * batch_tokens * 2)


def test_a_label_with_decimals_is_held_to_them():
    assert label_fits("4.2B", 4_194_304_000)
    assert not label_fits("4.2B", 4_300_000_000)
