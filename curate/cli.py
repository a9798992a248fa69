"""The command ``modehop``: names, options and help. What a command does lives in other modules.

Nothing heavy is imported here, so that ``--help`` answers at once: a command imports what it needs
when it is run.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from curate.command import (
    Answer,
    Ask,
    Call,
    Out,
    ask_command,
    plain_command,
    say,
    study_command,
)
from curate.endings import REFUSED
from windows.reading.limits import MOST_REMOTE_BYTES

ALL, ASK, KEEP = "A study, from end to end", "What a run read", "Housekeeping"
STEPS = "A study, step by step"

UP_TO_SCORES = ("corpus", "pretrain", "scores")
UP_TO_LABELS = (*UP_TO_SCORES, "labels")
UP_TO_ARMS = (*UP_TO_LABELS, "exports", "arms")
EVERYTHING = (*UP_TO_LABELS, "transfer", "exports", "arms", "arm_scores", "verdict", "report")

app = typer.Typer(
    name="modehop",
    help="Maps pre-training data windows to mode hops, curates data from them, and tests whether "
    "that data controls the mode.",
    epilog="Every command on a study takes --set, --out, --dry-run, --quiet, --json, --debug; "
    "check and doctor, which read no study and make nothing, take --quiet, --json, --debug. "
    "Exit codes: 0 done, 1 a check said no, 2 bad input.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _tell_version(asked: bool) -> None:
    if asked:
        from curate.soundness import version

        sys.stdout.write(f"modehop {version()}\n")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_tell_version, is_eager=True, help="Say the version and exit."
        ),
    ] = False,
) -> None:
    """Take the options that stand before a command."""


@study_command(app, ALL, needs=EVERYTHING, study="demo", shorthands=("seed",))
def demo(
    call: Call,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Seed of the study, 0 if not given.")
    ] = None,
) -> Answer:
    """Run the whole chain on the embedded run; write summary.json and report.html."""
    from curate.study_commands import run_all

    return run_all(call)


@study_command(app, ALL, needs=None)
def run(call: Call) -> Answer:
    """Do all of a study, in order, resuming; write summary.json and report.html."""
    from curate.study_commands import run_study

    return run_study(call)


@study_command(app, ALL, needs=())
def status(call: Call) -> Answer:
    """Tell which of a study's steps are done."""
    from curate.dry_run import status

    return status(call)


@study_command(app, STEPS, needs=UP_TO_SCORES)
def score(
    call: Call,
    metric: Annotated[
        Literal["soft", "hard", "margin", "auc", "mean_p_soft", "mean_p_hard", "mass"],
        typer.Option("--metric", help="Which metric the table shows; --json has all."),
    ] = "soft",
) -> Answer:
    """Sweep: score every checkpoint on every task of the suite."""
    from curate.study_commands import score

    return score(call, metric)


@study_command(app, STEPS, needs=UP_TO_LABELS)
def label(call: Call) -> Answer:
    """Find deltas and hops, and label the windows."""
    from curate.study_commands import label

    return label(call)


@study_command(app, STEPS, needs=(*UP_TO_LABELS, "nulls"))
def null(
    call: Call,
    check: Annotated[
        list[str],
        typer.Option(
            "--check",
            metavar="NAME",
            help="Also one that scores again: numerics, averaging, stability. Repeatable.",
        ),
    ] = [],  # noqa: B006
) -> Answer:
    """Ask named nulls of the strongest hops: which are confirmed, and what explains the others."""
    from curate.null_commands import null

    return null(call, check)


@study_command(app, STEPS, needs=UP_TO_LABELS)
def attribute(
    call: Call,
    method: Annotated[
        list[str],
        typer.Option(
            "--method",
            metavar="NAME",
            help="composition, ngrams, bm25, contrast or gradient; all if none is named.",
        ),
    ] = [],  # noqa: B006
) -> Answer:
    """Score documents inside the windows, cross-fitted, each method with its null."""
    from curate.attribution import attribute

    return attribute(call, method)


