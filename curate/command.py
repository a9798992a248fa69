"""The frame of every command: its common options, what it prints, and how it ends.

A command is a function that takes a `Call` (and options of its own) and returns an `Answer`. This
module gives it the options that all commands share, prints the answer as tables or as JSON, and
turns every failure into one line and an exit code: 0 done, 1 a check said no, 2 bad input.
"""

import inspect
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curate.endings import ending

if TYPE_CHECKING:
    from rich.console import RenderableType

    from curate.chain import Chain
    from curate.study import Study
    from curate.subject import Subject
    from windows.progress import Reporter

Command = Callable[..., "Answer"]

# Wide enough for every table when the output is not a terminal, which has no width.
_PIPE_WIDTH = 160

StudyFile = Annotated[
    str, typer.Argument(metavar="STUDY", help="A study file (YAML), or the name of a shipped one.")
]
StudyOrRunFile = Annotated[
    str,
    typer.Argument(
        metavar="STUDY", help="A study file or a run file (YAML), or the name of a shipped one."
    ),
]
MaybeStudyFile = Annotated[
    str | None, typer.Argument(metavar="STUDY", help="A study file (YAML).", show_default=False)
]
Settings = Annotated[
    list[str],
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Use VALUE for the study's KEY (a.b.c). Repeatable."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="DIR", help="Folder of the artefacts; modehop-out/NAME if not given."
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say exactly what would be done, and do nothing.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else there.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")]

_ON_STUDIES: dict[str, tuple[Any, Any]] = {
    "settings": (Settings, []),
    "out": (Out, None),
    "dry_run": (DryRun, False),
    "quiet": (Quiet, False),
}
_ON_ALL: dict[str, tuple[Any, Any]] = {"as_json": (AsJson, False), "debug": (Debug, False)}
_ON_PLAIN: dict[str, tuple[Any, Any]] = {"quiet": (Quiet, False)}


@dataclass(frozen=True)
class Answer:
    """What a command found.

    Attributes
    ----------
    data
        All of it, as plain JSON values.
    shown
        What a person is shown of it: rich tables, or lines of text; or a function that lays them
        out, which is not called where JSON is asked for.
    refusal
        Why the answer is no; the command then exits with 1.
    """

    data: Mapping[str, Any]
    shown: "Sequence[RenderableType] | Callable[[], Sequence[RenderableType]]" = ()
    refusal: str = ""


@dataclass(frozen=True)
class Call:
    """One use of a command on a study.

    Attributes
    ----------
    study
        The study, checked.
    out
        The folder of its artefacts; it need not exist yet.
    quiet
        Whether to keep silent about progress.
    """

    study: "Study"
    out: Path
    quiet: bool = False

    @contextmanager
    def making(self) -> "Iterator[Chain]":
        """Hold the study's folder, and yield its steps, each of which makes what is missing.

        The worker processes of the steps end with the block.
        """
        from curate.chain import Chain
        from windows.progress import Reporter
        from windows.store import StoreLock
        from windows.workers import WorkerPool

        with StoreLock(self.out), WorkerPool(self.study.config.workers) as pool:
            yield Chain(self.study, self.out, reporter=Reporter(self.quiet), pool=pool)

    def refuse_unknown(self, look: "Callable[[Chain], object]") -> None:
        """Look for what is to be made, so that a name the study does not have makes no folder."""
        look(self.looking())

    def beside(self, name: str, needs: Sequence[str]) -> "Call":
        """Return the use of the same command on another study, in that one's own folder."""
        return _call(name, [], None, self.quiet, needs)

    def looking(self) -> "Chain":
        """Return the study's steps, none of which makes anything."""
        from curate.chain import Chain
        from windows.progress import Reporter

        return Chain(self.study, self.out, reporter=Reporter(quiet=True), look_only=True)


@dataclass(frozen=True)
class Ask:
    """One question about what a run read: about a study's run, or a run by itself.

    Attributes
    ----------
    subject
        The run, and the study if there is one.
    out
        The folder of the study's artefacts.
    quiet
        Whether to keep silent about progress.
    call
        The study's own frame; None for a run by itself.
    """

    subject: "Subject"
    out: Path
    quiet: bool = False
    call: Call | None = None

    @property
    def reporter(self) -> "Reporter":
        """Progress, on stderr."""
        from windows.progress import Reporter

        return Reporter(self.quiet)


def study_command(
    app: typer.Typer,
    panel: str,
    *,
    needs: Sequence[str] | None,
    study: str | None = None,
    shorthands: Sequence[str] = (),
    optional: bool = False,
) -> Callable[[Command], Command]:
    """Make a function a command on a study.

    Parameters
    ----------
    panel
        The heading in ``modehop --help`` under which it stands.
    needs
        The steps of the chain that it makes where they are missing: what ``--dry-run`` shows. None
        for all that the study has sections for.
    study
        The shipped study that the command works on; by default the user names one.
    shorthands
        Options of the command that are short for ``--set NAME=VALUE``.
    optional
        The user may leave the study out; then the function is called with None.
    """

    def register(function: Command) -> Command:
        def work(options: dict[str, Any]) -> Answer:
            name = study or options.pop("study")
            settings = list(options.pop("settings"))
            own = {key: options.pop(key) for key in shorthands}
            settings += [f"{key}={value}" for key, value in own.items() if value is not None]
            shared = {key: options.pop(key) for key in ("out", "quiet", "dry_run")}
            if name is None:
                return function(None, **options)
            call = _call(name, settings, shared["out"], shared["quiet"], needs)
            if shared["dry_run"]:
                from curate.dry_run import dry_run

                return dry_run(call, call.study.steps if needs is None else needs, options)
            return function(call, **own, **options)

        parameters = list(inspect.signature(function).parameters.values())[1:]
        if optional:
            parameters.insert(0, _parameter("study", MaybeStudyFile, None))
        elif study is None:
            parameters.insert(0, _parameter("study", StudyFile, inspect.Parameter.empty))
        parameters += [_parameter(key, *value) for key, value in _ON_STUDIES.items()]
        _register(app, panel, function, parameters, work)
        return function

    return register


def ask_command(
    app: typer.Typer, panel: str, *, needs: Sequence[str]
) -> Callable[[Command], Command]:
    """Make a function a question about a study's run or a run by itself; it is given an `Ask`.

    Parameters
    ----------
    panel, needs
        As of `study_command`; a run by itself needs nothing made.
    """

    def register(function: Command) -> Command:
        def work(options: dict[str, Any]) -> Answer:
            name, settings = options.pop("study"), list(options.pop("settings"))
            shared = {key: options.pop(key) for key in ("out", "quiet", "dry_run")}
            ask = _ask(name, settings, shared["out"], shared["quiet"], needs)
            if shared["dry_run"]:
                from curate.dry_run import dry_run_of_question

                return dry_run_of_question(ask, needs, options)
            return function(ask, **options)

        parameters = list(inspect.signature(function).parameters.values())[1:]
        parameters.insert(0, _parameter("study", StudyOrRunFile, inspect.Parameter.empty))
        parameters += [_parameter(key, *value) for key, value in _ON_STUDIES.items()]
        _register(app, panel, function, parameters, work)
        return function

    return register


def plain_command(app: typer.Typer, panel: str) -> Callable[[Command], Command]:
    """Make a function a command that needs no study and makes nothing; it is told to be quiet."""

    def register(function: Command) -> Command:
        own = inspect.signature(function).parameters
        parameters = [each for key, each in own.items() if key not in _ON_PLAIN]
        parameters += [_parameter(key, *value) for key, value in _ON_PLAIN.items()]
        _register(app, panel, function, parameters, lambda options: function(**options))
        return function

    return register


def _call(
    name: str,
    settings: Sequence[str],
    out: Path | None,
    quiet: bool,
    needs: Sequence[str] | None,
) -> Call:
    from curate.study import load_study

    study = load_study(name, settings)
    return _checked(study, out, quiet, study.steps if needs is None else needs)


def _checked(study: "Study", out: Path | None, quiet: bool, needs: Sequence[str]) -> Call:
    from curate.feasible import check_feasible
    from curate.given import check_given

    check_given(study)
    check_feasible(study, needs)
    return Call(study, out or Path("modehop-out") / study.config.name, quiet)


def _ask(
    name: str, settings: Sequence[str], out: Path | None, quiet: bool, needs: Sequence[str]
) -> Ask:
    from curate.subject import load_subject

    subject = load_subject(name, settings)
    folder = out or Path("modehop-out") / subject.name
    call = _checked(subject.study, folder, quiet, needs) if subject.study else None
    return Ask(subject, folder, quiet, call)


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, annotation=annotation, default=default)


