"""A live monitor: scores a small suite every so many steps of a running pre-training.

Every reading is one line of JSON, beside the loss: step, task, soft, hard, margin, loss, switch.
Whoever trains calls `Monitor.step` after every optimizer step: transformers' Trainer through
`Monitor.transformers_callback`, OLMo-core's through `Monitor.olmo_core_callback`. The training is
not touched: weights, gradients, random numbers and the modules' modes are as they were.

A *mode switch* has hysteresis: a task is in a mode once its soft score lies beyond the threshold on
that side of zero, and switches when it lies beyond the threshold on the other. The first mode is
entered without a switch.

Importing this module does not import torch.
"""

import json
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from scoring.items import Where
from scoring.series import Metric, seed_series
from scoring.suite.registry import blocks as suite_blocks
from scoring.suite.registry import find
from scoring.suite.schema import Block, Split
from scoring.sweep import TOKEN_BUDGET, score_blocks
from windows.errors import ConfigError, DataError
from windows.files import write_atomic

Mode = Literal["generalization", "pattern"]
LOG = logging.getLogger(__name__)
_METRICS: tuple[Metric, ...] = ("soft", "hard", "margin")


@dataclass(frozen=True, slots=True)
class Reading:
    """One task at one step.

    Attributes
    ----------
    step
        Optimizer steps taken.
    task
        ``family/name``.
    soft, hard, margin
        Means over demo seeds; None where the model's scores were no numbers.
    loss
        The training loss at that step in nats per token, where it was told.
    switch
        The mode that the task switched to with this reading.
    """

    step: int
    task: str
    soft: float | None
    hard: float | None
    margin: float | None
    loss: float | None = None
    switch: Mode | None = None


def monitor_blocks(
    tasks: Sequence[str], *, demo_seeds: int = 4, items: int = 32, split: Split = "label"
) -> tuple[Block, ...]:
    """Cut tasks of the suite down to a size that a running training can afford.

    Parameters
    ----------
    tasks
        Keys ``family/name``; each is asked in the first wording of the split.
    demo_seeds
        Draws of demonstrations of each.
    items
        The most items of a block: those whose ids come first, which is a draw by hash.
    split
        ``label`` or ``verify``.

    Raises
    ------
    ConfigError
        As `scoring.suite.registry.blocks` does.
    """
    made = [block for key in tasks for block in _first_wording(key, split, demo_seeds)]
    return tuple(
        replace(block, items=tuple(sorted(block.items, key=lambda item: item.item_id)[:items]))
        for block in made
    )


