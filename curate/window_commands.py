"""The command that lists a run's windows, and what is known of each."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import takewhile
from typing import Any

from rich.console import RenderableType

from curate.command import Answer, Ask
from curate.open_stream import open_stream
from curate.pairing import paired
from curate.proof import LoggedProofs, Proof, StateProofs, refuse_disproved
from curate.stream import Stream
from curate.stream_commands import step_range
from curate.subject import Subject, load_subject
from curate.tables import table
from windows.errors import ConfigError
from windows.run import Window, cut_at_jumps, jumps, tile

# More sources than this are shown by group: `what` shows each, and --json has them.
SHOWN_SOURCES = 8


def windows(ask: Ask, steps: str | None, prove: bool, pair: str | None) -> Answer:
    """List the windows, with what each source gave to them."""
    subject = ask.subject
    if subject.run.loader == "unknown":
        return _without_order(subject, steps, pair)
    stream = open_stream(ask)
    asked = _windows(subject, stream, steps)
    fingerprint = _fingerprint(stream)
    proofs = _proofs(ask, stream, fingerprint)
    if prove and isinstance(proofs, StateProofs):
        edges = {step for each in asked for step in (each.first_step, each.end_step)}
        proofs.fetch(sorted(edges), ask.reporter)
    verdicts = {each.name: proofs.of(each) for each in asked}
    rows = []
    with ask.reporter.task("counting sources", len(asked)) as advance:
        for each in asked:
            shares = stream.composition(each.first_batch, each.end_batch)
            rows.append(_row(subject, each, verdicts[each.name]))
            rows[-1]["instances"] = sum(share.instances for share in shares)
            rows[-1]["sources"] = [asdict(share) for share in shares]
            advance()
    if pair is not None:
        twins = paired(stream, asked, _other(ask, pair))
        for row in rows:
            row["pair"] = twins.get(row["name"])
    remarks = _remarks(subject, stream)
    data = {
        "run": stream.run.name,
        "fingerprint": fingerprint,
        "fingerprint_covers": "names and sizes of files, no byte of them",
        "instances": stream.order.num_instances,
        "batches": stream.order.num_batches,
        "unread_instances": _unread(stream),
        "sizes": stream.data.note,
        "remarks": remarks,
        "windows": rows,
    }
    shown = (_table(rows, subject, stream.counter.names), *_proof_words(rows), *remarks)
    return Answer(data, shown, refuse_disproved(verdicts))


def _without_order(subject: Subject, steps: str | None, pair: str | None) -> Answer:
    """List the windows of a run whose order cannot be rebuilt: steps, batches, tokens."""
    if pair is not None:
        raise ConfigError("this run's order is not known", where="--with", do="leave it out")
    first, end, every = _grid(subject, steps, None)
    why = Proof("not proved", "the order in which this run read its data cannot be rebuilt")
    asked = cut_at_jumps(subject.run, first, end, every)
    rows = [_row(subject, each, why) for each in asked]
    remarks = _remarks(subject, None)
    data = {"run": subject.run.name, "remarks": remarks, "windows": rows}
    return Answer(data, (_table(rows, subject, ()), *_proof_words(rows), *remarks))


def _windows(subject: Subject, stream: Stream, steps: str | None) -> list[Window]:
    first, end, every = _grid(subject, steps, stream.end_step)
    if jumps(subject.run):
        return cut_at_jumps(subject.run, first, end, every)
    return tile(stream.run, stream.order, first, end, every)


def _grid(subject: Subject, steps: str | None, end_step: int | None) -> tuple[int, int, int]:
    """Return first step, end step, and steps of a window, all within the run.

    `end_step` is where the data end, if that is known.
    """
    grid = subject.grid
    if grid is None:
        raise ConfigError(
            "the run file does not say at which steps its checkpoints lie",
            where=f"{subject.given.path}: windows",
            do="give --set windows.every=1000, or whatever lies between two checkpoints",
        )
    ends = [end for end in (grid.end_step, end_step) if end is not None]
    if not ends:
        raise ConfigError(
            "the run file does not say where its windows end",
            where=f"{subject.given.path}: windows.end_step",
            do="give --set windows.end_step=...",
        )
    begin, last = subject.run.step_map[0].first_step, min(ends)
    first, end = (grid.first_step, last) if steps is None else step_range(steps)
    if not begin <= first < end <= last:
        raise ConfigError(
            f"no window of run {subject.run.name}, whose steps here end at {last}",
            where="--steps" if steps is not None else f"{subject.given.path}: windows",
            got=f"{first}:{end}",
            do=f"choose a range within {begin}:{last}",
        )
    return first, end, grid.every


def _fingerprint(stream: Stream) -> str | None:
    if stream.run.loader != "olmo-core":
        return None
    names = [file.path.rsplit("/", 1)[-1] for file in stream.files]
    return stream.order.fingerprint(names, stream.run.tokenizer, stream.run.dataset_class)


def _proofs(ask: Ask, stream: Stream, fingerprint: str | None) -> LoggedProofs | StateProofs:
    if ask.call is None or not ask.subject.given.run.embedded:
        return StateProofs(ask.subject, stream.order, fingerprint or "")
    trained = ask.call.looking().pretrain()
    if not trained.id:
        return LoggedProofs(None)
    from trainers.pretrain import proved_batches

    return LoggedProofs(proved_batches(trained.path, stream.order))


def _other(ask: Ask, pair: str) -> Stream:
    subject = load_subject(pair)
    if subject.run.loader == "unknown" or subject.given.run.embedded:
        what = "is made here" if subject.given.run.embedded else "has an order that is not known"
        raise ConfigError(f"run {subject.run.name} {what}", where="--with", got=pair)
    ours, theirs = ask.subject.given, subject.given
    if ours.run.mix and theirs.run.mix and ours.run.mix.name == theirs.run.mix.name:
        # The same files have the same sizes, which need not be given or asked for twice.
        sizes = ours.run.mix.sizes and str(ours.path.parent / ours.run.mix.sizes)
        mix = theirs.run.mix.model_copy(update={"sizes": theirs.run.mix.sizes or sizes})
        given = replace(theirs, run=theirs.run.model_copy(update={"mix": mix}))
        subject = replace(subject, given=given)
    return open_stream(Ask(subject, ask.out, ask.quiet))


def _row(subject: Subject, each: Window, proof: Proof) -> dict[str, Any]:
    run = subject.run
    told = [
        number
        for number, remark in enumerate(subject.given.run.remarks, start=1)
        if not remark.of_the_whole_run and remark.touches(each.first_step, each.end_step)
    ]
    return {
        **asdict(each),
        "exact": run.exact_between(each.first_step, each.end_step),
        "seam": [step for step in jumps(run) if each.first_step <= step <= each.end_step],
        "batch_size_changes": [
            step for step in run.batch_changes if each.first_step <= step < each.end_step
        ],
        "remarks": told,
        "order": proof.verdict,
        "why": proof.why,
    }


def _unread(stream: Stream) -> int:
    """Instances of the epoch behind its last whole batch."""
    read = stream.order.positions(0, stream.order.num_batches)[1]
    return stream.order.num_instances - read


def _remarks(subject: Subject, stream: Stream | None) -> list[str]:
    """Say everything about the run that no row says."""
    run, lines = subject.given.run, []
    if stream is not None:
        lines.append(
            f"epoch {run.epoch} has {stream.order.num_instances:,} instances in"
            f" {stream.order.num_batches:,} batches and would end at step"
            f" {subject.run.last_step(stream.order.num_batches):,};"
            f" {_unread(stream):,} instances behind the last whole batch are never read"
        )
        if stream.data.note:
            lines.append(stream.data.note)
    for step in jumps(subject.run):
        lines.append(f"seam: at step {step} the batch read next is not the one after the last")
    if run.repetition_filter is not None:
        lines.append(
            f"instances in which a pattern of {run.repetition_filter.min_period} to"
            f" {run.repetition_filter.max_period} tokens comes {run.repetition_filter.max_count} or"
            " more times in a row were read in their place without loss: what --sample marks them"
        )
    for number, remark in enumerate(run.remarks, start=1):
        until = " on" if remark.end_step is None else f" to {remark.end_step}"
        steps = "" if remark.of_the_whole_run else f"from step {remark.first_step}{until}: "
        lines.append(f"[{number}] {steps}{remark.says}")
    return lines


def _proof_words(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Say how many windows are proved, and of the others why not."""
    total, reasons = len(rows), dict.fromkeys((row["order"], row["why"]) for row in rows)
    lines = []
    for verdict, why in list(reasons)[:10]:
        count = sum((row["order"], row["why"]) == (verdict, why) for row in rows)
        lines.append(f"{count} of {total} windows {verdict}: {why}")
    if len(reasons) > len(lines):
        lines.append(f"and {len(reasons) - len(lines)} more reasons: --json has them")
    return lines