def _register(
    app: typer.Typer,
    panel: str,
    function: Command,
    parameters: Sequence[inspect.Parameter],
    work: Callable[[dict[str, Any]], Answer],
) -> None:
    shared = [_parameter(key, *value) for key, value in _ON_ALL.items()]
    signature = [
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (*parameters, *shared)
    ]

    def command(**options: Any) -> None:
        as_json, debug = options.pop("as_json"), options.pop("debug")
        raise typer.Exit(_run(work, options, as_json, debug))

    # typer reads a command's options from its signature; a command here has those of its function
    # and the shared ones.
    command.__signature__ = inspect.Signature(signature)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in signature}
    command.__doc__ = function.__doc__
    app.command(function.__name__.replace("_", "-"), rich_help_panel=panel)(command)


def _run(
    work: Callable[[dict[str, Any]], Answer], options: dict[str, Any], as_json: bool, debug: bool
) -> int:
    try:
        answer = work(options)
        _show(answer, as_json)
    except BrokenPipeError:
        # Whoever reads stdout has read enough.
        raise
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            traceback.print_exc()
        line, code = ending(error)
        say(line)
        return code
    if answer.refusal:
        say(answer.refusal)
    return int(bool(answer.refusal))


def _show(answer: Answer, as_json: bool) -> None:
    if as_json:
        text = json.dumps(answer.data, indent=2, ensure_ascii=False, allow_nan=False)
        sys.stdout.write(f"{text}\n")
        return
    from rich.console import Console

    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    console = Console(width=width, markup=False, emoji=False, highlight=False)
    for part in answer.shown() if callable(answer.shown) else answer.shown:
        console.print(part, soft_wrap=isinstance(part, str))


def say(line: str) -> None:
    """Write one line to the user, on stderr."""
    sys.stderr.write(f"modehop: {line}\n")
