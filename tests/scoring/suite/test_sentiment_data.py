"""The sentiment sentences: form, balance, no duplicates, no label to be had from the surface."""

import json
import re
from collections import Counter
from collections.abc import Callable
from importlib.resources import files
from itertools import combinations
from statistics import mean

import pytest

PATH = files("scoring.suite").joinpath("data", "sentiment.jsonl")
LABELS = ("positive", "negative")
TYPOGRAPHY = re.compile(r"[A-Z][A-Za-zé0-9 ,;:'-]*\.")
NEGATION = """no not never nobody nothing none nor neither nowhere cannot without hardly seldom
    rarely isn't don't doesn't won't"""
CONTRAST = "but yet though although instead still except however once"
FIRST_PERSON = "i me my"
PRAISE = """beautiful best brave brilliant charming cheerful clear clever decent delicious delight
    delightful elegant enjoyed excellent exciting fantastic friendly fun funny generous glorious
    good gorgeous great handsome happy honest inspiring joy kind kindness love loved lovely
    magnificent marvellous neat perfect pleasant pleasure polite prettier pretty priceless quick
    smiled splendid superb warm warmly wise witty wonderful"""
BLAME = """afraid annoyed awful bad badly bleak bored boring broken cheap clumsy cold cowardly cruel
    damp dirty disappointment disgusting doubted dreaded dreadful dreary dull faulty feared forgot
    freezing frustrating grim hard hate heavy hopeless horrible loud merciless miserable mistake
    mistakes noisy painful painfully poor regret ridiculous ruined sad silly slow steep stupid
    terrible ugly useless vain weak worse worst wrong"""


def read() -> list[dict[str, str]]:
    return [json.loads(line) for line in PATH.read_text(encoding="utf-8").splitlines()]


ROWS = read()
TEXTS = [row["text"] for row in ROWS]
ANSWERS = [row["label"] for row in ROWS]
DOMAINS = sorted({row["domain"] for row in ROWS})


def words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:'[a-z]+)?", text.lower())


def has(lexicon: str, text: str) -> bool:
    return not set(words(lexicon)).isdisjoint(words(text))


def jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    return len(left & right) / len(left | right)


def near_duplicates(texts: list[str], limit: float) -> list[tuple[str, str]]:
    bags = [(text, frozenset(words(text))) for text in texts]
    return [
        (left, right)
        for (left, a), (right, b) in combinations(bags, 2)
        if min(len(a), len(b)) > limit * max(len(a), len(b)) and jaccard(a, b) > limit
    ]


def runs(text: str, length: int) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[i : i + length]) for i in range(len(found) - length + 1)}


