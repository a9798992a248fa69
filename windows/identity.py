"""What makes two things the same thing.

An identity is the SHA-256 of a canonical encoding: JSON with sorted keys and nothing to choose.
Literals bear identity; where and when something was made never does, so paths are refused, and so
is every value whose text might differ between two processes. A fallback to ``str(value)`` would let
such a value fork an identity unseen.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel

from windows.errors import ConfigError


def plain(value: object, where: str = "value") -> Any:
    """Return `value` as JSON data: None, bool, int, float, str, list and dict with str keys.

    Tuples become lists; frozen dataclasses and frozen pydantic models become dicts of their fields,
    without the name of their class, so that moving or renaming a class changes no identity.

    Parameters
    ----------
    value
        What is to be identified.
    where
        How `value` is called in a refusal; the path to the faulty part is appended to it.

    Raises
    ------
    ConfigError
        A part of `value` has no stable form: a float that is not finite, a key that is not a str, a
        path, set, callable, array, mutable record or any other object.
    """
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return _finite(value, where)
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    fields = value if isinstance(value, Mapping) else _fields(value, where)
    return {_key(key, where): plain(item, f"{where}.{key}") for key, item in fields.items()}


def canonical(value: object) -> bytes:
    """Return the one encoding of `value`: compact ASCII JSON with sorted keys.

    Order of keys and list or tuple make no difference; int, float and bool do (``1``, ``1.0`` and
    ``true`` are three values).

    Raises
    ------
    ConfigError
        As `plain` does.

    Examples
    --------
    >>> canonical({"b": (1, 2.0), "a": None})
    b'{"a":null,"b":[1,2.0]}'
    """
    return json.dumps(
        plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode("ascii")


def content_id(value: object) -> str:
    """Return the SHA-256 of ``canonical(value)``, 64 lowercase hex digits."""
    return hashlib.sha256(canonical(value)).hexdigest()


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, 64 lowercase hex digits; reads in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _finite(value: float, where: str) -> float:
    if not math.isfinite(value):
        raise ConfigError(
            "a number without a stable form", where=where, got=str(value), do="give a finite number"
        )
    return value


def _key(key: object, where: str) -> str:
    if type(key) is not str:
        raise ConfigError("a key that is not text", where=where, got=repr(key), do="quote it")
    return key


def _fields(value: object, where: str) -> dict[str, object]:
    if isinstance(value, BaseModel) and value.model_config.get("frozen"):
        return {name: getattr(value, name) for name in type(value).model_fields}
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and _is_frozen(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise ConfigError(
        f"a {type(value).__name__} has no stable form",
        where=where,
        got=repr(value)[:80],
        do="give None, bool, int, float, str, lists or dicts of these, or frozen records",
    )


def _is_frozen(value: object) -> bool:
    # There is no public way to ask a dataclass for its own parameters.
    return bool(cast(Any, value).__dataclass_params__.frozen)
