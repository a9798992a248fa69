"""The study's artefacts: found, made, or only looked for."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windows.errors import ModehopError
from windows.progress import Reporter
from windows.store import Artefact, Recipe, Store


@dataclass(frozen=True)
class Step:
    """One artefact of a study: its id is known once everything it is made from exists."""

    name: str
    kind: str
    label: str
    id: str | None
    done: bool


class NotMadeError(ModehopError):
    """An artefact that was only looked for is not there."""


class Made:
    """Makes artefacts in a store, each once; or, with `look_only`, lists what it would make.

    Parameters
    ----------
    look_only
        Make nothing: what is missing raises `NotMadeError`.
    """

    def __init__(self, root: Path, reporter: Reporter, *, look_only: bool = False) -> None:
        self.store = Store(root)
        self.reporter = reporter
        self.look_only = look_only
        self._steps: dict[tuple[str, str], Step] = {}
        self._artefacts: dict[tuple[str, str], Artefact] = {}

    def artefact(self, step: str, recipe: Recipe, make: Callable[[Path], None]) -> Artefact:
        """Return the recipe's artefact, made where it is missing.

        Raises
        ------
        NotMadeError
            It is missing, and making is not wanted.
        """
        return self.several(step, [recipe], lambda missing: self._make(missing[0], make))[0]

    def several(
        self, step: str, recipes: list[Recipe], make: Callable[[list[Recipe]], None]
    ) -> list[Artefact]:
        """Return artefacts of one step, of which `make` is given the missing ones together."""
        missing = [recipe for recipe in recipes if not self._find(step, recipe)]
        if missing:
            if self.look_only:
                raise NotMadeError(f"{missing[0].kind}/{missing[0].label} is not made yet")
            make(missing)
            for recipe in missing:
                self._find(step, recipe, fresh=True)
        return [self._artefacts[recipe.kind, recipe.label] for recipe in recipes]

    def steps(self) -> Iterator[Step]:
        """Yield what was found or looked for, in the order in which it was asked for."""
        yield from self._steps.values()

    def artefacts(self) -> list[Artefact]:
        """Return every artefact found or made, in the order in which it was asked for."""
        return list(self._artefacts.values())

    def _find(self, step: str, recipe: Recipe, *, fresh: bool = False) -> bool:
        key = (recipe.kind, recipe.label)
        if key in self._artefacts:
            return True
        found = self.store.find(recipe)
        identity = self.store.identify(recipe)
        self._steps[key] = Step(step, *key, identity, found is not None)
        if found is None:
            return False
        self._artefacts[key] = found
        if not fresh and not self.look_only:
            self.reporter.note(f"reused {found.path.relative_to(self.store.root)}")
        return True

    def _make(self, recipe: Recipe, make: Callable[[Path], None]) -> None:
        self.store.build(recipe, make, config=plain_parameters(recipe))


def plain_parameters(recipe: Recipe) -> Mapping[str, Any]:
    """Return what goes into an artefact's `config.yaml`: all that decides its bytes but parents."""
    return {"kind": recipe.kind, "version": recipe.version, **recipe.parameters}
