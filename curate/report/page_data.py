"""What the page's script is given: the numbers behind the drawings, rounded, as compact JSON."""

import json
from typing import Any

from curate.report.data import ReportData, Window, finite
from curate.report.timeline import tokens_by_step
from curate.report.words import CONTROL_LETTERS, LETTERS, control_word

_WORDS = {**LETTERS, **CONTROL_LETTERS}


def page_data(data: ReportData) -> str:
    """Return JSON text that may stand inside a script element, whatever names are in it.

    Columns are parallel to the windows, or to the steps of a series. A label is its letter, "-"
    where a task has none in a window; numbers that were not measured are null.
    """
    tokens = tokens_by_step(data)
    found = {
        "study": data.study.file,
        "windows": [
            [w.name, w.first_step, w.end_step, w.first_batch, w.end_batch, w.tokens]
            for w in data.windows
        ],
        "tasks": [_task(data, task) for task in data.tasks],
        "words": {letter: word for word, letter in _WORDS.items()},
        "series": [_series(series) for series in data.series],
        "tokens": [list(tokens), list(tokens.values())],
        "loss": _loss(data),
        "sources": _sources(data),
    }
    text = json.dumps(found, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # "<" could end the element; the two separators end a line of a script in old browsers.
    for character in "<\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _task(data: ReportData, task: str) -> dict[str, Any]:
    control = data.is_control(task)
    on = [window.on(task) for window in data.windows]
    words = [one and (control_word(one.label) if control else one.label) for one in on]
    names = ("delta", "strength", "lo", "hi")
    return {
        "name": task,
        "labels": "".join(_WORDS[word] if word else "-" for word in words),
        "hops": [index for index, one in enumerate(on) if one and one.hop],
        **{name: [_rounded(getattr(one, name, None)) for one in on] for name in names},
        "q": [_significant(getattr(one, "q", None)) for one in on],
    }


def _series(series: Any) -> dict[str, Any]:
    names = ("mean", "lo", "hi", "hard")
    columns = {name: [_rounded(value) for value in getattr(series, name)] for name in names}
    return {"task": series.task, "measure": series.measure, "steps": series.steps, **columns}


def _loss(data: ReportData) -> list[float | None]:
    """Return the last loss within every window."""
    if data.loss is None:
        return []
    known = dict(zip(data.loss.steps, data.loss.loss, strict=True))
    return [_rounded(_last(known, window)) for window in data.windows]


def _last(known: dict[int, float | None], window: Window) -> float | None:
    steps = range(window.end_step, window.first_step, -1)
    return next((known[step] for step in steps if step in known), None)


def _sources(data: ReportData) -> dict[str, Any] | None:
    if not data.sources:
        return None
    return {"names": data.sources, "instances": [window.held for window in data.windows]}


def _rounded(value: float | None) -> float | None:
    known = finite(value)
    return None if known is None else round(known, 4)


def _significant(value: float | None) -> float | None:
    known = finite(value)
    return None if known is None else float(f"{known:.3g}")
