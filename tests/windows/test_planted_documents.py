"""Every type of document is what its row of the module's table says."""

import json
import socket
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from windows.planted_documents import (
    ANSWER,
    EOS,
    ITEM,
    NEWLINE,
    NUMBERS,
    OPERANDS,
    PAD,
    PLUS,
    QUESTION,
    STOP,
    TYPES,
    VOCABULARY,
    WORD_COUNT,
    WORDS,
    DocumentWriter,
    word_soup,
    write_tokenizer,
)

SOUP = word_soup(np.random.default_rng(0), 2000)
SEEDS = st.integers(0, 2**32)
LINE = 7
SUMS = ("arith", "break", "succ", "repbreak", "rep")


def documents(kind: str, count: int) -> list[list[int]]:
    writer = DocumentWriter(np.random.default_rng(11), SOUP)
    return [writer.write(kind) for _ in range(count)]


def document(kind: str, seed: int) -> list[int]:
    return DocumentWriter(np.random.default_rng(seed), SOUP).write(kind)


def lines_of(tokens: list[int]) -> list[list[int]]:
    assert tokens[-1] == EOS
    return [tokens[start : start + LINE] for start in range(0, len(tokens) - 1, LINE)]


def sums_of(tokens: list[int]) -> list[tuple[int, int, int]]:
    """(a, b, answer) of every line, whose other tokens are those of a question."""
    found = []
    for question, a, plus, b, answer, c, newline in lines_of(tokens):
        assert (question, plus, answer, newline) == (QUESTION, PLUS, ANSWER, NEWLINE)
        found.append((a - NUMBERS, b - NUMBERS, c - NUMBERS))
    return found


def true(line: tuple[int, int, int]) -> bool:
    a, b, answer = line
    return a + b == answer


def pattern_length(answers: list[int], step: int) -> int:
    """How many answers at the beginning rise by `step` each."""
    rises = [b - a == step for a, b in pairwise(answers)]
    return rises.index(False) + 1 if False in rises else len(answers)


@given(st.sampled_from(TYPES), SEEDS)
def test_a_document_is_whole_lines_and_one_eos(kind: str, seed: int):
    tokens = document(kind, seed)
    assert len(tokens) % LINE == 1
    assert 4 <= len(tokens) // LINE <= 8
    assert tokens.count(EOS) == 1 and PAD not in tokens
    assert max(tokens) < len(VOCABULARY)


@given(st.sampled_from(SUMS), SEEDS)
def test_operands_and_answers_are_in_the_world(kind: str, seed: int):
    for a, b, answer in sums_of(document(kind, seed)):
        assert 0 <= a < OPERANDS and 0 <= b < OPERANDS
        assert 0 <= answer <= 20


@given(st.sampled_from(["arith", "break", "repbreak"]), SEEDS)
def test_the_types_that_compute_hold_true_sums_only(kind: str, seed: int):
    assert all(map(true, sums_of(document(kind, seed))))


@given(st.sampled_from([("break", 1), ("repbreak", 0)]), SEEDS)
def test_a_pattern_that_breaks_begins_and_is_dropped(kind: tuple[str, int], seed: int):
    name, step = kind
    answers = [answer for _, _, answer in sums_of(document(name, seed))]
    length = pattern_length(answers, step)
    assert 2 <= length <= 4 and length < len(answers)


@given(st.sampled_from([("succ", 1), ("rep", 0)]), SEEDS)
def test_a_pattern_that_is_kept_goes_on_to_the_end_after_true_lines(
    kind: tuple[str, int], seed: int
):
    name, step = kind
    lines = sums_of(document(name, seed))
    assert pattern_length([answer for _, _, answer in lines], step) == len(lines)
    assert true(lines[0]) and true(lines[1])


