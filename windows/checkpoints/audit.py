"""Whether revisions are what they claim: which of them serve the same bytes.

Published revisions have been seen to serve the final model's weights under the names of early
steps, in whole (86 of 154 branches of pythia-2.8b: issue 205 of EleutherAI/pythia) or in their
first shard only (pythia-12b: issue 206), or one another's (OLMo-2-1124-7B: issue 915 of
allenai/OLMo). What a model does between two such revisions says nothing about a window.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from windows.checkpoints.catalogs import Catalog, CatalogEntry, Unknown
from windows.checkpoints.hub import Hub, HubRevision
from windows.checkpoints.weights import all_bytes as hash_all
from windows.checkpoints.weights import blob_name, sampled_bytes, weight_files
from windows.errors import DataError
from windows.progress import Advance

K = TypeVar("K")

FINAL = "main"
_AT_ONCE = 8


@dataclass(frozen=True)
class Equal:
    """Checkpoints of different steps that serve the same bytes.

    Attributes
    ----------
    names
        The checkpoints, by stage and step; `FINAL` last.
    files
        The weight files that are equal.
    whole
        Whether these are all of their weight files.
    """

    names: tuple[str, ...]
    files: tuple[str, ...]
    whole: bool

    @property
    def final(self) -> bool:
        """Whether the final model is among them."""
        return FINAL in self.names

    def __str__(self) -> str:
        names = _some([name for name in self.names if name != FINAL])
        what = "the same weights" if self.whole else f"the same {_some(self.files)}"
        return f"{names}: {what}{', those of the final model' if self.final else ''}"


@dataclass(frozen=True)
class Audit:
    """What the weights of a catalog's checkpoints are.

    Attributes
    ----------
    checked
        How many checkpoints were compared.
    sampled
        Whether bytes were sampled, so that equal means equal in every byte looked at.
    equal
        The checkpoints that are not what they claim, or of which one is not.
    damaged
        Files of the Hub's cache that do not have the bytes they are named by.
    skipped
        Which could not be compared, and why.
    """

    checked: int
    sampled: bool
    equal: tuple[Equal, ...]
    damaged: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether all were compared, and each has bytes of its own."""
        return not (self.equal or self.damaged or self.skipped)


@dataclass(frozen=True)
class _Weights:
    """The identities of a checkpoint's weight files, or why there are none.

    `step` is stage, step and suffix; None is the final model's.
    """

    name: str
    step: tuple[str, int, str] | None
    files: Mapping[str, str]
    damaged: tuple[str, ...] = ()
    skipped: str = ""


def audit(
    catalog: Catalog,
    *,
    all_bytes: bool = False,
    advance: Advance,
    hub: Hub | None = None,
) -> Audit:
    """Compare the weights of a catalog's checkpoints with each other and with the final model.

    The Hub tells the SHA-256 of every weight file, and its cache names them by it, so revisions are
    compared without reading a byte. Of other local files, header and some bytes are read. That
    `FINAL` and the last step of a stage are equal is no fault.

    Parameters
    ----------
    all_bytes
        Read local files in whole, those of the Hub's cache too.
    advance
        Called for every checkpoint looked at.
    hub
        Where revisions are asked for that were not found in the Hub's cache.

    Raises
    ------
    DataError
        A file cannot be read, or the Hub does not answer.
    """
    asked = hub or Hub()
    wanted: list[CatalogEntry | Unknown] = [
        *catalog.entries,
        *(item for item in catalog.unknown if item.name == FINAL),
    ]

    def look(item: CatalogEntry | Unknown) -> _Weights:
        weights = _weights(item, asked, all_bytes=all_bytes)
        advance()
        return weights

    # After an error, map starts none of the looks that are still waiting.
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return _judge(list(pool.map(look, wanted)))


