"""Write the README's tree from the first line of every module's docstring: `make docs`."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- tree: begin -->\n", "<!-- tree: end -->"
PACKAGES = ("windows", "scoring", "trainers", "curate")


def tree() -> str:
    """Return the tree of the four packages, one line a file."""
    lines = ["```"]
    for package in PACKAGES:
        lines.append(f"{package}/".ljust(32) + summary(ROOT / package / "__init__.py"))
        lines += [line(path) for path in sorted((ROOT / package).rglob("*.py")) if named(path)]
    lines += [
        "configs/runs, configs/studies".ljust(32) + "the runs and studies that come with modehop",
        "tests/".ljust(32) + "mirrors the four packages; tests/bench/ measures",
        "```",
    ]
    return "\n".join(lines) + "\n"


def named(path: Path) -> bool:
    """Tell whether a file is a module of its own."""
    return path.name != "__init__.py"


def line(path: Path) -> str:
    """Return a file's line: its place, and what its docstring says first."""
    place = path.relative_to(ROOT)
    return f"  {'/'.join(place.parts[1:])}".ljust(32) + summary(path)


def summary(path: Path) -> str:
    """Return the first line of a module's docstring, without its full stop."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0].rstrip(".")


def with_tree(readme: str) -> str:
    """Return the README's text with its tree brought up to date."""
    head, _, rest = readme.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}{tree()}{END}{tail}"


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(with_tree(readme.read_text(encoding="utf-8")), encoding="utf-8")
