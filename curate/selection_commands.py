"""The commands that choose among checkpoints: by the suite itself, and by what might predict it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import polars as pl
from rich.console import RenderableType

from curate.chain_steps import series_frame
from curate.command import Answer, Call
from curate.study import Study
from curate.tables import plain, table
from scoring.extraction import read_answers, read_persona
from scoring.forgetting import forgetting, right_items
from scoring.items import read_items
from scoring.predictor_null import best_layers
from scoring.selection import select_checkpoints
from scoring.series import POOLED
from scoring.suite.registry import NO_LABELS
from scoring.temporal_sampling import (
    drawn_answers,
    drawn_counts,
    pass_table,
    persona_counts,
    vote_table,
)
from trainers.predictors import read_predictors

KS = (1, 2, 4, 8, 16, 32, 64)
"""How many answers are drawn, of those that there are."""


_SHOWN_Q = 0.05
_RANKED = ["step", "score", "lo", "hi", "rank", "rank_lo", "rank_hi", "exchangeable_best"]
_FORGOT = ["task", "items", "final_errors", "forgotten", "null", "excess", "lo", "hi", "p", "q"]
_PREDICTED = [
    "task",
    "predictor",
    "sign",
    "layer",
    "rho",
    "lo",
    "hi",
    "null",
    "null_high",
    "p",
    "q",
]


def select(call: Call, scale: Literal["raw", "sd"], sampled: int) -> Answer:
    """Rank the checkpoints by the tasks that have a parrot, and say what the last ones forgot."""
    with call.making() as chain:
        made = chain.scores()
        loss = _loss(chain.sources.pretrain().path) if call.study.run.embedded else None
    items = read_items(made.path).filter(~pl.col("family").is_in(NO_LABELS))
    values = series_frame(items).select("task", "step", "demo_seed", value="soft")
    found = select_checkpoints(values, loss=_at_steps(loss, values), scale=scale)
    forgot = forgetting(right_items(items))
    data: dict[str, Any] = {
        "artefact": str(made.path),
        "high": found.high,
        "low": found.low,
        "distinct": found.distinct,
        "held_out": found.held_out,
        "sentences": list(found.sentences),
        "checkpoints": _rows(found.checkpoints),
        "comparisons": _rows(found.comparisons),
        "forgetting": _rows(forgot),
    }
    ranked = found.checkpoints.sort("rank").select(_RANKED)
    lost = forgot.select(_FORGOT)
    shown: list[RenderableType] = [
        *found.sentences,
        table("checkpoints, the best first", ranked.columns, ranked.rows()),
        table("beside the candidates", found.comparisons.columns, found.comparisons.rows()),
        table("final errors that were right before", lost.columns, lost.rows()),
    ]
    for name, title, frame in _sampling(call.study, made.path, found.checkpoints, sampled):
        data[name] = _rows(frame)
        shown.append(table(title, frame.columns, frame.rows()))
    return Answer(data, (*shown, f"artefact: {made.path}"))


def _loss(run: Path) -> pl.DataFrame:
    from trainers.loop import read_log

    return read_log(run).select("step", "loss")


def _at_steps(log: pl.DataFrame | None, values: pl.DataFrame) -> pl.DataFrame | None:
    """Return the training loss of the steps up to each checkpoint since the one before."""
    if log is None:
        return None
    steps = values["step"].unique().sort().to_list()
    rows = []
    for before, step in zip([None, *steps], steps, strict=False):
        first = step - 1 if before is None else before
        of_steps = log.filter(pl.col("step").is_between(first, step, closed="left"))
        rows.append({"step": step, "loss": of_steps["loss"].mean()})
    return pl.DataFrame(rows)


def _sampling(
    study: Study, scores: Path, checkpoints: pl.DataFrame, sampled: int
) -> "Sequence[tuple[str, str, pl.DataFrame]]":
    """Draw answers from the last checkpoints in turn: pass@k, and the majority's vote."""
    generate, steps = study.config.suite.generate, checkpoints["step"].sort().to_list()
    last = [f"{study.run.name}/{study.run.stage}-step{step}" for step in steps[-sampled:]]
    found = []
    if generate.personas:
        counts = persona_counts(read_persona(scores))
        ks = [k for k in KS if k <= generate.samples]
        title = f"personas: pass@k over the last {len(last)} checkpoints in turn"
        found.append(("persona_pass", title, pass_table(counts, last, ks)))
    if generate.answers:
        drawn = drawn_answers(read_answers(scores))
        title = f"answers: pass@k over the last {len(last)} checkpoints in turn"
        ks = [k for k in KS if k <= len(last)]
        found.append(("answer_pass", title, pass_table(drawn_counts(drawn), last, ks)))
        found.append(("answer_vote", "answers: the majority's vote", vote_table(drawn, last, ks)))
    return found


def predictors(call: Call) -> Answer:
    """Measure every predictor at every checkpoint, and hold the best layer against its null."""
    with call.making() as chain:
        scores, made = chain.scores(), chain.predictors()
    measured = read_predictors(made.path)
    keys = measured["task"].unique().to_list()
    series = (
        series_frame(read_items(scores.path))
        .filter(pl.col("task").is_in(keys))
        .group_by("task", "step", maintain_order=True)
        .agg(value=pl.col("soft").mean())
    )
    found = {
        trend: best_layers(measured, series, trend=trend, seed=call.study.config.seed)
        for trend in (0, 1)
    }
    shown: list[RenderableType] = []
    for trend, frame in found.items():
        less = "as they are" if trend == 0 else "less a straight line in time"
        part = frame.filter((pl.col("task") == POOLED) | (pl.col("q") < _SHOWN_Q))
        title = f"best layers over all tasks, and where q < {_SHOWN_Q}; series {less}"
        shown.append(table(title, _PREDICTED, part.select(_PREDICTED).rows()))
    limits = (
        "null is what the best of so many layers reaches by chance, circular shifts of the series;"
        " series that wander like random walks make it too small"
    )
    data = {
        "artefact": str(made.path),
        "id": made.id,
        "best_layers": _rows(found[0]),
        "best_layers_detrended": _rows(found[1]),
        "values": _rows(measured),
    }
    return Answer(data, (*shown, limits, f"artefact: {made.path}"))


def _rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    return [plain(row) for row in frame.to_dicts()]