def _weights(item: CatalogEntry | Unknown, hub: Hub, *, all_bytes: bool) -> _Weights:
    entry = item if isinstance(item, CatalogEntry) else None
    step = (entry.stage, entry.step, entry.suffix) if entry else None
    address = item.address
    if isinstance(address, str):
        why = f"{item.name}: files behind a URL cannot be listed"
        return _Weights(item.name, step, {}, skipped=why)
    damaged: tuple[str, ...] = ()
    if isinstance(address, HubRevision) and address.snapshot is None:
        files = hub.weights(address)
    else:
        folder = address if isinstance(address, Path) else address.snapshot
        assert folder is not None
        files, damaged = _local(folder, all_bytes=all_bytes)
    why = "" if files else f"{item.name}: no weight files"
    return _Weights(item.name, step, files, damaged, why)


def _local(folder: Path, *, all_bytes: bool) -> tuple[dict[str, str], tuple[str, ...]]:
    files: dict[str, str] = {}
    damaged = []
    try:
        for name, path in weight_files(folder).items():
            named = blob_name(path)
            if all_bytes:
                files[name] = hash_all(path)
                if named and named.startswith("sha256:") and named != files[name]:
                    damaged.append(str(path))
            else:
                files[name] = named or sampled_bytes(path)
    except OSError as error:
        raise DataError(
            "weights cannot be read",
            where=str(error.filename or folder),
            got=error.strerror or "",
            do="fetch the checkpoint again",
        ) from error
    return files, tuple(damaged)


def _judge(found: Sequence[_Weights]) -> Audit:
    compared = [weights for weights in found if weights.files]
    kinds = {
        "sampled" if text.startswith("sampled:") else "hashed"
        for weights in compared
        for text in weights.files.values()
    }
    skipped = [weights.skipped for weights in found if weights.skipped]
    if len(kinds) > 1:
        skipped.append("some files are known by all bytes, some by samples: compare all bytes")
    return Audit(
        checked=len(compared),
        sampled="sampled" in kinds,
        equal=tuple(_equal(compared)),
        damaged=tuple(path for weights in found for path in weights.damaged),
        skipped=tuple(skipped),
    )


def _equal(compared: Sequence[_Weights]) -> list[Equal]:
    """Return what is equal in whole, then file by file what is equal although the rest is not."""
    wholes = _groups((frozenset(weights.files.items()), weights) for weights in compared)
    last = _last_steps(compared)
    equal = [
        Equal(_names(group), tuple(group[0].files), whole=True)
        for group in wholes.values()
        if _is_fault(group, last)
    ]
    shared: dict[tuple[str, ...], list[str]] = {}
    by_file = _groups(
        ((file, text), weights) for weights in compared for file, text in weights.files.items()
    )
    for (file, _), group in by_file.items():
        whole = {frozenset(weights.files.items()) for weights in group}
        if len(whole) > 1 and _is_fault(group, last):
            shared.setdefault(_names(group), []).append(file)
    return equal + [Equal(names, tuple(files), whole=False) for names, files in shared.items()]


def _groups(pairs: Iterable[tuple[K, _Weights]]) -> dict[K, list[_Weights]]:
    groups: dict[K, list[_Weights]] = {}
    for key, weights in pairs:
        groups.setdefault(key, []).append(weights)
    return groups


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _names(group: Sequence[_Weights]) -> tuple[str, ...]:
    return tuple(weights.name for weights in group)


def _last_steps(compared: Sequence[_Weights]) -> Mapping[str, int]:
    """Return the last step of the last stage, or of each where their names have no order."""
    last: dict[str, int] = {}
    for stage, step, _ in (weights.step for weights in compared if weights.step):
        last[stage] = max(step, last.get(stage, step))
    newest = max(map(_stage_number, last), default=0)
    return {stage: step for stage, step in last.items() if _stage_number(stage) == newest}


def _stage_number(stage: str) -> float:
    numbered = re.match(r"stage(\d+)", stage)
    return int(numbered[1]) if numbered else math.inf


def _is_fault(group: Sequence[_Weights], last: Mapping[str, int]) -> bool:
    steps = {weights.step for weights in group if weights.step}
    stages = {stage for stage, _, _ in steps}
    trained = [step for _, step, _ in steps if step]
    if len(steps) > 1:
        # Step 0 of a stage is the checkpoint of an earlier stage that it began with.
        return len(stages) < len(steps) or len(trained) > 1
    final = any(weights.step is None for weights in group)
    return final and any(last.get(stage) != step for stage, step, _ in steps)