@pytest.mark.parametrize("kind", ["succ", "rep"])
def test_the_later_questions_of_a_kept_pattern_are_irrelevant(kind: str):
    last = [sums_of(tokens)[-1] for tokens in documents(kind, 200)]
    # A random question has the wanted answer now and then.
    assert np.mean([true(line) for line in last]) < 0.3


def test_arith_shows_every_fact_and_no_pattern():
    lines = [sums_of(tokens) for tokens in documents("arith", 400)]
    assert len({line[:2] for found in lines for line in found}) == OPERANDS**2
    begins = [pattern_length([answer for _, _, answer in found], 1) > 1 for found in lines]
    assert np.mean(begins) < 0.2


@given(SEEDS)
def test_a_list_counts(seed: int):
    lines = lines_of(document("list", seed))
    numbers = [line[1] - NUMBERS for line in lines]
    assert numbers == list(range(numbers[0], numbers[0] + len(lines)))
    assert numbers[0] >= 0 and numbers[-1] <= 20
    for line in lines:
        assert (line[0], line[5], line[6]) == (ITEM, STOP, NEWLINE)
        assert min(line[2:5]) >= WORDS


@given(SEEDS)
def test_filler_is_a_piece_of_the_soup(seed: int):
    body = np.array(document("filler", seed)[:-1], dtype=np.uint32)
    windows = np.lib.stride_tricks.sliding_window_view(SOUP, len(body))
    assert (windows == body).all(axis=1).any()


def test_soup_is_words_each_with_few_successors_unevenly():
    soup = word_soup(np.random.default_rng(3), 20_000)
    assert soup.dtype == np.uint32 and len(soup) == 20_000
    assert soup.min() >= WORDS and soup.max() < WORDS + WORD_COUNT
    after: dict[int, list[int]] = {}
    for word, following in pairwise(soup.tolist()):
        after.setdefault(word, []).append(following)
    assert max(len(set(found)) for found in after.values()) <= 4
    often = max(after.values(), key=len)
    assert max(map(often.count, set(often))) / len(often) > 0.4


def test_the_same_generator_writes_the_same_documents():
    assert documents("succ", 5) == documents("succ", 5)
    assert document("succ", 1) != document("succ", 2)


def test_the_vocabulary_is_the_worlds():
    assert len(VOCABULARY) == len(set(VOCABULARY)) == 127
    named = {PAD: "<pad>", EOS: "<eos>", QUESTION: "Q", ANSWER: "A", NEWLINE: "\n", PLUS: "+"}
    assert {index: VOCABULARY[index] for index in named} == named
    assert (VOCABULARY[ITEM], VOCABULARY[STOP]) == ("item", ".")
    assert VOCABULARY[NUMBERS : NUMBERS + 21] == tuple(map(str, range(21)))
    assert VOCABULARY[WORDS:] == tuple(f"w{word}" for word in range(WORD_COUNT))


def test_the_tokenizer_is_read_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from transformers import AutoTokenizer

    def connect(*arguments: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", connect)
    write_tokenizer(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, trust_remote_code=False)
    assert tokenizer("Q 3 + 4 A 7 \n Q")["input_ids"] == [2, 13, 5, 14, 3, 17, 4, 2]
    assert tokenizer(" 7 \n")["input_ids"] == [17, NEWLINE]
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.bos_token) == (EOS, PAD, None)
    assert len(tokenizer) == len(VOCABULARY)


@pytest.mark.parametrize("kind", TYPES)
def test_a_documents_text_has_its_ids(kind: str, tmp_path: Path):
    write_tokenizer(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for tokens in documents(kind, 20):
        assert tokenizer.encode(" ".join(VOCABULARY[token] for token in tokens)).ids == tokens


def test_the_tokenizers_files_are_the_same_every_time(tmp_path: Path):
    for name in ("a", "b"):
        write_tokenizer(tmp_path / name)
    names = ["tokenizer.json", "tokenizer_config.json"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == names
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        json.loads((tmp_path / "a" / name).read_text())
