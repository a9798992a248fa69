"""Configuration sections of the windows layer, and the base that every section shares."""

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Section(BaseModel):
    """A frozen part of a study or run file; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class WindowsSection(Section):
    """Which windows of the run the study looks at.

    Windows tile steps `[first_step, end_step)` in pieces of `every` steps; `end_step` absent means
    the run's last step.
    """

    stage: str = "stage1"
    first_step: int = Field(default=0, ge=0)
    end_step: int | None = Field(default=None, gt=0)
    every: int = Field(gt=0)

    @model_validator(mode="after")
    def _holds_a_window(self) -> "WindowsSection":
        if self.end_step is not None and self.end_step < self.first_step + self.every:
            raise ValueError(
                f"[first_step, end_step) = [{self.first_step}, {self.end_step}) holds no window of "
                f"{self.every} steps"
            )
        return self


class Remark(Section):
    """What a reader must know of a part of a run: a seam, a restart, data that changed since.

    It holds of steps `[first_step, end_step)`; of the whole run where neither is given.
    """

    says: str = Field(min_length=1)
    first_step: int = Field(default=0, ge=0)
    end_step: int | None = Field(default=None, gt=0)

    @property
    def of_the_whole_run(self) -> bool:
        """Whether it holds of every step."""
        return self.first_step == 0 and self.end_step is None

    def touches(self, first_step: int, end_step: int) -> bool:
        """Tell whether it holds of any of the steps `[first_step, end_step)`."""
        return self.first_step < end_step and (self.end_step is None or self.end_step > first_step)


class StageSection(Section):
    """Another stage of a run: tokens of its batches, and tokens that came before it, if known."""

    batch_tokens: int = Field(gt=0)
    tokens_before: int | None = Field(default=None, ge=0)


class ReleasedSection(Section):
    """Where a run's checkpoints were released.

    `hub` is a repository of the Hugging Face Hub whose revisions are the checkpoints, `csv` a list
    in OLMo-core's form (path relative to the run file, or URL), `trainer_state` the address of a
    checkpoint's ``train/rank0.pt`` with ``{step}`` in it. `stages` tells of the later stages among
    the checkpoints, whose tokens are computed from it.
    """

    hub: str | None = None
    csv: str | None = None
    trainer_state: str | None = None
    stages: dict[str, StageSection] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_the_step(self) -> "ReleasedSection":
        if self.trainer_state is not None and "{step}" not in self.trainer_state:
            raise ValueError("trainer_state must have {step} where the step belongs")
        return self
