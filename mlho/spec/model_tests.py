"""The section ``tests`` of a specification: clinical cases, floors and budgets that the model must meet."""

from collections.abc import Collection
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from mlho.spec.types import OMITTED, ColumnName, SpecPart, refuse_repeats

Code = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=120)]
Probability = Annotated[float, Field(ge=0, le=1)]


def _as_text(value: Any) -> Any:
    """Return a number as text; a table of demographics may contain either form."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Given = Annotated[
    str,
    BeforeValidator(_as_text),
    StringConstraints(min_length=1, max_length=256),
    Field(json_schema_extra={"x-kubernetes-int-or-string": True}),
]


class CasePatient(SpecPart):
    """An invented patient: codes, values and demographics. All else is absent or unknown."""

    codes: Annotated[tuple[Code, ...], Field(max_length=100)] = ()
    """Codes recorded once, on the last day that features use."""
    values: dict[Code, float] = Field(default_factory=dict)
    """Codes with a numeric value: ``{"LOINC:4548-4": 9.1}``."""
    demographics: dict[ColumnName, Given] = Field(default_factory=dict)
    """Values of ``features.demographics``: ``{age: 70, sex: F}``."""


class Case(SpecPart):
    """Two invented patients. The first must get the higher score."""

    name: Name
    """The clinical statement that the case tests, for example ``diabetes raises the risk at 70``."""
    higher: CasePatient
    """The patient with the higher score."""
    lower: CasePatient
    """The patient with the lower score."""

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if self.higher == self.lower:
            raise ValueError("higher and lower are the same patient. Change one of them")
        return self


class Floors(SpecPart):
    """Smallest acceptable figures on the test sets. A bundle that misses one is kept, but neither promoted nor used for scoring."""

    auroc: Annotated[Probability | None, OMITTED] = None
    """Smallest mean AUROC. Default: the lower bound of its interval is above 0.5."""
    group_auroc: Annotated[Probability | None, OMITTED] = None
    """Smallest mean AUROC in each group of the demographics. Default: the upper bound of its interval is at most 0.1 below the mean
    of all patients."""
    average_precision: Annotated[Probability | None, OMITTED] = None
    """Smallest mean average precision. Default: none."""
    calibration_slope: Annotated[
        Annotated[tuple[float, ...], Field(min_length=2, max_length=2)] | None, OMITTED
    ] = None
    """Smallest and largest mean calibration slope, for example ``[0.8, 1.25]``. Default: the interval overlaps 0.5 to 2."""

    @model_validator(mode="after")
    def _range_rises(self) -> Self:
        slope = self.calibration_slope
        if slope is not None and not 0 <= slope[0] < slope[1]:
            raise ValueError(
                "calibrationSlope must be the smallest and the largest slope, such as [0.8, 1.25]"
            )
        return self


class Budgets(SpecPart):
    """Largest acceptable costs for those who use and run the model."""

    alerts_per_100: Annotated[Annotated[float, Field(gt=0, le=100)] | None, OMITTED] = None
    """Alerts per 100 samples, at each threshold. Default: twice the rate of a fixed-alert-rate threshold, or 90 if more
    samples share the highest score; 90 for Youden's; no bound for a fixed sensitivity."""
    reasons: Annotated[int, Field(ge=1, le=50)] = 5
    """Number of reasons shown with an alert."""
    reason_length: Annotated[int, Field(ge=20, le=500)] = 80
    """Maximum length of the text of a reason, in characters."""
    seconds_per_1000: Annotated[float, Field(gt=0, le=3600)] = 30
    """Seconds for the scores and reasons of 1,000 samples. Measured by ``mlho test`` and before a promotion."""
    memory_mb: Annotated[int, Field(ge=1, le=1_000_000)] = 1024
    """Additional memory for these scores and reasons, in MB. Measured by ``mlho test`` and before a promotion."""
    bundle_mb: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Size of the bundle in MB."""


class Tests(SpecPart):
    """Tests that the bundle carries in addition to, or instead of, the default ones."""

    __test__ = False  # pytest would collect it by its name

    cases: Annotated[tuple[Case, ...], Field(max_length=100)] = ()
    """Clinical cases: pairs of invented patients with a known order of scores."""
    floors: Floors = Floors()
    """Smallest acceptable figures on the test sets."""
    budgets: Budgets = Budgets()
    """Largest acceptable costs."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        refuse_repeats([case.name for case in self.cases], "cases must not repeat a name")
        return self

    def check_demographics(self, known: Collection[str]) -> None:
        """Refuse cases with demographics that the model does not use."""
        used = {
            name
            for case in self.cases
            for patient in (case.higher, case.lower)
            for name in patient.demographics
        }
        if unknown := sorted(used - set(known)):
            raise ValueError(
                f"tests.cases names demographics that the model does not use: {', '.join(unknown)}. Add them to "
                "features.demographics, or remove them from the cases"
            )
