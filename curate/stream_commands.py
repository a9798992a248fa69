"""The commands that ask what a run read, and when."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import RenderableType

from curate.command import Answer, Ask
from curate.open_stream import open_stream, order_to_make
from curate.stream import Reading, SampledDocument, Share, Stream, find_file
from curate.tables import table
from windows.errors import ConfigError
from windows.run import Window


def what(ask: Ask, steps: str, sample: int, stratify: bool, max_remote_bytes: int) -> Answer:
    """Tell what the batches between two checkpoints held."""
    stream = open_stream(ask, max_remote_bytes=max_remote_bytes)
    asked = stream.window(*step_range(steps))
    shares = stream.composition(asked.first_batch, asked.end_batch)
    exact = stream.run.exact_between(asked.first_step, asked.end_step)
    notes = stream.notes(asked.first_step, asked.end_step)
    data = {
        **asdict(asked),
        "step_map_exact": exact,
        "notes": notes,
        "instances": sum(share.instances for share in shares),
        "sources": _plain(shares),
        "documents": [],
    }
    shown: list[RenderableType] = [_shares_table(asked, shares)]
    if sample:
        seed = ask.subject.seed
        drawn = stream.draw(asked, sample, seed, stratify=stratify)
        with ask.reporter.task("reading instances", len(drawn.ids)) as advance:
            documents, sha256 = stream.documents(asked, drawn, seed, advance)
        data |= {"documents": _plain(documents), "sha256": sha256}
        shown += [_documents_table(documents, stratify), f"sha256 of the ids read: {sha256}"]
    return Answer(data, [*shown, *notes])


def what_it_costs(ask: Ask, steps: str, sample: int, stratify: bool) -> dict[str, Any]:
    """Return what a sample would cost: requests, bytes, and ranges that are here already.

    Where the order would have to be made first, which instances they are is not known: then as if
    none were here.
    """
    if order_to_make(ask):
        size = ask.subject.run.sequence_length * ask.subject.run.token_bytes
        cost = {"requests": sample, "bytes": sample * size, "cached": 0}
        return {"instances": sample, **cost}
    stream = open_stream(ask)
    drawn = stream.draw(
        stream.window(*step_range(steps)), sample, ask.subject.seed, stratify=stratify
    )
    return {"instances": len(drawn.ids), **asdict(stream.cost(drawn))}


def when(
    ask: Ask,
    instance: int | None,
    file: str | None,
    part: tuple[str | None, str | None],
    keep: bool,
) -> Answer:
    """Tell which batch and step consumed an instance, or the instances of a part of a file.

    Parameters
    ----------
    part
        A document of the file, or a range ``A:B`` of its tokens; one of the two.
    keep
        Keep the inverse of the order, so that later questions are answered at once.
    """
    document, tokens = part
    if (instance is None) == (file is None) or (file is None) != (document is None and not tokens):
        raise ConfigError(
            "one question at a time",
            where="--instance, --file, --document, --tokens",
            do="give either --instance I, or --file F with --document D or --tokens A:B",
        )
    stream = open_stream(ask, inverse=keep)
    ids: Sequence[int] = [instance] if instance is not None else []
    place: dict[str, Any] = {}
    if file is not None:
        found = find_file(stream.data, file)
        if document is not None:
            start, end = stream.document_span(found[0], document)
        else:
            start, end = number_range(tokens or "", "--tokens")
            stream.check_tokens(found[0], start, end)
        ids = [each for index in found for each in stream.instances_of(index, start, end)]
        place = {"file": stream.files[found[0]].path, "tokens": [start, end]}
    readings = stream.readings(ids)
    answers = [_reading_words(each, stream) for each in readings]
    rows = [{**asdict(each), "answer": say} for each, say in zip(readings, answers, strict=True)]
    if not rows:
        answers = ["never read: these tokens lie behind their file's last whole instance"]
    steps = [step for each in readings for step in each.steps]
    notes = stream.notes(min(steps), max(steps) + 1) if steps else stream.notes()
    data = {"run": stream.run.name, **place, "readings": rows, "notes": notes}
    return Answer(data, [*answers, *notes])


def step_range(text: str) -> tuple[int, int]:
    """Read ``A:B``, steps of two checkpoints."""
    return number_range(text, "--steps")


def number_range(text: str, option: str) -> tuple[int, int]:
    """Read ``A:B``; ConfigError names the option."""
    match = re.fullmatch(r"(\d+):(\d+)", text.strip())
    if match is None:
        raise ConfigError("not a range", where=option, got=repr(text), do=f"write {option} 340:356")
    return int(match[1]), int(match[2])


def _reading_words(reading: Reading, stream: Stream) -> str:
    name = f"instance {reading.instance} ({stream.files[reading.file].source})"
    if reading.batch < 0:
        return f"{name}: never read, it is in the unused tail behind the last whole batch"
    if not stream.run.steps_of_batch(reading.batch):
        return f"{name}: batch {reading.batch}, never read: the run skipped it"
    if not reading.steps:
        return f"{name}: batch {reading.batch}, never read: the run ended at step {stream.end_step}"
    steps = " and ".join(f"{step} -> {step + 1}" for step in reading.steps)
    unsure = "" if reading.step_map_exact else ", if the step map held, which is not known exactly"
    return f"{name}: batch {reading.batch}, step {steps}{unsure}"


def _shares_table(asked: Window, shares: Sequence[Share]) -> RenderableType:
    read = sum(share.tokens for share in shares)
    return table(
        f"{asked.name}: batches [{asked.first_batch}, {asked.end_batch})",
        ("source", "instances", "tokens", "share"),
        [
            (
                each.source,
                f"{each.instances:,}",
                f"{each.tokens:,}",
                _share(each.tokens / read),
            )
            for each in shares
        ],
    )


def _share(part: float) -> str:
    """Rare sources are a few ten thousandths of a window."""
    return f"{part:.1%}" if part >= 0.005 else f"{part:.3%}"


def _documents_table(documents: Sequence[SampledDocument], stratify: bool) -> RenderableType:
    how = "from every source" if stratify else "so that every token is as likely as any other"
    columns = ("source", "instance", "batch", "tokens", "weight", "cut", "loss", "document")
    rows = [
        (
            each.document_source or each.source,
            str(each.instance),
            str(each.batch),
            f"{each.start}:{each.end}",
            f"{each.weight:,.1f}",
            _cut(each.head_cut, each.tail_cut),
            "masked" if each.masked else "",
            each.text,
        )
        for each in documents
    ]
    # Whether the loss was masked is a question only where the run had a filter.
    unasked = {6} if all(each.masked is None for each in documents) else set[int]()
    kept = [i for i in range(len(columns)) if i not in unasked]
    return table(
        f"{len(documents)} documents, drawn {how}",
        [columns[i] for i in kept],
        [[row[i] for i in kept] for row in rows],
    )


def _cut(head: bool, tail: bool) -> str:
    return {(False, False): "", (True, False): "head", (False, True): "tail"}.get(
        (head, tail), "both"
    )


def _plain(values: Sequence[Any]) -> list[Mapping[str, Any]]:
    return [asdict(value) for value in values]
