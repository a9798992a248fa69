import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest

Claim = dict[str, Any]

PATH = Path(__file__).parents[3] / "scoring" / "suite" / "data" / "claims.jsonl"
LINES = PATH.read_text(encoding="utf-8").split("\n")
CLAIMS: list[Claim] = [json.loads(line) for line in LINES if line]
KINDS = ("surprising", "apparent", "misconception")
LABELS = (True, False)

NEGATION = re.compile(r"\b(?:no|not|never|nor|neither|none|nothing|nobody|without|\w*n't|cannot)\b")
HEDGE = re.compile(
    r"\b(?:perhaps|probably|possibly|maybe|may|might|arguably|allegedly|reportedly|apparently"
    r"|supposedly|typically|generally|often said|believed|tends?)\b"
)
DATED = re.compile(
    r"\b(?:currently|today|nowadays|now|recent|recently|latest|so far|this year|to date)\b"
)
NUMBERS = {"surprising": 320, "apparent": 160, "misconception": 120}
LEAST_TRUE = {"surprising": 150, "apparent": 80, "misconception": 60}


def of(kind: str, label: bool | None = None) -> list[Claim]:
    return [c for c in CLAIMS if c["kind"] == kind and label in (None, c["true"])]


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)


def first_word(text: str) -> set[str]:
    return set(words(text)[:1])


def first_two_words(text: str) -> set[str]:
    return {" ".join(words(text)[:2])}


def last_word(text: str) -> set[str]:
    return set(words(text)[-1:])


def bag_of_words(text: str) -> set[str]:
    return set(words(text))


def word_count(text: str) -> set[str]:
    return {str(len(words(text)))}


def left_out_accuracy(claims: list[Claim], features: Callable[[str], set[str]]) -> float:
    """Balanced accuracy of naive Bayes that learned from all the other claims."""
    seen = [(features(c["claim"]), c["true"]) for c in claims]
    total = Counter(label for _, label in seen)
    count = Counter((feature, label) for found, label in seen for feature in found)
    right = dict.fromkeys(LABELS, 0.0)
    for found, label in seen:
        own, other = (
            sum(math.log((count[f, guess] - left_out + 1) / (total[guess] + 2)) for f in found)
            for guess, left_out in ((label, 1), (not label, 0))
        )
        right[label] += 0.5 if own == other else own > other
    return mean(right[label] / total[label] for label in LABELS)


def best_cut(claims: list[Claim], size: Callable[[str], int]) -> float:
    """Balanced accuracy of the best rule 'true if longer than', or its opposite."""
    sizes = {label: [size(c["claim"]) for c in claims if c["true"] == label] for label in LABELS}
    cuts = sorted({n for both in sizes.values() for n in both})
    gaps = [
        mean(n > cut for n in sizes[True]) - mean(n > cut for n in sizes[False]) for cut in cuts
    ]
    return 0.5 + max(map(abs, gaps)) / 2


def twins(first: int, second: int) -> bool:
    a, b = CLAIMS[first], CLAIMS[second]
    return second - first == 1 and a["kind"] == b["kind"] != "surprising" and a["true"] != b["true"]


def alike(sets: list[set[str]], share: float) -> list[tuple[int, int]]:
    """Pairs that share a word of four letters and at least `share` of the union of their words."""
    places = defaultdict(list)
    for i, found in enumerate(sets):
        for word in found:
            places[word].append(i)
    near = {pair for w, at in places.items() if len(w) > 3 for pair in combinations(at, 2)}
    return sorted(
        (i, j) for i, j in near if len(sets[i] & sets[j]) >= share * len(sets[i] | sets[j])
    )


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_schema() -> None:
    assert LINES[-1] == "" and all(LINES[:-1])
    for line, claim in zip(LINES, CLAIMS, strict=False):
        assert list(claim) == ["kind", "claim", "true", "source"], line
        assert claim["kind"] in KINDS and type(claim["true"]) is bool, line
        assert json.dumps(claim, ensure_ascii=False) == line


def test_kinds_stand_together() -> None:
    kinds = [c["kind"] for c in CLAIMS]
    assert sum(a != b for a, b in pairwise(kinds)) == len(KINDS) - 1


def test_counts(kind: str) -> None:
    assert len(of(kind)) >= NUMBERS[kind]
    assert len(of(kind, True)) >= LEAST_TRUE[kind]
    assert len(of("misconception", False)) >= 120


def test_labels_are_balanced() -> None:
    for kind in ("surprising", "apparent"):
        assert mean(c["true"] for c in of(kind)) == pytest.approx(0.5, abs=0.02)
    assert len(of("misconception", True)) >= len(of("misconception", False)) / 2


