"""What the README says of the tree and the commands is so."""

import importlib.util
from pathlib import Path

from curate.cli import app

ROOT = Path(__file__).parent.parent


def test_tree_is_the_tree() -> None:
    spec = importlib.util.spec_from_file_location("readme_tree", ROOT / "tests/readme_tree.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert module.with_tree(readme) == readme, "run `make docs`"


def test_every_command_is_named() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    names = {command.name or command.callback.__name__ for command in app.registered_commands}
    missing = {name for name in names if f"`{name}`" not in readme}
    assert not missing


def test_picture_is_there() -> None:
    picture = ROOT / "tests/bench/report.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
