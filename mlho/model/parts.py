"""The parts of a bundle: everything needed to use, explain and test a model, without any patient's data."""

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer

from mlho.method.classifiers.base import FittedClassifier
from mlho.method.evaluation.calibration import PlattCalibrator
from mlho.method.evaluation.thresholds import Threshold
from mlho.method.selection.features import AGGREGATES, DURATIONS, Encoding, Range
from mlho.model.evidence import Evidence
from mlho.model.golden import ColumnStatistics
from mlho.spec.features import After, utilisation_names
from mlho.spec.model_tests import Tests
from mlho.spec.types import OMITTED, PLAUSIBLE_YEARS, SpecPart

if TYPE_CHECKING:
    from mlho.encoding.cohort.demographics import DemographicsEncoder


_KNOWN = (*AGGREGATES, *DURATIONS)
_LARGEST_CUT = 2**31 - 1  # of a count
_MAX_CUTS = 255


class BundlePart(SpecPart):
    """Base of every part that is written as JSON: finite numbers only."""

    model_config = ConfigDict(allow_inf_nan=False)


def _encoding_to_json(encoding: Encoding) -> dict[str, Any]:
    """Return plain JSON; an infinite bound becomes null."""
    reference = encoding.reference
    bounds = reference and {name: _or_null(getattr(reference, name)) for name in ("low", "high")}
    return {
        "aggregate": encoding.aggregate,
        "centre": encoding.centre,
        "levelCuts": list(encoding.level_cuts),
        "reference": bounds,
    }


