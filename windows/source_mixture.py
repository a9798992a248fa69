"""OLMo-core's source mixtures: how much of the head of every token file a run reads.

A mixture takes a share of each source and rounds it to whole instances file by file. What it takes
of a file is the file's head: its instances are cut from the start, as those of any data set. (A
sample of documents is drawn with the mixture's own seed as well, but since OLMo-core 2.1 no token
is read through it, so that seed changes nothing.) From there on the order is the loader's: the
sizes of the heads go into `windows.order.DataOrder`. The fingerprint is that of the heads too,
under the class name `MIXTURE_CLASS`. Source: ``olmo_core.data.source_mixture`` and
``numpy_dataset.NumpyFSLDatasetMixture`` of ai2-olmo-core 3.0, which the tests run beside this
module; the rounding has been the same since 2.3.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from windows.errors import ConfigError
from windows.fingerprint import DATASET_CLASS
from windows.order import TOKEN_DTYPES

MIXTURE_CLASS = "NumpyFSLDatasetMixture"
"""The data set class of a mixture, which its fingerprint begins with."""

DATASET_CLASSES = (DATASET_CLASS, MIXTURE_CLASS)
"""OLMo-core's data set classes whose order follows from file sizes."""

_REFUSED = {
    "NumpyPackedFSLDataset": "it packs whole documents into instances by best fit, which needs the"
    " bounds of every document of every file",
    "NumpyPaddedFSLDataset": "it makes an instance of every document, which needs the bounds of"
    " every document of every file",
    "NumpyInterleavedFSLDataset": "it interleaves documents, which needs the bounds of every"
    " document of every file",
    "NumpyVSLDataset": "it sorts pieces of documents into lengths, which needs the bounds of every"
    " document of every file",
}


def check_dataset_class(name: str) -> None:
    """Refuse a data set whose order does not follow from file sizes.

    Parameters
    ----------
    name
        The class as OLMo-core names it.

    Raises
    ------
    ConfigError
        It is none of `DATASET_CLASSES`; the message says why. ``NumpyPackedFSLDataset`` is the one
        that OLMo 3 uses: for its long-context stage 3 and for fine-tuning.
    """
    if name not in DATASET_CLASSES:
        raise ConfigError(
            "the order of this data set does not follow from file sizes: "
            + _REFUSED.get(name, "it is no data set that is known here"),
            where="dataset_class",
            got=name,
            do="choose a stage read by " + " or ".join(DATASET_CLASSES),
        )


@dataclass(frozen=True)
class MixtureSource:
    """One source of a mixture, with the fields of OLMo-core's ``SourceMixtureConfig``.

    Attributes
    ----------
    name
        The source's name. Of two sources with one name OLMo-core keeps the last, and so does this.
    target_ratio
        Its share of the requested tokens.
    paths
        Its token files, patterns expanded: OLMo-core puts the matches of each in sorted order.
    max_repetition_ratio
        How many times over its tokens may be read.
    max_source_fraction
        Which part of its tokens may be read.
    """

    name: str
    target_ratio: float
    paths: tuple[str, ...]
    max_repetition_ratio: float = 1.0
    max_source_fraction: float = 1.0


@dataclass(frozen=True)
class SelectedFile:
    """The head of a token file that a mixture reads; a repeated file comes once for each time.

    Attributes
    ----------
    path
        The token file.
    source
        Which source it is read for.
    bytes
        Length of the head, a whole number of instances; the rest of the file is never read.
    """

    path: str
    source: str
    bytes: int