def guess_from(feature: Callable[[str], object], texts: list[str], labels: list[str]) -> float:
    """Accuracy of a majority vote among the texts of equal feature in the other half; ties half."""
    halves = [Counter[tuple[object, str]]() for _ in range(2)]
    for index, (text, label) in enumerate(zip(texts, labels, strict=True)):
        halves[index // 2 % 2][feature(text), label] += 1
    score = 0.0
    for index, (text, label) in enumerate(zip(texts, labels, strict=True)):
        votes = halves[1 - index // 2 % 2]
        right, wrong = (votes[feature(text), name] for name in (label, other(label)))
        score += 0.5 if right == wrong else float(right > wrong)
    return score / len(texts)


def other(label: str) -> str:
    return LABELS[label == LABELS[0]]


def best_threshold(texts: list[str], labels: list[str]) -> float:
    """Accuracy of the best rule "longer than n characters (or words), so this label", in sample."""
    best = 0.0
    for size in (len, lambda text: len(words(text))):
        sizes = [size(text) for text in texts]
        for limit in set(sizes):
            hits = sum(
                (n > limit) == (label == LABELS[0]) for n, label in zip(sizes, labels, strict=True)
            )
            best = max(best, hits / len(texts), 1 - hits / len(texts))
    return best


def best_word(texts: list[str], labels: list[str]) -> tuple[float, str]:
    """Accuracy and name of the best one-word rule "has this word, so this label", in sample."""
    gaps: Counter[str] = Counter()
    for text, label in zip(texts, labels, strict=True):
        for word in set(words(text)):
            gaps[word] += 1 if label == LABELS[0] else -1
    word = max(gaps, key=lambda name: abs(gaps[name]))
    return 0.5 + abs(gaps[word]) / len(texts), word


def bag_of_words(texts: list[str], labels: list[str]) -> float:
    """Cross-validated accuracy of a logistic regression on word counts."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(CountVectorizer(), LogisticRegression(solver="liblinear"))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return float(cross_val_score(model, texts, labels, cv=folds).mean())


def labels_of_texts_with(lexicon: str) -> Counter[str]:
    return Counter(row["label"] for row in ROWS if has(lexicon, row["text"]))


def leaky(texts: list[str], labels: list[str]) -> list[str]:
    return [
        f"Lovely {text}" if label == "positive" else text
        for text, label in zip(texts, labels, strict=True)
    ]


def test_every_line_is_one_object_in_the_stated_form() -> None:
    raw = PATH.read_text(encoding="utf-8")
    assert raw.endswith("}\n") and "\r" not in raw
    for line, row in zip(raw.splitlines(), ROWS, strict=True):
        assert list(row) == ["text", "label", "domain"]
        assert row["label"] in LABELS
        assert line == json.dumps(row, ensure_ascii=False)


def test_enough_sentences_and_domains_all_of_one_size() -> None:
    sizes = Counter(row["domain"] for row in ROWS)
    assert len(ROWS) >= 600
    assert len(sizes) >= 12
    assert len(set(sizes.values())) == 1


def test_sorted_by_domain_and_labels_alternate() -> None:
    assert [row["domain"] for row in ROWS] == sorted(row["domain"] for row in ROWS)
    assert list(LABELS) * (len(ROWS) // 2) == ANSWERS


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_domain_is_balanced_and_so_are_its_two_halves(domain: str) -> None:
    labels = [row["label"] for row in ROWS if row["domain"] == domain]
    assert labels.count("positive") == labels.count("negative")
    first, second = ([labels[i] for i in range(len(labels)) if i // 2 % 2 == k] for k in (0, 1))
    assert Counter(first) == Counter(second)


def test_one_clean_sentence_of_8_to_30_words() -> None:
    for text in TEXTS:
        assert TYPOGRAPHY.fullmatch(text), text
        assert "  " not in text and " ." not in text and " ," not in text, text
        assert 8 <= len(text.split()) <= 30, text


def test_no_sentence_names_a_label() -> None:
    assert [text for text in TEXTS if has("positive negative review", text)] == []


def test_no_sentence_twice_nor_nearly() -> None:
    assert len({" ".join(words(text)) for text in TEXTS}) == len(TEXTS)
    assert near_duplicates(TEXTS, 0.4) == []


def test_no_run_of_six_words_occurs_twice() -> None:
    counts = Counter(run for text in TEXTS for run in runs(text, 6))
    assert [run for run, count in counts.items() if count > 1] == []


def test_the_sentences_are_no_templates() -> None:
    openings = Counter(tuple(words(text)[:3]) for text in TEXTS)
    assert max(openings.values()) <= 4
    assert len({word for text in TEXTS for word in words(text)}) > 2400


def test_near_duplicates_are_found() -> None:
    text = TEXTS[0].replace("waiting", "looking").upper()
    assert near_duplicates([TEXTS[0], TEXTS[1], text], 0.4) == [(TEXTS[0], text)]


def test_lengths_do_not_differ_between_labels() -> None:
    means = [mean(len(r["text"].split()) for r in ROWS if r["label"] == name) for name in LABELS]
    assert abs(means[0] - means[1]) < 0.3
    assert best_threshold(TEXTS, ANSWERS) < 0.55


@pytest.mark.parametrize(
    ("name", "feature"),
    [
        ("first word", lambda text: words(text)[0]),
        ("last word", lambda text: words(text)[-1]),
        ("first two words", lambda text: tuple(words(text)[:2])),
        ("number of words", lambda text: len(words(text))),
        ("punctuation", lambda text: re.sub(r"[^,;:'-]", "", text)),
        ("negated", lambda text: has(NEGATION, text)),
        ("contrast", lambda text: has(CONTRAST, text)),
        ("first person", lambda text: has(FIRST_PERSON, text)),
    ],
)
def test_no_surface_feature_tells_the_label(name: str, feature: Callable[[str], object]) -> None:
    assert guess_from(feature, TEXTS, ANSWERS) < 0.58, name


def test_no_single_word_tells_the_label() -> None:
    accuracy, word = best_word(TEXTS, ANSWERS)
    assert accuracy < 0.57, word


def test_praise_and_blame_stand_in_sentences_of_both_labels() -> None:
    praised, blamed = labels_of_texts_with(PRAISE), labels_of_texts_with(BLAME)
    assert min(praised.total(), blamed.total()) >= 120
    assert 0.25 < praised["negative"] / praised.total() < 0.5
    assert 0.25 < blamed["positive"] / blamed.total() < 0.5


@pytest.mark.parametrize(("lexicon", "enough"), [(NEGATION, 80), (CONTRAST, 45)])
def test_negation_and_contrast_are_as_frequent_in_both_labels(lexicon: str, enough: int) -> None:
    counts = labels_of_texts_with(lexicon)
    assert min(counts[label] for label in LABELS) >= enough
    assert abs(counts["positive"] - counts["negative"]) <= 12


def test_a_bag_of_words_stays_far_from_perfect() -> None:
    assert bag_of_words(TEXTS, ANSWERS) < 0.75


def test_the_probes_find_a_planted_leak() -> None:
    texts = leaky(TEXTS, ANSWERS)
    assert guess_from(lambda text: words(text)[0], texts, ANSWERS) > 0.75
    assert best_word(texts, ANSWERS)[1] == "lovely"
    assert bag_of_words(texts, ANSWERS) > 0.95
    longer = [
        t + " Quite" * 9 if a == "negative" else t for t, a in zip(TEXTS, ANSWERS, strict=True)
    ]
    assert best_threshold(longer, ANSWERS) > 0.95
