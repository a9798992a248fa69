import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import curate.decontamination
from curate.decontamination import Contamination, PromptIndex
from curate.settings import DecontaminationSection
from windows.errors import DataError

WHOLE = DecontaminationSection(match="prompt")


def brute_force(tokens, prompts, rule):
    def pieces(prompt):
        n = len(prompt) if rule.match == "prompt" else rule.ngram
        return [prompt[i : i + n] for i in range(len(prompt) - n + 1)]

    def occurs(piece, row):
        return any(row[i : i + len(piece)] == piece for i in range(len(row) - len(piece) + 1))

    found = []
    for row in tokens.tolist():
        hits = [
            i for i, prompt in enumerate(prompts) if any(occurs(p, row) for p in pieces(prompt))
        ]
        found.append(hits[0] if hits else -1)
    return found


@st.composite
def worlds(draw):
    # Three ids only, so that n-grams and even whole prompts recur by chance.
    ids = st.integers(0, 2)
    length = draw(st.integers(1, 16))
    rows = draw(st.lists(st.lists(ids, min_size=length, max_size=length), max_size=6))
    prompts = draw(st.lists(st.lists(ids, min_size=1, max_size=9), max_size=8))
    return np.array(rows, dtype=np.uint32).reshape(len(rows), length), prompts


@given(worlds(), st.integers(2, 5))
def test_against_brute_force(world, n):
    tokens, prompts = world
    for rule in (WHOLE, DecontaminationSection(match="ngram", ngram=n)):
        found = PromptIndex(prompts, rule).find(tokens)
        assert found.prompt.tolist() == brute_force(tokens, prompts, rule)
        assert found.mask.tolist() == [p >= 0 for p in found.prompt.tolist()]


@given(worlds(), st.integers(2, 5))
@example((np.array([[0, 1, 2, 0, 1]], dtype=np.uint32), [[2, 2, 1], [0, 1, 2]]), 3)
def test_a_hash_that_collides_everywhere_changes_nothing(world, n):
    tokens, prompts = world
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            curate.decontamination, "splitmix64", lambda values, key: np.zeros(values.shape, "u8")
        )
        for rule in (WHOLE, DecontaminationSection(match="ngram", ngram=n)):
            found = PromptIndex(prompts, rule).find(tokens)
            assert found.prompt.tolist() == brute_force(tokens, prompts, rule)


@pytest.mark.parametrize("length", [1, 2, 5, 64, 100])
@pytest.mark.parametrize("place", ["start", "middle", "end"])
def test_a_planted_prompt_is_found_at_every_place(length, place):
    tokens = np.arange(40 * 128, dtype=np.uint32).reshape(40, 128)
    prompts = [list(range(10**6 * k, 10**6 * k + length)) for k in range(1, 4)]
    start = {"start": 0, "middle": (128 - length) // 2, "end": 128 - length}[place]
    tokens[7, start : start + length] = prompts[1]
    found = PromptIndex(prompts, WHOLE).find(tokens)
    assert np.flatnonzero(found.mask).tolist() == [7] and found.prompt[7] == 1


def test_all_but_one_token_of_a_prompt_is_a_shared_ngram_but_not_the_prompt():
    prompt = list(range(1000, 1020))
    tokens = np.zeros((2, 64), dtype=np.uint32)
    tokens[1, 10:29] = prompt[:19]
    assert not PromptIndex([prompt], WHOLE).find(tokens).mask.any()
    by_gram = PromptIndex([prompt], DecontaminationSection(match="ngram", ngram=13)).find(tokens)
    assert by_gram.mask.tolist() == [False, True]


def test_a_match_does_not_run_over_from_one_instance_into_the_next():
    tokens = np.array([[0, 0, 7, 8], [9, 0, 0, 0]], dtype=np.uint32)
    assert not PromptIndex([[7, 8, 9]], WHOLE).find(tokens).mask.any()


def test_prompts_that_share_their_demonstrations_are_told_apart():
    prompts = [[5] * 40 + [100 + i] for i in range(50)]
    tokens = np.full((1, 64), 5, dtype=np.uint32)
    tokens[0, 60] = 133
    assert PromptIndex(prompts, WHOLE).find(tokens).prompt.tolist() == [33]


def test_the_lowest_prompt_is_named():
    prompts = [[9, 9, 9], [3, 4], [1, 2, 3, 4], [3, 4]]
    found = PromptIndex(prompts, WHOLE).find(np.array([[1, 2, 3, 4]], dtype=np.uint32))
    assert found.prompt.tolist() == [1]


def test_the_verdict_does_not_depend_on_how_instances_are_batched():
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 4, (50, 32), dtype=np.uint32)
    index = PromptIndex(rng.integers(0, 4, (20, 6)).tolist(), WHOLE)
    whole = index.find(tokens)
    parts = [index.find(tokens[i : i + 7]) for i in range(0, 50, 7)]
    assert np.concatenate([part.prompt for part in parts]).tolist() == whole.prompt.tolist()
    assert 0 < whole.mask.sum() < 50


def test_how_many_prompts_can_be_found_at_all():
    rule = DecontaminationSection(match="ngram", ngram=13)
    prompts = [[1, 2, 3], list(range(20)), list(range(100))]
    assert [PromptIndex(prompts, rule).findable(n) for n in (12, 13, 1000)] == [0, 2, 2]
    assert [PromptIndex(prompts, WHOLE).findable(n) for n in (2, 64, 100)] == [0, 2, 3]
    assert PromptIndex([], WHOLE).findable(64) == 0


def test_no_instances_and_no_prompts_find_nothing():
    empty = PromptIndex([[1]], WHOLE).find(np.empty((0, 8), dtype=np.uint32))
    assert isinstance(empty, Contamination) and empty.mask.shape == (0,)
    assert not PromptIndex([], WHOLE).find(np.zeros((3, 8), dtype=np.uint32)).mask.any()


@pytest.mark.parametrize("prompt", [[], [-1], [2**32]])
def test_a_prompt_that_is_none_is_refused(prompt):
    with pytest.raises(DataError, match="prompt 1"):
        PromptIndex([[1], prompt], WHOLE)
