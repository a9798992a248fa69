"""What a command would do: the resolved configuration, and which artefacts it would make."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import yaml
from rich.table import Table

from curate.chain import Chain
from curate.command import Answer, Ask, Call
from curate.made import Step

# Options by which a command makes one of a step's artefacts instead of all.
_CHOICES = {"exports": ("mixture",), "arms": ("arm", "seed"), "nulls": ("check",)}


def dry_run(call: Call, needs: Sequence[str], options: Mapping[str, Any]) -> Answer:
    """Say what would be done, and do nothing.

    Parameters
    ----------
    needs
        Names of the steps that the command makes where they are missing.
    options
        The command's own options, as given.

    Raises
    ------
    ConfigError
        An option names an arm, mixture or seed that the study does not have.
    """
    steps = _steps(call.looking(), needs, options)
    resolved = call.study.resolved()
    chosen = {key: value for key, value in options.items() if value is not None}
    data = {"out": str(call.out), "options": chosen, **resolved, "steps": _plain(steps)}
    shown = (
        f"# study {call.study.path}\n{_yaml(resolved['study'])}",
        f"---\n# run {call.study.run_path}\n{_yaml(resolved['run'])}",
        step_table(steps, call) if needs else "no artefact is needed",
    )
    if needs[-1:] == ("transfer",):
        from curate.pricing import price_words, transfer_price

        data["price"] = transfer_price(call.study)
        return Answer(data, (*shown, *map(price_words, data["price"])))
    if needs[-1:] != ("scores",) or all(step.done for step in steps if step.name == "scores"):
        return Answer(data, shown)
    cost, script = _sweep(call)
    data["cost"] = cost
    return Answer(data, (*shown, _cost_words(cost), *filter(None, [script])))


def _sweep(call: Call) -> tuple[dict[str, Any], str]:
    """Return what the sweep will cost, and the script that Slurm would be given, if it is asked."""
    from curate.sweeping import local_checkpoint, sweep_cost, sweep_script

    chain = call.looking()
    embedded = call.study.run.embedded and not chain.pretrain().id
    targets = [] if embedded else chain.sources.targets()
    count = len(call.study.edges) if embedded else len(targets)
    cost = sweep_cost(call.study, targets, local_checkpoint(targets), count)
    return cost, sweep_script(call.study, targets, call.out)


def _cost_words(cost: Mapping[str, Any]) -> str:
    words = f"{cost['checkpoints']:,} checkpoints, {cost['tables']} tables and "
    words += f"{cost['prompts']:,} prompts each"
    if cost["unique_tokens"] is not None:
        words += f": {cost['unique_tokens']:,} tokens each ({cost['tokens']:,} without sharing)"
    if cost["answers"]:
        words += f"; {cost['answers']:,} generated answers each"
        if cost["generated_tokens"] is not None:
            words += f", at most {cost['generated_tokens']:,} tokens"
    if cost["flops"] is not None:
        words += f"; {cost['flops']:.2g} FLOPs in all"
    if cost["to_fetch"]:
        words += f"; {cost['to_fetch']:,} checkpoints are fetched first"
    return words


def dry_run_of_question(ask: Ask, needs: Sequence[str], options: Mapping[str, Any]) -> Answer:
    """Say what a question about a run would make and fetch; nothing of it is done."""
    answer = dry_run(ask.call, needs, options) if ask.call else _dry_run_of_run(ask, options)
    run = ask.subject.given.run
    if run.embedded or run.loader == "unknown" or not needs:
        return answer
    assert not callable(answer.shown)
    from curate.run_data import sizes_to_ask_for

    asked = sizes_to_ask_for(ask.subject.given)
    if asked:
        line = f"{asked:,} file sizes are asked for, one HEAD request each, once"
        return Answer({**answer.data, "sizes_to_ask_for": asked}, (*answer.shown, line))
    from curate.open_stream import order_to_make
    from curate.stream_commands import what_it_costs

    data: dict[str, Any] = {**answer.data, "ids_to_shuffle": order_to_make(ask)}
    lines = []
    if data["ids_to_shuffle"]:
        lines.append(f"the order of {data['ids_to_shuffle']:,} ids is made and kept, once")
    if options.get("sample"):
        cost = what_it_costs(ask, options["steps"], options["sample"], options["stratify"])
        data["cost"] = cost
        lines.append(
            f"{cost['instances']:,} instances: {cost['requests']:,} requests for"
            f" {cost['bytes']:,} bytes; {cost['cached']:,} ranges are here already"
        )
    return Answer(data, (*answer.shown, *lines))


def _dry_run_of_run(ask: Ask, options: Mapping[str, Any]) -> Answer:
    resolved = ask.subject.resolved()
    chosen = {key: value for key, value in options.items() if value is not None}
    shown = (f"# run {ask.subject.given.path}\n{_yaml(resolved['run'])}",)
    return Answer({"out": str(ask.out), "options": chosen, **resolved, "steps": []}, shown)


def status(call: Call) -> Answer:
    """Tell which of a study's artefacts exist."""
    steps = call.looking().plan()
    done = sum(step.done for step in steps)
    data = {"out": str(call.out), "done": done, "of": len(steps), "steps": _plain(steps)}
    return Answer(data, (step_table(steps, call), f"{done} of {len(steps)} are done"))


def step_table(steps: Sequence[Step], call: Call) -> Table:
    """Lay out steps as a table; an artefact has an id once what it is made from exists."""
    table = Table(title=f"steps of {call.study.config.name}, in {call.out}", title_justify="left")
    for name in ("state", "step", "artefact"):
        table.add_column(name, overflow="fold")
    for step in steps:
        name = f"{step.kind}/{step.label}" + (f"-{step.id[:12]}" if step.id else "")
        table.add_row("exists" if step.done else "to do", step.name, name)
    return table


def _steps(looking: Chain, needs: Sequence[str], options: Mapping[str, Any]) -> list[Step]:
    for name in needs:
        if name == "exports" and "arm" in options:
            # The arm looks for its own.
            continue
        if name == "corpus" and not looking.study.has_data:
            continue
        getattr(looking, name)(*(options[key] for key in _CHOICES.get(name, ()) if key in options))
    return list(looking.made.steps())


def _plain(steps: Sequence[Step]) -> list[dict[str, Any]]:
    return [asdict(step) for step in steps]


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=None)
