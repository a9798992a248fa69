"""The commands that ask what a run read, and when."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from curate.command import Answer, Call
from curate.given import given_files
from curate.stream import Reading, Share, Stream, document_span, find_file
from curate.tables import table
from windows.errors import ConfigError
from windows.manifest import data_files
from windows.run import Window, tile
from windows.store import Artefact

PROVED, DISPROVED, NOT_PROVED = "proved", "disproved", "not proved"


def windows(call: Call) -> Answer:
    """List the study's windows, with what each source gave to them."""
    stream, logged = _open(call)
    section, end_step = call.study.config.windows, call.study.end_step
    tiled = tile(stream.run, stream.order, section.first_step, end_step, section.every)
    rows = [
        {
            **asdict(each),
            "instances": each.tokens // stream.run.sequence_length,
            "sources": _plain(stream.composition(each.first_batch, each.end_batch)),
            "order": _proof(each, logged),
        }
        for each in tiled
    ]
    names = [file.path.rsplit("/", 1)[-1] for file in stream.files]
    fingerprint = stream.order.fingerprint(names, stream.run.tokenizer)
    data = {"run": stream.run.name, "fingerprint": fingerprint, "windows": rows}
    shown = (_window_table(rows, stream), _proof_words(rows))
    refused = [row["name"] for row in rows if row["order"] == DISPROVED]
    refusal = f"the trainer read other instances in {', '.join(refused)}" if refused else ""
    return Answer(data, shown, refusal)


def what(call: Call, steps: str, sample: int) -> Answer:
    """Tell what the batches between two checkpoints held."""
    first_step, end_step = _step_range(steps)
    stream, _ = _open(call)
    asked = stream.window(first_step, end_step)
    shares = stream.composition(asked.first_batch, asked.end_batch)
    seed = call.study.config.seed
    samples = stream.sample(asked.first_batch, asked.end_batch, sample, seed) if sample else []
    data = {
        **asdict(asked),
        "instances": asked.tokens // stream.run.sequence_length,
        "sources": _plain(shares),
        "documents": _plain(samples),
    }
    shares_table = table(
        f"{asked.name}: batches [{asked.first_batch}, {asked.end_batch})",
        ("source", "instances", "tokens", "share"),
        [
            (each.source, f"{each.instances:,}", f"{each.tokens:,}", _percent(each, asked.tokens))
            for each in shares
        ],
    )
    documents = table(
        f"{len(samples)} documents, drawn so that every token is as likely as any other",
        ("source", "instance", "batch", "tokens", "cut", "document"),
        [
            (
                each.source,
                str(each.instance),
                str(each.batch),
                f"{each.start}:{each.end}",
                _cut(each.head_cut, each.tail_cut),
                each.text,
            )
            for each in samples
        ],
    )
    return Answer(data, (shares_table, documents) if samples else (shares_table,))


def when(call: Call, instance: int | None, file: str | None, document: str | None) -> Answer:
    """Tell which batch and step consumed an instance, or the instances of a document."""
    by_document = file is not None and document is not None
    if (instance is None) != by_document or (file is None) != (document is None):
        raise ConfigError(
            "one question at a time",
            where="--instance, --file, --document",
            do="give either --instance I, or --file F and --document D",
        )
    stream, _ = _open(call)
    ids: Sequence[int] = [instance] if instance is not None else []
    place: dict[str, Any] = {}
    if file is not None and document is not None:
        index = find_file(stream.files, file)
        start, end = document_span(stream.folder, index, document)
        ids = stream.instances_of(index, start, end)
        place = {"file": stream.files[index].path, "tokens": [start, end]}
    readings = [stream.reading(each) for each in ids]
    answers = [_reading_words(each, stream) for each in readings]
    rows = [{**asdict(each), "answer": say} for each, say in zip(readings, answers, strict=True)]
    if not rows:
        answers = ["never read: these tokens lie behind their file's last whole instance"]
    return Answer({"run": stream.run.name, **place, "readings": rows}, answers)


def _open(call: Call) -> tuple[Stream, Mapping[int, bool] | None]:
    """Return the run's stream, and batch by batch whether the trainer's log agrees with it.

    The embedded run's corpus is written where it is missing; its training, which takes longer, is
    only looked at. None for the log of a run that has none.
    """
    study = call.study
    end_step = study.checkpoint_steps[-1]
    if not study.run.embedded:
        return Stream(study.run_config, given_files(study), study.data_folder, end_step), None
    data = _corpus(call).path
    stream = Stream(study.run_config, data_files(data), data, end_step)
    trained = call.looking().pretrain()
    if not trained.id:
        return stream, None
    from trainers.pretrain import proved_batches

    return stream, proved_batches(trained.path, stream.order)


def _corpus(call: Call) -> Artefact:
    found = call.looking().corpus()
    if found.id:
        return found
    with call.making() as chain:
        return chain.corpus()


def _reading_words(reading: Reading, stream: Stream) -> str:
    name = f"instance {reading.instance} ({stream.files[reading.file].source})"
    if reading.batch < 0:
        return f"{name}: never read, it is in the unused tail behind the last whole batch"
    if not stream.run.steps_of_batch(reading.batch):
        return f"{name}: batch {reading.batch}, never read: the run skipped it"
    if not reading.steps:
        return f"{name}: batch {reading.batch}, never read: the run ended at step {stream.end_step}"
    steps = " and ".join(f"{step} -> {step + 1}" for step in reading.steps)
    return f"{name}: batch {reading.batch}, step {steps}"


def _step_range(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+):(\d+)", text.strip())
    if match is None:
        raise ConfigError(
            "not a range of steps", where="--steps", got=repr(text), do="write --steps 340:356"
        )
    return int(match[1]), int(match[2])


def _proof(asked: Window, logged: Mapping[int, bool] | None) -> str:
    """Tell whether the trainer's own log says that the window held these instances."""
    if logged is None:
        return NOT_PROVED
    batches = range(asked.first_batch, asked.end_batch)
    if not all(logged.get(batch, True) for batch in batches):
        return DISPROVED
    return PROVED if all(batch in logged for batch in batches) else NOT_PROVED


def _proof_words(rows: Sequence[Mapping[str, Any]]) -> str:
    proved = sum(row["order"] == PROVED for row in rows)
    if proved == len(rows):
        return "order proved: the trainer's log names the same instances, batch by batch"
    if proved or any(row["order"] == DISPROVED for row in rows):
        return f"order proved by the trainer's log in {proved} of {len(rows)} windows"
    return "order not proved: there is no log of the instances that were trained"


def _window_table(rows: Sequence[Mapping[str, Any]], stream: Stream) -> Table:
    names = ("window", "steps", "batches", "tokens", "instances", *stream.sources, "order")
    cells = [
        (
            row["name"],
            f"{row['first_step']}:{row['end_step']}",
            f"{row['first_batch']}:{row['end_batch']}",
            f"{row['tokens']:,}",
            f"{row['instances']:,}",
            *(f"{share['tokens'] / row['tokens']:.1%}" for share in row["sources"]),
            row["order"],
        )
        for row in rows
    ]
    return table(f"windows of run {stream.run.name}", names, cells)


def _percent(share: Share, tokens: int) -> str:
    return f"{share.tokens / tokens:.1%}"


def _cut(head: bool, tail: bool) -> str:
    return {(False, False): "", (True, False): "head", (False, True): "tail"}.get(
        (head, tail), "both"
    )


def _plain(values: Sequence[Any]) -> list[dict[str, Any]]:
    return [asdict(value) for value in values]
