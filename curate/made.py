"""The study's artefacts: found, made, or only looked for."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


class Made:
    """Makes artefacts in a store, each once; or, with `look_only`, lists what it would make.

    Parameters
    ----------
    look_only
        Make nothing: a stand-in, whose id is empty, takes the place of what is missing.

    Attributes
    ----------
    made_any
        Whether anything was missing and has been made.
    """

    def __init__(self, root: Path, reporter: Reporter, *, look_only: bool = False) -> None:
        self.store = Store(root)
        self.reporter = reporter
        self.look_only = look_only
        self.made_any = False
        self._steps: dict[tuple[str, str], Step] = {}
        self._artefacts: dict[tuple[str, str], Artefact] = {}

    def artefact(self, step: str, recipe: Recipe, make: Callable[[Path], None]) -> Artefact:
        """Return the recipe's artefact, made where it is missing."""
        return self.several(step, [recipe], lambda missing: self._make(missing[0], make))[0]

    def several(
        self, step: str, recipes: list[Recipe], make: Callable[[list[Recipe]], None]
    ) -> list[Artefact]:
        """Return artefacts of one step, of which `make` is given the missing ones together."""
        new = [recipe for recipe in recipes if _key(recipe) not in self._artefacts]
        missing = [recipe for recipe in new if not self._find(step, recipe)]
        if new and not self.look_only and len(missing) < len(new):
            self.reporter.note(f"reused {_words(new, missing)}")
        if missing and not self.look_only:
            make(missing)
            self.made_any = True
        for recipe in missing:
            if not self._find(step, recipe):
                assert self.look_only, f"{recipe.kind}/{recipe.label} was not made"
                self._artefacts[_key(recipe)] = Artefact(
                    Path(), "", recipe.kind, recipe.label, "", ()
                )
        return [self._artefacts[_key(recipe)] for recipe in recipes]

    def steps(self) -> Iterator[Step]:
        """Yield what was asked for, in that order."""
        yield from self._steps.values()

    def artefacts(self) -> list[Artefact]:
        """Return every artefact found or made, by kind and label."""
        return [self._artefacts[key] for key in sorted(self._artefacts)]

    def _find(self, step: str, recipe: Recipe) -> bool:
        known = all(parent.id for parent in recipe.parents)
        found = self.store.find(recipe) if known else None
        identity = self.store.identify(recipe) if known else None
        key = _key(recipe)
        self._steps[key] = Step(step, *key, identity, found is not None)
        if found is not None:
            self._artefacts[key] = found
        return found is not None

    def _make(self, recipe: Recipe, make: Callable[[Path], None]) -> None:
        self.store.build(recipe, make, config=plain_parameters(recipe))


def plain_parameters(recipe: Recipe) -> Mapping[str, Any]:
    """Return what goes into an artefact's `config.yaml`: all that decides its bytes but parents."""
    return {"kind": recipe.kind, "version": recipe.version, **recipe.parameters}


def _key(recipe: Recipe) -> tuple[str, str]:
    return recipe.kind, recipe.label


def _words(new: list[Recipe], missing: list[Recipe]) -> str:
    reused = [recipe for recipe in new if recipe not in missing]
    if len(reused) == 1:
        return f"{reused[0].kind}/{reused[0].label}"
    return f"{len(reused)} of {len(new)} {reused[0].kind} artefacts"
