"""The contract of every classifier: fit, predict, explain, to and from bytes.

A classifier is one class in one file, listed in ``mlho.method.classifiers``; the contract suite runs on all
that are listed. Fitting is deterministic given data, setting and seed, whatever the number of threads;
predicting gives a row the same bits alone, in any batch, sparse or dense, and after a round trip through
files.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from mlho.errors import DataError
from mlho.grids import Parameter, Setting, setting_from, settings_from
from mlho.method import linear
from mlho.method.design_matrix import Floats, Matrix, checked_labels, checked_matrix

Labels = NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Coefficients:
    """A linear model in words that a clinician uses.

    Attributes
    ----------
    intercept : float
        Log-odds of a row of zeros.
    values : float64, shape (n_features,)
        Log odds ratio per original unit of the feature.
    scale : float64, shape (n_features,)
        Training standard deviation (ddof 1); 0 for a constant column.
    """

    intercept: float
    values: Floats
    scale: Floats

    @property
    def per_sd(self) -> Floats:
        """Log odds ratio per training standard deviation, shape (n_features,)."""
        return self.values * self.scale


class FittedClassifier(ABC):
    """A classifier that has learned. Subclasses are frozen and hold arrays and bytes only."""

    name: ClassVar[str]

    @property
    @abstractmethod
    def n_features(self) -> int:
        """Number of columns that it was fitted with."""

    @abstractmethod
    def _log_odds(self, matrix: Matrix) -> Floats:
        """Return the log-odds of a checked matrix, shape (n_samples,)."""

    @abstractmethod
    def _contributions(self, matrix: Matrix) -> Floats:
        """Return the contributions of a checked matrix, shape (n_samples, n_features + 1)."""

    @abstractmethod
    def coefficients(self) -> Coefficients | None:
        """Return the coefficients of a linear model; None for trees and explainable boosting."""

    @abstractmethod
    def importance(self) -> Floats:
        """Return a non-negative weight for each feature, shape (n_features,); each classifier says of what."""

    @abstractmethod
    def to_files(self) -> dict[str, bytes]:
        """Return the model as files of safe formats by name: equal models give equal bytes."""

    @classmethod
    @abstractmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """Return the model that ``to_files`` wrote.

        Raises
        ------
        BundleError
            Another schema or version, a missing, unknown or malformed field, or parts that do not fit each
            other.
        """

    def log_odds(self, X: Any) -> Floats:
        """Return the log-odds of y = 1 for each row, shape (n_samples,)."""
        matrix = checked_matrix(X, n_features=self.n_features)
        return self._log_odds(matrix) if matrix.shape[0] else np.empty(0)

    def predict_proba(self, X: Any) -> Floats:
        """Return P(y = 1) for each row.

        Parameters
        ----------
        X : dense or SciPy sparse, shape (n_samples, n_features)
            The columns in the order of training.

        Returns
        -------
        float64, shape (n_samples,)
            Strictly inside (0, 1): log-odds are cut at ±36. A row has the same bits whatever it is batched
            with.

        Raises
        ------
        DataError
            Another number of columns, or a cell that is not a finite number.
        """
        return linear.probabilities(self.log_odds(X))

    def contributions(self, X: Any) -> Floats:
        """Return what each feature adds to the log-odds of each row.

        Returns
        -------
        float64, shape (n_samples, n_features + 1)
            By feature, the last column the intercept. Added from left to right they are the log-odds of
            ``predict_proba`` (before the cut at ±36).
        """
        matrix = checked_matrix(X, n_features=self.n_features)
        return self._contributions(matrix) if matrix.shape[0] else np.empty((0, self.n_features + 1))


class Classifier(ABC):
    """A kind of model: its grid and how it is fitted."""

    name: ClassVar[str]
    #: The grid, parameters in the order of the settings: the first varies slowest.
    parameters: ClassVar[tuple[Parameter, ...]]
    fitted: ClassVar[type[FittedClassifier]]

    @property
    def _where(self) -> str:
        return f"candidate {self.name}"

    def settings(self, grid: Mapping[str, Any] | None = None) -> list[Setting]:
        """Return the cross product of the grid, simplest first; an empty grid is the documented default.

        Raises
        ------
        SpecError
            An unknown name (the nearest valid one is named), or a value out of range.
        """
        return settings_from(grid or {}, self.parameters, self._where)

    def setting(self, values: Mapping[str, Any] | None = None) -> Setting:
        """Return one setting: the given values and the first default of every other parameter."""
        return setting_from(values or {}, self.parameters, self._where)

    def fit(
        self, X: Any, y: Any, setting: Mapping[str, Any], *, seed: int, n_threads: int = 1
    ) -> FittedClassifier:
        """Fit one setting: ``fit_settings`` with a list of one."""
        return self.fit_settings(X, y, [setting], seed=seed, n_threads=n_threads)[0]

    def fit_settings(
        self, X: Any, y: Any, settings: Sequence[Mapping[str, Any]], *, seed: int, n_threads: int = 1
    ) -> list[FittedClassifier]:
        """Fit every setting, sharing what can be shared; each model is to the bit the one that ``fit`` alone gives.

        Parameters
        ----------
        X : dense or SciPy sparse, shape (n_samples, n_features)
            As it is: a classifier that wants scaled columns scales them itself. Constant columns are
            tolerated.
        y : array-like of 0 and 1, shape (n_samples,)
            Both classes present.
        settings : sequence of Setting or mapping
            What is not named in a mapping takes its first default.
        seed : int, at least 0
            Of whatever the classifier draws.
        n_threads : int
            May make it faster, never different.

        Returns
        -------
        list of FittedClassifier
            In the order of the settings.

        Raises
        ------
        DataError
            No column, cells that are not finite numbers, labels that are not 0 and 1, or a single class.
        SpecError
            A setting that is not valid.
        """
        matrix = checked_matrix(X, where="training matrix")
        _refuse_no_columns(matrix)
        labels = checked_labels(y, matrix.shape[0])
        complete = [
            setting if isinstance(setting, Setting) else self.setting(setting) for setting in settings
        ]
        return self._fit_settings(matrix, labels, complete, seed=seed, n_threads=n_threads)

    @abstractmethod
    def _fit_settings(
        self, matrix: Matrix, labels: Labels, settings: Sequence[Setting], *, seed: int, n_threads: int
    ) -> list[FittedClassifier]:
        """Fit the settings on checked input."""


def _refuse_no_columns(matrix: Matrix) -> None:
    if matrix.shape[1] == 0:
        raise DataError(
            "training matrix",
            "no feature left",
            expected="at least one column",
            got="0 columns",
            remedy="Lower selection.minPrevalence, or widen the look-back or the cohort.",
        )


def prefix_groups(settings: Sequence[Setting], length: str) -> dict[tuple[tuple[str, float], ...], int]:
    """Return, for each choice of the other parameters, the largest value of ``length`` that a setting asks for.

    A boosted model of fewer steps is the beginning of one of more: the group is fitted once and cut.
    """
    longest: dict[tuple[tuple[str, float], ...], int] = {}
    for setting in settings:
        key = prefix_key(setting, length)
        longest[key] = max(longest.get(key, 0), int(setting[length]))
    return longest


def prefix_key(setting: Setting, length: str) -> tuple[tuple[str, float], ...]:
    """Return all of a setting but its ``length``: the group whose fit it shares."""
    return tuple((name, value) for name, value in setting.items() if name != length)
