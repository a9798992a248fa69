"""OLMo-core's data mixes: which token files a run read, in which order, from which source.

A mix is a text file of lines ``source,path``; ``{TOKENIZER}`` in a path stands for the tokenizer's
name. Its order is the run's order. It says nothing of the files' sizes, on which everything hangs:
those come from a manifest, or from whoever serves the files.
"""

import csv
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from windows.errors import ConfigError, DataError
from windows.run import DataFile
from windows.settings import Section

PACKAGE = "ai2-olmo-core"


class MixSection(Section):
    """A mix as a run names it.

    Attributes
    ----------
    name
        As OLMo-core calls it, such as ``OLMo-mix-0925-official``.
    base
        What stands before every path: a URL, or a folder relative to the run file.
    tokenizer
        What ``{TOKENIZER}`` stands for.
    list
        A file with the mix's lines, a path relative to the run file or a URL; by default the one
        in an installed ai2-olmo-core.
    sizes
        A manifest of the files' sizes, relative to the run file; by default whoever serves the
        files is asked.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    base: str
    tokenizer: str
    list: str | None = None
    sizes: str | None = None


@dataclass(frozen=True)
class MixFile:
    """One line of a mix: its source, its path as listed, and where it lies."""

    source: str
    path: str
    address: str


@dataclass(frozen=True)
class SizeManifest:
    """Sizes of token files by path or address, and what the manifest says of itself."""

    bytes: Mapping[str, int]
    note: str


def mix_files(section: MixSection, text: str) -> tuple[MixFile, ...]:
    """Read a mix's lines.

    Raises
    ------
    DataError
        A line is not ``source,path``, or there is none.
    """
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        source, comma, path = line.partition(",")
        if not (comma and source.strip() and path.strip()):
            raise DataError(
                "not a line of a mix",
                where=f"mix {section.name}, line {number}",
                got=repr(line[:80]),
                do="write source,path",
            )
        path = path.strip().replace("{TOKENIZER}", section.tokenizer)
        found.append(MixFile(source.strip(), path, f"{section.base.rstrip('/')}/{path}"))
    if not found:
        raise DataError("a mix without files", where=f"mix {section.name}", do="give its lines")
    return tuple(found)


def installed_mix(name: str) -> str | None:
    """Return the text of a mix that an installed ai2-olmo-core brings, or None."""
    # Found without being imported: that would take seconds, and torch.
    spec = importlib.util.find_spec("olmo_core")
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / "data" / "mixes" / f"{name}.txt"
    return path.read_text(encoding="utf-8") if path.is_file() else None


def read_sizes(path: Path) -> SizeManifest:
    """Read a manifest of file sizes: CSV with the columns ``path,bytes``.

    Lines that begin with ``#`` before the columns' names say where the sizes are from.

    Raises
    ------
    ConfigError
        It cannot be read, has other columns, or names a file twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            "the manifest of file sizes cannot be read",
            where=str(path),
            got=error.strerror or "" if isinstance(error, OSError) else "not UTF-8",
            do="give a CSV file with the columns path,bytes",
        ) from error
    head = [line for line in lines if line.startswith("#")]
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    sizes: dict[str, int] = {}
    for number, row in enumerate(rows, start=len(head) + 2):
        name, size = row.get("path"), row.get("bytes")
        if name is None or size is None or not size.strip().isdecimal() or name in sizes:
            raise ConfigError(
                "not a line of a size manifest, or one for a file that was named before",
                where=f"{path}, line {number}",
                got=",".join(map(str, row.values()))[:80],
                do="write path,bytes with one line for each file",
            )
        sizes[name] = int(size)
    return SizeManifest(sizes, " ".join(line.lstrip("# ").strip() for line in head))


def sized(files: Sequence[MixFile], manifest: SizeManifest, where: str) -> tuple[DataFile, ...]:
    """Give every file of a mix its size.

    Raises
    ------
    ConfigError
        The manifest lacks a file, by its path in the mix and by its address.
    """
    sizes = manifest.bytes
    missing = [file.path for file in files if file.path not in sizes and file.address not in sizes]
    if missing:
        raise ConfigError(
            f"{len(missing)} of {len(files)} files of the mix have no size here",
            where=where,
            got=f"no line for {missing[0]}",
            do="list every file of the mix: one missing size changes the whole order",
        )
    return tuple(
        DataFile(
            source=file.source,
            path=file.address,
            bytes=sizes[file.path] if file.path in sizes else sizes[file.address],
        )
        for file in files
    )
