"""The built-in topic sentences: complete, clean, and not to be told apart by surface features."""

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from importlib.resources import files
from itertools import combinations

import pytest

LABELS = ("sports", "science")
SHARED = ("field", "record", "team", "model", "points")
NAMES = {"August", "Cup", "Grand", "Monday", "Nations", "Prix", "Test", "World"}
SUBFIELDS, PER_SUBFIELD = 15, 8
FUNCTION_WORDS = set(
    re.findall(
        r"\w+",
        "a after an and are as at be been before but by first for four from had has have he her "
        "him his in into is it its last no not of off on one only or out she so still that the "
        "their them they this three to two up was were when while will with yet",
    )
)

Row = dict[str, str]
Features = Callable[[str], set[str]]


def load() -> list[Row]:
    text = (files("scoring.suite") / "data" / "topic.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


ROWS = load()


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def overlap(one: set[str], other: set[str]) -> float:
    return len(one & other) / len(one | other)


def near_duplicates(texts: list[str], limit: float) -> list[tuple[str, str]]:
    sets = [(text, set(words(text))) for text in texts]
    return [(a, b) for (a, one), (b, two) in combinations(sets, 2) if overlap(one, two) > limit]


def best_threshold(rows: list[Row], size: Callable[[str], int]) -> float:
    """Return the accuracy of the best rule "at least so many: this label", in hindsight."""
    sizes = [(size(row["text"]), row["label"] == LABELS[0]) for row in rows]
    hits = [sum((value >= bar) == first for value, first in sizes) for bar, _ in set(sizes)]
    return max(max(hit, len(rows) - hit) for hit in hits) / len(rows)


def bayes(rows: list[Row], features: Features) -> float:
    """Return the accuracy of naive Bayes on binary features, each row left out in turn."""
    bags = [(features(row["text"]), row["label"]) for row in rows]
    number = Counter(label for _, label in bags)
    counts = {
        label: Counter(word for bag, own in bags if own == label for word in bag)
        for label in LABELS
    }
    vocabulary = sorted(set().union(*counts.values()))
    right = sum(_guess(bag, own, vocabulary, counts, number) == own for bag, own in bags)
    return right / len(rows)


def _guess(
    bag: set[str],
    own: str,
    vocabulary: list[str],
    counts: dict[str, Counter[str]],
    number: Counter[str],
) -> str:
    score = {}
    for label in LABELS:
        out = label == own
        total = number[label] - out + 2
        shares = (
            (word, (counts[label][word] - (out and word in bag) + 1) / total) for word in vocabulary
        )
        score[label] = sum(math.log(p if word in bag else 1 - p) for word, p in shares)
    return max(score, key=lambda label: score[label])


def best_word(rows: list[Row]) -> tuple[float, str]:
    """Return the accuracy of the best rule "has this word: this label", in hindsight."""
    lead: Counter[str] = Counter()
    for row in rows:
        sign = 1 if row["label"] == LABELS[0] else -1
        lead.update(dict.fromkeys(words(row["text"]), sign))
    word = max(lead, key=lambda word: abs(lead[word]))
    return 0.5 + abs(lead[word]) / len(rows), word


def planted(word: str) -> list[Row]:
    """Put one word at the head of every sentence of one label: a leak the checks must see."""
    return [
        {**row, "text": f"{word} {row['text']}"} if row["label"] == "sports" else row
        for row in ROWS
    ]


def test_every_line_is_one_object_of_the_schema() -> None:
    for row in ROWS:
        assert list(row) == ["text", "label", "domain"]
        assert all(isinstance(value, str) and value for value in row.values())
        assert row["label"] in LABELS


def test_the_labels_are_exactly_balanced() -> None:
    count = Counter(row["label"] for row in ROWS)
    assert count["sports"] == count["science"]
    assert len(ROWS) >= 420


def test_each_label_has_many_subfields_of_its_own() -> None:
    count = Counter((row["label"], row["domain"]) for row in ROWS)
    assert min(count.values()) >= PER_SUBFIELD
    assert all(sum(own == label for own, _ in count) >= SUBFIELDS for label in LABELS)
    assert len({domain for _, domain in count}) == len(count)


def test_the_file_is_sorted() -> None:
    keys = [(row["label"], row["domain"], row["text"]) for row in ROWS]
    assert keys == sorted(keys)


def test_sentences_are_8_to_30_words_of_plain_prose() -> None:
    for text in (row["text"] for row in ROWS):
        assert 8 <= len(text.split()) <= 30, text
        assert re.fullmatch(r"[A-Z][A-Za-z ,:'-]*\.", text), text
        assert "  " not in text, text


def test_nothing_is_named_or_dated() -> None:
    """No digits (see above), and no capital inside a sentence but in a few events and days."""
    inside = {name for row in ROWS for name in re.findall(r"(?<= )[A-Z][A-Za-z]*", row["text"])}
    assert inside <= NAMES


def test_no_sentence_says_its_own_label() -> None:
    said = [row["text"] for row in ROWS if re.search(r"\b(sport|scien)", row["text"].lower())]
    assert said == []


def test_no_sentence_stands_twice_or_nearly_so() -> None:
    texts = [row["text"] for row in ROWS]
    assert len({" ".join(words(text)) for text in texts}) == len(texts)
    assert near_duplicates(texts, 0.4) == []


def test_a_reworded_copy_counts_as_a_near_duplicate() -> None:
    text = ROWS[0]["text"]
    copy = " ".join([*reversed(text.rstrip(".").split()[1:]), "indeed."])
    assert near_duplicates([text, copy, ROWS[-1]["text"]], 0.4) == [(text, copy)]


@pytest.mark.parametrize("word", SHARED)
def test_ambiguous_words_occur_in_both_labels(word: str) -> None:
    count = Counter(row["label"] for row in ROWS if word in words(row["text"]))
    assert all(count[label] >= 5 for label in LABELS), count


@pytest.mark.parametrize(
    "size",
    [
        len,
        lambda text: len(text.split()),
        lambda text: text.count(","),
        lambda text: sum(map(str.isupper, text)),
        lambda text: round(100 * len(text) / len(text.split())),
    ],
    ids=["characters", "words", "commas", "capitals", "word length"],
)
def test_no_measure_of_length_tells_the_label(size: Callable[[str], int]) -> None:
    assert best_threshold(ROWS, size) <= 0.56


def test_the_first_word_does_not_tell_the_label() -> None:
    assert bayes(ROWS, lambda text: set(words(text)[:1])) <= 0.58


def test_function_words_hardly_tell_the_label() -> None:
    assert bayes(ROWS, lambda text: FUNCTION_WORDS.intersection(words(text))) <= 0.64


def test_no_single_word_tells_the_label() -> None:
    accuracy, word = best_word(ROWS)
    assert accuracy <= 0.58, word


def test_the_leak_checks_see_a_planted_leak() -> None:
    rows = planted("Still")
    assert best_threshold(rows, lambda text: text.split()[0] == "Still") == 1
    assert bayes(rows, lambda text: set(words(text)[:1])) > 0.9
    assert bayes(rows, lambda text: FUNCTION_WORDS.intersection(words(text))) > 0.9
    accuracy, word = best_word(rows)
    assert accuracy > 0.9
    assert word == "still"
    assert best_threshold(planted("Long " * 20), len) > 0.9
