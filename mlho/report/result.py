"""The result of a run, as numbers: the documented schema of ``result.json``, which the report draws.

Everything here except ``about``, ``made_at``, ``timing`` and ``inputs`` is a function of the specification and of the events, independent of
partitions, workers and faults. ``result_digest`` is the SHA-256 of that part without its prose (:mod:`mlho.report.digest`).
A value that does not exist is ``null``, with a reason; there is no NaN.
"""

from functools import cached_property
from typing import Annotated, Any, Final, Literal, Self, override

from pydantic import Field

from mlho.report.bias.audit import BiasAudit as BiasAudit
from mlho.report.changes import ChangesSince
from mlho.report.checks import Leakage as Leakage
from mlho.report.checks import Quality as Quality
from mlho.report.digest import result_digest
from mlho.report.parts import ALIASED
from mlho.report.parts import Estimate as Estimate
from mlho.report.parts import Part as Part
from mlho.report.parts import Spread as Spread
from mlho.report.population import AttritionStep as AttritionStep
from mlho.report.population import Cell as Cell
from mlho.report.population import Characteristic as Characteristic
from mlho.report.population import CohortSummary as CohortSummary
from mlho.report.population import LaterEvaluation as LaterEvaluation
from mlho.report.population import LedgerSummary as LedgerSummary
from mlho.report.population import LeftOut as LeftOut
from mlho.report.population import Period as Period
from mlho.report.population import SplitAccount as SplitAccount
from mlho.report.population import SplitSet as SplitSet
from mlho.report.times import HorizonPerformance as HorizonPerformance
from mlho.report.times import RiskGroup as RiskGroup
from mlho.report.times import TimeToEventPerformance as TimeToEventPerformance
from mlho.spec.types import OMITTED

RESULT_SCHEMA: Final = "mlho.io/result/v1"


class Confidence(Part):
    """How stable a feature is (method: R MLHO's confidence score)."""

    score: int
    """100 × adjusted count ÷ planned iterations; negative when the sign disagrees."""
    n_seen: int
    n_positive: int
    n_negative: int
    mean_odds_ratio: float | None
    """Geometric mean of the shrunken odds ratios per standard deviation, over the iterations that used the feature."""
    low95: float | None = None
    high95: float | None = None
    low99: float | None = None
    high99: float | None = None
    """Plain t-intervals over the iterations, as in R. The iterations share patients, so they are not confidence intervals of the effect."""
    reason: str | None = None
    """Why the interval is absent: used by one iteration only, or all odds ratios are equal."""


class OddsRatio(Part):
    """From the consensus model: unpenalised logistic regression on the features with enough confidence."""

    per_unit: float | None
    wald_low: float | None = None
    wald_high: float | None = None
    profile_low: float | None = None
    profile_high: float | None = None
    p_value: float | None = None
    sd: float | None = None
    """Standard deviation of the feature over the samples, in its units."""
    per_sd: float | None = None
    per_sd_low: float | None = None
    per_sd_high: float | None = None
    reason: str | None = None


class HazardRatio(Part):
    """From an unpenalised Cox regression of the cause-specific hazard on the features with enough confidence; 95 % Wald interval."""

    per_unit: float | None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    sd: float | None = None
    """Standard deviation of the feature over the samples, in its units."""
    per_sd: float | None = None
    per_sd_low: float | None = None
    per_sd_high: float | None = None
    reason: str | None = None


class FeatureResult(Part):
    """One feature (or demographic), in words and numbers."""

    id: str
    """code, window and aggregate: unique in the run."""
    words: str
    """For display: description, aggregate and window."""
    kind: Literal["feature", "demographic"]
    code: str | None = None
    description: str | None = None
    window_days: int | None = None
    aggregate: str | None = None
    n_patients: int | None = None
    """Patients of the cohort who have the feature; ``null`` below ``minCell``."""
    prevalence: float | None = None
    selection_frequency: float
    """Share of iterations whose ranking selected it; 1 for demographics."""
    median_rank: float | None = None
    """Median position in the ranking, over the iterations that selected the feature; 1 is first."""
    confidence: Confidence | None = None
    in_consensus: bool = False
    odds_ratio: OddsRatio | None = None
    hazard_ratio: Annotated[HazardRatio | None, OMITTED] = None
    """With a time to an event."""
    in_final_model: bool = False
    note: str | None = None
    """Caution to readers if the two odds ratios of this feature contradict each other."""
    final_importance: float | None = None
    """Mean absolute contribution to the log-odds in the final model."""


class ConfidenceLevel(Part):
    """Features that a threshold on the confidence score keeps, and the share expected to be false."""

    min_confidence: int
    n_features: int
    """Features with at least this score, excluding demographics."""
    expected_false: int
    """Shadow features with at least this score: features without any effect on the outcome."""


class FalseFeatures(Part):
    """How many features of the consensus are expected to have no effect."""

    min_confidence: int
    """The threshold of the consensus: ``minConfidence``, or the threshold chosen by ``maxFalseShare``."""
    max_share: float | None
    """``maxFalseShare``, if given."""
    expected: Estimate
    """Expected number of false features at the threshold."""
    share: float | None = None
    """That number divided by the features at the threshold; ``null`` where there are none."""
    levels: list[ConfidenceLevel] = Field(default_factory=list)
    """By rising threshold."""


