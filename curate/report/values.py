"""What the values of a report are checked by, and the words they may be."""

import math

LABELS = ("pattern", "generalization", "neutral", "undecided")
TRANSFER_VERDICTS = ("transferable", "not-transferable", "underpowered")
VERDICTS = (
    "controlled",
    "shifted",
    "stabilized-only",
    "no-effect",
    "underpowered",
    "labels-do-not-transfer",
)
# Verdicts which say that training on curated data did something to the mode.
CLAIMS = frozenset({"controlled", "shifted", "stabilized-only"})
# More tasks than this are shown by family and in the strip, not side by side.
MANY_TASKS = 6

Number = float | None


def finite(value: Number) -> Number:
    """Return the value as a float, or None where it is missing, NaN or infinite."""
    return float(value) if value is not None and math.isfinite(value) else None


def one_of(value: str, allowed: tuple[str, ...], what: str) -> None:
    """Refuse a word that is none of those allowed, with a ValueError."""
    if value not in allowed:
        raise ValueError(f"{what}: got {value!r}, must be one of {', '.join(allowed)}")


def same_length(what: str, **columns: tuple[object, ...]) -> None:
    """Refuse parallel columns that differ in length, with a ValueError."""
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{what}: columns differ in length, got {lengths}")
