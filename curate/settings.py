"""Configuration sections of the curate layer."""

from typing import Literal

from pydantic import Field, model_validator

from windows.settings import Section


class SelectSection(Section):
    """Which windows a mixture draws from.

    `label` takes the `windows` strongest windows of that label; `any` takes all windows; `placebo`
    runs the label's procedure on windows chosen at random, anew for every arm seed.
    """

    by: Literal["label", "any", "placebo"]
    label: Literal["pattern", "generalization"] | None = None
    windows: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _says_what_it_needs(self) -> "SelectSection":
        if (self.by == "label") != (self.label is not None):
            raise ValueError("label belongs to `by: label`, and only there")
        if (self.by == "any") == (self.windows is not None):
            raise ValueError("windows (a number) belongs to `by: label` and `by: placebo`")
        return self


class DecontaminationSection(Section):
    """What makes an instance contaminated: a whole eval prompt, or a shared n-gram of tokens."""

    match: Literal["prompt", "ngram"] = "ngram"
    ngram: int = Field(default=13, ge=2)


class MixtureSection(Section):
    """A recipe of curated data: windows, an integer token budget, a cap on repetition."""

    select: SelectSection
    tokens: int = Field(gt=0)
    repetitions: int = Field(default=2, ge=1)
    decontamination: DecontaminationSection = DecontaminationSection()