class Stability(Part):
    """Whether the iterations selected the same features."""

    nogueira: Estimate
    """Nogueira, Sechidis and Brown 2018: 1 if identical, 0 as expected by chance."""
    permuted: Estimate = Estimate(value=None, reason="not measured")
    """The same figure for the same selection on permuted labels, which carry no information. It is not 0, because splits share patients."""
    false_features: FalseFeatures | None = None
    """Error control by shadow features; ``null`` in results of versions without it."""
    expected_false: Estimate
    """Upper bound on falsely selected features, where its assumptions hold."""
    n_consensus: int
    n_ever_selected: int


class SettingScore(Part):
    """Out-of-fold AUROC of one setting of a grid."""

    setting: dict[str, Any]
    mean: float
    standard_error: float | None


class CandidateIteration(Part):
    """One classifier in one iteration."""

    classifier: str
    settings: list[SettingScore]
    chosen: int
    """Index into ``settings``."""
    evaluation: dict[str, Any]
    """On the test set: figures of the probabilities as the classifier gives them, calibration raw and calibrated, and
    the effect of each threshold on the calibrated probability; ``mlho.method.evaluation.evaluation.Evaluation`` without its curves."""
    calibrator: dict[str, Any]
    """Fitted on out-of-fold scores."""


class IterationResult(Part):
    """One train/test split with its own selection."""

    iteration: int
    n_train_patients: int
    n_test_patients: int
    n_train_samples: int
    n_test_samples: int
    n_screened: int
    """Columns that passed the screen on the training patients."""
    n_selected: int
    winner: str
    """The classifier with the best out-of-fold AUROC."""
    candidates: list[CandidateIteration]
    test_set: Annotated[str | None, OMITTED] = None
    """Name of the test set, where test sets follow from dates or a column; absent where they are drawn."""


class CandidateSummary(Part):
    """One classifier over all iterations."""

    classifier: str
    cv_auroc: Spread
    test: dict[str, Spread]
    """Test metrics over iterations: auroc, average_precision, brier, calibration_slope, ..."""
    wins: int
    is_final: bool
    """Whether the final model is this candidate on ranked features; false for all if it is fitted on the consensus."""


class Contribution(Part):
    """Contribution of one feature to a log-odds."""

    feature: str
    words: str
    value: str
    contribution: float


class Profile(Part):
    """One example, explained exactly: the base and the contributions add up to the log-odds."""

    title: str
    synthetic: bool
    probability: float
    calibrated_probability: float
    base: float
    contributions: list[Contribution]
    others: float
    """Sum of the contributions that are not listed."""


class ThresholdResult(Part):
    """A threshold of the final model, chosen on the probabilities that are expected of new samples."""

    rule: str
    value: float | None
    reason: str | None = None
    alert_rate: float | None = None
    """Share of new samples that are expected at or above it. Null without a value, and in results of earlier versions."""


class BundleTest(Part):
    """One of the tests that the bundle carries, and its outcome when the bundle was built."""

    name: str
    """Its id in the bundle."""
    kind: str = ""
    level: str = ""
    """Action that a failure prevents: ``defect`` the build, ``required`` scoring and promotion, ``expected`` promotion."""
    passed: bool
    meaning: str = ""
    """Purpose of the test."""
    detail: str
    """Expected and found values, and on failure the defect."""


class GateResult(Part):
    """One gate of the specification, and whether the model passes it."""

    gate: dict[str, Any]
    """As in the specification; ``{tests: passed}`` for the self-tests of the bundle."""
    words: str
    passed: bool | None
    """``null``: the gate compares with a champion and is evaluated at the promotion."""
    value: float | None = None
    """The figure: its mean over the test sets, with the ends of its interval."""
    low: float | None = None
    high: float | None = None
    detail: str
    """The finding, or the reason why there is no value."""


class FinalModelResult(Part):
    """The final model, which the run publishes."""

    classifier: str
    setting: dict[str, Any]
    n_features: int
    n_demographics: int
    cv_auroc: Estimate
    """Out-of-fold AUROC over all samples; the figure for new patients is ``headline``."""
    calibrator: dict[str, Any]
    thresholds: list[ThresholdResult]
    profiles: list[Profile]
    tests: list[BundleTest]
    bundle_digest: str


class TestSet(Part):
    """Patients on whom one model built like the final one was tested; neither its selection nor its fit used them."""

    name: str
    """``iteration 3``; for a final model on the consensus ``outer fold 2``."""
    classifier: str
    n_train_patients: int
    n_test_patients: int
    n_features: int
    """Features of the model that was tested."""
    thresholds: dict[str, float | None]
    """On the calibrated probability, by rule, as they were tried here."""


