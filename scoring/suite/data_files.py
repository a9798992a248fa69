"""The suite's own curated data: lines of JSON that come with the package."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from scoring.suite.rows import split_of
from scoring.suite.schema import Split
from windows.errors import DataError

Line = Mapping[str, Any]


@cache
def data_lines(name: str) -> tuple[Line, ...]:
    """Return the lines of a data file in their order, read once and read-only.

    Parameters
    ----------
    name
        Of a file in ``scoring/suite/data``, without its ending.

    Raises
    ------
    DataError
        There is no such file, or a line of it is no JSON object.
    """
    path = files("scoring.suite") / "data" / f"{name}.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return tuple(MappingProxyType(json.loads(line)) for line in lines)
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            "no readable data of the suite",
            where=f"scoring/suite/data/{name}.jsonl",
            got=str(error),
            do="install modehop again",
        ) from error


def even_half(lines: Iterable[Line], split: Split, *, text: str, label: str) -> list[Line]:
    """Return the lines of a split, as many of every label, in their order.

    Who gives every question the same answer is then right in exactly half of two labels' lines. The
    lines too many are dropped by hash: which they are does not depend on their place.

    Parameters
    ----------
    lines
        Some lines of a data file.
    split
        Which half, by the hash of the text.
    text, label
        The fields in which a line has its text and its label.
    """
    own = [line for line in lines if split_of(line[text]) == split]
    ranked: dict[str, list[str]] = {}
    for line in sorted(own, key=lambda line: hashlib.sha256(line[text].encode()).digest()):
        ranked.setdefault(str(line[label]), []).append(line[text])
    fewest = min(map(len, ranked.values()), default=0)
    kept = {found for texts in ranked.values() for found in texts[:fewest]}
    return [line for line in own if line[text] in kept]
