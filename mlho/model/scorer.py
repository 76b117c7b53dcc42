"""A model with its synthetic rows, as scoring and self-tests need it: the base of a bundle, which imports both."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlho.errors import DataError
from mlho.method.classifiers.base import FittedClassifier
from mlho.method.evaluation.calibration import PlattCalibrator
from mlho.method.evaluation.thresholds import Threshold
from mlho.method.selection.features import DURATIONS
from mlho.model.document import BundleDocument
from mlho.model.golden import GoldenRows
from mlho.model.testing.records import ModelTest
from mlho.spec.training import TrainingSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlho.encoding.cohort.demographics import DemographicsEncoder
    from mlho.method.selection.features import Cells

_N_NAMED = 5  # number of missing columns named in an error


@dataclass(frozen=True, eq=False, kw_only=True)
class Scorer:
    """A model that predicts from a feature matrix; :class:`mlho.model.bundle.Bundle` documents the fields."""

    document: BundleDocument
    classifier: FittedClassifier
    demographics: "DemographicsEncoder | None"
    golden: GoldenRows
    n_bytes: int
    tests: tuple[ModelTest, ...] | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the model's columns: feature ids, then demographic columns."""
        return self.document.columns

    @cached_property
    def encoding_spec(self) -> TrainingSpec:
        """The specification that reproduces the encoding of the events."""
        return scoring_spec(self.document)

    @property
    def calibrator(self) -> PlattCalibrator:
        """Fitted on out-of-fold probabilities."""
        return self.document.calibrator

    @property
    def thresholds(self) -> tuple[Threshold, ...]:
        """Thresholds on the calibrated probability. A sample raises an alert if and only if it is at least ``value``."""
        return self.document.thresholds

    def predict_proba(self, X: Any, *, calibrated: bool = True) -> NDArray[np.float64]:
        """Return P(outcome) for each row of a feature matrix.

        Parameters
        ----------
        X : dense, SciPy sparse or DataFrame, shape (n_samples, n_columns)
            In the order of :attr:`columns`. Columns of a DataFrame are matched by name; others are ignored. 0 means that a sample
            does not have a feature. For trees, NaN is an unknown number in the columns listed in
            ``document.signature.matrix["valueColumns"]``; zero is a value there.
        calibrated : bool
            If False, return the uncalibrated probabilities of the classifier.

        Returns
        -------
        float64, shape (n_samples,)
            Strictly between 0 and 1; bit-identical to the predictions of training, for any batch size.

        Raises
        ------
        DataError
            Columns are missing, or a cell is neither a finite number nor NaN in a value column.
        """
        probability = self.classifier.predict_proba(self._matrix(X))
        return np.asarray(self.calibrator.apply(probability)) if calibrated else probability

    def design(
        self, cells: "Sequence[Cells]", n_samples: int, extra: NDArray[np.float64] | None = None
    ) -> Any:
        """Build the classifier's input matrix from each feature's cells and the demographic columns."""
        from mlho.model.design import build_design, build_tree_design

        encodings = [feature.encoding for feature in self.document.features]
        is_value = self.classifier.value_columns
        if is_value is None:
            return build_design(encodings, cells, n_samples, extra)
        return build_tree_design(encodings, cells, n_samples, extra, is_value=is_value, names=self.columns)

    def _matrix(self, X: Any) -> Any:
        return self.classifier.checked(self._by_name(X) if hasattr(X, "loc") else X, names=self.columns)

    def _by_name(self, X: Any) -> Any:
        missing = [name for name in self.columns if name not in X.columns]
        if missing:
            raise DataError(
                "feature matrix",
                "columns are missing",
                expected=f"the {len(self.columns)} columns of the bundle (bundle.columns)",
                got=f"{len(missing)} missing, first: {', '.join(missing[:_N_NAMED])}",
                remedy="Add them; 0 means that a sample does not have a feature (NaN: that a number is unknown).",
            )
        try:
            return X.loc[:, list(self.columns)].to_numpy(dtype=np.float64, na_value=np.nan)
        except (TypeError, ValueError):
            raise DataError(
                "feature matrix",
                "cells that are not numbers",
                expected="numbers in every cell",
                got="text or other objects",
                remedy="Use predict_events for events, or convert the columns to numbers.",
            ) from None  # the cause contains the cell value


def scoring_spec(document: BundleDocument) -> TrainingSpec:
    """Return the specification that reproduces the bundle's encoding: rules, windows and aggregates."""
    windows = {feature.window_days for feature in document.features}
    windows |= set(document.scoring.utilisation_windows or ())
    days = sorted(window for window in windows if window is not None)
    after = document.scoring.after
    aggregates = {feature.aggregate for feature in document.features} - set(DURATIONS)
    if any(feature.then for feature in document.features) or not aggregates:
        aggregates.add("presence")
    scoring = document.scoring
    return TrainingSpec.model_validate(
        {
            "data": {
                "tables": {"events": "-", "labels": "-"},
                "duplicates": scoring.duplicates,
                "plausibleYears": scoring.plausible_years,
            },
            "cohort": {
                "outcome": "label",
                "index": "none" if scoring.index_kind == "none" else {"column": "index_date"},
                "gapDays": scoring.gap_days,
            },
            "features": {
                "aggregates": sorted(aggregates),
                "windows": days if after is None else [],
                **({} if after is None else {"after": after.model_dump(by_alias=True)}),
                **({"allHistory": True} if days and None in windows else {}),
                **({"utilisation": True} if scoring.utilisation else {}),
                **_sequences(document),
            },
        }
    )


def _sequences(document: BundleDocument) -> dict[str, Any]:
    """Return the section of sequences, if the bundle has one as a feature."""
    if all(feature.then is None for feature in document.features):
        return {}
    scoring = document.scoring
    timed = {
        feature.aggregate.removesuffix("Days")
        for feature in document.features
        if feature.aggregate in DURATIONS
    }
    return {
        "sequences": {
            "coOccurrenceDays": scoring.co_occurrence_days,
            "order": scoring.sequence_order or "any",
            "bands": scoring.sequence_bands,
            "durations": sorted(timed) or None,
        }
    }
