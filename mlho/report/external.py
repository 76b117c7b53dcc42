"""The evaluation of a bundle on other labelled data, as numbers: the documented schema of ``evaluation.json``."""

from typing import Any, Final, Literal

from pydantic import ConfigDict, Field

from mlho.report.monitoring import Advice, ExpectedPerformance, Surveillance
from mlho.report.parts import Estimate, Part, Spread
from mlho.report.population import AttritionStep, LedgerSummary, Period
from mlho.report.result import Curves

EVALUATION_SCHEMA: Final = "mlho.io/evaluation/v1"


class GroupEvaluation(Part):
    """The bundle's performance in one month, site or level of a demographic."""

    by: str
    """``month`` or ``night``, ``site``, or the name of a demographic."""
    level: str
    n_samples: int | None
    """``null`` for a small cell, or one from which a small cell could be computed."""
    n_positive_samples: int | None
    figures: dict[str, Estimate] = Field(default_factory=dict)
    """auroc, observed_expected (samples with the outcome by the sum of the probabilities), brier. Empty with fewer than ``minCell``
    patients with or without the outcome."""
    reason: str | None = None


class Recalibration(Part):
    """Corrections of the bundle's probabilities fitted on these data, and what they would change.

    ``figures`` are of probabilities that folds of patients outside the fit received, so that a correction is not judged by
    the patients that made it.
    """

    shift: Estimate
    """Added to the log-odds if the slope stays: calibration in the large."""
    intercept: Estimate
    slope: Estimate
    """Log-odds become intercept + slope · log-odds."""
    figures: dict[str, dict[str, Estimate]] = Field(default_factory=dict)
    """By version (``as delivered``, ``shifted``, ``intercept and slope``): brier, log_loss, calibration_in_the_large,
    calibration_slope, calibration_ici."""
    reason: str | None = None
    """Why nothing was fitted."""


class ExternalEvaluation(Part):
    """A bundle on labelled data that it was not trained on."""

    schema_: Literal["mlho.io/evaluation/v1"] = Field(default=EVALUATION_SCHEMA, alias="schema")
    bundle_digest: str
    classifier: str
    outcome: str
    """Column of the labels."""
    trained_on: str
    """Outcome of the bundle."""
    data_digest: str
    """SHA-256 of the manifest: the evaluated files with their sizes and contents."""
    spec: dict[str, Any]
    """Data, cohort and report of the specification, without where the data are."""
    summary: list[str]
    warnings: list[str]
    n_patients: int
    n_samples: int
    n_positive_samples: int
    attrition: list[AttritionStep]
    label_ledger: dict[str, int | None]
    ledger: LedgerSummary
    index_dates: Period | None
    unknown_codes: int
    """Codes of usable rows that are not in the bundle; they are ignored."""
    share_without_events: float | None
    """Samples without any usable event in the bundle's windows; ``null`` if they are few."""
    figures: dict[str, Estimate]
    """Discrimination of the bundle; calibration and thresholds of its calibrated probability, under the names of ``headline``."""
    trained: dict[str, Spread]
    """The same figures in training (``headline`` of the run)."""
    thresholds: dict[str, float | None]
    """Of the bundle, by rule."""
    expected: ExpectedPerformance
    """What the probabilities imply without the labels."""
    surveillance: Surveillance
    recalibration: Recalibration
    advice: Advice
    groups: list[GroupEvaluation]
    curves: Curves

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )
