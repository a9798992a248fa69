"""Orders kept on disk, shared by all studies: shuffled once, memory-mapped ever after.

The shuffle of a large run takes a minute and 4 bytes an instance, and depends on nothing but the
number of chunks and a seed. So it is kept outside any study, as artefacts of a store of its own:
``order.u32``, raw little-endian uint32, and where it was asked for ``inverse.u32``.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import filelock

from windows.order import DataOrder
from windows.permutation import DISK, SCAN, Ids, Kept, Permutation, shuffled
from windows.progress import Reporter
from windows.store import Artefact, Recipe, Store

CACHE_VARIABLE = "MODEHOP_CACHE"
ORDER_FILE, INVERSE_FILE = "order.u32", "inverse.u32"

# Smaller ones are made in memory, in less than a second.
KEPT_FROM = 1 << 24


def cache_folder() -> Path:
    """Return where things are kept that no study owns: `CACHE_VARIABLE`, else the user's cache."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "modehop"


class OrderCache:
    """Permutations on disk.

    Parameters
    ----------
    folder
        Where they lie; made when the first is kept.
    reporter
        Told what takes a minute.
    kept_from
        Permutations of fewer chunks are not kept.
    """

    def __init__(self, folder: Path, reporter: Reporter, *, kept_from: int = KEPT_FROM) -> None:
        self.folder = folder
        self._reporter = reporter
        self._kept_from = kept_from

    def kept(self, order: DataOrder, *, inverse: bool = False) -> DataOrder:
        """Return the order with its permutation on disk, and its inverse where there is one.

        An order that is small, or not shuffled, is returned as it is.

        Parameters
        ----------
        inverse
            Keep the inverse as well where it is missing: as large again, and `batch_of` no longer
            has to look through the permutation.

        Raises
        ------
        StoreError
            What is kept does not match its record.
        """
        wanted = order.permutation
        if wanted.seed is None or wanted.count < self._kept_from:
            return order
        made = self._artefact(_recipe("order", wanted), _write_order, wanted, make=True)
        assert made is not None
        kept = Kept(made.path / ORDER_FILE)
        recipe = _recipe("order-inverse", wanted, made)
        there = self._artefact(recipe, _write_inverse, replace(wanted, kept=kept), make=inverse)
        if there is not None:
            kept = replace(kept, inverse=there.path / INVERSE_FILE)
        return replace(order, kept=kept)

    def lacks(self, order: DataOrder) -> bool:
        """Tell whether `kept` would have to make the permutation."""
        wanted = order.permutation
        if wanted.seed is None or wanted.count < self._kept_from:
            return False
        return Store(self.folder).find(_recipe("order", wanted)) is None

    def _artefact(
        self,
        recipe: Recipe,
        write: Callable[[Path, Permutation], None],
        wanted: Permutation,
        *,
        make: bool,
    ) -> Artefact | None:
        store = Store(self.folder)
        found = store.find(recipe)
        if found is not None or not make:
            return found
        gib = wanted.count * DISK.itemsize / 2**30
        with self._alone():
            self._reporter.note(
                f"making {recipe.kind} of {wanted.count:,} ids, {gib:.1f} GiB, once"
            )
            return store.build(recipe, lambda part: write(part, wanted), config={})[0]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait for whoever else is keeping an order here."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.folder / ".lock")
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            self._reporter.note("waiting for another process that is keeping an order")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


def _recipe(kind: str, wanted: Permutation, *parents: Artefact) -> Recipe:
    parameters = {"count": wanted.count, "seed": wanted.seed}
    return Recipe(kind, f"{wanted.count}-seed{wanted.seed}", 1, parameters, parents)


def _write_order(part: Path, wanted: Permutation) -> None:
    assert wanted.seed is not None
    _save(part / ORDER_FILE, shuffled(wanted.count, wanted.seed))


def _write_inverse(part: Path, wanted: Permutation) -> None:
    _save(part / INVERSE_FILE, wanted.inverted())


def _save(path: Path, ids: Ids) -> None:
    with path.open("wb") as file:
        for start in range(0, len(ids), SCAN):
            file.write(ids[start : start + SCAN].astype(DISK, copy=False).data)
