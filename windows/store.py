"""The artefact store: results in folders that are complete or do not exist.

::

    <root>/<kind>/<label>-<id12>/        an artefact
        …                                what was made
        config.yaml                      the resolved configuration it was made from
        SHA256SUMS                       coreutils format: `sha256sum -c SHA256SUMS` checks it
        logs/                            whatever differs from one making to the next; not hashed
        record.json                      written last: who, when, from what
    <root>/<kind>/<label>-<id12>.part/   one being made, or one whose making was cut short

The id says what was asked for (kind, recipe version, parameters, the *content* of the parents); the
content says what came out.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import filelock
import yaml

from windows import files
from windows.errors import ConfigError, StoreError
from windows.identity import content_id, hash_file, plain
from windows.provenance import provenance

RECORD, SUMS, CONFIG, LOGS = "record.json", "SHA256SUMS", "config.yaml", "logs"
PART = ".part"
SCHEMA = 1

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


@dataclass(frozen=True)
class Artefact:
    """A finished folder: its id, its `content` (SHA-256 of its SHA256SUMS), its parents' ids."""

    path: Path
    id: str
    kind: str
    label: str
    content: str
    parents: tuple[str, ...]


@dataclass(frozen=True)
class Recipe:
    """What is to be made.

    Parameters
    ----------
    kind
        What sort of thing; the folder it lies in.
    label
        A name for people. It bears no identity.
    version
        Stands for the code: raise it when the same parameters come to give other bytes.
    parameters
        Everything else that decides the bytes; see `windows.identity.plain` for what may stand
        here.
    parents
        The artefacts read while making; their content bears identity, in this order.
    """

    kind: str
    label: str
    version: int
    parameters: Mapping[str, Any]
    parents: tuple[Artefact, ...] = ()


class Store:
    """The artefacts below one folder. Hold a `StoreLock` on the folder while building.

    Parameters
    ----------
    root
        The folder; need not exist yet.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def identify(self, recipe: Recipe) -> str:
        """Return the recipe's id, 64 hex digits; ConfigError if a parameter has no stable form."""
        contents = [parent.content for parent in recipe.parents]
        return _identity(recipe.kind, recipe.version, recipe.parameters, contents)

    def find(self, recipe: Recipe) -> Artefact | None:
        """Return the artefact with the recipe's id, whatever its label, or None."""
        wanted = self.identify(recipe)
        folder = self.root / _name(recipe.kind, "kind")
        exact = folder / f"{_name(recipe.label, 'label')}-{wanted[:12]}"
        others = sorted(path for path in folder.glob(f"*-{wanted[:12]}") if path != exact)
        for path in (exact, *others):
            if (path / RECORD).is_file():
                return self._expect(path, wanted)
        return None

    def list(self) -> "list[Artefact]":
        """Return every artefact, by kind and folder name."""
        found = sorted(self.root.glob(f"*/*/{RECORD}"))
        return [self.open(path.parent) for path in found if path.parent.suffix != PART]

    def open(self, path: Path) -> Artefact:
        """Return the artefact at `path`; StoreError if it is none or its own files disagree."""
        record = _read_record(path)
        artefact = Artefact(
            path=path,
            id=record["id"],
            kind=record["kind"],
            label=record["label"],
            content=record["content"],
            parents=tuple(parent["id"] for parent in record["parents"]),
        )
        sums = path / SUMS
        if not sums.is_file() or hash_file(sums) != artefact.content:
            raise StoreError(
                "the checksums are not those of the record",
                where=str(sums),
                do="delete this artefact's folder and run the same command again",
            )
        return artefact

    def build(
        self, recipe: Recipe, make: Callable[[Path], None], *, config: Mapping[str, Any]
    ) -> tuple[Artefact, bool]:
        """Return the recipe's artefact, made by `make` unless it was there already.

        Parameters
        ----------
        recipe
            What is to be made.
        make
            Fills the folder it is given, which may hold what an attempt cut short left there,
            except ``.tmp`` files. It ends with the same bytes either way, leaves no ``.tmp`` file
            and no link, and writes what differs from one making to the next to ``logs/`` only.
        config
            The resolved configuration. It is hashed with the rest: no time, host or path belongs in
            it.

        Returns
        -------
        artefact, reused
            The artefact, and True if `make` was not called.

        Raises
        ------
        StoreError
            `make` left something that an artefact cannot hold.
        Exception
            Whatever `make` raised, unchanged; then there is no record, and the next attempt
            resumes.
        """
        found = self.find(recipe)
        if found is not None:
            return found, True
        resolved = plain(config, "config")
        identity = self.identify(recipe)
        final = self.root / recipe.kind / f"{recipe.label}-{identity[:12]}"
        part = final.with_name(final.name + PART)
        _prepare(part)
        make(part)
        _finish(part, recipe, identity, resolved)
        _publish(part, final)
        return self.open(final), False

    def _expect(self, path: Path, identity: str) -> Artefact:
        artefact = self.open(path)
        if artefact.id != identity:
            raise StoreError(
                "the record is another artefact's",
                where=str(path / RECORD),
                got=f"id {artefact.id[:12]}",
                do="delete this folder, or give it back the name its record states",
            )
        return artefact


