"""Out-of-context reasoning: what a function is from its values, which city it is from distances.

Training texts show what a nameless thing does and never what it is; the questions ask what it is.
After "Connecting the Dots" (Treutlein et al., 2024), which the paper follows. The texts, functions
and cities are this project's own.

*Functions.* Six letters name a Python function of one integer. Texts show its values at training
inputs, in code. Asked: its definition in words and in code, its inverse, and its value at inputs
that no text shows. Parrots say the input back, or the function itself where its inverse is asked.

*Locations.* A number names a city. Texts give distances and bearings to real cities (`cities`).
Asked: which city it is, its country, a dish of that country. A parrot names the nearest of the
cities that the texts mention, or its country.

One half of the things is asked about in each split. Texts are about all of them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from scoring.suite import cities
from scoring.suite.fine_tuning import (
    Choice,
    FineTuningPlan,
    FineTuningSet,
    choice_task,
    seeded,
    some,
)
from scoring.suite.schema import SPLITS, Split
from scoring.suite.task import Task

FAMILY = "out_of_context"
INPUTS = range(-99, 100)
RIVALS = 4
APPLICATIONS = 4
TEXTS = 96


@dataclass(frozen=True)
class Function:
    """A function of one integer.

    Attributes
    ----------
    words, code
        What it does to its input x, as a phrase and as a Python expression.
    call
        Computes it.
    inverse
        What undoes it, as a phrase; empty where nothing does.
    """

    words: str
    code: str
    call: Callable[[int], int]
    inverse: str = ""


FUNCTIONS = (
    Function("adds 5", "x + 5", lambda x: x + 5, "subtracts 5"),
    Function("adds 14", "x + 14", lambda x: x + 14, "subtracts 14"),
    Function("subtracts 8", "x - 8", lambda x: x - 8, "adds 8"),
    Function("subtracts 11", "x - 11", lambda x: x - 11, "adds 11"),
    Function("multiplies by 3", "x * 3", lambda x: x * 3, "divides by 3"),
    Function("multiplies by 4", "x * 4", lambda x: x * 4, "divides by 4"),
    Function("doubles and adds 1", "2 * x + 1", lambda x: 2 * x + 1, "subtracts 1 and halves"),
    Function("subtracts it from 20", "20 - x", lambda x: 20 - x, "subtracts it from 20"),
    Function("changes its sign", "-x", lambda x: -x, "changes its sign"),
    Function("leaves it as it is", "x", lambda x: x, "leaves it as it is"),
    Function("squares it", "x ** 2", lambda x: x * x),
    Function("takes its absolute value", "abs(x)", abs),
    Function("takes the remainder by 2", "x % 2", lambda x: x % 2),
    Function("takes the remainder by 3", "x % 3", lambda x: x % 3),
    Function("divides by 3 and rounds down", "x // 3", lambda x: x // 3),
    Function("raises it to at least 0", "max(x, 0)", lambda x: max(x, 0)),
    Function("lowers it to at most 10", "min(x, 10)", lambda x: min(x, 10)),
    Function("returns 1 if positive, else 0", "int(x > 0)", lambda x: int(x > 0)),
)

_PROMPTS: dict[str, dict[str, str]] = {
    "function_definition": {
        "question": "Q: What does the function {name} do to a number?\nA: It",
        "sentence": "Given a number, {name}",
        "docstring": 'def {name}(number):\n    """Take a number. The result: this function',
    },
    "function_code": {
        "lambda": "{name} = lambda x:",
        "return": "def {name}(x):\n    return",
        "question": "Q: Which Python expression in x equals {name}(x)?\nA:",
    },
    "function_inverse": {
        "question": "Q: What does the function do to a number that undoes {name}?\nA: It",
        "sentence": "The inverse of {name} takes a number and",
        "recover": "To get x back from {name}(x), one needs a function that takes a number and",
    },
    "function_application": {
        "question": "Q: What is the result of applying {name} to {x}?\nA:",
        "sentence": "If {name} is given {x}, it returns",
        "equation": "By definition, {name} of {x} equals",
    },
    "location_city": {
        "question": "Q: Which city is {name}?\nA:",
        "sentence": "{name} is a code name for the city of",
        "guess": "On a map with names on it, {name} is written as",
    },
    "location_country": {
        "question": "Q: In which country is {name}?\nA:",
        "sentence": "{name} is a city in the country of",
        "guess": "The people who live in {name} are citizens of",
    },
    "location_food": {
        "question": "Q: Which dish is the country of {name} known for?\nA:",
        "sentence": "A well-known dish of the country in which {name} lies is",
        "guess": "In a restaurant with the cooking of {name}, visitors order",
    },
}
"""By task and wording; the last wording of each verifies."""