def test_a_correction_follows_its_misconception() -> None:
    labels = [c["true"] for c in of("misconception")]
    assert not labels[0]
    assert not any(a and b for a, b in pairwise(labels))


def test_claims_are_single_short_sentences() -> None:
    for claim in (c["claim"] for c in CLAIMS):
        assert 4 <= len(claim.split()) <= 25, claim
        assert claim.endswith(".") and not claim.endswith(".."), claim
        assert claim[0].isupper(), claim
        assert " ".join(claim.split()) == claim, claim
        assert not re.search(r"[.?!;:] [A-Z]", claim), claim
        assert not re.search(r"[\"“”‘’\t|]", claim), claim


def test_claims_are_flat_and_timeless() -> None:
    for claim in (c["claim"] for c in CLAIMS):
        opened = claim[0].lower() + claim[1:]
        assert not HEDGE.search(opened), claim
        assert not DATED.search(opened), claim


def test_sources_are_one_line_and_say_something() -> None:
    for claim in CLAIMS:
        source = claim["source"]
        assert source == source.strip() and "\n" not in source and len(source) <= 120, claim
        assert len(source) >= 10, claim
        vague = source.startswith(("elementary ", "general knowledge"))
        derived = source.startswith("elementary probability: ")
        assert (vague and not derived) == (claim["kind"] == "apparent"), claim


def test_no_claim_comes_twice() -> None:
    texts = Counter(" ".join(words(c["claim"])) for c in CLAIMS)
    assert [text for text, n in texts.items() if n > 1] == []
    unnegated = Counter(
        " ".join(words(NEGATION.sub("", c["claim"].casefold().replace("cannot", "can"))))
        for c in CLAIMS
    )
    assert [text for text, n in unnegated.items() if n > 1] == []


def test_near_duplicates_are_twins_of_opposite_label() -> None:
    sets = [set(words(c["claim"])) for c in CLAIMS]
    close = [pair for pair in alike(sets, 0.75) if not twins(*pair)]
    assert [(CLAIMS[i]["claim"], CLAIMS[j]["claim"]) for i, j in close] == []


def test_kinds_are_disjoint() -> None:
    sets = [{w for w in words(c["claim"]) if len(w) > 3} for c in CLAIMS]
    close = [
        (CLAIMS[i]["claim"], CLAIMS[j]["claim"])
        for i, j in alike(sets, 0.6)
        if CLAIMS[i]["kind"] != CLAIMS[j]["kind"]
    ]
    assert close == []


def test_negation_is_no_giveaway(kind: str) -> None:
    shares = [
        mean(bool(NEGATION.search(c["claim"].casefold())) for c in of(kind, label))
        for label in LABELS
    ]
    assert abs(shares[0] - shares[1]) <= 0.04


@pytest.mark.parametrize("size", [len, lambda text: len(text.split())], ids=["letters", "words"])
def test_length_is_no_giveaway(kind: str, size: Callable[[str], int]) -> None:
    means = [mean(size(c["claim"]) for c in of(kind, label)) for label in LABELS]
    assert means[0] == pytest.approx(means[1], rel=0.1)
    assert best_cut(of(kind), size) <= 0.6


@pytest.mark.parametrize(
    "features", [first_word, first_two_words, last_word, bag_of_words, word_count]
)
def test_words_are_no_giveaway(kind: str, features: Callable[[str], set[str]]) -> None:
    assert left_out_accuracy(of(kind), features) <= 0.6


def test_heuristics_find_a_planted_giveaway() -> None:
    planted = [
        {**c, "claim": ("Truly " if c["true"] else "Really ") + c["claim"]}
        for c in of("surprising")
    ]
    assert left_out_accuracy(planted, first_word) == 1
    assert left_out_accuracy(planted, bag_of_words) > 0.95
    longer = [{**c, "claim": c["claim"] + " more" * 20 * c["true"]} for c in of("surprising")]
    assert best_cut(longer, len) > 0.95
    assert left_out_accuracy(longer, word_count) > 0.95


def test_twins_and_copies_are_told_apart() -> None:
    assert alike([{"rain", "of", "the"}, {"snow"}, {"rain", "of"}], 0.6) == [(0, 2)]
    assert alike([{"rain", "of", "the"}, {"snow"}, {"rain", "of"}], 0.7) == []
    labels = [c["true"] for c in CLAIMS]
    apparent = next(i for i, c in enumerate(CLAIMS) if c["kind"] == "apparent")
    assert labels[apparent] != labels[apparent + 1] and twins(apparent, apparent + 1)
    assert not twins(0, 1) and not twins(apparent, apparent + 2)
