"""Formulas of three names, their text, and when they are true."""

from collections.abc import Iterator, Mapping
from itertools import product

from scoring.suite.examples import seeded

Formula = str | tuple[str, "Formula"] | tuple["Formula", str, "Formula"]
"""A name, (``not``, formula), or (formula, ``and`` or ``or``, formula)."""

_SPLITS = (("p", "q", "r"), ("q", "p", "r"), ("r", "p", "q"))


def holds(formula: Formula, values: Mapping[str, bool]) -> bool:
    """Return whether a formula is true."""
    match formula:
        case str():
            return values[formula]
        case (_, inner):
            return not holds(inner, values)
        case (left, "and", right):
            return holds(left, values) and holds(right, values)
        case (left, _, right):
            return holds(left, values) or holds(right, values)


def written(formula: Formula) -> str:
    """Write a formula, with brackets around every part that joins two."""
    match formula:
        case str():
            return formula
        case (_, inner):
            return f"not {_bracketed(inner)}"
        case (left, word, right):
            return f"{_bracketed(left)} {word} {_bracketed(right)}"


def formulas() -> Iterator[Formula]:
    """Make every formula that has p, q and r once.

    Which part of a pair stands first is drawn, so no two of them differ in that alone.
    """
    rng = seeded("formulas")
    for (alone, one, other), outer, inner in product(_SPLITS, ("and", "or"), ("and", "or")):
        for first, second, third, fourth in product((False, True), repeat=4):
            left, right = _signed(one, second), _signed(other, third)
            pair = (left, inner, right) if rng.integers(2) else (right, inner, left)
            single, double = _signed(alone, first), _signed(pair, fourth)
            yield (single, outer, double) if rng.integers(2) else (double, outer, single)


def _signed(formula: Formula, negated: bool) -> Formula:
    return ("not", formula) if negated else formula


def _bracketed(formula: Formula) -> str:
    joins_two = isinstance(formula, tuple) and len(formula) == 3
    return f"({written(formula)})" if joins_two else written(formula)