class Curves(Part):
    """Curves of models built like the final one on the test sets, one line per test set, for drawing."""

    roc: list[dict[str, list[float]]]
    """``x`` false-positive rate, ``y`` sensitivity."""
    precision_recall: list[dict[str, list[float]]]
    """``x`` recall, ``y`` precision."""
    calibration: list[dict[str, Any]]
    """Per test set: reliability bins of the calibrated probabilities (``bins``: mean_predicted, observed, low, high, n), the
    smoothed curve (``x``, ``y``) and the histogram (``edges``, ``counts``; small ones ``null``)."""
    decision: dict[str, Any]
    """``threshold``; ``model`` with mean, lowest and highest over test sets; ``all``, the mean; treating none is 0."""


class Lineage(Part):
    """Origin of the result."""

    spec: dict[str, Any]
    """The normalised specification without where the data are and how they are cut."""
    spec_digest: str
    """SHA-256 of ``spec``."""
    matrix_digest: str
    """SHA-256 over the cohort, the dictionary and the packed blocks."""
    seed: int
    versions: dict[str, str]
    method: str
    """Version of the method's steps."""


class About(Part):
    """Description of the run by the author of the specification (``metadata``). Not compared."""

    name: str | None = None
    title: str | None = None
    description: str | None = None
    outcome_definition: str | None = None
    follow_up: str | None = None
    intended_use: str | None = None
    out_of_scope: Annotated[str | None, OMITTED] = None
    """``metadata.statements.outOfScope``."""


class Result(Part):
    """The whole result of one training run."""

    schema_: Literal["mlho.io/result/v1"] = Field(default=RESULT_SCHEMA, alias="schema")
    outcome: str
    predictive: bool
    """False for ``index: none`` and ``features.after``: association only, no prediction."""
    summary: list[str]
    """The run in sentences, the most important first."""
    warnings: list[str]
    """Findings to know before trusting the numbers."""
    cohort: CohortSummary
    ledger: LedgerSummary
    leakage: Leakage
    """Checks and findings of the leakage sentinel before training."""
    quality: Quality
    """Findings of the checks of data quality before training."""
    features: list[FeatureResult]
    """Every feature that any iteration selected, by descending confidence score, then by descending effect; the demographics follow."""
    consensus: dict[str, Any]
    """The consensus model: method, intercept, n, log-likelihood, notes."""
    stability: Stability
    split: Annotated[SplitAccount | None, OMITTED] = None
    """Number of samples by role in each test set, where test sets follow from dates or a column; absent where they are drawn."""
    later: Annotated[LaterEvaluation | None, OMITTED] = None
    """The temporal check in addition to drawn test sets, if requested."""
    time_to_event: Annotated[TimeToEventPerformance | None, OMITTED] = None
    """Figures at the horizons, if the outcome is a time to an event. Then ``headline``, ``curves``, ``groups`` and ``errors`` are about
    an event up to the first horizon, corrected for censoring."""
    iterations: list[IterationResult]
    candidates: list[CandidateSummary]
    procedure: str
    """The subject of ``headline``, ``curves`` and ``errors``, in words: models built like the final one."""
    test_sets: list[TestSet]
    """The test sets: one entry for each value of ``headline_auroc`` and each line of ``curves``."""
    headline: dict[str, Spread]
    """Test metrics of models built like the final one: mean over test sets with spread; calibration figures are those after calibration. For a
    model on the consensus, ``mean`` is the figure of the pooled predictions; calibrators and thresholds are cross-fitted."""
    headline_auroc: list[Estimate]
    """Their AUROC on each test set with its own interval (DeLong, clustered by patient where patients repeat)."""
    winners: dict[str, Spread]
    """The same metrics of another procedure: in each iteration the candidate with the best out-of-fold AUROC. They are not
    the final model's."""
    bias: Annotated[BiasAudit | None, OMITTED] = None
    """The same by group and period, and comparisons of the groups: for each sample, the prediction from the first test set that contains it."""
    curves: Curves
    errors: dict[str, Any]
    """Distribution of |y − p| per patient in the test sets, by outcome."""
    final_model: FinalModelResult
    gates: Annotated[list[GateResult] | None, OMITTED] = None
    """Whether the model may be promoted: all gates pass. Absent without gates in the specification."""
    changes: Annotated[ChangesSince | None, OMITTED] = None
    """Changes since the run that ``compareWith`` names; absent without it."""
    lineage: Lineage
    about: About = About()
    made_at: str | None = None
    """When the last task before the report ended, UTC. Not compared."""
    timing: dict[str, Any] = Field(default_factory=dict)
    """Seconds and tasks by stage. Not compared."""
    inputs: dict[str, Any] = Field(default_factory=dict)
    """Where the data were and how they were cut: tables, partitions with size and digest, ledger by partition. Not compared."""

    model_config = ALIASED

    @cached_property
    def result_digest(self) -> str:
        """SHA-256 of the numbers, identifiers and decisions; see :mod:`mlho.report.digest`."""
        return result_digest(self.model_dump(mode="json"))

    @override
    def __copy__(self) -> Self:
        copied = super().__copy__()
        copied.__dict__.pop("result_digest", None)  # a copy is made to change it
        return copied