def _encoding_from_json(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    if set(value) != {"aggregate", "centre", "levelCuts", "reference"}:
        raise ValueError("an encoding has aggregate, centre, levelCuts and reference")
    if not isinstance(value["aggregate"], str) or value["aggregate"] not in _KNOWN:
        raise ValueError(f"the aggregate must be one of {', '.join(_KNOWN)}")
    bounds = value["reference"]
    if bounds is not None and (not isinstance(bounds, Mapping) or set(bounds) != {"low", "high"}):
        raise ValueError("a reference range has low and high")
    low, high = (None, None) if bounds is None else (bounds["low"], bounds["high"])
    if low is not None and high is not None and _finite(low) > _finite(high):
        raise ValueError("the low bound of a reference range is at most the high one")
    cuts = value["levelCuts"]
    if (
        not isinstance(cuts, list | tuple)
        or len(cuts) > _MAX_CUTS
        or any(_whole(a) >= _whole(b) for a, b in pairwise(cuts))
    ):
        raise ValueError("level cuts are a list that ascends")
    return Encoding(
        aggregate=value["aggregate"],
        level_cuts=tuple(_whole(cut) for cut in cuts),
        centre=_finite(value["centre"]),
        reference=None
        if bounds is None
        else Range(-math.inf if low is None else _finite(low), math.inf if high is None else _finite(high)),
    )


def _or_null(bound: float) -> float | None:
    return bound if math.isfinite(bound) else None


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("centre and bounds are finite numbers")
    return float(value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LARGEST_CUT:
        raise ValueError("level cuts are whole numbers of at least 1")
    return value


JsonEncoding = Annotated[Encoding, BeforeValidator(_encoding_from_json), PlainSerializer(_encoding_to_json)]


class BundleFeature(BundlePart):
    """One entry of the feature dictionary: a column of the model, in words and as arithmetic."""

    id: Annotated[str, Field(min_length=1)]
    """Code, window and aggregate: unique in the bundle, and the column's name in a feature matrix."""
    code: str
    """As in the events, or the parent of such codes; for a sequence, the first of its codes."""
    then: Annotated[str | None, OMITTED] = None
    """For a sequence: the second of its codes."""
    band: Annotated[int | None, Field(ge=1), OMITTED] = None
    """For a sequence: the number of its band of days; absent for any number of days."""
    description: str | None = None
    """Description of the code, from the concepts."""
    window_days: Annotated[int, Field(ge=1)] | None = None
    """Look-back before the index date; ``null`` is all history."""
    encoding: JsonEncoding
    """How counts and values become the number that the model uses."""
    words: str
    """For display: description, aggregate and window."""
    importance: float
    """Mean absolute contribution to the log-odds, over at most 10,000 training samples."""
    coefficient: float | None = None
    """Log odds ratio per unit, for a linear model."""

    @property
    def shown_code(self) -> str:
        """The code, or both codes of a sequence, as the words show it."""
        return self.code if self.then is None else f"{self.code}→{self.then}"

    @property
    def aggregate(self) -> str:
        """Aggregate; one of ``AGGREGATES`` or ``DURATIONS`` of ``mlho.method.selection.features``."""
        return self.encoding.aggregate


class Scoring(BundlePart):
    """The parts of the cohort's definition that affect a score: the same rules are applied to new events."""

    index_kind: Literal["column", "date", "none"]
    """Each sample's own index date, one date for all samples, or none: then all events of a patient count."""
    index_date: dt.date | None = None
    """The one index date of training, for ``date``; a newer one may be given when scoring."""
    gap_days: Annotated[int, Field(ge=0)] = 0
    """Days just before the index date that features exclude."""
    duplicates: Literal["keep", "drop"] = "keep"
    """``drop`` counts one code of one patient on one day once."""
    co_occurrence_days: Annotated[int | None, Field(ge=0), OMITTED] = None
    """For sequences: events at most this number of days apart have no order."""
    sequence_order: Annotated[Literal["first"] | None, OMITTED] = None
    """For sequences: ``first`` if the first events of both codes are compared; absent if any."""
    sequence_bands: Annotated[
        tuple[Annotated[int, Field(ge=1)], ...] | None, Field(min_length=1), OMITTED
    ] = None
    """For sequences: edges of the bands in days; the last band has no upper bound."""
    plausible_years: Annotated[
        tuple[Annotated[int, Field(ge=1, le=9999)], ...], Field(min_length=2, max_length=2)
    ] = PLAUSIBLE_YEARS
    """First and last plausible year of events and index dates; events outside are dropped."""
    utilisation_windows: Annotated[
        tuple[Annotated[int, Field(ge=1)] | None, ...] | None, Field(min_length=1), OMITTED
    ] = None
    """Windows whose numbers of events, codes and days are the last columns; ``null`` is all history. Absent without them."""

    after: Annotated[After | None, OMITTED] = None
    """Features are new codes in this window after the index date. Absent if features come from look-back windows."""

    @property
    def utilisation(self) -> tuple[str, ...]:
        """Names of the columns of utilisation."""
        return () if self.utilisation_windows is None else utilisation_names(self.utilisation_windows)


Share = Annotated[float, Field(ge=0, le=1)]


class Vocabulary(BundlePart):
    """Shares of the training samples with each code of the events, including codes that the model does not use."""

    floor: Share
    """Upper bound on the share of the samples with a code that is not listed."""
    shares: dict[str, Share]
    """By code: share of samples with it in the longest window of the model, rounded to 0.000001. At most the 10,000 most frequent
    codes, each of at least ``report.minCell`` patients; a share is capped so that at least that many samples lack the code."""
    include: Annotated[tuple[str, ...] | None, OMITTED] = None
    """Patterns of the codes that training used (``features.include``). Absent: all."""
    exclude: Annotated[tuple[str, ...] | None, OMITTED] = None
    """Patterns of the codes that training excluded (``features.exclude``)."""


class TrainingSamples(BundlePart):
    """Statistics of the training samples, with which a scoring run compares its data."""

    without_events: Share | None
    """Share of samples without any used event in the windows of the model's features, rounded to 0.01; 0 if these are fewer
    than ``report.minCell``, and null if the model has no features."""
    alert_rates: dict[str, Share]
    """By rule of a threshold: share of the probabilities of ``deciles`` at or above it, rounded to 0.001. In bundles of earlier versions,
    of the out-of-fold probabilities."""
    n_samples: Annotated[int | None, Field(ge=1), OMITTED] = None
    """Absent in bundles of earlier versions."""
    prevalence: Annotated[tuple[Share | None, ...] | None, OMITTED] = None
    """By feature, in column order: share of samples with the feature, rounded to 0.0001; null if fewer than ``report.minCell`` have
    it or lack it. Absent in bundles of earlier versions."""
    deciles: Annotated[tuple[Share, ...] | None, Field(min_length=9, max_length=9), OMITTED] = None
    """The nine deciles of the calibrated out-of-fold probabilities, rounded to 0.0001; a probability of the model that at least 1 %
    of the samples and ``report.minCell`` of them share replaces theirs. Absent in bundles of earlier versions."""
    missing: Annotated[dict[str, Share] | None, OMITTED] = None
    """By demographic, and by id of a feature that has a number: share of samples without a value, rounded up to 0.0001, and at
    least that of ``report.minCell`` samples. Absent in bundles of earlier versions, or without the features."""
    values: Annotated[dict[str, tuple[tuple[float, Share], ...]] | None, OMITTED] = None
    """By id of a feature that is a value of an event: bounds near the 5th, 50th and 95th percentile of the values, with four significant
    digits, each with the share of the values above it, rounded to 0.0001; only bounds with at least ``report.minCell`` samples on either
    side. Absent in bundles of earlier versions, or without such features."""
    codes: Annotated[Vocabulary | None, OMITTED] = None
    """Absent in bundles of earlier versions, of models without a window, and with ``features.rollUp``."""


class BundlePerformance(BundlePart):
    """The procedure behind the metrics of a bundle, and further measured figures."""

    procedure: str
    """The evaluated models, in words: those built like this one."""
    n_test_sets: Annotated[int, Field(ge=1)]
    decision_curve: dict[str, Any]
    """Net benefit over thresholds: ``threshold``, ``model`` (mean, low, high over the test sets), ``all``."""
    winner_per_iteration: dict[str, Any] = Field(default_factory=dict)
    """The same metrics of another procedure: the best candidate of each iteration. They do not describe this model."""


class RiskHorizon(BundlePart):
    """The risk of an event up to a day, for a bundle of a time to an event."""

    days: Annotated[int, Field(ge=1)]
    """After the index date."""
    calibrator: PlattCalibrator
    """From the uncalibrated probability to this risk."""

    @property
    def column(self) -> str:
        """Name of the column of this risk in a table of scores, such as ``risk: 1825 days``."""
        return f"risk: {self.days} days"


def risks_of(
    horizons: Sequence[RiskHorizon], uncalibrated: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Return the risk at each horizon by column; it never falls from one horizon to the next."""
    found: dict[str, NDArray[np.float64]] = {}
    lowest = np.zeros_like(uncalibrated)
    for horizon in horizons:
        lowest = np.maximum(lowest, horizon.calibrator.apply(uncalibrated))
        found[horizon.column] = lowest
    return found


@dataclass(frozen=True)
class BundleParts:
    """Contents of a bundle, as written by :func:`mlho.model.bundle.write_bundle`."""

    classifier: FittedClassifier
    """Fitted on the columns of ``features``, then those of ``demographics``."""
    features: tuple[BundleFeature, ...]
    """In column order."""
    calibrator: PlattCalibrator
    """Fitted on out-of-fold probabilities."""
    thresholds: tuple[Threshold, ...]
    """On the calibrated probability: alert if and only if it is at least ``value``. Values must be finite."""
    outcome: str
    predictive: bool
    """False for ``index: none`` and ``features.after``: association only."""
    scoring: Scoring
    statistics: tuple[ColumnStatistics, ...]
    """From :func:`mlho.model.golden.column_statistics`. Golden rows are drawn from them; they are not stored. One per column."""
    lineage: Mapping[str, Any]
    """Plain JSON: ``seed`` (integer, required), digests and versions. No partitions, locations or run id, so that the bytes of the bundle
    do not depend on how the events are partitioned."""
    demographics: "DemographicsEncoder | None" = None
    """Encoder of the columns that follow the features."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """Test metrics of models fitted like this one: name → ``{"mean", "low", "high", …}`` (a ``Spread`` as plain JSON); metrics at a
    threshold are named ``rule/figure``."""
    performance: BundlePerformance | None = None
    training: TrainingSamples | None = None
    roll_up: Mapping[str, str] = field(default_factory=dict)
    """Code to parent. Codes of the events that count as a code of the features."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Text for the sections of the model card written by people, by section (``mlho.model.card.SECTIONS``); a section without text shows a
    placeholder."""
    evidence: Evidence | None = None
    """Evidence from the training data, for the tests that the bundle carries."""
    requirements: Tests | None = None
    """The section ``tests`` of the specification."""
    monotone: Mapping[str, str] = field(default_factory=dict)
    """Code or demographic to ``increasing`` or ``decreasing``. Declared directions (``features.monotone``), for the tests that the bundle
    carries."""
    horizons: tuple[RiskHorizon, ...] = ()
    """Of a time to an event: the first one is that of the probability."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the model's columns: feature ids, then demographic columns, then those of utilisation."""
        names = () if self.demographics is None else tuple(self.demographics.names)
        return (*(feature.id for feature in self.features), *names, *self.scoring.utilisation)
