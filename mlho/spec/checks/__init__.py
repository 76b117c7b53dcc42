"""The section ``leakage`` of a specification: what is checked before training, and what stops a run."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mlho.spec.types import SpecPart

Reason = Annotated[str, Field(min_length=10, max_length=1000)]


class Leakage(SpecPart):
    """The leakage sentinel: codes and labels that tell the outcome instead of predicting it."""

    action: Literal["block", "warn"] = "block"
    """``block``: a finding stops the run before training. ``warn``: the report states it."""
    max_auroc: Annotated[float, Field(ge=0.7, le=1)] = 0.9
    """AUROC that one code may reach alone, by presence, count or value."""
    max_share: Annotated[float, Field(ge=0.8, le=1)] = 0.98
    """Share of samples with the outcome among those with one code, and share of samples with one code among those with the
    outcome, that is a finding."""
    min_patients: Annotated[int, Field(ge=11, le=1_000_000)] = 11
    """Patients that a code must have to be judged."""
    allow: Annotated[dict[str, Reason], Field(max_length=1000)] = Field(default_factory=dict)
    """Findings that do not stop the run: the code, or ``outcome-dates`` or ``near-duplicates``, and a written reason of at least 10
    characters, which the report prints."""

    @model_validator(mode="after")
    def _allow_is_needed(self) -> Self:
        if self.allow and self.action == "warn":
            raise ValueError("leakage.allow requires leakage.action: block; with warn nothing is stopped")
        return self
