"""The built-in knowledge questions: complete, clean, and not answered by surface features."""

import json
import operator
import re
from collections import Counter
from collections.abc import Callable
from importlib.resources import files
from itertools import combinations

import pytest

SMALL = re.findall(
    r"\w+",
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen",
)
PUBLISHERS = (
    "Arithmetic",
    "BIPM",
    "Collins French Dictionary",
    "Collins Spanish Dictionary",
    "Encyclopaedia Britannica",
    "Euclid",
    "Gray, Anatomy of the Human Body",
    "IUPAC Periodic Table of the Elements",
    "Merriam-Webster",
    "Oxford Dictionary of Nursery Rhymes",
)
SUMS: dict[str, Callable[[float, float], float]] = {"x": operator.mul, "/": operator.truediv}

Row = dict[str, str]


def load() -> list[Row]:
    text = (files("scoring.suite") / "data" / "knowledge.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


ROWS = load()


def normal(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def near_duplicates(rows: list[Row], limit: float) -> list[tuple[str, str]]:
    """Return questions in nearly the same words that have the same right answer."""
    bags = [(row, set(normal(row["question"]).split())) for row in rows]
    return [
        (one["question"], other["question"])
        for (one, a), (other, b) in combinations(bags, 2)
        if normal(one["right"]) == normal(other["right"]) and len(a & b) / len(a | b) >= limit
    ]


def chosen(rows: list[Row], key: Callable[[str], float | str]) -> float:
    """Return how often the right answer has the greater key; a tie counts half."""
    pairs = [(key(row["right"]), key(row["wrong"])) for row in rows]
    return sum((right > wrong) + (right == wrong) / 2 for right, wrong in pairs) / len(rows)


def small_number(answer: str) -> bool:
    return answer in SMALL or (answer.isdigit() and int(answer) < 20)


def test_every_line_is_one_object_of_the_schema() -> None:
    for row in ROWS:
        assert list(row) == ["question", "right", "wrong", "source"]
        assert all(isinstance(value, str) and value == value.strip() for value in row.values())
        assert all(row.values())


def test_there_are_enough_questions() -> None:
    assert len(ROWS) >= 240


def test_the_file_is_sorted() -> None:
    questions = [row["question"] for row in ROWS]
    assert questions == sorted(questions)


def test_questions_are_short_and_well_formed() -> None:
    for question in (row["question"] for row in ROWS):
        assert re.fullmatch(r"[A-Z][^?!\n]+\?", question), question
        assert 3 <= len(question.split()) <= 16, question
        assert "  " not in question, question


def test_nothing_asked_depends_on_the_day() -> None:
    hurried = r"\b(today|now|nowadays|currently|latest|recent|recently|so far|present)\b"
    assert [q for q in (row["question"] for row in ROWS) if re.search(hurried, q.lower())] == []


def test_no_question_stands_twice_or_nearly_so() -> None:
    assert len({normal(row["question"]) for row in ROWS}) == len(ROWS)
    assert near_duplicates(ROWS, 0.5) == []


def test_a_reworded_copy_counts_as_a_near_duplicate() -> None:
    copy = {**ROWS[0], "question": "Tell me: " + ROWS[0]["question"]}
    assert len(near_duplicates([ROWS[0], copy, ROWS[-1]], 0.5)) == 1


def test_the_two_answers_are_of_one_kind_and_length() -> None:
    for row in ROWS:
        right, wrong = row["right"], row["wrong"]
        assert 1 <= len(right.split()) <= 3, row
        assert 1 <= len(wrong.split()) <= 3, row
        assert abs(len(right.split()) - len(wrong.split())) <= 1, row
        assert abs(len(right) - len(wrong)) <= 6, row
        assert right[0].isupper() == wrong[0].isupper(), row
        assert right[0].isdigit() == wrong[0].isdigit(), row
        assert (right in SMALL) == (wrong in SMALL), row


def test_the_two_answers_differ_and_neither_begins_the_other() -> None:
    for row in ROWS:
        right, wrong = normal(row["right"]), normal(row["wrong"])
        assert not right.startswith(wrong), row
        assert not wrong.startswith(right), row


def test_no_question_holds_either_answer() -> None:
    for row in ROWS:
        asked = f" {normal(row['question'])} "
        assert f" {normal(row['right'])} " not in asked, row
        assert f" {normal(row['wrong'])} " not in asked, row


def test_few_answers_are_small_numbers() -> None:
    assert sum(small_number(row["right"]) for row in ROWS) <= 20
    assert sum(row["right"].replace(",", "").isdigit() for row in ROWS) <= 30


def test_no_answer_is_right_often() -> None:
    answer, times = Counter(normal(row["right"]) for row in ROWS).most_common(1)[0]
    assert times <= 3, answer


def test_many_wrong_answers_are_right_elsewhere() -> None:
    """So that knowing which answers are ever right is little help."""
    right = {normal(row["right"]) for row in ROWS}
    assert sum(normal(row["wrong"]) in right for row in ROWS) >= 0.4 * len(ROWS)


@pytest.mark.parametrize(
    "key",
    [
        len,
        lambda answer: len(answer.split()),
        str.lower,
        lambda answer: sum(map(str.isupper, answer)),
        lambda answer: sum(letter in "aeiou" for letter in answer.lower()) / len(answer),
    ],
    ids=["characters", "words", "alphabet", "capitals", "vowels"],
)
def test_no_surface_feature_picks_the_right_answer(key: Callable[[str], float | str]) -> None:
    assert abs(chosen(ROWS, key) - 0.5) <= 0.05


def test_the_leak_check_sees_a_planted_leak() -> None:
    rows = [{**row, "right": row["right"] + " indeed"} for row in ROWS]
    assert chosen(rows, len) > 0.9


def test_questions_open_in_many_ways() -> None:
    openings = Counter(" ".join(row["question"].split()[:2]) for row in ROWS)
    assert len(openings) >= 30
    assert openings.most_common(1)[0][1] <= 0.3 * len(ROWS)


def test_every_source_is_short_and_a_known_work() -> None:
    for source in (row["source"] for row in ROWS):
        assert source.startswith(PUBLISHERS), source
        assert len(source) <= 80, source
        assert not source.endswith(":"), source


def test_the_sources_cover_many_subjects() -> None:
    assert len({row["source"] for row in ROWS}) >= 0.8 * len(ROWS)


def test_sums_come_out_as_their_source_says() -> None:
    sums = [row for row in ROWS if row["source"].startswith("Arithmetic")]
    assert sums
    for row in sums:
        found = re.fullmatch(r"Arithmetic: ([\d.]+) ([x/]) ([\d.]+) = (\d+)", row["source"])
        assert found, row
        a, sign, b, stated = found.groups()
        value = SUMS[sign](float(a), float(b))
        assert value == float(stated) == float(row["right"]) != float(row["wrong"])
