"""``bundle.json``: the schema of a bundle, and its validation on reading."""

import json
from collections.abc import Mapping
from math import inf, isfinite
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError, model_validator

from mlho.errors import BundleError, plural
from mlho.method.evaluation.calibration import PlattCalibrator
from mlho.method.evaluation.thresholds import Threshold
from mlho.method.selection.features import DURATIONS
from mlho.model.files import FileFacts, is_bundle_file
from mlho.model.parts import (
    BundleFeature,
    BundlePart,
    BundleParts,
    BundlePerformance,
    RiskHorizon,
    Scoring,
    TrainingSamples,
)
from mlho.spec.features import NUMBERS, RECENCY
from mlho.spec.types import OMITTED

BUNDLE_SCHEMA: Final = "mlho.io/bundle/v1"
FORMAT_VERSION: Final = 1
_OTHER_VERSION: Final = "Use the version of mlho that wrote the bundle, or build it again with this one."
_MAX_PROBLEMS = 5  # maximum number of validation errors in a message

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FileEntry(BundlePart):
    """One file of the bundle."""

    sha256: Digest
    bytes: Annotated[int, Field(ge=0)]


class Signature(BundlePart):
    """Inputs and outputs of the model, for programs that use the bundle."""

    matrix: dict[str, Any]
    """A feature matrix: its number of columns and their type; ``columns`` names them in order."""
    events: dict[str, Any]
    """A table of events: required and optional columns, and the meaning of an index date."""
    output: dict[str, str]
    """Each output with its meaning."""


class BundleDocument(BundlePart):
    """The whole of ``bundle.json``."""

    schema_: Literal["mlho.io/bundle/v1"] = Field(default=BUNDLE_SCHEMA, alias="schema")
    format_version: Literal[1] = FORMAT_VERSION
    outcome: str
    predictive: bool
    """False: fitted without index date, or on a window after it; association only, no prediction."""
    classifier: str
    columns: tuple[str, ...]
    """Names of the model's columns, in order."""
    features: tuple[BundleFeature, ...]
    demographics: list[dict[str, Any]] | None
    """How the demographics become the columns after the features."""
    calibrator: PlattCalibrator
    thresholds: tuple[Threshold, ...]
    scoring: Scoring
    signature: Signature
    metrics: dict[str, Any]
    """Test figures of models built like this one."""
    performance: BundlePerformance | None = None
    """How the test figures were measured."""
    training: TrainingSamples | None = None
    """Statistics of the training samples; absent in bundles of earlier versions."""
    roll_up: Annotated[dict[str, str] | None, OMITTED] = None
    """Codes of the events that are replaced by another code, which is a code of the features."""
    horizons: Annotated[tuple[RiskHorizon, ...] | None, Field(min_length=1), OMITTED] = None
    """For a time to an event: the risk up to each day; the first one is the probability."""
    notes: dict[str, str]
    lineage: dict[str, Any]
    files: dict[str, FileEntry]

    @model_validator(mode="after")
    def _columns_fit(self) -> "BundleDocument":
        if len(set(self.columns)) != len(self.columns):
            raise ValueError("columns: each name once")
        if self.columns[: len(self.features)] != tuple(feature.id for feature in self.features):
            raise ValueError("columns: must begin with the ids of the features, in their order")
        end = len(self.columns) - len(self.scoring.utilisation)
        if self.columns[end:] != self.scoring.utilisation:
            raise ValueError("columns: must end with those of utilisation")
        if self.demographics is None and self.columns[len(self.features) : end]:
            raise ValueError("columns: more than the features, and no demographics")
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> "BundleDocument":
        if not _is_rising(self.calibrator):
            raise ValueError("calibrator: a finite intercept and a positive slope")
        has_sequences = any(feature.then is not None for feature in self.features)
        if has_sequences and self.scoring.co_occurrence_days is None:
            raise ValueError("scoring: sequences require coOccurrenceDays")
        timed = [feature for feature in self.features if feature.aggregate in DURATIONS]
        is_of_first = bool(self.scoring.sequence_order or self.scoring.sequence_bands)
        if timed and (is_of_first or any(feature.then is None for feature in timed)):
            raise ValueError("features: durations are those of sequences of any events")
        n_bands = 1 + len(self.scoring.sequence_bands) if self.scoring.sequence_bands else 0
        if any(feature.band is not None and feature.band > n_bands for feature in self.features):
            raise ValueError("scoring: a feature has a band that sequenceBands does not have")
        values = [threshold.value for threshold in self.thresholds]
        if not all(value is None or 0 <= value <= 1 for value in values):
            raise ValueError("thresholds: values from 0 to 1, or null with a reason")
        days = [horizon.days for horizon in self.horizons or ()]
        if days != sorted(set(days)):
            raise ValueError("horizons: days that ascend")
        if not all(_is_rising(horizon.calibrator) for horizon in self.horizons or ()):
            raise ValueError("horizons: a finite intercept and a positive slope")
        if self.horizons and self.horizons[0].calibrator != self.calibrator:
            raise ValueError("horizons: the first must have the calibrator of the probability")
        bad = [name for name in self.files if not is_bundle_file(name)]
        if bad:
            raise ValueError(f"files: {plural(len(bad), 'name')} outside the bundle or not allowed in it")
        return self

    @model_validator(mode="after")
    def _windows_fit(self) -> "BundleDocument":
        windows = {feature.window_days for feature in self.features}
        windows |= set(self.scoring.utilisation_windows or ())
        days = [window for window in windows if window is not None]
        if self.scoring.index_kind == "none" and (days or self.scoring.gap_days):
            raise ValueError("scoring: windows and gapDays require an index date, but the index is none")
        if days and min(days) <= self.scoring.gap_days:
            raise ValueError("scoring: gapDays must be less than every window")
        has_recency = any(feature.aggregate == RECENCY for feature in self.features)
        if self.scoring.index_kind == "none" and has_recency:
            raise ValueError("features: recency requires an index date, but the index is none")
        return self

    @property
    def codes(self) -> frozenset[str]:
        """Codes of the features, as in the events."""
        then = (feature.then for feature in self.features if feature.then is not None)
        return frozenset(feature.code for feature in self.features) | frozenset(then)

    @property
    def file_facts(self) -> dict[str, FileFacts]:
        """Digest and size of each file."""
        return {name: FileFacts(entry.sha256, entry.bytes) for name, entry in self.files.items()}


