"""Answers are found again from the prompts' text alone, by another way than the generators'."""

import re
import string
from collections import defaultdict
from functools import cache
from itertools import pairwise

import pytest

from scoring.suite import successive
from scoring.suite.rows import Demo, Rows
from scoring.suite.schema import SPLITS
from scoring.suite.successive import SERIES, SHOWN, TASKS, Series, spelled
from scoring.suite.words import PLURALS, WORDS

SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
    " sixteen seventeen eighteen nineteen twenty"
)
VALUES = {word: value for value, word in enumerate(SMALL.split())} | {
    "thirty": 30,
    "forty": 40,
    "fifty": 50,
    "sixty": 60,
    "seventy": 70,
    "eighty": 80,
    "ninety": 90,
}
Solved = tuple[tuple[str, ...], str]
"""What is asked, in any wording, and its answer."""


def spelled_numbers(prompt: str) -> list[tuple[int, str]]:
    """Return every number in words, and the word behind it."""
    words = [*re.findall(r"[a-z]+(?:-[a-z]+)?", prompt), ""]
    return [
        (sum(VALUES[part] for part in word.split("-")), after)
        for word, after in pairwise(words)
        if all(part in VALUES for part in word.split("-"))
    ]


def number_words(prompt: str) -> Solved:
    ((number, things),) = spelled_numbers(prompt)
    return (str(number), things), str(number)


def letters(prompt: str) -> Solved:
    (word,) = re.findall(r"(?:of|word|Word:) (\w+)", prompt)
    return (word,), next(c for c in string.ascii_lowercase if word.startswith(c))


def arithmetic(prompt: str) -> Solved:
    ((first, sign, second),) = re.findall(r"(\d+) ([+-]) (\d+)", prompt)
    a, b = range(int(first)), range(int(second))
    answer = len(a) + len(b) if sign == "+" else len(range(len(b), len(a)))
    return (sign, *sorted((first, second))), str(answer)


def even(prompt: str) -> Solved:
    numbers = {str(number) for number, _ in spelled_numbers(re.sub("even one|by two", "", prompt))}
    assert len(numbers) == 3
    (answer,) = [number for number in numbers if number[-1] in "02468"]
    return tuple(sorted(numbers)), answer


SOLVERS = {"number_words": number_words, "letters": letters, "arithmetic": arithmetic, "even": even}
rows = cache(successive.rows)
EACH = pytest.mark.parametrize("series", SERIES, ids=lambda series: series.name)


def following(series: Series, answer: str) -> str:
    if answer.isalpha():
        return string.ascii_lowercase[string.ascii_lowercase.index(answer) + 1]
    return str(int(answer) + (2 if series.name == "even" else 1))


def by_set(made: Rows) -> dict[str, list[Demo]]:
    sets = defaultdict(list)
    for demo in made.demos:
        sets[demo.demo_set].append(demo)
    return sets


@EACH
def test_every_answer_is_true_and_the_splits_share_nothing(series: Series) -> None:
    solve = SOLVERS[series.name]
    contents = {}
    for split in SPLITS:
        contents[split] = []
        for wording in series.templates[split]:
            made = rows(series, split, wording)
            said = {(d.prompt, d.answer) for d in made.demos}
            said |= {(q.prompt, q.right) for q in made.questions}
            solved = {prompt: solve(prompt) for prompt, _ in said}
            assert all(solved[prompt][1] == answer for prompt, answer in said)
            contents[split].append({content for content, _ in solved.values()})
    label, verify = (set.union(*contents[split]) for split in SPLITS)
    assert len(label) > 150 and not label & verify
    # Wordings of a split say the same things.
    assert contents["label"][0] == contents["label"][1]


@EACH
def test_answers_count_up_and_the_parrot_counts_on(series: Series) -> None:
    for split in SPLITS:
        wording = next(iter(series.templates[split]))
        made = rows(series, split, wording)
        sets = by_set(made)
        follows = {}
        for name, shown in sets.items():
            answers = [demo.answer for demo in shown]
            assert len(answers) == SHOWN
            assert all(after == following(series, before) for before, after in pairwise(answers))
            assert name.startswith(f"{answers[0]}.")
            follows[name] = following(series, answers[-1])
        assert all(q.wrong == follows[q.demo_set] != q.right for q in made.questions)
        assert len({tuple(d.prompt for d in shown) for shown in sets.values()}) == len(sets) == 32


@EACH
def test_every_set_leaves_enough_questions(series: Series) -> None:
    for split in SPLITS:
        made = rows(series, split, next(iter(series.templates[split])))
        asked = defaultdict(set)
        for question in made.questions:
            asked[question.demo_set].add(question.prompt)
        for name, shown in by_set(made).items():
            assert len(asked[name] - {demo.prompt for demo in shown}) >= 150


@EACH
def test_the_control_shows_the_same_out_of_order(series: Series) -> None:
    for split in SPLITS:
        for wording in list(series.templates[split])[:1]:
            made, control = (rows(series, split, wording, shuffled=s) for s in (False, True))
            assert control.questions == made.questions
            ordered, scattered = by_set(made), by_set(control)
            assert list(ordered) == list(scattered)
            for name, shown in scattered.items():
                assert sorted(shown, key=ordered[name].index) == ordered[name]
                places = [ordered[name].index(demo) for demo in shown]
                assert all(abs(after - before) > 1 for before, after in pairwise(places))
                assert places[-1] != SHOWN - 1


def test_a_block_reads_as_it_is_meant() -> None:
    tasks = {task.key: task for task in TASKS}
    made = tasks["successive_answer/letters"].build("label", "qa", 0)
    assert made.prefix.splitlines()[:2] == [
        "Q: First letter of flower? A: f",
        "Q: First letter of gadget? A: g",
    ]
    control = tasks["successive_control/letters"].build("label", "qa", 0)
    assert control.items == made.items and control.prefix != made.prefix
    assert sorted(control.prefix.splitlines()) == sorted(made.prefix.splitlines())
    assert {item.rivals for item in made.items} == {(" p\n",)}
    assert all(re.fullmatch(r" [a-w]\n", item.right) for item in made.items)


def test_tasks_have_three_wordings_none_in_both_splits() -> None:
    assert [task.family for task in TASKS] == 4 * ["successive_answer"] + 4 * ["successive_control"]
    for task in TASKS:
        assert len(task.wordings["label"]) == 2 and len(task.wordings["verify"]) == 1
        assert not set(task.wordings["label"]) & set(task.wordings["verify"])


def test_numbers_are_spelled_apart() -> None:
    assert [spelled(n) for n in (1, 10, 19, 20, 21, 99)] == [
        *("one", "ten", "nineteen", "twenty", "twenty-one", "ninety-nine")
    ]
    assert len({spelled(number) for number in range(1, 100)}) == 99


def test_words_are_plain_and_distinct() -> None:
    for words in (WORDS, PLURALS):
        assert len(set(words)) == len(words)
        assert all(word.isascii() and word.islower() and word.isalpha() for word in words)
    assert {word[0] for word in WORDS} == set(string.ascii_lowercase[:23])
