"""Where a study's data and checkpoints lie: made here for an embedded run, else as given."""

from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from curate.given import given_files
from curate.made import Made
from curate.study import Study
from scoring.prefetch import Target
from windows.checkpoints.folder import Checkpoint, catalog
from windows.checkpoints.hub import HubRevision
from windows.errors import ConfigError
from windows.files import write_atomic
from windows.identity import hash_file
from windows.manifest import MANIFEST, data_files
from windows.order import DataOrder
from windows.planted import write_corpus, write_truth
from windows.progress import Reporter
from windows.run import DataFile, RunConfig, Window, span, tile
from windows.store import Artefact, Recipe
from windows.tokens import TokenFiles

HELDOUT_BATCHES = 8


class Sources:
    """A study's run: its order, its token files, its checkpoints.

    Parameters
    ----------
    made
        Makes what an embedded run lacks.
    """

    def __init__(self, study: Study, made: Made, reporter: Reporter) -> None:
        self.study = study
        self.run: RunConfig = study.run_config
        self._made = made
        self._reporter = reporter

    def corpus(self) -> Artefact:
        """Return the artefact that stands for the run's data: the files, or their checksums."""
        return self._corpus

    def pretrain(self) -> Artefact:
        """Return the artefact that stands for the run's checkpoints."""
        return self._pretrain

    @cached_property
    def _corpus(self) -> Artefact:
        section, seed = self.study.run.corpus, self.study.config.seed
        assert self.study.has_data or section, "nothing that reads data is begun without them"
        if section is None:
            recipe = Recipe("data", self._label, 1, self._data_parameters())
            return self._made.artefact("corpus", recipe, lambda part: _note(part, recipe))
        recipe = Recipe("corpus", self._label, 1, self._corpus_parameters())
        return self._made.artefact(
            "corpus", recipe, lambda part: write_corpus(section, self.run, part, seed=seed)
        )

    def truth(self) -> Artefact | None:
        """Return the artefact that tells what was planted; None for a run that was given."""
        section, seed = self.study.run.corpus, self.study.config.seed
        if section is None:
            return None
        recipe = Recipe("truth", self._label, 1, self._corpus_parameters())
        return self._made.artefact(
            "truth", recipe, lambda part: write_truth(section, self.run, part, seed=seed)
        )

    @cached_property
    def _pretrain(self) -> Artefact:
        section, seed = self.study.run.pretraining, self.study.config.seed
        if self.study.released:
            recipe = Recipe("checkpoints", self._label, 1, self._released_parameters())
            return self._made.artefact("pretrain", recipe, lambda part: _note(part, recipe))
        if section is None:
            data = (self.corpus(),) if self.study.has_data else ()
            files = {c.name: _contents(c.path) for c in self.checkpoints()}
            recipe = Recipe("checkpoints", self._label, 1, {"files": files}, data)
            return self._made.artefact("pretrain", recipe, lambda part: _note(part, recipe))
        corpus = self.corpus()
        parameters = {"pretraining": section, "run": self._identity(), "seed": seed}
        recipe = Recipe("run", self._label, 1, parameters, (corpus,))

        def make(part: Path) -> None:
            from trainers.pretrain import pretrain

            with self._reporter.task("pre-training", section.steps) as advance:
                pretrain(
                    self.run,
                    section,
                    self.token_files(),
                    part,
                    tokenizer=corpus.path,
                    seed=seed,
                    advance=advance,
                )

        return self._made.artefact("pretrain", recipe, make)

    def data_folder(self) -> Path:
        """Return the folder of the run's token files with their manifest.

        Raises
        ------
        ConfigError
            The run file lists its files itself, and curated shards need their manifest.
        """
        folder = self.corpus().path if self.study.run.embedded else self.study.data_folder
        if folder is None:
            raise ConfigError(
                "the run's files have no manifest",
                where=f"{self.study.run_path}: data",
                do="name the folder that holds the files and their manifest.json",
            )
        return folder

    def files(self) -> tuple[DataFile, ...]:
        """Return the run's token files with their full paths, in the run's order."""
        return data_files(self.corpus().path) if self.study.run.embedded else self._given()

    def token_files(self) -> TokenFiles:
        """Return the run's token files, sizes checked."""
        files = self.files()
        return TokenFiles(
            [Path(file.path) for file in files],
            sequence_length=self.run.sequence_length,
            token_bytes=self.run.token_bytes,
            expected_bytes=[file.bytes for file in files],
        )

    def order(self) -> DataOrder:
        """Return the run's data order."""
        return self._order

    @cached_property
    def _order(self) -> DataOrder:
        return self.run.order(tuple(file.bytes for file in self.files()))

    def windows(self) -> list[Window]:
        """Return the study's windows; by the step map alone where the data are not here."""
        section = self.study.config.windows
        if not self.study.has_data:
            return [span(self.run, first, end) for first, end in pairwise(self.study.edges)]
        return tile(self.run, self.order(), section.first_step, self.study.end_step, section.every)

    def heldout_batches(self) -> tuple[int, int]:
        """Return the batches `[first, end)` that neither the windows nor the base have read.

        Raises
        ------
        ConfigError
            The windows end with the run's data.
        """
        first = self.run.batch_of_step(self.study.end_step)
        end = min(first + HELDOUT_BATCHES, self.order().num_batches)
        if first >= end:
            raise ConfigError(
                "no batch of the run is left to hold out",
                where="windows.end_step",
                got=str(self.study.end_step),
                do="end the windows before the run's last batch",
            )
        return first, end

    def heldout_tokens(self) -> NDArray[np.uint32]:
        """Read uint32[n, L]: instances that neither the windows nor an arm train on."""
        order = self.order()
        return self.token_files().instances(order, order.instances(*self.heldout_batches()))

    def targets(self) -> list[Target]:
        """Return what is scored: the checkpoints at the windows' edges, wherever they lie."""
        edges = set(self.study.edges)
        released = [entry for entry in self.study.released if entry.step in edges]
        return [*released] or [*self.checkpoints()]

    def checkpoints(self) -> list[Checkpoint]:
        """Return the local checkpoints at the windows' edges, by step."""
        folder = self.study.checkpoint_folder or self.pretrain().path / "checkpoints"
        edges = set(self.study.edges)
        found = catalog(folder, self.run.name, self.run.stage)
        return [c for c in found if c.stage == self.run.stage and c.step in edges]

    def checkpoint(self, step: int) -> Checkpoint:
        """Return the checkpoint after `step` steps, one of the windows' edges."""
        return next(c for c in self.checkpoints() if c.step == step)

    def _given(self) -> tuple[DataFile, ...]:
        return given_files(self.study)

    @property
    def _label(self) -> str:
        # A run's name may hold slashes, a folder's may not.
        return self.run.name.replace("/", "-")[:64]

    def _data_parameters(self) -> dict[str, object]:
        files = enumerate(self._given())
        hashes = {f"{i:05d} {file.source}": hash_file(Path(file.path)) for i, file in files}
        folder = self.study.data_folder
        # An export quotes the manifest, and the run's order decides what a window held.
        manifest = hash_file(folder / MANIFEST) if folder else None
        return {"run": self._identity(), "files": hashes, "manifest": manifest}

    def _released_parameters(self) -> dict[str, object]:
        edges = set(self.study.edges)
        addresses = [entry.address for entry in self.study.released if entry.step in edges]
        named = {a.name: a.commit for a in addresses if isinstance(a, HubRevision)}
        return {"run": self._identity(), "revisions": named}

    def _identity(self) -> RunConfig:
        # Where a run lies is no part of what it is.
        return self.run.model_copy(update={"data": None, "checkpoints": None, "files": ()})

    def _corpus_parameters(self) -> dict[str, object]:
        return {
            "corpus": self.study.run.corpus,
            "run": self._identity(),
            "seed": self.study.config.seed,
        }


def _contents(folder: Path) -> dict[str, str]:
    """Hash a checkpoint's files: weights in one piece or many, tokenizer, optimizer state."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    shown = [path for path in paths if not any(part.startswith(".") for part in path.parts)]
    return {path.as_posix(): hash_file(folder / path) for path in shown}


def _note(part: Path, recipe: Recipe) -> None:
    write_atomic(part / "what.txt", f"checksums of {recipe.label} are in config.yaml\n")
