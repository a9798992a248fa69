import math
import re
from collections import defaultdict
from fractions import Fraction

import numpy as np
import pytest

from scoring.suite import cities, out_of_context
from scoring.suite.schema import SPLITS, Block
from scoring.suite.task import Task

KEYS = [task.key for task in out_of_context.TASKS]
PHRASES = {
    r"adds (\d+)": lambda x, n: x + n,
    r"subtracts (\d+)": lambda x, n: x - n,
    r"multiplies by (\d+)": lambda x, n: sum([x] * int(n)),
    r"divides by (\d+)": lambda x, n: Fraction(x) / n,
    r"doubles and adds 1": lambda x: x + x + 1,
    r"subtracts 1 and halves": lambda x: Fraction(x - 1, 2),
    r"subtracts it from (\d+)": lambda x, n: n - x,
    r"changes its sign": lambda x: 0 - x,
    r"leaves it as it is": lambda x: x,
    r"squares it": lambda x: math.prod([x, x]),
    r"takes its absolute value": lambda x: x if x >= 0 else 0 - x,
    r"takes the remainder by (\d+)": lambda x, n: next(
        r for r in range(int(n)) if (x - r) % n == 0
    ),
    r"divides by (\d+) and rounds down": lambda x, n: math.floor(Fraction(x) / n),
    r"raises it to at least 0": lambda x: (x + abs(x)) // 2,
    r"lowers it to at most (\d+)": lambda x, n: sorted([x, n])[0],
    r"returns 1 if positive, else 0": lambda x: 1 if x in range(1, 1000) else 0,
}


def apply(words: str, x: int | Fraction) -> int | Fraction:
    """The second solver: it reads the phrase."""
    for pattern, call in PHRASES.items():
        if found := re.fullmatch(pattern, words):
            return call(x, *map(Fraction, found.groups()))
    raise AssertionError(words)


def built(task: Task, seeds: int = 3) -> list[Block]:
    return [
        task.build(split, wording, seed)
        for split in SPLITS
        for wording in task.wordings[split]
        for seed in range(seeds)
    ]


def called(text: str) -> tuple[str, int, int]:
    """Name, input and output that a text states."""
    name = re.search(r"import (\w{6})", text)[1]
    forms = (
        rf">>> {name}\((?P<x>-?\d+)\)\n(?P<y>-?\d+)\n",
        rf"x = (?P<x>-?\d+)\nprint\((?:(?P<a>\d+) \+ )?{name}\(x\)\)\n# prints (?P<y>-?\d+)\n",
        rf"assert {name}\((?P<x>-?\d+)\) == (?P<y>-?\d+)\n",
    )
    (found,) = filter(None, (re.search(form, text) for form in forms))
    return name, int(found["x"]), int(found["y"]) - int(found.groupdict().get("a") or 0)


def test_words_code_and_values_of_a_function_agree() -> None:
    for function in out_of_context.FUNCTIONS:
        for x in out_of_context.INPUTS:
            value = function.call(x)
            assert type(value) is int
            assert value == eval(function.code, {"x": x}) == apply(function.words, x), (function, x)
    values = {tuple(map(f.call, out_of_context.INPUTS)) for f in out_of_context.FUNCTIONS}
    assert len(values) == len(out_of_context.FUNCTIONS)


def test_an_inverse_undoes_and_no_other_does() -> None:
    inverses = {f.inverse for f in out_of_context.FUNCTIONS} - {""}
    for function in out_of_context.FUNCTIONS:
        undoing = {
            words
            for words in inverses
            if all(apply(words, function.call(x)) == x for x in out_of_context.INPUTS)
        }
        assert undoing == ({function.inverse} - {""})


def test_every_text_on_functions_is_true_and_shows_training_inputs_only() -> None:
    shown = defaultdict(set)
    for text in out_of_context.functions().train:
        name, x, y = called(text)
        assert apply(out_of_context.function_names()[name].words, x) == y
        shown[name].add(x)
    assert {len(inputs) for inputs in shown.values()} == {out_of_context.TEXTS}
    for name, inputs in shown.items():
        assert all(out_of_context.is_training_input(name, x) for x in inputs)


def test_questions_on_functions_have_one_right_answer() -> None:
    named = out_of_context.function_names()
    for task in out_of_context.FUNCTION_TASKS:
        for block in built(task):
            for item in block.items:
                (name,) = (n for n in named if n in item.prompt)
                right, *wrong = (answer.strip() for answer in (item.right, *item.rivals))
                assert len({right, *wrong}) == 1 + out_of_context.RIVALS
                function = named[name]
                if task.name == "function_application":
                    x = int(re.search(r"-?\d+", item.prompt)[0])
                    assert not out_of_context.is_training_input(name, x)
                    assert int(right) == apply(function.words, x)
                    assert str(x) in (right, wrong[0])
                elif task.name == "function_inverse":
                    assert all(apply(right, apply(function.words, x)) == x for x in range(-9, 9))
                    assert function.words in (right, wrong[0])
                else:
                    assert right in (function.words, function.code)


def unit(city: cities.City) -> np.ndarray:
    lat, lon = np.radians([city.latitude, city.longitude])
    return np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


def vector_km(a: cities.City, b: cities.City) -> float:
    """The second solver: the angle between two vectors."""
    u, v = unit(a), unit(b)
    return 6371.0088 * float(np.arctan2(np.linalg.norm(np.cross(u, v)), u @ v))


