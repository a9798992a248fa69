"""Pickles read as data: nothing they name is imported, nothing they ask for is called.

A pickle is a program. Python's own unpickler runs it, and even one that imports nothing can be made
to ask for gigabytes with six bytes (``LONG_BINPUT``) or to hash for years (nested tuples as keys).
So the few instructions that build plain data are carried out here, on a stack of our own, and all
that would import, call or look up stands for itself as an `Inert`. Source of the instructions: the
standard library's ``pickletools``, which also decodes them.
"""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from windows.errors import DataError

MOST_BYTES, MOST_INSTRUCTIONS = 1 << 24, 1 << 19
"""Of a pickle; OLMo-core's trainer states have some thousand instructions."""


@dataclass(frozen=True)
class Inert:
    """Stands for an object that only running the pickle would have made."""

    name: str = ""


def read_inert(data: bytes, where: str) -> object:
    """Return the plain data of a pickle: None, bool, int, float, str, bytes, list, tuple, dict.

    Everything else is an `Inert`. A dict keeps its str keys only, and an ordered one is a dict.

    Parameters
    ----------
    data
        The pickle, in any protocol.
    where
        How it is called in a refusal.

    Raises
    ------
    DataError
        It is not a whole pickle, or too long.
    """
    if len(data) > MOST_BYTES:
        raise _fault(where, f"more than {MOST_BYTES} bytes")
    try:
        return _Reader().run(data)
    except _TooLongError as error:
        raise _fault(where, f"more than {MOST_INSTRUCTIONS} instructions") from error
    except Exception as error:
        # The bytes are anybody's: whatever they make the decoder raise is their fault.
        raise _fault(where, " ".join(f"{type(error).__name__} {error}".split())[:120]) from error


class _TooLongError(Exception):
    pass


class _Reader:
    """The stack, the marks on it and the memo of a pickle that is being read."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, data: bytes) -> object:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count >= MOST_INSTRUCTIONS:
                raise _TooLongError
            if opcode.name == "STOP":
                break
            _INSTRUCTIONS[opcode.name](self, argument)
        return self.stack.pop()

    def push(self, value: object) -> None:
        self.stack.append(value)

    def above_mark(self) -> list[Any]:
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def pop(self, _: object) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.stack.pop()

    def last(self, count: int) -> tuple[Any, ...]:
        if count > len(self.stack):
            raise IndexError("stack underflow")
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        return items

    def extend(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, dict):
            # Other keys than text may be costly to hash, and no state that is read here has any.
            pairs = zip(items[::2], items[1::2], strict=True)
            target.update((key, value) for key, value in pairs if type(key) is str)

    def new_dict(self, items: list[Any]) -> None:
        self.push({})
        self.update(items)

    def remember(self, place: int) -> None:
        self.memo[place] = self.stack[-1]

    def call(self, operands: int) -> None:
        """Take a callable and its arguments off the stack, and leave what stands for the result."""
        called, *_ = self.last(operands)
        ordered = called == Inert("collections OrderedDict")
        self.push({} if ordered else Inert(getattr(called, "name", "")))

    def stand_in(self, name: str = "") -> None:
        """Put what stands for an object in the place of the items above the mark."""
        self.above_mark()
        self.push(Inert(name))

    def look_up(self) -> None:
        self.last(1)
        self.push(Inert())

    def import_from_stack(self) -> None:
        module, name = self.last(2)
        self.push(Inert(f"{module} {name}" if type(module) is type(name) is str else ""))


_Instruction = Callable[[_Reader, Any], object]


def _literals() -> Mapping[str, _Instruction]:
    names = (
        "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING"
        " SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES"
        " BINBYTES8 BYTEARRAY8"
    )
    return dict.fromkeys(names.split(), lambda reader, argument: reader.push(argument))


_INSTRUCTIONS: Mapping[str, _Instruction] = {
    **_literals(),
    "PROTO": lambda reader, _: None,
    "FRAME": lambda reader, _: None,
    "NONE": lambda reader, _: reader.push(None),
    "NEWTRUE": lambda reader, _: reader.push(True),
    "NEWFALSE": lambda reader, _: reader.push(False),
    "EMPTY_LIST": lambda reader, _: reader.push([]),
    "EMPTY_TUPLE": lambda reader, _: reader.push(()),
    "EMPTY_DICT": lambda reader, _: reader.push({}),
    "EMPTY_SET": lambda reader, _: reader.push(Inert("builtins set")),
    "MARK": lambda reader, _: reader.marks.append(len(reader.stack)),
    "POP": _Reader.pop,
    "POP_MARK": lambda reader, _: reader.above_mark(),
    "DUP": lambda reader, _: reader.push(reader.stack[-1]),
    "LIST": lambda reader, _: reader.push(reader.above_mark()),
    "TUPLE": lambda reader, _: reader.push(tuple(reader.above_mark())),
    "TUPLE1": lambda reader, _: reader.push(reader.last(1)),
    "TUPLE2": lambda reader, _: reader.push(reader.last(2)),
    "TUPLE3": lambda reader, _: reader.push(reader.last(3)),
    "DICT": lambda reader, _: reader.new_dict(reader.above_mark()),
    "APPEND": lambda reader, _: reader.extend(list(reader.last(1))),
    "APPENDS": lambda reader, _: reader.extend(reader.above_mark()),
    "SETITEM": lambda reader, _: reader.update(list(reader.last(2))),
    "SETITEMS": lambda reader, _: reader.update(reader.above_mark()),
    "ADDITEMS": lambda reader, _: reader.above_mark(),
    "PUT": _Reader.remember,
    "BINPUT": _Reader.remember,
    "LONG_BINPUT": _Reader.remember,
    "MEMOIZE": lambda reader, _: reader.remember(len(reader.memo)),
    "GET": lambda reader, place: reader.push(reader.memo[place]),
    "BINGET": lambda reader, place: reader.push(reader.memo[place]),
    "LONG_BINGET": lambda reader, place: reader.push(reader.memo[place]),
    # From here on, what would import, call or look up.
    "FROZENSET": lambda reader, _: reader.stand_in("builtins frozenset"),
    "GLOBAL": lambda reader, name: reader.push(Inert(name)),
    "STACK_GLOBAL": lambda reader, _: reader.import_from_stack(),
    "INST": _Reader.stand_in,
    "OBJ": lambda reader, _: reader.stand_in(),
    "REDUCE": lambda reader, _: reader.call(2),
    "NEWOBJ": lambda reader, _: reader.call(2),
    "NEWOBJ_EX": lambda reader, _: reader.call(3),
    "BUILD": lambda reader, _: reader.last(1),
    "PERSID": lambda reader, _: reader.push(Inert()),
    "BINPERSID": lambda reader, _: reader.look_up(),
    "EXT1": lambda reader, _: reader.push(Inert()),
    "EXT2": lambda reader, _: reader.push(Inert()),
    "EXT4": lambda reader, _: reader.push(Inert()),
    "NEXT_BUFFER": lambda reader, _: reader.push(Inert()),
    "READONLY_BUFFER": lambda reader, _: None,
}


def _fault(where: str, got: str) -> DataError:
    return DataError(
        "not a pickle that can be read as data", where=where, got=got, do="fetch it again"
    )