@study_command(app, STEPS, needs=UP_TO_LABELS)
def replicate(
    call: Call,
    other: Annotated[
        str, typer.Argument(metavar="OTHER", help="A study of a run that read the same stream.")
    ],
    interest: Annotated[
        float,
        typer.Option("--interest", min=0.0, max=1.0, help="Smallest correlation of interest."),
    ] = 0.3,
) -> Answer:
    """Compare two runs that read the same stream. Exits with 1 if their windows do not agree."""
    from curate.replicate_command import replicate

    return replicate(call, call.beside(other, UP_TO_LABELS), interest)


@study_command(app, STEPS, needs=UP_TO_SCORES)
def select(
    call: Call,
    scale: Annotated[
        Literal["raw", "sd"],
        typer.Option("--scale", help="Whether each task counts as it is or by its own spread."),
    ] = "raw",
    last: Annotated[
        int, typer.Option("--last", min=1, help="Draw answers from this many last checkpoints.")
    ] = 8,
) -> Answer:
    """Rank checkpoints by the suite, with uncertainty; say what the final one forgot."""
    from curate.selection_commands import select

    return select(call, scale, last)


@study_command(app, STEPS, needs=(*UP_TO_SCORES, "predictors"))
def predictors(call: Call) -> Answer:
    """Measure generalization predictors by layer, against the null of the best of many."""
    from curate.selection_commands import predictors

    return predictors(call)


@study_command(app, STEPS, needs=(*UP_TO_LABELS, "transfer"))
def transfer(call: Call) -> Answer:
    """Replay windows shuffled: do the labels transfer? Exits with 1 if not."""
    from curate.study_commands import transfer

    return transfer(call)


@study_command(app, STEPS, needs=(*UP_TO_LABELS, "exports"))
def export(
    call: Call,
    mixture: Annotated[
        str, typer.Option("--mixture", metavar="NAME", help="A mixture of the study.")
    ],
) -> Answer:
    """Write curated token shards of one mixture, with manifest and checksums."""
    from curate.study_commands import export

    return export(call, mixture)


@study_command(app, STEPS, needs=UP_TO_ARMS)
def train(
    call: Call,
    arm: Annotated[str, typer.Option("--arm", metavar="NAME", help="An arm of the study.")],
    seed: Annotated[int, typer.Option("--seed", min=0, help="Which of the arm's runs.")],
    launcher: Annotated[
        Literal["local"], typer.Option("--launcher", help="Where it runs.")
    ] = "local",
) -> Answer:
    """Train one run of an arm, or resume it."""
    from curate.study_commands import train

    return train(call, arm, seed)


@study_command(app, STEPS, needs=(*UP_TO_ARMS, "transfer", "arm_scores", "verdict"))
def verify(call: Call) -> Answer:
    """Judge the arms: did they stabilize, the placebo beside them? Exits with 1 if not."""
    from curate.study_commands import verify

    return verify(call)


@study_command(app, STEPS, needs=UP_TO_LABELS)
def report(call: Call) -> Answer:
    """Write the window attribution report of what is done, the labels at least."""
    from curate.study_commands import run_all

    return run_all(call, so_far=True)


@ask_command(app, ASK, needs=("corpus",))
def windows(
    ask: Ask,
    steps: Annotated[
        str | None, typer.Option("--steps", metavar="A:B", help="Only these steps.")
    ] = None,
    prove: Annotated[
        bool, typer.Option("--prove", help="Fetch the trainer states that prove or disprove.")
    ] = False,
    pair: Annotated[
        str | None,
        typer.Option("--with", metavar="RUN", help="Find the windows that RUN consumed as well."),
    ] = None,
) -> Answer:
    """List the run's windows: steps, batches, tokens, instances, sources, proved or not."""
    from curate.window_commands import windows

    return windows(ask, steps, prove, pair)


