import re
from collections.abc import Callable
from fractions import Fraction
from functools import cache

import pytest

from scoring.suite.intuitive import PROBLEMS, TASKS
from scoring.suite.schema import SPLITS, Block, Item
from scoring.suite.task import Task
from windows.errors import ConfigError

SEEDS = range(25)
SCALES = {Fraction(10) ** power for power in range(-3, 4)}
SCALES |= {Fraction(60), Fraction(1, 60), Fraction(24), Fraction(1, 24)}
BY_NAME = {task.name: task for task in TASKS}

Solved = tuple[Fraction, Fraction]


def number(text: str) -> Fraction:
    return Fraction(re.sub(r"[$,]", "", text.strip()))


def numbers(text: str) -> list[Fraction]:
    return [number(found) for found in re.findall(r"\d[\d,]*(?:\.\d\d)?", text)]


# The second solver reads the question and works the answer out from what happens.
def price(text: str) -> Solved:
    total, difference = numbers(text)
    parts = 100 if "." in text else 1
    paid, more = int(total * parts), int(difference * parts)
    cheaper = next(c for c in range(paid) if c + (c + more) >= paid)
    assert cheaper + (cheaper + more) == paid
    return Fraction(cheaper, parts), total - difference


def machines(text: str) -> Solved:
    found = numbers(text)
    (asked,) = {n for n in found if found.count(n) == 2}
    (told,) = {n for n in found if found.count(n) == 3}
    made_by_one_in_one_unit = told / told / told
    needed = asked
    return needed / (asked * made_by_one_in_one_unit), asked


def growth(text: str) -> Solved:
    (times,) = numbers(text)
    factor = {"doubles": 2, "triples": 3, "quadruples": 4}
    (by,) = [value for word, value in factor.items() if word in text]
    (share,) = [
        value
        for words, value in (("half of", 2), ("a third of", 3), ("a quarter of", 4))
        if words in text
    ]
    # Back from the day when all is covered.
    covered, day = Fraction(1), times
    while covered > Fraction(1, share):
        covered, day = covered / by, day - 1
    assert covered == Fraction(1, share)
    return day, times / share


SOLVERS: dict[str, Callable[[str], Solved]] = {
    "crt_price": price,
    "crt_machines": machines,
    "crt_growth": growth,
}


def blocks(task: Task, split: str, wording: str) -> list[Block]:
    return _blocks(task.name, split, wording)


@cache
def _blocks(name: str, split: str, wording: str) -> list[Block]:
    return [BY_NAME[name].build(split, wording, seed) for seed in SEEDS]


def answers(item: Item) -> tuple[str, str]:
    (wrong,) = item.rivals
    assert item.right.startswith(" ") and wrong.startswith(" ")
    assert item.right.endswith("\n") and wrong.endswith("\n")
    return item.right[1:-1], wrong[1:-1]


@pytest.fixture(params=TASKS, ids=lambda task: task.name)
def task(request: pytest.FixtureRequest) -> Task:
    return request.param


def test_the_second_solver_knows_the_original_problems() -> None:
    assert price("A bat and a ball cost $1.10. The bat costs $1.00 more.") == (
        Fraction(1, 20),
        Fraction(1, 10),
    )
    told = "If it takes 5 machines 5 minutes to make 5 widgets, 100 machines and 100 widgets?"
    assert machines(told) == (5, 100)
    assert growth("It doubles. It takes 48 days. How long for half of the lake?") == (47, 24)


def test_names() -> None:
    assert [task.key for task in TASKS] == [f"intuitive_answer/{name}" for name in SOLVERS]


def test_a_problem_has_a_thousand_variants(task: Task) -> None:
    for number_of_label_wording in range(2):
        label = blocks(task, "label", task.wordings["label"][number_of_label_wording])
        verify = blocks(task, "verify", task.wordings["verify"][0])
        ids = [item.item_id for block in [*label, *verify] for item in block.items]
        assert len(set(ids)) == len(ids) == 1000


@pytest.mark.parametrize("split", SPLITS)
def test_right_and_intuitive_answers_are_those_of_another_solver(task: Task, split: str) -> None:
    for wording in task.wordings[split]:
        for block in blocks(task, split, wording):
            assert block.prefix == ""
            for item in block.items:
                right, wrong = map(number, answers(item))
                assert (right, wrong) == SOLVERS[task.name](item.prompt), item.prompt
                assert item.prompt.endswith(":") and "{" not in item.prompt


def test_the_intuitive_answer_is_wrong_in_any_unit(task: Task) -> None:
    """Not even a slip of the decimal point, or minutes for hours, makes it right."""
    for split in SPLITS:
        for block in blocks(task, split, task.wordings[split][0]):
            for item in block.items:
                right, wrong = answers(item)
                assert len(right) == len(wrong)
                assert number(wrong) / number(right) not in SCALES


def test_prices_are_in_cents_and_in_dollars() -> None:
    for split in SPLITS:
        task = BY_NAME["crt_price"]
        prices = [
            [answers(item)[0] for item in block.items]
            for block in blocks(task, split, task.wordings[split][0])
        ]
        cents = [all(re.fullmatch(r"\$0\.\d\d", price) for price in some) for some in prices]
        dollars = [all(re.fullmatch(r"\$\d\d+", price) for price in some) for some in prices]
        assert cents.count(True) + dollars.count(True) == len(prices)
        assert min(cents.count(True), dollars.count(True)) >= 10


def test_a_demo_seed_takes_a_scene_of_its_own(task: Task) -> None:
    (problem,) = [problem for problem in PROBLEMS if problem.name == task.name]
    assert len(set(problem.scenes)) == len(problem.scenes) == 50
    for split in SPLITS:
        texts = []
        for block in blocks(task, split, task.wordings[split][0]):
            bare = {re.sub(r"\d[\d,.]*\d|\d", "#", item.prompt) for item in block.items}
            varied = re.compile("doubles|triples|quadruples|half|a third|a quarter")
            (text,) = {varied.sub("#", text) for text in bare}
            texts.append(text)
        assert len(set(texts)) == len(SEEDS)
    assert not set(task.wordings["label"]) & set(task.wordings["verify"])


def test_splits_share_no_scene(task: Task) -> None:
    (problem,) = [problem for problem in PROBLEMS if problem.name == task.name]
    prompts = {
        split: [
            block.items[0].prompt.casefold()
            for block in blocks(task, split, task.wordings[split][0])
        ]
        for split in SPLITS
    }
    for scene in problem.scenes:
        found = [
            split
            for split in SPLITS
            for prompt in prompts[split]
            if all(re.search(rf"\b{word}", prompt) for word in scene)
        ]
        assert len(found) == 1, scene


def test_questions_do_not_depend_on_the_wording(task: Task) -> None:
    first, second = task.wordings["label"]
    for seed in SEEDS:
        one, two = (task.build("label", wording, seed) for wording in (first, second))
        assert [(i.right, i.rivals) for i in one.items] == [(i.right, i.rivals) for i in two.items]
        assert not {i.item_id for i in one.items} & {i.item_id for i in two.items}


def test_more_demo_seeds_than_scenes_are_refused(task: Task) -> None:
    with pytest.raises(ConfigError, match="ask for at most 25 demo seeds"):
        task.build("label", task.wordings["label"][0], 25)
