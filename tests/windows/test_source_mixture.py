import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from olmo_core.data import DataCollator, NumpyFSLDatasetConfig, TokenizerConfig, numpy_dataset
from olmo_core.data.data_loader import NumpyDataLoaderBase
from olmo_core.data.numpy_dataset import NumpyFSLDatasetMixture
from olmo_core.data.source_mixture import (
    SourceMixtureConfig,
    SourceMixtureDatasetConfig,
    SourceMixtureList,
)
from olmo_core.exceptions import OLMoConfigurationError

from windows.errors import ConfigError
from windows.order import DataOrder
from windows.run import TokenizerFields
from windows.source_mixture import (
    DATASET_CLASSES,
    MIXTURE_CLASS,
    MixtureSource,
    SelectedFile,
    check_dataset_class,
    select,
)

TOKENIZER = TokenizerFields(vocab_size=60_000, eos_id=1, pad_id=0)
COUNTS = (0, 5, 16, 33, 64, 100, 131, 200, 257, 470)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of `COUNTS` tokens, whose every token is its position among all, as 2 and 4 bytes."""
    made = tmp_path_factory.mktemp("tokens")
    tokens = np.split(np.arange(sum(COUNTS)), np.cumsum(COUNTS)[:-1])
    for width in (2, 4):
        (made / str(width)).mkdir()
        for number, part in enumerate(tokens):
            part.astype(f"<u{width}").tofile(made / str(width) / f"{number:05d}.npy")
    return made


@st.composite
def mixtures(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments of `select`, the paths as numbers of files."""
    shares = draw(st.lists(st.integers(0, 5), min_size=1, max_size=4).filter(any))
    sources = [
        MixtureSource(
            name=draw(st.sampled_from("abcd")) if draw(st.integers(0, 9)) == 0 else f"source-{k}",
            target_ratio=share / sum(shares),
            paths=tuple(draw(st.lists(st.integers(0, len(COUNTS) - 1), min_size=1, max_size=4))),
            max_repetition_ratio=draw(st.sampled_from([1.0, 1.5, 3.0, 20.0, 20.0])),
            max_source_fraction=draw(st.sampled_from([1.0, 1.0, 0.9, 0.4])),
        )
        for k, share in enumerate(shares)
    ]
    length = draw(st.sampled_from([1, 3, 8, 16]))
    return {
        "sources": sources,
        "requested_tokens": draw(st.integers(1, 1500)),
        "batch_tokens": length * draw(st.integers(1, 9)),
        "sequence_length": length,
        "token_bytes": draw(st.sampled_from([2, 4])),
    }


