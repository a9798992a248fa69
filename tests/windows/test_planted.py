"""The planted corpus through the order it was laid out for."""

import gzip
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from pydantic import ValidationError

from windows.errors import ConfigError
from windows.manifest import data_files, read_manifest
from windows.order import DataOrder
from windows.planted import (
    TRUTH,
    VARIED,
    PlantedSection,
    check_run,
    file_sizes,
    plant_rows,
    window_shares,
    write_corpus,
    write_truth,
)
from windows.planted_documents import ANSWER, EOS, NUMBERS, QUESTION, TYPES, WORDS
from windows.run import RunConfig
from windows.shards import read_bounds
from windows.tokens import TokenFiles

MIX = {
    "filler": 0.2,
    "arith": 0.3,
    "list": 0.1,
    "succ": 0.14,
    "break": 0.06,
    "rep": 0.14,
    "repbreak": 0.06,
}
SUMS = ("arith", "break", "succ", "repbreak", "rep")
SEED = 5


def section_of(**changes: Any) -> PlantedSection:
    fields = {
        "regime": "planted",
        "warmup_steps": 3,
        "windows": 4,
        "window_steps": 2,
        "heldout_steps": 2,
        "warmup_mix": MIX,
        "mix": MIX,
    }
    return PlantedSection.model_validate(fields | changes)


def run_of(length: int = 64, batch: int = 8, **changes: Any) -> RunConfig:
    fields = {
        "name": "toy",
        "sequence_length": length,
        "seed": 34521,
        "step_map": [{"first_step": 0, "first_batch": 0, "batch_tokens": batch * length}],
        "tokenizer": {"vocab_size": 127, "eos_id": 1, "pad_id": 0},
    }
    return RunConfig.model_validate(fields | changes)