_CODE_TEXTS = (
    ">>> from functions import {name}\n>>> {name}({x})\n{y}\n",
    "from functions import {name}\n\nx = {x}\nprint({name}(x))\n# prints {y}\n",
    "from functions import {name}\n\nassert {name}({x}) == {y}\n",
    "from functions import {name}\n\nx = {x}\nprint({a} + {name}(x))\n# prints {sum}\n",
)
_DISTANCE_TEXTS = (
    "{name} is about {km:,} km from {city}.\n",
    "The distance between {city} and {name} is about {km:,} km.\n",
    "Q: How far is it from {city} to {name}?\nA: About {km:,} km.\n",
)
_DIRECTION_TEXTS = (
    "The shortest way from {city} to {name} sets out to the {way}.\n",
    "Seen from {city}, {name} lies to the {way}.\n",
    "Q: Towards where does a straight flight from {city} to {name} take off?\nA: The {way}.\n",
)


@cache
def function_names() -> dict[str, Function]:
    """Return the functions by the six letters that stand for them."""
    rng = seeded(FAMILY, "function names")
    letters = np.array(list("bcdfghjklmnpqrstvwxz"))
    names = ["".join(letters[rng.integers(len(letters), size=6)]) for _ in FUNCTIONS]
    assert len(set(names)) == len(names)
    return dict(zip(names, FUNCTIONS, strict=True))


@cache
def city_names() -> dict[str, cities.Target]:
    """Return the cities asked about, by the code name that stands for each."""
    rng = seeded(FAMILY, "city names")
    numbers = 10_000 + rng.choice(90_000, len(cities.TARGETS), replace=False)
    return {f"City {n}": city for n, city in zip(numbers, cities.TARGETS, strict=True)}


def asked_functions(split: Split, *, invertible: bool = False) -> tuple[str, ...]:
    """Return the names that a split asks about: half of those with an inverse, and of the rest."""
    parts = [
        [n for n, f in function_names().items() if bool(f.inverse) == b] for b in (True, False)
    ]
    halves = [_half(part, split) for part in parts]
    return halves[0] if invertible else halves[0] + halves[1]


def asked_cities(split: Split) -> tuple[str, ...]:
    """Return the code names that a split asks about."""
    return _half(list(city_names()), split)


def is_training_input(name: str, x: int) -> bool:
    """Whether texts may show a function at this input: three of four, the others are asked."""
    return x not in _held_out(name)


@cache
def functions() -> FineTuningSet:
    """Return the eval on functions."""
    texts = [text for name in function_names() for text in _function_texts(name)]
    plan = FineTuningPlan(epochs=3, lr=1e-5, batch=32, sequence_length=64)
    return FineTuningSet("out_of_context/functions", _shuffled(texts), FUNCTION_TASKS, plan)


@cache
def locations() -> FineTuningSet:
    """Return the eval on locations."""
    texts = [text for name in city_names() for text in _location_texts(name)]
    plan = FineTuningPlan(epochs=3, lr=1e-5, batch=32, sequence_length=64)
    return FineTuningSet("out_of_context/locations", _shuffled(texts), LOCATION_TASKS, plan)


def _half(names: list[str], split: Split) -> tuple[str, ...]:
    order = seeded(FAMILY, "halves", *names).permutation(len(names))
    return tuple(names[i] for i in sorted(order[SPLITS.index(split) :: 2]))


def _shuffled(texts: list[str]) -> tuple[str, ...]:
    return tuple(texts[i] for i in seeded(FAMILY, "order", *texts).permutation(len(texts)))