def select(
    sources: Sequence[MixtureSource],
    file_bytes: Mapping[str, int],
    *,
    requested_tokens: int,
    batch_tokens: int,
    sequence_length: int,
    token_bytes: int = 4,
    keep_empty: bool = False,
) -> tuple[SelectedFile, ...]:
    """Choose what a mixture reads of which file, as OLMo-core does.

    Parameters
    ----------
    sources
        The sources in the mixture's order; their ratios sum to 1.
    file_bytes
        Size of every file, by path.
    requested_tokens
        Size of the mixture, which is rounded to whole batches as far as the rounding by files goes.
    batch_tokens
        Tokens of a batch as the mixture was told, a whole number of instances.
    sequence_length
        Tokens of an instance.
    token_bytes
        Bytes of one token id: 1, 2 or 4.
    keep_empty
        Whether files of which nothing is taken are listed. OLMo-core before 3.0 lists them: the
        order is the same, the fingerprint is not.

    Returns
    -------
    tuple of SelectedFile
        In the order in which the data set lists its files. The ``bytes`` are the file sizes of
        `windows.order.DataOrder.from_sizes`.

    Raises
    ------
    ConfigError
        OLMo-core builds no mixture of these: the ratios do not sum to 1, a source has too few
        tokens, a size is missing, or nothing would be read.
    """
    _check_lengths(requested_tokens, batch_tokens, sequence_length, token_bytes)
    _check_sources(sources)
    passes = _passes(sources, _tokens(sources, file_bytes, token_bytes), requested_tokens)
    batches = math.ceil(requested_tokens / batch_tokens)
    instances = _apportion(
        np.array([one.wanted for one in passes]),
        np.array([one.available for one in passes]),
        batches * (batch_tokens // sequence_length),
        sequence_length,
    )
    _check_any(instances, sequence_length)
    return tuple(
        SelectedFile(one.path, one.source, int(count) * sequence_length * token_bytes)
        for one, count in zip(passes, instances, strict=True)
        if count or keep_empty
    )


@dataclass(frozen=True)
class _Pass:
    """One pass over a file: the tokens it has, and those wanted of it before rounding."""

    path: str
    source: str
    available: int
    wanted: int


def _passes(
    sources: Sequence[MixtureSource], tokens: Mapping[str, int], requested: int
) -> list[_Pass]:
    """List the passes over the files: source by source, and over a source pass by pass."""
    population = {source.name: sum(tokens[path] for path in source.paths) for source in sources}
    for source in sources:
        _check_supply(source, population[source.name], int(requested * source.target_ratio))
    return [
        _Pass(path, name, tokens[path], math.ceil(tokens[path] * share))
        for name, source in {source.name: source for source in sources}.items()
        for share in _shares(int(requested * source.target_ratio) / population[name])
        for path in source.paths
    ]


def _shares(ratio: float) -> list[float]:
    """Which part of every file each pass over a source takes: all of it in all but the last."""
    shares: list[float] = []
    while not shares or ratio > 0:
        shares.append(min(1.0, ratio))
        ratio -= shares[-1]
    return shares


def _apportion(
    wanted: npt.NDArray[np.int64],
    available: npt.NDArray[np.int64],
    target: int,
    length: int,
) -> npt.NDArray[np.int64]:
    """Round the wanted tokens of every file to instances, about `target` of them in all.

    What is missing after rounding down is spread evenly over the files that hold more, and the rest
    goes one by one by largest remainders (Hamilton's method), the later file first where they are
    equal. As in OLMo-core that is all: the sum stays short where files are used up on the way, and
    above the target where the tokens wanted of many files had been rounded up to it.
    """
    capacity = available // length
    taken = wanted // length
    more = np.flatnonzero(taken < capacity)
    missing = target - int(taken.sum())
    if missing > 0 and more.size:
        taken[more] += np.minimum(missing // more.size, (capacity - taken)[more])
        more = more[taken[more] < capacity[more]]
        by_remainder = more[np.lexsort((more, wanted[more] % length))[::-1]]
        taken[by_remainder[: target - int(taken.sum())]] += 1
    return taken


def _tokens(
    sources: Sequence[MixtureSource], file_bytes: Mapping[str, int], token_bytes: int
) -> dict[str, int]:
    """Count the tokens of every file, by path."""
    for source in sources:
        for path in source.paths:
            if path not in file_bytes:
                raise ConfigError(
                    "the size of a file is not known",
                    where=f"sources.{source.name}.paths",
                    got=path,
                    do="list the files that a pattern matches, sorted, and give each one's size",
                )
    paths = {path for source in sources for path in source.paths}
    return {path: file_bytes[path] // token_bytes for path in paths}


def _check_lengths(requested: int, batch: int, length: int, token_bytes: int) -> None:
    for name, value in {"sequence_length": length, "requested_tokens": requested}.items():
        if value < 1:
            raise ConfigError("needs a token", where=name, got=str(value), do="use 1 or more")
    if batch < length or batch % length:
        raise ConfigError(
            f"a batch is not a whole number of sequences of {length} tokens",
            where="batch_tokens",
            got=str(batch),
            do="give the mixture's global batch size in tokens",
        )
    if token_bytes not in TOKEN_DTYPES:
        raise ConfigError(
            "not a size of a token id",
            where="token_bytes",
            got=str(token_bytes),
            do="use 1, 2 or 4",
        )


def _check_sources(sources: Sequence[MixtureSource]) -> None:
    for source in sources:
        for field in ("target_ratio", "max_repetition_ratio", "max_source_fraction"):
            value = getattr(source, field)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(
                    "not a ratio",
                    where=f"sources.{source.name}.{field}",
                    got=str(value),
                    do="use 0 or more",
                )
    total = float(np.sum([source.target_ratio for source in sources]))
    if not np.isclose(total, 1.0):
        raise ConfigError(
            "target ratios must sum to 1",
            where="sources",
            got=str(total) if len(sources) else "no source",
            do="correct them",
        )


def _check_supply(source: MixtureSource, population: int, needed: int) -> None:
    most = int((population * source.max_source_fraction) * source.max_repetition_ratio)
    if most < needed or not population:
        raise ConfigError(
            f"too few tokens: {needed} are asked of a source that may give {most}",
            where=f"sources.{source.name}",
            got=f"{population} tokens in {len(source.paths)} files",
            do="lower target_ratio, raise max_repetition_ratio, or add files",
        )


def _check_any(instances: npt.NDArray[np.int64], length: int) -> None:
    if not instances.any():
        raise ConfigError(
            "the mixture reads nothing",
            where="sources",
            got=f"no file with {length} tokens to take",
            do="name longer files",
        )
