"""The interface of a loaded bundle used by scoring and self-tests, so that the bundle can import both."""

from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from mlho.method.classifiers.base import FittedClassifier
from mlho.method.evaluation.calibration import PlattCalibrator
from mlho.method.evaluation.thresholds import Threshold
from mlho.model.document import BundleDocument
from mlho.model.golden import GoldenRows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from mlho.encoding.cohort.demographics import DemographicsEncoder
    from mlho.method.selection.features import Cells


class Scorer(Protocol):
    """A loaded bundle; :class:`mlho.model.bundle.Bundle` documents the members."""

    @property
    def document(self) -> BundleDocument:
        """``bundle.json``."""

    @property
    def classifier(self) -> FittedClassifier:
        """The fitted model."""

    @property
    def demographics(self) -> "DemographicsEncoder | None":
        """Encoder of the columns that follow the features."""

    @property
    def golden(self) -> GoldenRows:
        """Synthetic rows with their expected scores."""

    @property
    def n_bytes(self) -> int:
        """Total size of all files."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the model's columns."""

    @property
    def calibrator(self) -> PlattCalibrator:
        """Fitted on out-of-fold probabilities."""

    @property
    def thresholds(self) -> tuple[Threshold, ...]:
        """On the calibrated probability."""

    def predict_proba(self, X: Any, *, calibrated: bool = True) -> "NDArray[np.float64]":
        """Return P(outcome) for each row."""

    def design(
        self, cells: "Sequence[Cells]", n_samples: int, extra: "NDArray[np.float64] | None" = None
    ) -> Any:
        """Build the classifier's input matrix."""
