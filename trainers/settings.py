"""Configuration sections of the trainers layer."""

from typing import Literal

from pydantic import Field, model_validator

from windows.settings import Section

GENERALIZATION = "control-generalization"
PATTERN = "control-pattern"
UNCONTROLLED = "uncontrolled"
PLACEBO = "placebo"
CONTROLLED = (GENERALIZATION, PATTERN)
REFERENCES = (UNCONTROLLED, PLACEBO)
"""The arms that the registered tests compare; a study has these, and may have others."""

MIN_CHECKPOINTS = 2
"""Checkpoints of an arm's run, without which there is no spread within it."""


class OptimizerSection(Section):
    """AdamW with gradient clipping by global norm."""

    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = Field(default=0.01, ge=0)
    clip: float = Field(default=1.0, gt=0)


class Phase(Section):
    """From `first_step` on, the learning rate is `lr` until the next phase."""

    first_step: int = Field(ge=0)
    lr: float = Field(gt=0)


class ModelSection(Section):
    """An `Olmo3ForCausalLM` made from scratch."""

    hidden_size: int = Field(default=64, gt=0)
    layers: int = Field(default=2, gt=0)
    heads: int = Field(default=4, gt=0)
    intermediate_size: int = Field(default=128, gt=0)
    rope_theta: float = Field(default=1e4, gt=0)
    initializer_range: float = Field(default=0.05, ge=0)
    max_positions: int = Field(default=256, gt=0)

    @model_validator(mode="after")
    def _heads_divide_it(self) -> "ModelSection":
        # Rotary positions turn the dimensions of a head in pairs.
        if self.hidden_size % (2 * self.heads):
            raise ValueError(
                f"hidden_size {self.hidden_size} is not {self.heads} heads of an even size"
            )
        return self


class PretrainingSection(Section):
    """How the embedded run is pre-trained.

    Checkpoints are written at `checkpoint_first` and then every `checkpoint_every` steps; the last
    step, `steps`, has to be one of them. `ramp_steps` is a linear learning-rate warm-up from 0.
    """

    steps: int = Field(gt=0)
    checkpoint_first: int = Field(ge=0)
    checkpoint_every: int = Field(gt=0)
    ramp_steps: int = Field(default=0, ge=0)
    phases: tuple[Phase, ...] = Field(min_length=1)
    model: ModelSection = ModelSection()
    optimizer: OptimizerSection = OptimizerSection()

    @property
    def checkpoint_steps(self) -> tuple[int, ...]:
        """The steps after which the run writes a checkpoint, ascending."""
        return tuple(range(self.checkpoint_first, self.steps + 1, self.checkpoint_every))

    @model_validator(mode="after")
    def _last_step_is_a_checkpoint(self) -> "PretrainingSection":
        beyond = self.steps - self.checkpoint_first
        if beyond < 0 or beyond % self.checkpoint_every:
            raise ValueError(
                f"steps {self.steps} is not checkpoint_first {self.checkpoint_first} plus a "
                f"multiple of checkpoint_every {self.checkpoint_every}"
            )
        firsts = [phase.first_step for phase in self.phases]
        if firsts[0] != 0 or firsts != sorted(set(firsts)):
            raise ValueError(f"phases must start at 0 and rise, got first steps {firsts}")
        return self


class TransferSection(Section):
    """The shuffled replay: from one checkpoint, every window's data in several shuffled orders.

    `dose` is the share of each window that is replayed: less is cheaper, and sees less.
    """

    checkpoint: int = Field(ge=0)
    shuffles: int = Field(default=2, ge=1)
    dose: float = Field(default=1.0, gt=0, le=1)
    threshold: float = Field(default=0.3, ge=0, lt=1)


class TrainingSection(Section):
    """Continued pre-training of the arms.

    `init` is what is taken over from the base checkpoint: weights and optimizer state, or weights
    alone. `lr` absent means the run's own learning rate at `base_step`.
    """

    base_step: int = Field(ge=0)
    init: Literal["weights+optimizer", "weights"] = "weights+optimizer"
    steps: int = Field(gt=0)
    every: int = Field(gt=0)
    seeds: int = Field(default=5, ge=1)
    lr: float | None = Field(default=None, gt=0)
    optimizer: OptimizerSection = OptimizerSection()

    @model_validator(mode="after")
    def _ends_on_a_checkpoint(self) -> "TrainingSection":
        if self.steps % self.every:
            raise ValueError(f"steps {self.steps} is not a multiple of every {self.every}")
        return self


class PredictorsSection(Section):
    """What generalization predictors are measured on: `examples` items of each task with a parrot.

    `layers` are numbers from 0, all where absent. `budget` is how many bytes gradients may hold at
    a time: less costs more passes.
    """

    examples: int = Field(default=64, ge=2)
    layers: tuple[int, ...] | None = None
    budget: int = Field(default=1 << 32, ge=1)


class AttributionSection(Section):
    """How documents of the windows are scored.

    `instances` are sampled from every window. Scores are cross-fitted over `folds` contiguous parts
    of the run. Of `checkpoints` losses or gradients are taken. Batches count half `half_life`
    batches before a window's end; absent, all alike.
    """

    instances: int = Field(default=256, ge=1)
    folds: int = Field(default=5, ge=2)
    checkpoints: int = Field(default=4, ge=1)
    half_life: float | None = Field(default=None, gt=0)


class VerdictSection(Section):
    """The primary endpoint, named before the first step: `contrast[0]` minus `contrast[1]`."""

    endpoint: Literal["mean_soft"] = "mean_soft"
    contrast: tuple[str, str] = (GENERALIZATION, PATTERN)
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    switch_threshold: float = Field(default=0.2, gt=0)
