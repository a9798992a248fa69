"""A pre-training run small enough to be trained in a second, and its corpus."""

from pathlib import Path

import pytest
from transformers.utils import logging

from trainers.pretrain import pretrain
from trainers.settings import ModelSection, OptimizerSection, PretrainingSection
from windows.manifest import data_files
from windows.planted import PlantedSection, write_corpus
from windows.run import RunConfig, tile
from windows.tokens import TokenFiles

MIX = {kind: 1.0 for kind in ("arith", "succ", "break", "rep", "repbreak", "filler", "list")}
SEED = 3


class TinyRun:
    """3 warm-up steps, 3 windows of 2 steps and 2 steps held out; 4 instances of 32 tokens each."""

    run = RunConfig.model_validate(
        {
            "name": "tiny",
            "sequence_length": 32,
            "seed": 34521,
            "step_map": [{"first_step": 0, "first_batch": 0, "batch_tokens": 4 * 32}],
            "tokenizer": {"vocab_size": 127, "eos_id": 1, "pad_id": 0},
        }
    )
    corpus = PlantedSection(
        regime="planted",
        warmup_steps=3,
        windows=3,
        window_steps=2,
        heldout_steps=2,
        warmup_mix=MIX,
        mix=MIX,
    )
    optimizer = OptimizerSection(clip=0.5)
    pretraining = PretrainingSection.model_validate(
        {
            "steps": 9,
            "checkpoint_first": 3,
            "checkpoint_every": 2,
            "ramp_steps": 2,
            "phases": [{"first_step": 0, "lr": 4e-3}, {"first_step": 3, "lr": 1e-3}],
            "model": ModelSection(hidden_size=16, layers=1, heads=2, intermediate_size=16),
            "optimizer": optimizer,
        }
    )
    seed = SEED
    steps = (3, 5, 7, 9)
    """Its checkpoints."""

    def __init__(self, root: Path) -> None:
        self.data, self.folder = root / "data", root / "run"
        write_corpus(self.corpus, self.run, self.data, seed=SEED)
        self.files = TokenFiles(
            [Path(file.path) for file in data_files(self.data)],
            sequence_length=self.run.sequence_length,
        )
        self.order = self.run.order(self.files.sizes)
        self.windows = tile(self.run, self.order, 3, 9, 2)
        self.heldout = self.files.instances(self.order, self.order.instances(9, 11))

    def pretrain(self, folder: Path, **changes: object) -> None:
        settings = {"tokenizer": self.data, "seed": SEED}
        pretrain(self.run, self.pretraining, self.files, folder, **(settings | changes))

    def checkpoint(self, step: int) -> Path:
        return self.folder / "checkpoints" / f"stage1-step{step}"

    @staticmethod
    def contents(folder: Path) -> dict[str, bytes]:
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }


@pytest.fixture(scope="session", autouse=True)
def quiet() -> None:
    logging.disable_progress_bar()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    """The run, trained without an interruption. Read it only."""
    made = TinyRun(tmp_path_factory.mktemp("tiny"))
    made.pretrain(made.folder)
    return made
