"""Learning rate by step: plain numbers, for those who do not train."""

from dataclasses import dataclass

from trainers.settings import Phase, PretrainingSection


@dataclass(frozen=True)
class Schedule:
    """Learning rate by phases, with a linear ramp over the first `ramp_steps` steps."""

    phases: tuple[Phase, ...]
    ramp_steps: int = 0

    def lr(self, step: int) -> float:
        """Return the learning rate of the step that follows checkpoint `step`."""
        current = [phase.lr for phase in self.phases if phase.first_step <= step][-1]
        return current * min(1.0, (step + 1) / self.ramp_steps) if self.ramp_steps else current


def schedule(section: PretrainingSection) -> Schedule:
    """Return the run's learning-rate schedule."""
    return Schedule(section.phases, section.ramp_steps)