def in_folder(mixture: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Give the files their paths and sizes."""
    width = mixture["token_bytes"]
    paths = [str(folder / str(width) / f"{number:05d}.npy") for number in range(len(COUNTS))]
    sources = [
        replace(source, paths=tuple(paths[number] for number in source.paths))
        for source in mixture["sources"]
    ]
    file_bytes = {path: Path(path).stat().st_size for path in paths}
    return mixture | {"sources": sources, "file_bytes": file_bytes}


def olmo_config(mixture: dict[str, Any], seed: int = 1337) -> SourceMixtureDatasetConfig:
    return SourceMixtureDatasetConfig(
        source_list=SourceMixtureList(
            sources=[
                SourceMixtureConfig(
                    source_name=source.name,
                    target_ratio=source.target_ratio,
                    paths=list(source.paths),
                    max_repetition_ratio=source.max_repetition_ratio,
                    max_source_fraction=source.max_source_fraction,
                )
                for source in mixture["sources"]
            ]
        ),
        requested_tokens=mixture["requested_tokens"],
        global_batch_size=mixture["batch_tokens"],
        seed=seed,
        render_tables=False,
        quiet=True,
    )


def olmo_selection(mixture: dict[str, Any]) -> list[SelectedFile] | None:
    """What OLMo-core selects, or None where it refuses."""
    width = mixture["token_bytes"]
    try:
        built = olmo_config(mixture).build(
            npdtype=np.dtype(f"u{width}").type, sequence_length=mixture["sequence_length"]
        )
    except (OLMoConfigurationError, ZeroDivisionError):
        return None
    return [
        SelectedFile(str(item.path), outcome.name, item.tokens * width)
        for outcome in built.sources
        for item in outcome.path_tokens
    ]


def olmo_dataset(mixture: dict[str, Any], work: Path, longest: int | None, seed: int = 1337) -> Any:
    dataset = NumpyFSLDatasetConfig.from_src_mix(
        olmo_config(mixture, seed),
        tokenizer=TokenizerConfig(
            vocab_size=TOKENIZER.vocab_size,
            eos_token_id=TOKENIZER.eos_id,
            pad_token_id=TOKENIZER.pad_id,
        ),
        work_dir=str(work),
        dtype=f"uint{8 * mixture['token_bytes']}",
        sequence_length=mixture["sequence_length"],
        max_target_sequence_length=longest,
    ).build()
    assert type(dataset) is NumpyFSLDatasetMixture
    return dataset


def olmo_batches(dataset: Any, batch_tokens: int) -> Iterator[tuple[list[int], list[list[int]]]]:
    loader = NumpyDataLoaderBase.wrap_numpy_dataset(
        dataset,
        global_batch_size=batch_tokens,
        collator=DataCollator(pad_token_id=0, vocab_size=TOKENIZER.vocab_size),
        seed=5,
    )
    loader.reshuffle(1, in_memory=True)
    for batch in loader:
        yield batch["index"].tolist(), batch["input_ids"].tolist()


def order_of(files: tuple[SelectedFile, ...], mixture: dict[str, Any], **change: Any) -> DataOrder:
    return DataOrder.from_sizes(
        [file.bytes for file in files],
        **{
            "sequence_length": mixture["sequence_length"],
            "batch_tokens": mixture["batch_tokens"],
            "token_bytes": mixture["token_bytes"],
            "seed": 5,
        }
        | change,
    )


def read(files: tuple[SelectedFile, ...], order: DataOrder, ids: np.ndarray) -> list[list[int]]:
    dtype, count = np.dtype(f"<u{order.token_bytes}"), order.sequence_length
    return [
        np.fromfile(files[file].path, dtype, count, offset=int(offset)).tolist()
        for file, offset in zip(*order.locate(ids), strict=True)
    ]


@settings(max_examples=100)
@given(mixture=mixtures())
def test_the_selection_is_olmo_cores(folder: Path, mixture: dict[str, Any]):
    mixture = in_folder(mixture, folder)
    expected = olmo_selection(mixture)
    if expected is None:
        with pytest.raises(ConfigError, match=r"too few tokens|reads nothing"):
            select(**mixture)
        return
    assert select(**mixture, keep_empty=True) == tuple(expected)
    assert select(**mixture) == tuple(file for file in expected if file.bytes)


@settings(max_examples=40)
@given(mixture=mixtures(), chunk=st.sampled_from([None, 1, 2, 4]), batch=st.integers(1, 5))
def test_every_batch_is_olmo_cores(
    folder: Path, mixture: dict[str, Any], chunk: int | None, batch: int
):
    mixture = in_folder(mixture, folder)
    if not olmo_selection(mixture):
        return
    longest = chunk and chunk * mixture["sequence_length"]
    batch_tokens = batch * mixture["sequence_length"]
    dataset = olmo_dataset(mixture, folder, longest)
    files = select(**mixture)
    order = order_of(files, mixture, batch_tokens=batch_tokens, max_sequence_length=longest)
    assert order.num_instances == len(dataset)
    assert list(dataset.offsets) == offsets(order)
    number = 0
    for number, (ids, tokens) in enumerate(olmo_batches(dataset, batch_tokens), start=1):
        ours = order.instances(number - 1, number)
        assert ours.tolist() == ids
        assert read(files, order, ours) == tokens
    assert number == order.num_batches


def offsets(order: DataOrder) -> list[tuple[int, int]]:
    """The half-open range of instances of each file."""
    files, _ = order.locate(np.arange(order.num_instances))
    ends = np.searchsorted(files, np.arange(len(order.file_bytes)), side="right").tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True))


def repeated(folder: Path, token_bytes: int = 4) -> dict[str, Any]:
    """Sources read more than twice, once and in part, and a file of which nothing is taken."""
    sources = [
        MixtureSource("thrice", 0.5, (3, 4), max_repetition_ratio=4.0),
        MixtureSource("once", 0.3, (7, 1)),
        MixtureSource("part", 0.2, (9, 0), max_source_fraction=0.5),
    ]
    mixture = {"requested_tokens": 500, "batch_tokens": 64, "sequence_length": 8}
    return in_folder(mixture | {"sources": sources, "token_bytes": token_bytes}, folder)


def test_sources_are_repeated_whole_and_then_in_part(folder: Path):
    files = select(**repeated(folder))
    names = [(file.source, Path(file.path).stem, file.bytes // 32) for file in files]
    assert [name for name in names if name[0] == "thrice"] == [
        ("thrice", "00003", 4),
        ("thrice", "00004", 8),
        ("thrice", "00003", 4),
        ("thrice", "00004", 8),
        ("thrice", "00003", 3),
        ("thrice", "00004", 5),
    ]
    assert sum(instances for *_, instances in names) == 64, "rounded up to 8 batches of 8"
    assert "00000" not in {stem for _, stem, _ in names}
    with_empty = select(**repeated(folder), keep_empty=True)
    assert [file for file in with_empty if file.bytes] == list(files)
    assert {Path(file.path).stem for file in with_empty if not file.bytes} == {"00000", "00001"}


@pytest.mark.parametrize("longest", [None, 8, 16])
@pytest.mark.parametrize("token_bytes", [2, 4])
def test_the_fingerprint_is_olmo_cores(
    folder: Path, tmp_path: Path, longest: int | None, token_bytes: int
):
    mixture = repeated(folder, token_bytes)
    files = select(**mixture)
    order = order_of(files, mixture, max_sequence_length=longest)
    names = [file.path for file in files]
    theirs = olmo_dataset(mixture, tmp_path, longest).fingerprint
    assert order.fingerprint(names, TOKENIZER, MIXTURE_CLASS) == theirs
    assert order.fingerprint(names, TOKENIZER) != theirs


def test_empty_files_are_in_the_fingerprint_of_older_versions(folder: Path):
    """The data set as OLMo-core made it before 3.0, of all the files that its mixture lists."""
    mixture = repeated(folder)
    files = select(**mixture, keep_empty=True)
    dataset = NumpyFSLDatasetMixture(
        *(file.path for file in files),
        path_offset_index={(file.path, k): file.bytes // 4 for k, file in enumerate(files)},
        seed=0,
        sequence_length=8,
        pad_token_id=TOKENIZER.pad_id,
        eos_token_id=TOKENIZER.eos_id,
        vocab_size=TOKENIZER.vocab_size,
        dtype=np.uint32,
    )
    order, without = order_of(files, mixture), order_of(select(**mixture), mixture)
    names = [file.path for file in files]
    assert order.fingerprint(names, TOKENIZER, MIXTURE_CLASS) == dataset.fingerprint
    assert len(dataset) == order.num_instances == without.num_instances
    assert (order.instances(0, 8) == without.instances(0, 8)).all()


def test_the_documents_that_a_mixture_samples_are_not_what_it_reads(folder: Path, tmp_path: Path):
    """It prepares an index of sampled documents, by its seed, and reads heads all the same."""
    mixture = repeated(folder)
    for path in {path for source in mixture["sources"] for path in source.paths}:
        copy = tmp_path / Path(path).name
        tokens = np.fromfile(path, "<u4")
        tokens[9::10] = TOKENIZER.eos_id
        tokens.tofile(copy)
    sources = [
        replace(source, paths=tuple(str(tmp_path / Path(path).name) for path in source.paths))
        for source in mixture["sources"]
    ]
    sizes = {str(path): path.stat().st_size for path in tmp_path.glob("*.npy")}
    mixture |= {"sources": sources, "file_bytes": sizes}
    files = select(**mixture)
    order = order_of(files, mixture)
    everything = np.arange(order.num_instances)
    indices = []
    for seed in (1, 2):
        work = tmp_path / f"work-{seed}"
        dataset = olmo_dataset(mixture, work, None, seed=seed)
        dataset.prepare()
        indices.append({p.name: p.read_bytes() for p in work.rglob("mixture-instance-indices*")})
        rows = [dataset[row]["input_ids"].tolist() for row in range(len(dataset))]
        assert rows == read(files, order, everything)
    assert indices[0].keys() == indices[1].keys() != set()
    assert indices[0] != indices[1]


def test_what_is_no_mixture_is_refused(folder: Path):
    good = repeated(folder)
    sources, file_bytes = good["sources"], good["file_bytes"]
    faults = [
        ({"requested_tokens": 0}, "requested_tokens: needs a token; got 0"),
        ({"sequence_length": 0}, "sequence_length: needs a token"),
        ({"batch_tokens": 60}, "batch_tokens: a batch is not a whole number of sequences of 8"),
        ({"batch_tokens": 0}, "batch_tokens"),
        ({"token_bytes": 3}, "token_bytes: not a size of a token id; got 3"),
        ({"sources": []}, "sources: target ratios must sum to 1; got no source"),
        ({"sources": sources[:2]}, r"sources: target ratios must sum to 1; got 0\.8"),
        (
            with_first(good, target_ratio=-0.5),
            r"sources\.thrice\.target_ratio: not a ratio; got -0",
        ),
        (with_first(good, max_repetition_ratio=math.nan), r"max_repetition_ratio.*got nan"),
        (with_first(good, max_repetition_ratio=2.0), r"thrice: too few tokens: 250.*give 194"),
        (with_first(good, paths=()), "thrice: too few tokens.*got 0 tokens in 0 files"),
        (with_first(good, paths=("x/*.npy",)), r"size of a file is not known; got x/\*\.npy"),
        ({"file_bytes": dict.fromkeys(file_bytes, 28), "requested_tokens": 8}, "reads nothing"),
    ]
    for change, message in faults:
        with pytest.raises(ConfigError, match=message):
            select(**(good | change))


def with_first(mixture: dict[str, Any], **change: Any) -> dict[str, Any]:
    first, *rest = mixture["sources"]
    return {"sources": [replace(first, **change), *rest]}


def test_every_data_set_class_of_olmo_core_is_judged():
    classes = [
        name
        for name in numpy_dataset.__all__
        if name.startswith("Numpy") and not name.endswith(("Base", "Config"))
    ]
    assert set(DATASET_CLASSES) < set(classes)
    for name in classes:
        if name in DATASET_CLASSES:
            check_dataset_class(name)
        else:
            with pytest.raises(ConfigError, match=f"bounds of every document.*got {name}"):
                check_dataset_class(name)
    with pytest.raises(ConfigError, match="packs whole documents into instances by best fit"):
        check_dataset_class("NumpyPackedFSLDataset")
    with pytest.raises(ConfigError, match="no data set that is known here; got Unknown"):
        check_dataset_class("Unknown")