class Monitor:
    """Scores blocks of the suite on a live model and keeps the readings in a file.

    Where several processes train together, each of them has to call: all score, so that sharded
    models can be read, and the first one writes.

    Parameters
    ----------
    blocks
        What to ask; see `monitor_blocks`.
    tokenizer
        The model's.
    every
        Steps between readings; step 0 is read as well.
    out
        The file of readings, one JSON object a line. A reading replaces all that was recorded from
        its step on: a training that goes on from an earlier checkpoint leaves no step twice.
    alarm
        Told of every reading with a switch, which is logged as a warning in any case.
    threshold
        Hysteresis of a mode switch, in soft score.

    Raises
    ------
    ConfigError
        If there is nothing to ask, or `every` or `threshold` is not positive.
    DataError
        If `out` holds something else.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        tokenizer: Any,
        *,
        every: int,
        out: Path,
        alarm: Callable[[Reading], None] = lambda reading: None,
        threshold: float = 0.2,
    ) -> None:
        for name, value in (("blocks", len(blocks)), ("every", every), ("threshold", threshold)):
            if value <= 0:
                raise ConfigError(
                    "a monitor needs more than none", where=f"monitor.{name}", got=str(value)
                )
        self.blocks = tuple(blocks)
        self.tasks = tuple(dict.fromkeys(block.key for block in blocks))
        self.tokenizer = tokenizer
        self.every = every
        self.out = out
        self.alarm = alarm
        self.threshold = threshold
        self.token_budget = TOKEN_BUDGET
        self.readings = _recorded(out)

    def is_due(self, step: int) -> bool:
        """Whether this step is one of those that are read."""
        return step % self.every == 0

    def step(self, step: int, model: Any, loss: float | None = None) -> tuple[Reading, ...]:
        """Read the model, if the step is due.

        Parameters
        ----------
        step
            Optimizer steps taken.
        model
            A causal LM of transformers, as it is trained.
        loss
            Training loss of this step, to be kept beside the reading.

        Returns
        -------
        tuple of Reading
            One for each task; none where the step is not due.

        Raises
        ------
        ModehopError
            If the model cannot be scored, as `scoring.engine.PrefixScorer` does.
        """
        return self._read(step, model, loss) if self.is_due(step) else ()

    def begin(self, step: int, model: Any) -> tuple[Reading, ...]:
        """Start or go on at a step: forget what was recorded after it, and read it if it is new."""
        self._forget_after(step)
        known = bool(self.readings) and self.readings[-1].step == step
        return () if known else self.step(step, model)

    def transformers_callback(self) -> Any:
        """Return a ``TrainerCallback`` of transformers that reads after every step that is due.

        Where the Trainer logs that step, its logged loss (a mean since it last logged) goes with
        the reading; set ``logging_steps`` to a divisor of `every`.
        """
        from scoring.monitor_callbacks import for_transformers

        return for_transformers(self)

    def olmo_core_callback(self) -> Any:
        """Return a ``Callback`` of OLMo-core that reads after every step that is due.

        OLMo-core's models are read as the transformers model that OLMo-core converts them to, which
        shares their weights.
        """
        from scoring.monitor_callbacks import for_olmo_core

        return for_olmo_core(self)

    def _read(self, step: int, model: Any, loss: float | None) -> tuple[Reading, ...]:
        plain = _plain(model)
        with _undisturbed(plain):
            table = score_blocks(
                plain,
                self.tokenizer,
                self.blocks,
                Where("monitor", "live", step),
                token_budget=self.token_budget,
            )
        self._forget_after(step - 1)
        items = pl.DataFrame(pl.from_arrow(table))
        told = None if loss is None or not math.isfinite(loss) else float(loss)
        readings = tuple(self._reading(items, task, step, told) for task in self.tasks)
        self.readings += readings
        if _is_first_process():
            self._record(readings)
        return readings

    def _reading(self, items: pl.DataFrame, task: str, step: int, loss: float | None) -> Reading:
        own = items.filter(pl.concat_str("family", "task", separator="/") == task)
        scores = own.select("lp_right", "lp_parrot").to_numpy()
        if not np.isfinite(scores).all():
            return Reading(step, task, None, None, None, loss)
        soft, hard, margin = (float(seed_series(own, task, metric=m).level[0]) for m in _METRICS)
        mode = _mode(soft, self.threshold)
        before = self._mode_of(task)
        switch = mode if mode and before and mode != before else None
        return Reading(step, task, soft, hard, margin, loss, switch)

    def _mode_of(self, task: str) -> Mode | None:
        modes = (_mode(r.soft, self.threshold) for r in reversed(self.readings) if r.task == task)
        return next(filter(None, modes), None)

    def _record(self, readings: tuple[Reading, ...]) -> None:
        self.out.parent.mkdir(parents=True, exist_ok=True)
        with self.out.open("a", encoding="utf-8") as file:
            file.write("".join(map(_line, readings)))
        for reading in readings:
            if reading.switch:
                LOG.warning(
                    "step %d: %s switched to %s (soft %+.2f)",
                    *(reading.step, reading.task, reading.switch, reading.soft),
                )
                self.alarm(reading)

    def _forget_after(self, step: int) -> None:
        kept = tuple(reading for reading in self.readings if reading.step <= step)
        if len(kept) == len(self.readings):
            return
        LOG.warning("%s: readings after step %d are taken again", self.out, step)
        self.readings = kept
        if _is_first_process():
            write_atomic(self.out, "".join(map(_line, kept)))


def _first_wording(key: str, split: Split, demo_seeds: int) -> list[Block]:
    task = find(key, where="monitor.tasks")
    return suite_blocks(task.key, split=split, demo_seeds=demo_seeds, wordings=1)


def _mode(soft: float | None, threshold: float) -> Mode | None:
    if soft is None or abs(soft) <= threshold:
        return None
    return "generalization" if soft > 0 else "pattern"


def _line(reading: Reading) -> str:
    return json.dumps(asdict(reading), allow_nan=False) + "\n"


def _recorded(path: Path) -> tuple[Reading, ...]:
    """Read what is there; a last line that a killed process did not finish is cut off."""
    if not path.exists():
        return ()
    text = path.read_text(encoding="utf-8", errors="replace")
    whole = text[: text.rfind("\n") + 1]
    readings = tuple(_parsed(line, path, n) for n, line in enumerate(whole.splitlines(), start=1))
    if whole != text and _is_first_process():
        write_atomic(path, whole)
    return readings


def _parsed(line: str, path: Path, number: int) -> Reading:
    try:
        reading = Reading(**json.loads(line))
        assert isinstance(reading.step, int) and isinstance(reading.task, str)
    except (ValueError, TypeError, AssertionError) as error:
        raise DataError(
            "not a reading of the monitor",
            where=f"{path}, line {number}",
            got=repr(line[:60]),
            do="name another file, or remove this one",
        ) from error
    return reading


def _plain(model: Any) -> Any:
    """Take off what compiling and data parallelism put around a model."""
    from torch.nn.parallel import DistributedDataParallel

    model = getattr(model, "_orig_mod", model)
    model = model.module if isinstance(model, DistributedDataParallel) else model
    return getattr(model, "_orig_mod", model)


@contextmanager
def _undisturbed(model: Any) -> Iterator[None]:
    """Leave modes, random numbers and the attention's implementation as they were."""
    import torch

    modes = [(module, module.training) for module in model.modules()]
    device = model.device
    own = [device] if device.type == "cuda" else []
    attention = model.config._attn_implementation
    # A mixed-precision training's cast weights are cached, and must not come from a reading.
    with (
        torch.random.fork_rng(own),
        torch.autocast(device.type, enabled=False),
    ):
        try:
            if attention not in ("sdpa", "eager"):
                model.set_attn_implementation("sdpa")
            yield
        finally:
            model.config._attn_implementation = attention
            for module, training in modes:
                module.training = training


def _is_first_process() -> bool:
    from torch import distributed

    alone = not (distributed.is_available() and distributed.is_initialized())
    return alone or distributed.get_rank() == 0