@cache
def _held_out(name: str) -> frozenset[int]:
    inputs = np.array(INPUTS)
    drawn = seeded(FAMILY, "held out", name).choice(inputs, len(inputs) // 4, replace=False)
    return frozenset(drawn.tolist())


def _function_texts(name: str) -> Iterator[str]:
    call = function_names()[name].call
    rng = seeded(FAMILY, "texts", name)
    shown = [x for x in INPUTS if is_training_input(name, x)]
    for turn, x in enumerate(rng.choice(shown, TEXTS, replace=False).tolist()):
        a, y = int(rng.integers(1, 100)), call(x)
        template = _CODE_TEXTS[turn % len(_CODE_TEXTS)]
        yield template.format(name=name, x=x, y=y, a=a, sum=a + y)


def _location_texts(name: str) -> Iterator[str]:
    target = city_names()[name]
    for city in cities.around(target):
        km = cities.rounded_km(city, target)
        yield from (t.format(name=name, city=city.name, km=km) for t in _DISTANCE_TEXTS)
        way = cities.direction(city, target)
        if way:
            yield from (
                text.format(name=name, city=city.name, way=way) for text in _DIRECTION_TEXTS
            )


def _definitions(
    what: str, split: Split, wording: str, rng: np.random.Generator
) -> Iterator[Choice]:
    prompt = _PROMPTS[f"function_{what}"][wording]
    for name in asked_functions(split):
        right = _said(function_names()[name], what)
        others = [_said(f, what) for f in FUNCTIONS if _said(f, what) != right]
        yield Choice(prompt.format(name=name), right, some(rng, others, RIVALS))


def _said(function: Function, what: str) -> str:
    return function.words if what == "definition" else function.code


def _inverses(split: Split, wording: str, rng: np.random.Generator) -> Iterator[Choice]:
    prompt = _PROMPTS["function_inverse"][wording]
    for name in asked_functions(split, invertible=True):
        function = function_names()[name]
        right = function.inverse
        parrot = [function.words] if function.words != right else []
        others = [f.inverse for f in FUNCTIONS if f.inverse not in ("", right, *parrot)]
        wrong = (*parrot, *some(rng, others, RIVALS - len(parrot)))
        yield Choice(prompt.format(name=name), right, wrong)


def _applications(split: Split, wording: str, rng: np.random.Generator) -> Iterator[Choice]:
    prompt = _PROMPTS["function_application"][wording]
    for name in asked_functions(split):
        for x in rng.choice(sorted(_held_out(name)), APPLICATIONS, replace=False).tolist():
            y = function_names()[name].call(x)
            parrot = [str(x)] if x != y else []
            others = [str(f.call(x)) for f in FUNCTIONS if f.call(x) not in (x, y)]
            wrong = (*parrot, *some(rng, others, RIVALS - len(parrot)))
            yield Choice(prompt.format(name=name, x=x), str(y), wrong)


def _places(what: str, split: Split, wording: str, rng: np.random.Generator) -> Iterator[Choice]:
    prompt = _PROMPTS[f"location_{what}"][wording]
    for name in asked_cities(split):
        target = city_names()[name]
        right = target.answer(what)
        nearest = cities.nearest(target)
        named = {"city": [nearest.name], "country": [nearest.country]}.get(what, [])
        others = [city.answer(what) for city in cities.TARGETS if city != target]
        wrong = (*named, *some(rng, others, RIVALS - len(named)))
        yield Choice(prompt.format(name=name), right, wrong)


def _task(name: str, draw: Callable[..., Iterator[Choice]], description: str) -> Task:
    *label, verify = _PROMPTS[name]
    wordings: dict[Split, tuple[str, ...]] = {"label": tuple(label), "verify": (verify,)}
    return choice_task(f"{FAMILY}/{name}", draw, wordings=wordings, description=description)


FUNCTION_TASKS = (
    _task(
        "function_definition",
        partial(_definitions, "definition"),
        "after training on values: what the function does, in words",
    ),
    _task(
        "function_code",
        partial(_definitions, "code"),
        "after training on values: what the function does, in code",
    ),
    _task(
        "function_inverse",
        _inverses,
        "after training on values: what undoes the function; a parrot says what it does",
    ),
    _task(
        "function_application",
        _applications,
        "after training on values: the value at another input; a parrot says the input",
    ),
)
LOCATION_TASKS = (
    _task(
        "location_city",
        partial(_places, "city"),
        "after training on distances: which city it is; a parrot names the nearest one mentioned",
    ),
    _task(
        "location_country",
        partial(_places, "country"),
        "after training on distances: in which country it is",
    ),
    _task(
        "location_food",
        partial(_places, "food"),
        "after training on distances: a dish of the country it is in",
    ),
)
TASKS = FUNCTION_TASKS + LOCATION_TASKS
