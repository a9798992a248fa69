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