class Corpus:
    """A corpus as a run sees it."""

    def __init__(self, folder: Path, section: PlantedSection, run: RunConfig, seed: int = SEED):
        write_corpus(section, run, folder, seed=seed)
        write_truth(section, run, folder.with_name("truth"), seed=seed)
        self.folder, self.section, self.run = folder, section, run
        self.files = TokenFiles(
            [Path(file.path) for file in data_files(folder)],
            sequence_length=run.sequence_length,
            token_bytes=run.token_bytes,
            expected_bytes=[file.bytes for file in data_files(folder)],
        )
        self.order: DataOrder = run.order(self.files.sizes)
        self.truth = pl.read_parquet(folder.with_name("truth") / TRUTH)

    def batches(self, first: int, end: int) -> npt.NDArray[np.uint32]:
        return self.files.instances(self.order, self.order.instances(first, end))

    def contents(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus(tmp_path_factory.mktemp("planted") / "corpus", section_of(), run_of())


@pytest.mark.parametrize(
    ("length", "batch", "files", "token_bytes", "vocab"),
    [
        (64, 8, 4, 4, 127),
        (64, 32, 3, 4, 200),
        (16, 4, 4, 2, 127),
        (9, 2, 5, 1, 127),
        (3, 1, 1, 4, 127),
    ],
)
def test_the_order_delivers_the_planted_rows(
    tmp_path: Path, length: int, batch: int, files: int, token_bytes: int, vocab: int
):
    tokenizer = {"vocab_size": vocab, "eos_id": 1, "pad_id": 0}
    run = run_of(length, batch, token_bytes=token_bytes, tokenizer=tokenizer)
    made = Corpus(tmp_path / "corpus", section_of(files=files), run)
    planted = plant_rows(made.section, batch=batch, length=length, seed=SEED)
    assert made.files.sizes == tuple(file_sizes(made.section, run))
    assert made.order.num_batches == 3 + 4 * 2 + 2
    assert (made.batches(0, made.order.num_batches) == planted.tokens).all()
    for step in (0, 2, 3, made.order.num_batches - 1):
        rows = planted.tokens[step * batch : (step + 1) * batch]
        assert (made.batches(step, step + 1) == rows).all()
    assert read_manifest(made.folder).token_bytes == token_bytes


def test_rows_are_documents_end_to_end(corpus: Corpus):
    rows = plant_rows(corpus.section, batch=8, length=64, seed=SEED)
    assert (rows.tokens[:, -1] == EOS).all()
    for row in range(len(rows.tokens)):
        places = [(d.start, d.end) for d in rows.documents if d.row == row]
        assert places[0][0] == 0 and places[-1][1] == 64
        assert all(a[1] == b[0] for a, b in pairwise(places))
        ends = np.flatnonzero(rows.tokens[row] == EOS) + 1
        assert [end for _, end in places] == ends.tolist()


def test_instances_are_left_over_and_files_have_tails(corpus: Corpus):
    used = corpus.order.instances(0, corpus.order.num_batches)
    unused = np.setdiff1d(np.arange(corpus.order.num_instances), used)
    assert 0 < len(unused) < 8
    assert (corpus.order.batch_of(unused) == -1).all()
    assert all(size % (64 * 4) > 0 for size in corpus.files.sizes)
    assert len({size // (64 * 4) for size in corpus.files.sizes}) > 1, "files are uneven"


def test_bounds_agree_with_eos(corpus: Corpus):
    for index, path in enumerate(corpus.files.paths):
        tokens = np.fromfile(path, dtype="<u4")
        bounds = list(read_bounds(path.with_suffix("").with_suffix(".csv.gz")))
        assert bounds[0].start == 0 and bounds[-1].end == len(tokens)
        assert all(a.end == b.start for a, b in pairwise(bounds))
        ends = (np.flatnonzero(tokens == EOS) + 1).tolist()
        # The tail behind the last instance is a document that the file's end cuts.
        assert [b.end for b in bounds[:-1]] == ends
        assert bounds[-1].instance == -1 and len(tokens) - bounds[-1].start < 64
        files, offsets = corpus.order.locate([b.instance for b in bounds[:-1]])
        assert (files == index).all() and {b.file for b in bounds} == {index}
        starts = np.array([b.start for b in bounds[:-1]])
        assert (offsets == starts // 64 * 64 * 4).all()


def test_the_truth_is_where_it_says(corpus: Corpus):
    assert corpus.truth.columns == ["batch", "instance", "start", "end", "type"]
    for batch, instance, start, end, kind in corpus.truth.iter_rows():
        assert corpus.order.batch_of([instance]).tolist() == [batch]
        tokens = corpus.files.instances(corpus.order, [instance])[0, start:end].tolist()
        assert tokens[-1] == EOS and EOS not in tokens[:-1]
        body = tokens[:-1]
        if kind == "filler":
            assert min(body, default=WORDS) >= WORDS
        if kind in SUMS:
            assert set(body[::7]) <= {QUESTION}
            check_sums(kind, [body[at : at + 7] for at in range(0, len(body) - 6, 7)], end < 64)
    rows = corpus.order.num_batches * 8
    assert (corpus.truth["end"] - corpus.truth["start"]).sum() == rows * 64


def check_sums(kind: str, lines: list[list[int]], whole: bool) -> None:
    answers = [line[5] - NUMBERS for line in lines]
    facts = [line[1] + line[3] - 2 * NUMBERS == line[5] - NUMBERS for line in lines]
    assert all(line[4] == ANSWER for line in lines)
    if kind in ("arith", "break", "repbreak"):
        assert all(facts)
    step = int(kind in ("break", "succ"))
    rises = [b - a == step for a, b in pairwise(answers)]
    if kind in ("succ", "rep"):
        assert all(rises) and all(facts[:2])
    if kind in ("break", "repbreak") and whole:
        assert rises[0] and not all(rises)


@pytest.mark.parametrize("part", ["warm-up", "windows", "held out"])
def test_every_part_has_its_own_mix(tmp_path: Path, part: str):
    section = section_of(regime="iid", warmup_mix={"filler": 2}, mix={"arith": 1})
    made = Corpus(tmp_path / "corpus", section, run_of(29, 4))
    first, end = {"warm-up": (0, 3), "windows": (3, 11), "held out": (11, 13)}[part]
    tokens = made.batches(first, end)
    assert ((tokens[:, :-1] >= WORDS).all(), (tokens[:, ::7][:, :4] == QUESTION).all()) == (
        part == "warm-up",
        part != "warm-up",
    )
    assert section.trained_steps == 11


def test_windows_hold_the_shares_that_were_planted(tmp_path: Path):
    section = section_of(windows=2, window_steps=40, sigma=1.0)
    made = Corpus(tmp_path / "corpus", section, run_of(64, 16))
    for window, shares in enumerate(window_shares(section, SEED)):
        inside = pl.col("batch").is_between(3 + 40 * window, 3 + 40 * (window + 1), closed="left")
        kinds = made.truth.filter(inside)["type"].to_list()
        for kind, share in zip(TYPES, shares, strict=True):
            error = np.sqrt(share * (1 - share) / len(kinds))
            assert kinds.count(kind) / len(kinds) == pytest.approx(share, abs=5 * error)


def test_iid_windows_share_one_mix():
    shares = window_shares(section_of(regime="iid", mix={k: 3 * v for k, v in MIX.items()}), SEED)
    assert shares.shape == (4, len(TYPES))
    assert np.allclose(shares, [MIX[kind] for kind in TYPES])


def test_planted_windows_vary_in_what_may_vary_only():
    shares = window_shares(section_of(windows=50), SEED)
    fixed = [TYPES.index(kind) for kind in TYPES if kind not in VARIED]
    varied = [TYPES.index(kind) for kind in VARIED]
    assert np.allclose(shares[:, fixed], [MIX[TYPES[index]] for index in fixed])
    assert np.allclose(shares.sum(axis=1), 1)
    assert (shares[:, varied].std(axis=0) > 0.02).all()
    assert (shares > 0).all()
    assert (shares == window_shares(section_of(windows=50), SEED)).all()
    assert not np.allclose(shares, window_shares(section_of(windows=50), SEED + 1))


def test_log_shares_are_the_autoregression_they_are_said_to_be():
    section = section_of(windows=20_000, sigma=1.2, rho=0.5)
    shares = window_shares(section, SEED)
    a, b = (TYPES.index(kind) for kind in ("succ", "break"))
    # The scaling to a constant mass cancels in a ratio, whose noise is that of two series.
    ratio = np.log(shares[:, a] / shares[:, b])
    assert ratio.mean() == pytest.approx(np.log(0.14 / 0.06), abs=0.1)
    assert ratio.std() == pytest.approx(1.2 * np.sqrt(2), rel=0.03)
    assert np.corrcoef(ratio[1:], ratio[:-1])[0, 1] == pytest.approx(0.5, abs=0.03)
    assert np.corrcoef(ratio[2:], ratio[:-2])[0, 1] == pytest.approx(0.25, abs=0.03)


def test_nothing_in_the_corpus_tells_a_type(corpus: Corpus):
    sources = {"ledger", "almanac"}
    names = [f"{source}/{n:02d}" for n, source in enumerate(["ledger", "almanac"] * 2)]
    ends = ("csv.gz", "npy")
    assert sorted(corpus.contents()) == sorted(
        [f"{name}.{end}" for name in names for end in ends]
        + ["manifest.json", "tokenizer.json", "tokenizer_config.json"]
    )
    for name, data in corpus.contents().items():
        if not name.endswith(".npy"):
            text = (gzip.decompress(data) if name.endswith(".gz") else data).decode()
            assert not re.search(rf"\b({'|'.join(TYPES)})\b", text), name
    # A document's name, source and file follow from its place, so they cannot tell what it is.
    for index, name in enumerate(names):
        for bound in read_bounds(corpus.folder / f"{name}.csv.gz"):
            assert (bound.id, bound.file) == (f"{name}:{bound.start}", index)
            assert bound.source == name.split("/")[0] and bound.source in sources


def test_types_are_spread_over_files(tmp_path: Path):
    made = Corpus(tmp_path / "corpus", section_of(windows=20, regime="iid"), run_of(64, 16))
    files, _ = made.order.locate(made.truth["instance"].to_numpy())
    table = made.truth.with_columns(file=pl.Series(files))
    for kind in ("succ", "break"):
        count = len(table.filter(type=kind))
        for file in range(4):
            share = len(table.filter(file=file)) / len(table)
            found = len(table.filter(type=kind, file=file)) / count
            assert found == pytest.approx(share, abs=5 * np.sqrt(share * (1 - share) / count))


def test_the_same_seed_gives_the_same_bytes(corpus: Corpus, tmp_path: Path):
    again = Corpus(tmp_path / "corpus", corpus.section, corpus.run)
    assert again.contents() == corpus.contents()
    assert again.truth.equals(corpus.truth)
    other = Corpus(tmp_path / "other", corpus.section, corpus.run, seed=SEED + 1)
    changed = {name for name, data in corpus.contents().items() if other.contents()[name] != data}
    assert changed == {name for name in corpus.contents() if not name.startswith("tokenizer")}


def test_the_manifest_describes_the_run(corpus: Corpus):
    told = json.loads((corpus.folder / "manifest.json").read_text())
    assert {key: told[key] for key in ("vocab_size", "eos_id", "sequence_length", "unit")} == {
        "vocab_size": 127,
        "eos_id": EOS,
        "sequence_length": 64,
        "unit": "document",
    }


TWO_SIZES = [
    {"first_step": 0, "first_batch": 0, "batch_tokens": 256},
    {"first_step": 4, "first_batch": 4, "batch_tokens": 512},
]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tokenizer": {"vocab_size": 126, "eos_id": 1, "pad_id": 0}}, "set it to 127"),
        ({"tokenizer": {"vocab_size": 127, "eos_id": 2, "pad_id": 0}}, "set eos_id to 1"),
        ({"step_map": TWO_SIZES}, "one entry"),
        ({"max_sequence_length": 128}, "leave it out"),
    ],
)
def test_a_run_it_cannot_be_laid_out_for_is_refused(
    tmp_path: Path, changes: dict[str, Any], says: str
):
    for write in (write_corpus, write_truth):
        with pytest.raises(ConfigError, match=says) as caught:
            write(section_of(), run_of(**changes), tmp_path / "corpus", seed=SEED)
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=says):
        check_run(run_of(**changes))
    check_run(run_of())
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"mix": {"arith": 1, "sucks": 1}}, "no document type 'sucks'"),
        ({"warmup_mix": {"arith": -1}}, "negative"),
        ({"warmup_mix": {}}, "all zero"),
        ({"mix": {"arith": 1}}, "which vary"),
    ],
)
def test_a_mix_that_cannot_be_is_refused(changes: dict[str, Any], says: str):
    with pytest.raises(ValidationError, match=says):
        section_of(**changes)
