"""How a command's answer is laid out: tables for people, plain values for JSON."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from curate.report.data import finite


def table(title: str, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """Lay rows out under names; a number that is none, and None, are left blank."""
    laid = Table(title=title, title_justify="left")
    for name in names:
        laid.add_column(name, overflow="fold")
    for row in rows:
        laid.add_row(*map(_cell, row))
    return laid


def plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record as a JSON object; a number that is none is null."""
    return {
        key: finite(value) if isinstance(value, float) else value for key, value in record.items()
    }


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, float):
        number = finite(value)
        return "" if number is None else f"{number:.3g}" if abs(number) < 0.001 else f"{number:.3f}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
