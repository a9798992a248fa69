"""The report as plain JSON values: ``summary.json`` and what ``--json`` prints."""

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from curate.report.data import Endpoint, ReportData, Window, finite
from curate.report.sentences import quotable
from curate.report.words import headline

SCHEMA = 1


def summary(data: ReportData) -> dict[str, Any]:
    """Return the study's findings as JSON values; missing numbers are None, never NaN.

    Always there: ``windows``, ``labels``, ``transfer_check``, ``arms``, ``verdict``,
    ``wall_seconds``. What was not done is an empty list or object, or None.
    """
    return {
        "schema": SCHEMA,
        "study": {
            "name": data.study.name,
            "run": data.study.run,
            "seed": data.study.seed,
            "versions": dict(data.study.versions),
        },
        "headline": headline(data),
        "quotable": list(quotable(data)),
        "primary_task": data.primary_task,
        "sources": list(data.sources),
        "windows": [_plain(window, without=("labels",)) for window in data.windows],
        "labels": [row for window in data.windows for row in _labels(window, data.rule.version)],
        "label_rule": _plain(data.rule),
        "transfer_check": _plain(data.transfer) if data.transfer else None,
        "arms": _arms(data),
        "base": _base(data),
        "verdict": _verdict(data),
        "series": [_plain(series) for series in data.series],
        "mixtures": _plain(data.mixtures) if data.mixtures else None,
        "truth": _plain(data.truth) if data.truth else None,
        "provenance": [_plain(row) for row in data.provenance],
        "wall_seconds": finite(data.wall_seconds),
    }


def to_json(data: ReportData) -> str:
    """Return the summary as strict JSON text, one line feed at its end."""
    return json.dumps(summary(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any, without: Sequence[str] = ()) -> Any:
    """Return dataclasses as objects, tuples as lists, numbers that are none as None."""
    if isinstance(value, float):
        return finite(value)
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    if hasattr(value, "__dataclass_fields__"):
        names = [field.name for field in fields(value) if field.name not in without]
        return {name: _plain(getattr(value, name)) for name in names}
    return value


def _labels(window: Window, rule_version: int) -> list[dict[str, Any]]:
    place = {
        "window": window.name,
        "first_batch": window.first_batch,
        "end_batch": window.end_batch,
    }
    return [{**place, **_plain(label), "rule_version": rule_version} for label in window.labels]


def _arms(data: ReportData) -> dict[str, Any]:
    if data.arms is None:
        return {}
    return {arm.arm: _plain(arm, without=("arm",)) for arm in data.arms.summaries}


def _base(data: ReportData) -> dict[str, Any] | None:
    if data.arms is None:
        return None
    return {
        "checkpoint": data.arms.base,
        "step": data.arms.base_step,
        "soft": finite(data.arms.base_soft),
        "control": finite(data.arms.base_control),
        "loss": finite(data.arms.base_loss),
    }


def _verdict(data: ReportData) -> dict[str, Any] | None:
    verdict = data.verdict
    if verdict is None:
        return None
    tests: tuple[Endpoint, ...] = verdict.secondary
    return {
        "name": verdict.name,
        "sentences": list(verdict.sentences),
        "primary": _plain(verdict.primary),
        "secondary": [_plain(test) for test in tests],
        "alpha": verdict.alpha,
    }