def vector_bearing(a: cities.City, b: cities.City) -> float:
    """The second solver: the tangent at `a` towards `b`, on the axes east and north there."""
    u, v = unit(a), unit(b)
    tangent = v - (u @ v) * u
    east = np.cross([0, 0, 1], u)
    east /= np.linalg.norm(east)
    return float(np.degrees(np.arctan2(tangent @ east, tangent @ np.cross(u, east)))) % 360


def told(text: str) -> tuple[str, cities.City, str]:
    """Code name, city named and what a text says of them."""
    (city,) = (c for c in cities.LANDMARKS if c.name in text)
    code = re.search(r"City \d{5}", text)[0]
    return code, city, re.search(r"([\d,]+) km|((?:north|south|east|west)[-a-z]*)\.", text)[0]


def test_every_text_on_locations_is_true() -> None:
    seen = defaultdict(int)
    for text in out_of_context.locations().train:
        code, city, said = told(text)
        target = out_of_context.city_names()[code]
        if said.endswith("km"):
            km = int(said.removesuffix(" km").replace(",", ""))
            assert abs(km - vector_km(city, target)) <= 5 + 1e-6
            assert km >= 800
        else:
            points = ["north", "east", "south", "west"]
            bearing = vector_bearing(city, target)
            first, _, second = said.removesuffix(".").partition("-")
            middle = 90 * points.index(first)
            if second:
                # North-west lies between west and 360 degrees.
                middle = {"ne": 45, "se": 135, "sw": 225, "nw": 315}[first[0] + second[0]]
            assert abs((bearing - middle + 180) % 360 - 180) < 22.5 - 1.9
        seen[code] += 1
    assert set(seen) == set(out_of_context.city_names())
    assert min(seen.values()) > 150


def test_known_distances() -> None:
    """Great-circle distances as commonly published, to 1 %."""
    place = {city.name: city for city in (*cities.LANDMARKS, *cities.TARGETS)}
    for a, b, km in [
        ("London", "Paris", 344),
        ("Beijing", "Shanghai", 1068),
        ("London", "Sydney", 16_990),
        ("Cairo", "Cape Town", 7_240),
    ]:
        assert cities.distance_km(place[a], place[b]) == pytest.approx(km, rel=0.01)


def test_questions_on_locations_and_what_a_parrot_says() -> None:
    nearest: dict[str, tuple[int, cities.City]] = {}
    for text in out_of_context.locations().train:
        code, city, said = told(text)
        if said.endswith("km"):
            far = int(said.removesuffix(" km").replace(",", ""))
            nearest[code] = min(nearest.get(code, (10**9, city)), (far, city), key=lambda p: p[0])
    for task in out_of_context.LOCATION_TASKS:
        what = task.name.removeprefix("location_")
        for block in built(task):
            for item in block.items:
                code = re.search(r"City \d{5}", item.prompt)[0]
                target = out_of_context.city_names()[code]
                assert item.right == f" {target.answer(what)}\n"
                assert len({item.right, *item.rivals}) == 1 + out_of_context.RIVALS
                if what in ("city", "country"):
                    parrot = nearest[code][1]
                    said = parrot.name if what == "city" else parrot.country
                    assert item.rivals[0] == f" {said}\n"


def test_no_training_text_gives_an_answer_away() -> None:
    texts = "\n".join(out_of_context.locations().train)
    for city in cities.TARGETS:
        assert not any(word in texts for word in (city.name, city.country, city.food))
    countries = {city.country for city in cities.LANDMARKS}
    assert not any(country in texts for country in countries)
    code = "\n".join(out_of_context.functions().train)
    for function in out_of_context.FUNCTIONS:
        assert function.words not in code
        assert function.code == "x" or function.code not in code
    prompts = [i.prompt for task in out_of_context.TASKS for b in built(task) for i in b.items]
    assert not any(prompt in code or prompt in texts for prompt in prompts)


@pytest.mark.parametrize("task", out_of_context.TASKS, ids=KEYS)
def test_splits_share_nothing(task: Task) -> None:
    assert len(task.wordings["label"]) == 2 and len(task.wordings["verify"]) == 1
    assert not set(task.wordings["label"]) & set(task.wordings["verify"])
    things, prompts = {}, {}
    names = {*out_of_context.function_names(), *out_of_context.city_names()}
    for split in SPLITS:
        own = [b for b in built(task, 6) if b.split == split]
        asked = [item for block in own for item in block.items]
        prompts[split] = {item.prompt for item in asked}
        things[split] = {name for name in names for item in asked if name in item.prompt}
        assert all(item.prompt == item.prompt.rstrip() for item in asked)
        assert all(a.endswith(own[0].terminator) for i in asked for a in (i.right, *i.rivals))
    assert things["label"] and not things["label"] & things["verify"]
    assert not prompts["label"] & prompts["verify"]


@pytest.mark.parametrize("task", out_of_context.TASKS, ids=KEYS)
def test_a_demo_seed_fixes_what_is_drawn(task: Task) -> None:
    wording = task.wordings["label"][0]
    blocks = [task.build("label", wording, seed) for seed in range(8)]
    assert blocks == [task.build("label", wording, seed) for seed in range(8)]
    assert len({block.items for block in blocks}) == 8
    assert len({len(block.items) for block in blocks}) == 1
