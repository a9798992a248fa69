from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from curate.export import ExportJob
from curate.settings import DecontaminationSection, MixtureSection, SelectSection
from windows.order import DataOrder
from windows.run import RunConfig, StepMapEntry, TokenizerFields, Window, tile
from windows.shards import (
    Bound,
    Manifest,
    data_files,
    describe_shard,
    write_bounds,
    write_manifest,
)
from windows.tokens import TokenFiles

LENGTH, BATCH, EOS = 16, 8, 1
SIZES = {"code/part-00000": 61 * 16 + 5, "web/part-00000": 100 * 16, "web/part-00001": 40 * 16 + 15}
TASK = "successive_answer/addition"
LABELS = ["neutral", "generalization", "pattern", "generalization", "undecided", "pattern"]
STRENGTHS = [0.0, 0.5, -0.25, 0.75, 0.1, -0.5, 0.3, 0.05]


@dataclass(frozen=True)
class ToyRun:
    """A run whose token ids equal their position plus 10, but for an EOS at every seventh."""

    run: RunConfig
    data: Path
    files: TokenFiles
    order: DataOrder
    windows: tuple[Window, ...]
    labels: Path

    def job(self, **changes):
        mixture = MixtureSection(
            select=SelectSection(by="label", label="generalization", windows=2),
            tokens=60 * LENGTH,
            repetitions=2,
            decontamination=DecontaminationSection(match="prompt"),
        )
        fields = {
            "name": "control-generalization",
            "mixture": mixture,
            "seed": 0,
            "run": self.run,
            "data": self.data,
            "windows": self.windows,
            "labels": self.labels,
            "task": TASK,
            "prompts": (),
        }
        return ExportJob(**(fields | changes))

    def mixture(self, **changes):
        return self.job().mixture.model_copy(update=changes)

    def stored(self, file):
        """All ids of a token file: the oracle of every copy."""
        return np.fromfile(self.files.paths[file], dtype="<u4")

    def plant(self, instance, start, tokens):
        """Overwrite tokens of an instance where they lie."""
        (file,), (offset,) = self.order.locate([instance])
        with self.files.paths[file].open("r+b") as stream:
            stream.seek(int(offset) + 4 * start)
            stream.write(np.asarray(tokens, dtype="<u4").tobytes())

    def instances(self, window):
        found = next(w for w in self.windows if w.name == window)
        return self.order.instances(found.first_batch, found.end_batch)


def write_token_files(folder):
    position, described = 0, []
    for name, size in SIZES.items():
        ids = np.arange(position, position + size, dtype="<u4") + 10
        ids[6::7] = EOS
        position += size
        path = folder / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        ids.tofile(path)
        ends = [*range(7, size, 7), size]
        starts = [0, *ends[:-1]]
        bounds = [Bound(s, e, f"{name}/{s}", name, 0, 0) for s, e in zip(starts, ends, strict=True)]
        write_bounds(folder / f"{name}.csv.gz", bounds)
        described.append(describe_shard(folder, f"{name}.npy", f"{name}.csv.gz"))
    manifest = Manifest(
        vocab_size=10**4, eos_id=EOS, sequence_length=LENGTH, unit="document", shards=described
    )
    write_manifest(folder, manifest)


def write_labels(path, windows):
    labels = [*LABELS, *["generalization"] * (len(windows) - len(LABELS))][: len(windows)]
    table = pl.DataFrame(
        {
            "window": [window.name for window in windows],
            "task": TASK,
            "label": labels,
            "first_batch": [window.first_batch for window in windows],
            "strength": STRENGTHS[: len(windows)],
        }
    )
    other = table.with_columns(task=pl.lit("another/task"), strength=-pl.col("strength"))
    pl.concat([other, table]).sample(fraction=1, shuffle=True, seed=0).write_parquet(path)


@pytest.fixture
def toy(tmp_path):
    data = tmp_path / "data"
    write_token_files(data)
    run = RunConfig(
        name="toy",
        sequence_length=LENGTH,
        seed=34521,
        step_map=(StepMapEntry(first_step=0, first_batch=0, batch_tokens=BATCH * LENGTH),),
        tokenizer=TokenizerFields(vocab_size=10**4, eos_id=EOS, pad_id=0),
    )
    files = TokenFiles([Path(f.path) for f in data_files(data)], sequence_length=LENGTH)
    order = run.order(files.sizes)
    windows = tuple(tile(run, order, 1, 25, 3))
    write_labels(tmp_path / "labels.parquet", windows)
    return ToyRun(run, data, files, order, windows, tmp_path / "labels.parquet")
