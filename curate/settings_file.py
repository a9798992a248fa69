"""A YAML file read into a frozen model, with every fault as one line a user can act on.

The YAML is read safely and as YAML 1.2 says it: ``1e-3`` is a number, ``yes`` and ``on`` are words,
nothing is a date. No key may occur twice.
"""

import json
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from windows.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)
Key = str | int

_MANY = 12
_LONG = 60


class _Loader(yaml.SafeLoader):
    """A safe loader with YAML 1.2's plain values, which refuses a key that occurs twice."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"(?:~|null|Null|NULL|)", ["~", "n", "N", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9]+|[0-9][0-9_]*(?=[eE]))(?:[eE][-+]?[0-9]+)?",
        list("-+.0123456789"),
    ),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first
    )


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if key.tag == "tag:yaml.org,2002:merge":
            continue
        if key.tag != "tag:yaml.org,2002:str":
            raise yaml.constructor.ConstructorError(
                problem="a key has to be text", problem_mark=key.start_mark
            )
        if key.value in seen:
            raise yaml.constructor.ConstructorError(
                problem=f"the key {key.value!r} occurs twice", problem_mark=key.start_mark
            )
        seen.add(key.value)
    loader.flatten_mapping(node)
    return {str(key.value): loader.construct_object(value, deep=True) for key, value in node.value}


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def parse(text: str, where: str) -> Any:
    """Read one YAML document.

    Raises
    ------
    ConfigError
        It is not YAML, holds a key twice, or holds a tag that would build an object.
    """
    try:
        value = yaml.load(text, Loader=_Loader)
        json.dumps(value)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(
            f"not readable YAML{_line(error)}: {_flat(error.problem or error.context or '')}",
            where=where,
            do="mend the file",
        ) from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise ConfigError(
            f"not readable YAML: {_flat(str(error))}", where=where, do="mend the file"
        ) from None
    return value


def read_mapping(path: Path, what: str) -> dict[str, Any]:
    """Read a YAML file that holds a mapping of keys.

    Parameters
    ----------
    path
        The file.
    what
        What it is to the user, such as ``study``.

    Raises
    ------
    ConfigError
        The file is missing, is a folder, cannot be read, or holds something else.
    """
    if path.is_dir():
        raise ConfigError(f"this is a folder, not a {what} file", where=str(path), do="name a file")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"no such {what} file", where=str(path), do="check the path, or its working directory"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"cannot read this {what} file: {error.strerror}",
            where=str(path),
            do="make it readable",
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(
            f"this {what} file is not UTF-8 text", where=str(path), do="name a YAML file"
        ) from None
    value = parse(text, str(path))
    if not isinstance(value, dict):
        raise ConfigError(
            f"a {what} file has to hold a mapping of keys",
            where=str(path),
            got="an empty file" if value is None else _shown(value),
            do="write `key: value` lines",
        )
    return value


@dataclass(frozen=True)
class Override:
    """A value put in the place of a file's own: a dotted path and what was written after ``=``."""

    keys: tuple[str, ...]
    value: Any

    @property
    def dotted(self) -> str:
        """The path as the user writes it."""
        return ".".join(self.keys)

    @classmethod
    def parse(cls, text: str) -> "Override":
        """Read ``a.b=value``; the value is YAML.

        Raises
        ------
        ConfigError
            There is no ``=``, an empty part in the path, or the value is not YAML.
        """
        path, sign, value = text.partition("=")
        keys = tuple(part.strip() for part in path.split("."))
        if not sign or not all(keys):
            raise ConfigError(
                "not a setting", where="--set", got=repr(text), do="write --set section.key=value"
            )
        return cls(keys, parse(value, f"--set {path}"))


def overridden(
    data: Mapping[str, Any], overrides: Sequence[Override], model: type[BaseModel]
) -> dict[str, Any]:
    """Return a copy of `data` with the overrides put in, the later ones over the earlier.

    Raises
    ------
    ConfigError
        A path does not exist in the model; the message names the nearest key.
    """
    changed: dict[str, Any] = json.loads(json.dumps(data))
    for override in overrides:
        _put(changed, override, model)
    return changed


def _put(data: dict[str, Any], override: Override, model: type[BaseModel]) -> None:
    place: Any = data
    kind: Any = model
    for depth, key in enumerate(override.keys):
        known = _known(kind, place)
        step: Key = int(key) if isinstance(place, list) and key.isdecimal() else key
        if step not in known:
            raise _no_such_key(override, depth, [str(name) for name in known])
        kind = _inner(kind, step)
        if depth + 1 == len(override.keys):
            place[step] = override.value
        elif isinstance(place, list):
            place = place[int(step)]
        else:
            if place.get(step) is None:
                place[step] = {}
            place = place[step]


def _known(kind: Any, place: Any) -> list[Key]:
    """Keys a path may go on with: a model's fields, or what a mapping or list already holds."""
    kind = _bare(kind)
    if isinstance(place, list):
        return list(range(len(place)))
    if not isinstance(place, dict):
        return []
    return list(kind.model_fields) if _is_model(kind) else list(place)


def _no_such_key(override: Override, depth: int, known: Sequence[str]) -> ConfigError:
    reached = ".".join(override.keys[:depth])
    key = override.keys[depth]
    return ConfigError(
        f"no such key {key!r}" + (f" in {reached}" if reached else ""),
        where=f"--set {override.dotted}",
        got=_shown(override.value),
        do=_did_you_mean(key, known) if known else f"{reached} is a single value: set it itself",
    )


