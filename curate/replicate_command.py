"""The command that compares two runs which consumed the same stream."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import RenderableType

from curate.chain_steps import LABELS
from curate.command import Answer, Call
from curate.given import given_files
from curate.study import Study
from curate.tables import plain, table
from scoring.replication import MIN_WINDOWS, replication
from scoring.suite.registry import NO_LABELS
from windows.errors import ConfigError
from windows.manifest import read_manifest
from windows.run import Window, span

SHOWN = ("task", "effect", "rho", "lo", "hi", "p", "q", "q_by", "detectable")


@dataclass(frozen=True)
class Pair:
    """A window of each run, between the same instances.

    Attributes
    ----------
    first, second
        Their names.
    exact
        Whether the batches that the two read are known exactly.
    """

    first: str
    second: str
    exact: bool


def replicate(first: Call, second: Call, interest: float = 0.3) -> Answer:
    """Tell whether the windows that both studies' runs consumed moved them alike.

    Parameters
    ----------
    interest
        The smallest correlation of interest.

    Raises
    ------
    ConfigError
        The runs are one run, did not read the same stream, or the studies' windows do not meet.
    """
    pairs = paired_windows(first.study, second.study)
    made = [_labels(call) for call in (first, second)]
    ours, theirs = (pl.read_parquet(folder / LABELS) for folder in made)
    found = replication(
        ours,
        theirs,
        [(pair.first, pair.second) for pair in pairs],
        beside={task for task in ours["task"] if task.partition("/")[0] in NO_LABELS},
        interest=interest,
        seed=first.study.config.seed,
    )
    sentences = (*found.sentences, *_left_out(first.study, second.study, pairs))
    data: dict[str, Any] = {
        "artefacts": [str(folder) for folder in made],
        "verdict": found.verdict,
        "sentences": list(sentences),
        "windows": found.windows,
        "shifts": found.shifts,
        "floor": found.floor,
        "power": found.power,
        "effects": [plain(row) for row in found.effects.to_dicts()],
        "pairs": [{"first": pair.first, "second": pair.second} for pair in pairs],
    }
    title = f"effects of windows in {first.study.run.name} and {second.study.run.name}"
    shown: list[RenderableType] = [
        *sentences,
        table(title, SHOWN, found.effects.select(SHOWN).rows()),
    ]
    no = f"do the effects replicate: {found.verdict}" if found.verdict != "replicated" else ""
    return Answer(data, shown, no)


def paired_windows(first: Study, second: Study) -> list[Pair]:
    """Find the windows of two studies between whose ends both runs read the same instances.

    No order is made for it: runs that read equal files with an equal shuffle hold the same
    instances wherever the instances read before a window, and within it, are as many. A window
    whose instances a run read twice is left out.

    Returns
    -------
    list of Pair
        In the stream's order.

    Raises
    ------
    ConfigError
        The runs are one run, or did not read the same stream; or too few windows meet.
    """
    _refuse_one_run(first, second)
    _refuse_other_stream(first, second)
    ours, theirs = _by_position(first), _by_position(second)
    places = sorted(ours.keys() & theirs.keys())
    if len(places) < MIN_WINDOWS:
        ratio = (
            first.run_config.step_map[0].batch_tokens / second.run_config.step_map[0].batch_tokens
        )
        every = first.config.windows.every * ratio
        raise ConfigError(
            f"the two studies need at least {MIN_WINDOWS} windows between the same instances",
            where=f"{second.path}: windows",
            got=f"{len(places)} of {len(ours)} and {len(theirs)}",
            do=f"give it windows of {every:g} steps, and the same beginning in tokens",
        )
    return [
        Pair(
            ours[place].name,
            theirs[place].name,
            _exact(first, ours[place]) and _exact(second, theirs[place]),
        )
        for place in places
    ]


def _labels(call: Call) -> Path:
    with call.making() as chain:
        return chain.labels().path


def _refuse_one_run(first: Study, second: Study) -> None:
    if first.run == second.run and first.run_config == second.run_config:
        raise ConfigError(
            "both studies are of one run, which agrees with itself",
            where=str(second.path),
            got=second.run.name,
            do="name a study of another run that read the same data in the same order",
        )


def _refuse_other_stream(first: Study, second: Study) -> None:
    ours, theirs = _stream(first), _stream(second)
    for what, own in ours.items():
        if own != theirs[what]:
            raise ConfigError(
                f"runs {first.run.name} and {second.run.name} did not read the same stream",
                where=str(second.path),
                got=f"another {what}",
                do="name a study of a run of the same files, seed and epoch",
            )


def _stream(study: Study) -> dict[str, object]:
    """Return what decides which instance stands where in what a run read."""
    run = study.run_config
    if run.loader == "unknown":
        raise ConfigError(
            "the order in which this run read its data is not known",
            where=f"{study.run_path}: loader",
            got=run.loader,
            do="name a study of a run whose order can be rebuilt",
        )
    length, shuffled = run.sequence_length, run.loader == "olmo-core"
    longest = (run.max_sequence_length or length) if shuffled else length
    return {
        "sequence length": (length, longest),
        "shuffle": (run.loader, *((run.seed, run.epoch) if shuffled else ())),
        "size of token ids": run.token_bytes,
        "list of files": _files(study),
    }


def _files(study: Study) -> object:
    """Return what tells a run's token files apart: bytes where they are known, else their list."""
    run = study.run
    if run.embedded:
        # The corpus is made batch by batch, from the study's seed.
        return run.corpus, study.config.seed, run.step_map, run.tokenizer
    if run.mix is not None:
        return run.mix.name, run.mix.tokenizer, run.mix.list
    if run.source_mixture is not None:
        return run.source_mixture.model_dump(exclude={"sizes"}), run.step_map[0].batch_tokens
    if study.data_folder is not None:
        return [(each.tokens, each.sha256) for each in read_manifest(study.data_folder).shards]
    return [(file.path.rsplit("/", 1)[-1], file.bytes) for file in given_files(study)]


def _by_position(study: Study) -> dict[tuple[int, int], Window]:
    """Return a study's windows by the positions in the stream, half-open, that they consumed."""
    run, found = study.run_config, dict[tuple[int, int], list[Window]]()
    for edges in pairwise(study.edges):
        window = span(run, *edges)
        place = (
            run.batch_sizes.position(window.first_batch),
            run.batch_sizes.position(window.end_batch),
        )
        found.setdefault(place, []).append(window)
    return {place: windows[0] for place, windows in found.items() if len(windows) == 1}


def _exact(study: Study, window: Window) -> bool:
    return study.run_config.exact_between(window.first_step, window.end_step)


def _left_out(first: Study, second: Study, pairs: Sequence[Pair]) -> list[str]:
    """Say how many windows of each study are not compared, and of how many the place is unsure."""
    lines = []
    for study in (first, second):
        if left := len(study.edges) - 1 - len(pairs):
            lines.append(f"{left} windows of {study.config.name} have no counterpart.")
    if unsure := sum(not pair.exact for pair in pairs):
        lines.append(
            f"Of {unsure} of {len(pairs)} pairs the batches are not known exactly, as a run file "
            "says; where step and batch do not agree, a replication is hidden and none is made up."
        )
    return lines
