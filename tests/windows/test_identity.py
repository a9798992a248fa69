"""Identity: what makes a difference, what does not, and what is refused."""

import dataclasses
import doctest
import hashlib
import json
import subprocess
import sys
import tempfile
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from windows import identity
from windows.errors import ConfigError
from windows.identity import canonical, content_id, hash_file

ROOT = Path(__file__).parents[2]

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
VALUES = st.recursive(
    SCALARS, lambda v: st.lists(v, max_size=4) | st.dictionaries(st.text(), v, max_size=4)
)


class Model(BaseModel):
    model_config = ConfigDict(frozen=True)
    a: int
    b: tuple[str, ...] = ()


class Loose(BaseModel):
    a: int


@dataclasses.dataclass(frozen=True)
class Record:
    a: int
    b: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Holder:
    where: Path


@dataclasses.dataclass
class Mutable:
    a: int


class Named(Record):
    """A frozen dataclass's subclass that is not decorated itself."""


class Colour(StrEnum):
    RED = "red"


def shuffled(value: Any) -> Any:
    """The same value with every dict's keys in the reverse order and every list a tuple."""
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(value)}
    return tuple(map(shuffled, value)) if isinstance(value, list) else value


def tagged(value: Any) -> Any:
    """An independent statement of sameness: types matter, order of keys does not."""
    if isinstance(value, dict):
        return ("dict", frozenset((key, tagged(item)) for key, item in value.items()))
    if isinstance(value, list):
        return ("list", tuple(map(tagged, value)))
    # repr tells -0.0 from 0.0, which are equal and hash alike.
    return (type(value).__name__, repr(value))


@given(VALUES)
def test_order_of_keys_and_kind_of_sequence_make_no_difference(value: Any) -> None:
    assert canonical(shuffled(value)) == canonical(value)


@given(VALUES, VALUES)
def test_two_values_share_an_encoding_exactly_when_they_are_the_same(a: Any, b: Any) -> None:
    assert (canonical(a) == canonical(b)) == (tagged(a) == tagged(b))


@given(VALUES)
def test_the_encoding_reads_back_to_the_value(value: Any) -> None:
    assert tagged(json.loads(canonical(value))) == tagged(value)


@pytest.mark.parametrize(("a", "b"), [(1, 1.0), (1, True), (0.0, -0.0), (None, ""), ("1", 1)])
def test_near_twins_differ(a: Any, b: Any) -> None:
    assert content_id({"x": a}) != content_id({"x": b})


def test_frozen_records_count_as_their_fields_whatever_their_class() -> None:
    fields = {"a": 1, "b": ["x"]}
    for value in (
        Model(a=1, b=("x",)),
        Record(1, ("x",)),
        Named(1, ("x",)),
        MappingProxyType(fields),
    ):
        assert canonical(value) == canonical(fields)


@pytest.mark.parametrize(
    "bad",
    [
        float("nan"),
        float("inf"),
        {1, 2},
        frozenset({1}),
        lambda: 1,
        print,
        int,
        Record,
        Path("/data"),
        b"bytes",
        object(),
        np.float64(1.0),
        np.arange(2),
        Colour.RED,
        range(3),
        iter([1]),
        Loose(a=1),
        Mutable(1),
        Holder(Path("/data")),
        {1: "x"},
        {Colour.RED: 1},
    ],
    ids=lambda bad: type(bad).__name__,
)
def test_what_has_no_stable_form_is_refused_with_its_place(bad: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        canonical({"outer": [0, bad]})
    assert refused.value.where.startswith("value.outer[1]")


def test_the_id_is_the_same_in_every_process() -> None:
    code = "from windows.identity import content_id; print(content_id({'b': [1, 2.5], 'a': 'ä'}))"
    ids = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert ids == {hashlib.sha256(b'{"a":"\\u00e4","b":[1,2.5]}').hexdigest()}


@given(st.binary(max_size=300))
def test_a_files_hash_is_that_of_its_bytes(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x")
        path.write_bytes(data)
        assert hash_file(path) == hashlib.sha256(data).hexdigest()


def test_the_documented_example_is_true() -> None:
    assert doctest.testmod(identity) == (0, 1)