def validated(
    model: type[Model], data: Mapping[str, Any], where: str, overrides: Sequence[Override] = ()
) -> Model:
    """Turn a file's mapping into the model, strictly: a quoted number is not a number.

    Raises
    ------
    ConfigError
        The first fault, an unknown key before any other, and how many more there are.
    """
    try:
        # Through JSON, because only there does strictness still take a list for a tuple.
        return model.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        faults = _without_echoes(model, data, error.errors(include_url=False))
        raise _refusal(model, data, faults, where, overrides) from None


def _without_echoes(
    model: type[BaseModel], data: Any, faults: list[ErrorDetails]
) -> list[ErrorDetails]:
    """Put unknown keys first, and drop the missing keys that they were meant to be."""
    unknown = [fault for fault in faults if fault["type"] == "extra_forbidden"]
    meant = {(*fault["loc"][:-1], _nearest_absent(model, data, fault["loc"])) for fault in unknown}
    rest = [
        fault
        for fault in faults
        if fault["type"] != "extra_forbidden"
        and not (fault["type"] == "missing" and fault["loc"] in meant)
    ]
    return unknown + rest


def _refusal(
    model: type[BaseModel],
    data: Any,
    faults: Sequence[ErrorDetails],
    where: str,
    overrides: Sequence[Override],
) -> ConfigError:
    fault = faults[0]
    loc = tuple(key for key in fault["loc"] if key != "[key]")
    dotted = ".".join(map(str, loc))
    if any(override.dotted == dotted for override in overrides):
        where, dotted = f"--set {dotted}", ""
    what, do = _said(model, data, fault)
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    shows = fault["type"] != "missing" and not isinstance(fault["input"], dict)
    return ConfigError(
        what,
        where=f"{where}: {dotted}" if dotted else where,
        got=_shown(fault["input"]) if shows else "",
        do=do + more,
    )


_EXPECTED = {
    "int": "an integer",
    "float": "a number",
    "finite": "a finite number",
    "string": "text",
    "bool": "true or false",
    "tuple": "a list",
    "list": "a list",
    "dict": "a mapping of keys",
    "model": "a mapping of keys",
}
_BOUNDS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def _said(model: type[BaseModel], data: Any, fault: ErrorDetails) -> tuple[str, str]:
    """Say what is wrong and what to do about one of pydantic's faults."""
    kind, context = fault["type"], fault.get("ctx", {})
    if kind == "extra_forbidden":
        key = str(fault["loc"][-1])
        return "unknown key", _did_you_mean(key, _absent(model, data, fault["loc"]))
    if kind == "missing":
        return "this key is missing", "write it"
    if kind == "literal_error":
        return "not one of the values known here", f"write {context['expected']}"
    if kind == "value_error":
        return str(context["error"]), "correct it"
    if kind in ("too_short", "too_long"):
        at, count = ("least", "min") if kind == "too_short" else ("most", "max")
        return "wrong number of values", f"write at {at} {context[f'{count}_length']}"
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return "out of range", f"write a value {words} {context[name]}"
    if kind == "string_pattern_mismatch":
        return "not a name", "use letters, digits, '.', '_' and '-', a letter or digit first"
    expected = _EXPECTED.get(kind.split("_")[0])
    if expected and kind.split("_")[1] in ("type", "parsing", "from", "number"):
        return f"expected {expected}", f"write {expected}"
    return _flat(fault["msg"]), "correct it"


def _absent(model: type[BaseModel], data: Any, loc: Sequence[Key]) -> list[str]:
    """Return the keys known beside an unknown one, those that are not written yet first."""
    kind: Any = model
    place = data
    for key in loc[:-1]:
        kind, place = _inner(kind, key), place[key]
    known = list(_bare(kind).model_fields)
    return [key for key in known if key not in place] or known


def _nearest_absent(model: type[BaseModel], data: Any, loc: Sequence[Key]) -> str:
    return nearest(str(loc[-1]), _absent(model, data, loc))


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known word most like `word`, the first of equals."""
    return max(known, key=lambda other: SequenceMatcher(None, word.lower(), other.lower()).ratio())


def _did_you_mean(word: str, known: Sequence[str]) -> str:
    listed = ", ".join(known[:_MANY]) + (", ..." if len(known) > _MANY else "")
    return f"did you mean {nearest(word, known)!r}? possible here: {listed}"


def _inner(kind: Any, key: Key) -> Any:
    """Return the type that stands under `key` in the type `kind`."""
    kind = _bare(kind)
    if _is_model(kind):
        field = kind.model_fields.get(key)
        return field.annotation if field else None
    arguments = get_args(kind)
    if get_origin(kind) in (dict, Mapping):
        return arguments[1]
    return arguments[0] if arguments else None


def _bare(kind: Any) -> Any:
    """Take ``Annotated`` and ``| None`` off a type."""
    if get_origin(kind) is Annotated:
        return _bare(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        others = [part for part in get_args(kind) if part is not type(None)]
        return _bare(others[0]) if len(others) == 1 else kind
    return kind


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _line(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return f" in line {mark.line + 1}" if mark else ""


def _shown(value: Any) -> str:
    text = _flat(json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= _LONG else text[: _LONG - 3] + "..."


def _flat(text: str) -> str:
    return " ".join(text.split())