@ask_command(app, ASK, needs=("corpus",))
def what(
    ask: Ask,
    steps: Annotated[
        str, typer.Option("--steps", metavar="A:B", help="From checkpoint A to checkpoint B.")
    ],
    sample: Annotated[
        int, typer.Option("--sample", min=0, max=10**7, help="Show N of the documents.")
    ] = 0,
    stratify: Annotated[
        bool, typer.Option("--stratify", help="Draw from every source, rare ones more often.")
    ] = False,
    max_remote_bytes: Annotated[
        int, typer.Option("--max-remote-bytes", min=1, help="Refuse to fetch more than this.")
    ] = MOST_REMOTE_BYTES,
) -> Answer:
    """Show what the batches between two steps held: sources exactly, documents sampled."""
    from curate.stream_commands import what

    return what(ask, steps, sample, stratify, max_remote_bytes)


@ask_command(app, ASK, needs=("corpus",))
def when(
    ask: Ask,
    instance: Annotated[int | None, typer.Option("--instance", help="Id of an instance.")] = None,
    file: Annotated[
        str | None, typer.Option("--file", help="A token file: its index or path.")
    ] = None,
    document: Annotated[
        str | None, typer.Option("--document", help="A document of it: its id or place.")
    ] = None,
    tokens: Annotated[
        str | None, typer.Option("--tokens", metavar="A:B", help="Or tokens of it, by place.")
    ] = None,
    keep_inverse: Annotated[
        bool, typer.Option("--keep-inverse", help="Keep on disk what makes later questions quick.")
    ] = False,
) -> Answer:
    """Find the batch and step that consumed an instance or a document."""
    from curate.stream_commands import when

    return when(ask, instance, file, (document, tokens), keep_inverse)


@ask_command(app, ASK, needs=())
def checkpoints(
    ask: Ask,
    source: Annotated[
        Literal["local", "hub", "csv"] | None,
        typer.Option("--from", help="Where to look; by default where they are nearest."),
    ] = None,
    step: Annotated[
        int | None, typer.Option("--step", min=0, help="Only the checkpoint of this step.")
    ] = None,
    audit: Annotated[
        bool, typer.Option("--audit", help="Compare their weights: are they what they claim?")
    ] = False,
    all_bytes: Annotated[
        bool, typer.Option("--all-bytes", help="Compare local files in whole, not by samples.")
    ] = False,
) -> Answer:
    """List the run's checkpoints, wherever they lie; audit what they are. Exits with 1 if not."""
    from curate.checkpoint_commands import checkpoints

    return checkpoints(ask, source, step, audit, all_bytes)


@study_command(app, ASK, needs=(), optional=True)
def suite(
    call: Call | None,
    export_lm_eval: Annotated[
        Path | None,
        typer.Option(
            "--export-lm-eval",
            metavar="DIR",
            help="Write the tasks for lm-evaluation-harness: YAML and items.",
        ),
    ] = None,
    split: Annotated[
        Literal["label", "verify"], typer.Option("--split", help="Whose items are written.")
    ] = "label",
) -> Answer:
    """List families, tasks, item counts and an example of each; of STUDY, or all."""
    from curate.suite_listing import export_suite, list_suite
    from scoring.suite.sets import PINNED

    section = call.study.config.suite if call else None
    sets = call.study.sets if call else PINNED
    if export_lm_eval is not None:
        return export_suite(section, export_lm_eval, split, sets)
    return list_suite(section, sets)


@plain_command(app, KEEP)
def check(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="An artefact, or a folder of artefacts.")
    ],
    quiet: bool,
) -> Answer:
    """Check that an artefact's bytes still match its checksums."""
    from curate.soundness import check_folder

    return check_folder(folder, quiet=quiet)


@plain_command(app, KEEP)
def doctor(quiet: bool, out: Out = None) -> Answer:
    """Examine this installation: packages, threads, write access, disk."""
    from curate.soundness import examine

    return examine(out or Path("modehop-out"), quiet=quiet)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments
        What follows ``modehop``; by default this process's own arguments.

    Returns
    -------
    int
        The exit code: 0 done, 1 a check said no, 2 bad input, 130 interrupted.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        code = app(given or ["--help"], prog_name="modehop", standalone_mode=False)
    except Exception as error:
        # typer's own refusals know how to say themselves; their class has moved between versions.
        if not hasattr(error, "format_message"):
            raise
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "modehop"
        say(f"{' '.join(error.format_message().split())} Try: {path} --help")
        return REFUSED
    return int(code or 0)