def _table(
    rows: Sequence[dict[str, Any]], subject: Subject, sources: Sequence[str]
) -> RenderableType:
    groups = source_groups(sources)
    with_pair = any("pair" in row for row in rows)
    names = ["window", "batches", "tokens", *dict.fromkeys(groups.values()), "order", "remarks"]
    names += ["read by the other run in"] if with_pair else []
    cells = [
        [
            row["name"],
            f"{row['first_batch']}:{row['end_batch']}",
            f"{row['tokens']:,}",
            *_shares(row, groups),
            row["order"],
            _flags(row),
            *([row["pair"] or ""] if with_pair else []),
        ]
        for row in rows
    ]
    return table(f"windows of run {subject.run.name}", names, cells)


def source_groups(sources: Sequence[str]) -> dict[str, str]:
    """Return under which name each source is shown.

    Few sources are shown each; of many, those whose names begin alike together, under what they
    share (``common_crawl`` for ``common_crawl_games`` and ``common_crawl_health``).
    """
    if len(sources) <= SHOWN_SOURCES:
        return {source: source for source in sources}
    alike: dict[str, list[str]] = {}
    for source in sources:
        alike.setdefault(source.partition("_")[0], []).append(source)
    return {source: _shared(members) for members in alike.values() for source in members}


def _shared(names: Sequence[str]) -> str:
    """Return the words that all names begin with."""
    if len(names) == 1:
        return names[0]
    words = zip(*(name.split("_") for name in names), strict=False)
    return "_".join(first for first, *_ in takewhile(lambda each: len({*each}) == 1, words))


def _shares(row: dict[str, Any], groups: Mapping[str, str]) -> list[str]:
    read = dict.fromkeys(groups.values(), 0)
    for share in row.get("sources", ()):
        read[groups[share["source"]]] += share["instances"]
    return [f"{count / row['instances']:.2%}" for count in read.values()]


def _flags(row: dict[str, Any]) -> str:
    flags = [] if row["exact"] else ["batches not exact"]
    flags += [f"seam at {step}" for step in row["seam"]]
    flags += [f"batch size changes at {step}" for step in row["batch_size_changes"]]
    return ", ".join([*flags, *(f"[{number}]" for number in row["remarks"])])
