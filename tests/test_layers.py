"""The rules that imports and names keep: one direction, absolute, no torch where it is barred."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("windows", "scoring", "trainers", "curate")
BANNED_NAMES = {"utils", "common", "helpers", "types", "misc"}
TORCH_FREE = ("windows", "scoring/suite")
TORCH = {"torch", "transformers", "olmo_core", "safetensors.torch", "accelerate"}


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of everything imported anywhere; relative ones keep dots."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call):
            yield from ((node.lineno, name) for name in named_in_call(node))


def named_in_call(node: ast.Call) -> list[str]:
    """The module that `importlib.import_module("a.b")` or `__import__("a.b")` names."""
    if ast.unparse(node.func).split(".")[-1] not in ("import_module", "__import__"):
        return []
    return [argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant)]


def within(name: str, packages: set[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def faults(path: str, source: str) -> list[str]:
    """What a module at `path`, relative to the root, does against the rules."""
    layer = LAYERS.index(path.split("/")[0])
    higher = set(LAYERS[layer + 1 :])
    found = []
    for part in Path(path).with_suffix("").parts:
        if part in BANNED_NAMES:
            found.append(f"{path}: a name such as {part} says nothing")
    for line, name in imports(ast.parse(source)):
        if name.startswith("."):
            found.append(f"{path}:{line}: relative import {name}")
        if within(name, higher):
            found.append(f"{path}:{line}: {LAYERS[layer]} imports {name}, against the direction")
        if path.startswith(tuple(f"{folder}/" for folder in TORCH_FREE)) and within(name, TORCH):
            found.append(f"{path}:{line}: {name} where torch is barred")
        if path.endswith("__init__.py"):
            found.append(f"{path}:{line}: a package's __init__ imports {name}")
    return found


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("layer", LAYERS)
def test_every_module_keeps_the_rules(layer: str) -> None:
    found = [
        fault
        for path in modules(layer)
        for fault in faults(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
    ]
    assert found == [], "\n".join(found)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("windows/a.py", "import scoring.engine"),
        ("windows/a.py", "def f():\n    from curate import cli"),
        ("windows/a.py", "import importlib\nimportlib.import_module('scoring.sweep')"),
        ("scoring/a.py", "from trainers.plan import TrainingPlan"),
        ("trainers/a.py", "if True:\n    import curate"),
        ("curate/a.py", "from . import cli"),
        ("curate/a.py", "from .cli import main"),
        ("windows/a.py", "import torch.nn as nn"),
        ("windows/a.py", "def f():\n    from transformers import AutoTokenizer"),
        ("windows/a.py", "from safetensors import torch"),
        ("scoring/suite/a.py", "import torch"),
        ("scoring/utils.py", ""),
        ("curate/helpers/a.py", ""),
        ("curate/report/__init__.py", "from curate.report import page"),
    ],
)
def test_a_departure_is_found(path: str, source: str) -> None:
    assert len(faults(path, source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("curate/a.py", "from windows.order import DataOrder\nimport trainers.plan\nimport torch"),
        (
            "windows/a.py",
            "import windows.store\nimport scoringlike\nfrom safetensors import safe_open",
        ),
        ("scoring/engine.py", "import torch\nfrom scoring.suite.schema import Item"),
    ],
)
def test_what_is_allowed_passes(path: str, source: str) -> None:
    assert faults(path, source) == []


def test_the_torch_free_parts_do_not_load_torch_by_any_way() -> None:
    names = [
        path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        for folder in TORCH_FREE
        for path in modules(folder)
        if path.name not in ("__init__.py", "__main__.py")
    ]
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    found = {'torch', 'transformers'} & set(sys.modules)\n"
        "    assert not found, f'{name} loads {found}'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *names], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