class StoreLock:
    """One process per store: a context manager that holds the store or refuses at once.

    The lock is the operating system's, so it ends with its holder, however that ends. Within one
    process it may be taken again.

    Parameters
    ----------
    root
        The store's folder; made if it is not there.

    Raises
    ------
    StoreError
        On entry, when another process holds the store.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._holder = root / ".lock-holder"
        self._lock = filelock.FileLock(root / ".lock", is_singleton=True, thread_local=False)

    def __enter__(self) -> Self:
        self.root.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(blocking=False)
        except filelock.Timeout as error:
            raise StoreError(
                "another process is using this folder",
                where=str(self.root),
                got=self._holder_text(),
                do="wait for it to end, or name another folder with --out",
            ) from error
        self._holder.write_text(f"process {os.getpid()}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()

    def _holder_text(self) -> str:
        try:
            return self._holder.read_text()
        except OSError:
            return ""


def verify(path: Path) -> list[str]:
    """Return what is wrong with an artefact, one line a fault; empty when every byte still matches.

    Reads every file. ``logs/`` is not looked at. Works wherever the folder has been copied to.
    """
    try:
        record = _read_record(path)
        sums = _read_sums(path)
    except StoreError as error:
        return [str(error)]
    faults = []
    if hash_file(path / SUMS) != record["content"]:
        faults.append(f"changed: {SUMS} is not the one that {RECORD} states")
    contents = [parent["content"] for parent in record["parents"]]
    if _identity(record["kind"], record["version"], record["parameters"], contents) != record["id"]:
        faults.append(f"changed: the id in {RECORD} is not that of its parameters and parents")
    there = {name: path / name for name in _payload(path)}
    faults += [f"missing: {name}" for name in sums if name not in there]
    faults += [f"added: {name}" for name in there if name not in sums]
    faults += [
        f"changed: {name}"
        for name, file in there.items()
        if name in sums and (file.is_symlink() or hash_file(file) != sums[name])
    ]
    return faults


def _identity(kind: str, version: int, parameters: Mapping[str, Any], contents: list[str]) -> str:
    parts = {"kind": kind, "version": version, "parents": contents}
    return content_id({**parts, "parameters": plain(parameters, "parameters")})


def _name(text: str, role: str) -> str:
    if not _NAME.fullmatch(text) or text.endswith((PART, files.SUFFIX)):
        raise ConfigError(
            f"not a {role} that can be part of a folder's name",
            where=role,
            got=repr(text),
            do="use at most 100 letters, digits, dots, dashes, pluses and underscores",
        )
    return text


def _prepare(part: Path) -> None:
    """Make the folder fit for an attempt: no claim to be complete, no half-written file."""
    part.mkdir(parents=True, exist_ok=True)
    for name in (RECORD, SUMS, CONFIG):
        (part / name).unlink(missing_ok=True)
    # A killed writer cannot remove its own.
    for stale in sorted(part.rglob(f"*{files.SUFFIX}")):
        files.remove(stale)


def _finish(part: Path, recipe: Recipe, identity: str, config: Any) -> None:
    """Hash what was made, then write the record."""
    if (part / SUMS).exists() or (part / RECORD).exists():
        raise StoreError(f"{SUMS} and {RECORD} are the store's own to write", where=str(part))
    text = yaml.safe_dump(config, sort_keys=True, allow_unicode=True, default_flow_style=False)
    files.write_atomic(part / CONFIG, text)
    sums = "".join(f"{hash_file(part / name)}  {name}\n" for name in _checked_payload(part))
    files.write_atomic(part / SUMS, sums)
    # Everything the record vouches for is on the disk before the record is.
    files.sync_tree(part)
    record = {
        "schema": SCHEMA,
        "id": identity,
        "kind": recipe.kind,
        "label": recipe.label,
        "version": recipe.version,
        "parameters": plain(recipe.parameters, "parameters"),
        "parents": [
            {"kind": parent.kind, "label": parent.label, "id": parent.id, "content": parent.content}
            for parent in recipe.parents
        ],
        "content": hashlib.sha256(sums.encode()).hexdigest(),
        **provenance(),
    }
    files.write_atomic(part / RECORD, json.dumps(record, indent=2) + "\n")


def _publish(part: Path, final: Path) -> None:
    if final.exists() and not (final / RECORD).exists():
        # What a removal that was cut short leaves: without its record it is nobody's.
        shutil.rmtree(final)
    part.rename(final)
    files.sync(final.parent)
    files.sync(final.parent.parent)


def _payload(folder: Path) -> Iterator[str]:
    """Yield the relative POSIX names of what the checksums cover, in byte order."""
    names = []
    for base, folders, plain_files in os.walk(folder):
        here = Path(base)
        if here == folder and LOGS in folders:
            folders.remove(LOGS)
        links = [name for name in folders if (here / name).is_symlink()]
        names += [(here / name).relative_to(folder).as_posix() for name in (*plain_files, *links)]
    own = {SUMS, RECORD}
    yield from sorted((name for name in names if name not in own), key=os.fsencode)


def _checked_payload(part: Path) -> list[str]:
    names = list(_payload(part))
    for name in names:
        fault = _unfit(part / name, name)
        if fault:
            raise StoreError(fault, where=str(part / name))
    return names


def _unfit(path: Path, name: str) -> str:
    if path.name.endswith(files.SUFFIX):
        return "a temporary file was left behind"
    if path.is_symlink() or not path.is_file():
        return "neither a file nor a folder, and an artefact holds its own bytes only"
    if not name.isprintable() or "\\" in name:
        return "a name that SHA256SUMS cannot state as it is"
    return ""


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads((path / RECORD).read_bytes())
    except FileNotFoundError as error:
        raise StoreError(
            f"not an artefact: there is no {RECORD}",
            where=str(path),
            do="give the folder of a finished artefact, or run the command that makes it",
        ) from error
    except (OSError, ValueError) as error:
        raise _unreadable(path / RECORD, error) from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise StoreError(
            "the record has a schema this version does not read",
            where=str(path / RECORD),
            do="build the artefact again, or read it with the version that made it",
        )
    return record


def _read_sums(path: Path) -> dict[str, str]:
    try:
        lines = (path / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise _unreadable(path / SUMS, error) from error
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _unreadable(path: Path, error: Exception) -> StoreError:
    return StoreError(
        "this file of an artefact cannot be read",
        where=str(path),
        got=error.strerror or "" if isinstance(error, OSError) else str(error),
        do="make it readable, or delete its folder and run the same command again",
    )
