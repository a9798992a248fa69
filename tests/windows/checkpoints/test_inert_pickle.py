import collections
import copyreg
import enum
import io
import os
import pickle
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from windows.checkpoints.inert_pickle import MOST_BYTES, MOST_INSTRUCTIONS, Inert, read_inert
from windows.errors import DataError

# --- what is plain comes out as it went in

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**200), 2**200)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
)
plain = st.recursive(
    scalars | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(plain, st.sampled_from([3, 4, 5]))
def test_plain_data_come_out_as_they_went_in(value: object, protocol: int):
    read = read_inert(pickle.dumps(value, protocol), "x")
    assert read == value
    assert repr(read) == repr(value)


@given(st.lists(scalars | st.lists(scalars).map(tuple)), st.sampled_from([0, 1, 2]))
def test_old_protocols_are_read_too(value: object, protocol: int):
    # Before protocol 3, bytes were written as a call.
    assert read_inert(pickle.dumps({"a": value}, protocol), "x") == {"a": value}


@pytest.mark.parametrize("protocol", range(6))
def test_shared_and_ordered_values_are_read(protocol: int):
    shared = [1, 2]
    value = {"a": shared, "b": [shared, shared], "c": collections.OrderedDict(x=1, y=shared)}
    read = read_inert(pickle.dumps(value, protocol), "x")
    assert read == value
    assert read["a"] is read["b"][0] is read["c"]["y"]


class Colour(enum.Enum):
    RED = 1


class Point:
    def __init__(self) -> None:
        self.x = 1


class Names(list):
    pass


@pytest.mark.parametrize("protocol", range(6))
def test_everything_else_stands_for_itself(protocol: int):
    value = {
        "point": Point(),
        "names": Names([1, 2]),
        "set": {1, 2},
        "frozen": frozenset([1]),
        "colour": Colour.RED,
        "path": Path("x"),
        "counts": collections.Counter("abc"),
        "random": random.Random(0),
        "array": np.arange(5),
        "class": Point,
        "step": 7,
        "keys": {1: "one", (1, 2): "two", "three": 3},
    }
    read = read_inert(pickle.dumps(value, protocol), "x")
    assert read["step"] == 7
    assert read["keys"] == {"three": 3}
    assert {type(read[name]) for name in value} == {int, dict, Inert}
    assert read["class"].name.endswith("Point")


# --- nothing is executed


def runs(data: bytes) -> None:
    """What the standard library would do with it."""

    class Persistent(pickle.Unpickler):
        def persistent_load(self, identity: object) -> object:
            return identity

    with np.errstate():
        Persistent(io.BytesIO(data)).load()


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def attacks(canary: Path) -> dict[str, bytes]:
    touch = f"touch {canary}"
    text = touch.encode()
    short = b"\x8c" + bytes([len(text)]) + text
    found = {
        "system": pickle.dumps(Calls(os.system, touch)),
        "system-0": pickle.dumps(Calls(os.system, touch), 0),
        "eval": pickle.dumps(Calls(eval, f"open({str(canary)!r}, 'w').close()")),
        "exec": pickle.dumps({"a": [Calls(exec, f"open({str(canary)!r}, 'w').close()")]}, 2),
        "as-key": b"}" + pickle.dumps(Calls(os.system, touch), 2)[2:-1] + b"K\x01s.",
        "inst": b"(S'" + text + b"'\nios\nsystem\n.",
        "obj": b"(cos\nsystem\n" + short + b"o.",
        "newobj-ex": b"\x80\x04cbuiltins\nset\n)}\x92cos\nsystem\n" + short + b"\x85R.",
        "stack-global": b"\x80\x04\x8c\x02os\x8c\x06system\x93" + short + b"\x85R.",
        "build": b"ctypes\nSimpleNamespace\n)R}S'__setstate__'\ncos\nsystem\nsb" + short + b"b.",
        "persid": b"\x80\x02cos\nsystem\n" + short + b"\x85RQQ.",
        "in-memo": b"\x80\x02cos\nsystem\nq\x00" + short + b"\x85q\x010h\x00h\x01R.",
        "popped": b"\x80\x02(cos\nsystem\n" + short + b"\x85R1N.",
    }
    return found


NAMES = sorted(attacks(Path("canary")))


@pytest.mark.parametrize("name", NAMES)
def test_an_attack_that_the_standard_library_runs_is_only_read(tmp_path: Path, name: str):
    canary = tmp_path / "canary"
    data = attacks(canary)[name]
    read = read_inert(data, "x")
    assert not canary.exists()
    assert isinstance(read, Inert | dict | type(None))
    # The same bytes do their work where they are run: the test above can fail.
    runs(data)
    assert canary.exists()


@pytest.mark.parametrize(
    ("opcode", "code"), [(b"\x82", 0xF0), (b"\x83", 0xF0F0), (b"\x84", 0x7FFF)]
)
def test_registered_extensions_are_only_read(tmp_path: Path, opcode: bytes, code: int):
    canary = tmp_path / "canary"
    width = {b"\x82": 1, b"\x83": 2, b"\x84": 4}[opcode]
    text = f"touch {canary}".encode()
    data = b"\x80\x02" + opcode + code.to_bytes(width, "little")
    data += b"\x8c" + bytes([len(text)]) + text + b"\x85R."
    copyreg.add_extension("os", "system", code)
    try:
        assert read_inert(data, "x") == Inert()
        assert not canary.exists()
        runs(data)
        assert canary.exists()
    finally:
        copyreg.remove_extension("os", "system", code)


# --- nothing is asked for that the file does not hold

DEEP = 200_000
BOMBS = {
    # Six bytes for a memo of 2**32 places.
    "memo": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "text": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x3fabc.",
    "bytes": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x3fabc.",
    "bytearray": b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x3fabc.",
    "frame": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x3fN.",
    "long4": b"\x80\x02\x8b\xff\xff\xff\x7fabc.",
    "long": b"L" + b"9" * 1_000_000 + b"L\n.",
    "int": b"I" + b"9" * 1_000_000 + b"\n.",
    # A dict key whose hash takes 2**60 steps.
    "hash": b"}N" + b"2\x86" * 60 + b"Ns.",
    "deep-key": b"}N" + b"\x85" * DEEP + b"Ns.",
    "deep-list": b"]" * DEEP + b"a" * (DEEP - 1) + b".",
    "deep-reduce": b"N" + b")R" * (DEEP // 2) + b".",
    "doubled": b"](" + b"h\x00" * 3 + b"e.",
    "marks": b"(" * MOST_INSTRUCTIONS * 2,
    "self": b"]2a.",
    "product": b"c_operator\nmul\n(" + b"]Naq\x00\x8a\x05\xff\xff\xff\xff\x7ftR.",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(BOMBS))
def test_a_bomb_costs_little(name: str):
    # What would hash or nest for ever is caught by the time that every test has.
    tracemalloc.start()
    try:
        read = read_inert(BOMBS[name], "train/rank0.pt")
        assert isinstance(read, Inert | dict | list | type(None))
        del read
    except DataError as error:
        assert len(str(error)) < 300
        assert "\n" not in str(error)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 100_000_000


def test_what_is_too_long_is_refused():
    with pytest.raises(DataError, match=f"more than {MOST_BYTES} bytes"):
        read_inert(b"\0" * (MOST_BYTES + 1), "x")
    with pytest.raises(DataError, match=f"more than {MOST_INSTRUCTIONS} instructions"):
        read_inert(b"N0" * MOST_INSTRUCTIONS, "x")


# --- malformed


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"N",
        b"0.",
        b"a.",
        b"Na.",
        b"(",
        b"t.",
        b"h\x00.",
        b"g5\n.",
        b"\x86.",
        b"N\x86.",
        b"R.",
        b"NR.",
        b"N\x92.",
        b"\x93.",
        b"b.",
        b"}(Nu.",
        b"(Nd.",
        b"\xff.",
        b"S'a\n.",
        b"q\x00.",
        b"cos\n",
        b"Fx\n.",
        b"V\\u12\n.",
        b"\x80\x09N",
        b"\x8a\xff.",
        b"1.",
        b"2.",
        b"e.",
        b"s.",
    ],
)
def test_what_is_no_pickle_is_refused_in_one_line(data: bytes):
    with pytest.raises(DataError, match=r"^train/rank0\.pt: not a pickle") as refused:
        read_inert(data, "train/rank0.pt")
    assert "\n" not in str(refused.value)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes):
    try:
        read_inert(data, "x")
    except DataError as error:
        assert "\n" not in str(error)


example = pickle.dumps({"a": [1, (2.5, "three")], "b": Point(), "c": {"d": b"five"}}, 4)


@given(
    st.lists(st.tuples(st.integers(0, len(example) - 1), st.integers(0, 255)), max_size=4),
    st.data(),
)
def test_a_pickle_with_flipped_bytes_is_read_or_refused(changes: list[tuple[int, int]], data: Any):
    changed = bytearray(example)
    for place, value in changes:
        changed[place] = value
    cut = data.draw(st.integers(0, len(changed)))
    for tried in (bytes(changed), bytes(changed[:cut])):
        try:
            read_inert(tried, "x")
        except DataError as error:
            assert "\n" not in str(error)