def _is_rising(calibrator: PlattCalibrator) -> bool:
    return isfinite(calibrator.intercept) and 0 < calibrator.slope < inf


def document_bytes(parts: BundleParts, files: Mapping[str, FileFacts]) -> bytes:
    """Return ``bundle.json`` with sorted keys, exact floats and one value per line, so that it can be compared with diff.

    Raises
    ------
    BundleError
        The parts are inconsistent.
    """
    document = document_of(parts, files)
    plain = document.model_dump(mode="json", by_alias=True)
    return json.dumps(plain, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def document_of(parts: BundleParts, files: Mapping[str, FileFacts]) -> BundleDocument:
    """Return the document of a bundle with these parts and files.

    Raises
    ------
    BundleError
        The parts are inconsistent.
    """
    try:
        return BundleDocument(
            outcome=parts.outcome,
            predictive=parts.predictive,
            classifier=parts.classifier.name,
            columns=parts.columns,
            features=parts.features,
            demographics=None if parts.demographics is None else parts.demographics.to_json(),
            calibrator=parts.calibrator,
            thresholds=parts.thresholds,
            scoring=parts.scoring,
            signature=_signature(parts),
            metrics=dict(parts.metrics),
            performance=parts.performance,
            training=parts.training,
            roll_up=dict(parts.roll_up) or None,
            horizons=parts.horizons or None,
            notes=dict(parts.notes),
            lineage=dict(parts.lineage),
            files={name: FileEntry(sha256=fact.sha256, bytes=fact.n_bytes) for name, fact in files.items()},
        )
    except ValidationError as error:
        raise BundleError(_problems("bundle", error)) from error


def _signature(parts: BundleParts) -> Signature:
    needs_values = any(NUMBERS.get(feature.aggregate, RECENCY) != RECENCY for feature in parts.features)
    return Signature(
        matrix={"dtype": "float64", "nColumns": len(parts.columns), **_missing(parts)},
        events={
            "required": ["patient_id", "time", "code", *(["numeric_value"] if needs_values else [])],
            "index": parts.scoring.index_kind,
        },
        output={
            "probability": "P(outcome), calibrated, strictly between 0 and 1",
            "uncalibrated": "P(outcome) as returned by the classifier",
            "alert": "for each threshold: probability >= value",
            **{horizon.column: f"P(outcome within {horizon.days} days)" for horizon in parts.horizons},
        },
    )


def _missing(parts: BundleParts) -> dict[str, Any]:
    """Describe how the matrix represents unknown values."""
    is_value = parts.classifier.value_columns
    if is_value is None:
        return {"missing": "not allowed: 0 means absent"}
    return {
        "missing": "NaN in valueColumns, where 0 is a value; elsewhere 0 means absent, and NaN is not allowed",
        "valueColumns": [
            name for name, holds_values in zip(parts.columns, is_value, strict=True) if holds_values
        ],
    }


def parse_document(content: bytes, *, where: str) -> BundleDocument:
    """Parse and validate a ``bundle.json``.

    Raises
    ------
    BundleError
        Invalid JSON, a different schema or version, or inconsistent fields. The message names fields, never their values.
    """
    try:
        plain = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where}: not valid JSON. Fetch the bundle again, or build it again.") from error
    if not isinstance(plain, dict):
        raise BundleError(f"{where}: expected a JSON object. Fetch the bundle again, or build it again.")
    _refuse_other_versions(plain, where)
    try:
        return BundleDocument.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise BundleError(_problems(where, error)) from error
    except (TypeError, ValueError, OverflowError) as error:
        raise BundleError(f"{where}: a field of a wrong type. Build the bundle again.") from error


def _problems(where: str, error: ValidationError) -> str:
    details = error.errors(include_input=False, include_url=False)
    problems = [
        f"{'.'.join(map(str, detail['loc'])) or 'document'}: {detail['msg'].removeprefix('Value error, ')}"
        for detail in details[:_MAX_PROBLEMS]
    ]
    is_newer = any(detail["type"] == "extra_forbidden" for detail in details)
    remedy = _OTHER_VERSION if is_newer else "Build the bundle again."
    return f"{where}: {plural(len(details), 'problem')}: {'; '.join(problems)}. {remedy}"


def _refuse_other_versions(plain: Mapping[str, Any], where: str) -> None:
    schema, version = plain.get("schema"), plain.get("formatVersion")
    if schema != BUNDLE_SCHEMA:
        raise BundleError(
            f"{where}: a different schema. Expected {BUNDLE_SCHEMA}; got {str(schema)[:64]!r}. {_OTHER_VERSION}"
        )
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise BundleError(
            f"{where}: a different format version. Expected {FORMAT_VERSION}; got {str(version)[:16]}. {_OTHER_VERSION}"
        )
