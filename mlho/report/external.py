"""The evaluation of a bundle on other labelled data, as numbers: the documented schema of ``evaluation.json``."""

from typing import Any, Final, Literal

from pydantic import Field

from mlho.report.bias.audit import BiasAudit
from mlho.report.monitoring import Advice, CodeDrift, ExpectedPerformance, Surveillance
from mlho.report.parts import ALIASED, Estimate, Part, Spread
from mlho.report.population import AttritionStep, LedgerSummary, Period
from mlho.report.result import BundleTest, Curves, GateResult, ThresholdResult

EVALUATION_SCHEMA: Final = "mlho.io/evaluation/v1"
RECALIBRATION_SCHEMA: Final = "mlho.io/recalibration/v1"


class Recalibration(Part):
    """Corrections of the bundle's probabilities fitted on these data, and their effects.

    ``figures`` describe probabilities of patients not used in each fit, so that a correction is not evaluated on the patients of
    its fit.
    """

    shift: Estimate
    """Added to the log-odds if the slope stays: calibration in the large."""
    intercept: Estimate
    slope: Estimate
    """Log-odds become intercept + slope · log-odds."""
    figures: dict[str, dict[str, Estimate]] = Field(default_factory=dict)
    """By version (``as delivered``, ``shifted``, ``intercept and slope``): brier, log_loss, calibration_in_the_large,
    calibration_slope, calibration_ici. Without the last version if a line cannot be fitted in each fold."""
    reason: str | None = None
    """Why nothing was fitted."""


class RecalibratedModel(Part):
    """The model of a recalibration, with the fields of ``final_model`` in the result of a training run."""

    classifier: str
    bundle_digest: str
    calibrator: dict[str, Any]
    thresholds: list[ThresholdResult]
    tests: list[BundleTest]


class RecalibrationResult(Part):
    """``result.json`` of a recalibration: a new version of a model. Fields that a training run also has keep their names."""

    schema_: Literal["mlho.io/recalibration/v1"] = Field(default=RECALIBRATION_SCHEMA, alias="schema")
    outcome: str
    predictive: bool
    summary: list[str]
    warnings: list[str]
    cohort: dict[str, int]
    """``n_patients``, ``n_samples`` and ``n_positive_samples`` of the later data."""
    recalibrated_from: str
    """Digest of the earlier bundle."""
    correction: dict[str, Any]
    """``kind`` (intercept, line), ``intercept`` and ``slope``: log-odds become intercept + slope · log-odds."""
    headline: dict[str, Spread]
    """Figures of the later samples; calibrated ones are those of patients not used in each fit."""
    final_model: RecalibratedModel
    gates: list[GateResult] | None
    lineage: dict[str, Any]
    """``data_digest`` of the later data, and ``versions``."""
    inputs: dict[str, Any] = Field(default_factory=dict)

    model_config = ALIASED


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
    codes: CodeDrift | None = None
    """Codes of the events that are new or have vanished since training, as in a scoring run; null in evaluations of earlier versions."""
    share_without_events: float | None
    """Samples without any usable event in the bundle's windows; ``null`` if they are few."""
    figures: dict[str, Estimate]
    """Discrimination of the bundle; calibration and thresholds of its calibrated probability, under the names of ``headline``."""
    trained: dict[str, Spread]
    """The same figures in training (``headline`` of the run)."""
    thresholds: dict[str, float | None]
    """Of the bundle, by rule."""
    expected: ExpectedPerformance
    """Performance that the probabilities imply, without the labels."""
    surveillance: Surveillance
    recalibration: Recalibration
    advice: Advice
    bias: BiasAudit
    """Months (or nights), sites and groups: figures and comparisons of the calibrated probability."""
    curves: Curves

    model_config = ALIASED
