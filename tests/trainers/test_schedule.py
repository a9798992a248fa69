"""Learning rates worked out by hand."""

from typing import Any

import pytest

from trainers.schedule import Schedule, schedule
from trainers.settings import Phase

PHASES = (Phase(first_step=0, lr=1.0), Phase(first_step=6, lr=0.5), Phase(first_step=8, lr=2.0))


def test_a_phase_holds_until_the_next():
    plain = Schedule(PHASES)
    assert [plain.lr(step) for step in range(10)] == [1.0] * 6 + [0.5] * 2 + [2.0] * 2


def test_the_ramp_is_linear_and_ends():
    ramped = Schedule(PHASES, ramp_steps=4)
    assert [ramped.lr(step) for step in range(7)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 0.5]


def test_a_ramp_may_go_on_into_the_next_phase():
    across = Schedule(PHASES, ramp_steps=8)
    assert [across.lr(step) for step in range(5, 9)] == [6 / 8, 0.5 * 7 / 8, 0.5, 2.0]


def test_the_schedule_is_the_sections(tiny: Any):
    plan = schedule(tiny.pretraining)
    assert [plan.lr(step) for step in range(4)] == pytest.approx([2e-3, 4e-3, 4e-3, 1e-3])
