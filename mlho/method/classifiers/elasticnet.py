"""Elastic-net logistic regression as a classifier."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlho.grids import GRIDS, Setting
from mlho.method.classifiers import coordinate_descent
from mlho.method.classifiers.base import Classifier, FittedClassifier, Labels
from mlho.method.classifiers.design_matrix import Floats, Matrix
from mlho.method.classifiers.files import ModelFields
from mlho.method.classifiers.linear import FittedLinear


@dataclass(frozen=True, eq=False)
class FittedElasticNet(FittedLinear):
    """A penalised linear model.

    Attributes
    ----------
    converged : bool
        False if the coefficients did not converge: use a stronger penalty.
    n_iterations : int
        Number of Newton steps.
    """

    name: ClassVar[str] = "elasticnet"

    converged: bool
    n_iterations: int

    def _own_fields(self) -> dict[str, Any]:
        return {"converged": self.converged, "nIterations": self.n_iterations}

    @classmethod
    def _own_from(cls, fields: ModelFields, n_features: int) -> dict[str, Any]:
        return {
            "converged": fields.boolean("converged"),
            "n_iterations": fields.integer("nIterations", low=1),
        }


class ElasticNet(Classifier):
    """Logistic regression with L1 and L2 penalties. Simpler means a stronger penalty, then a larger L1 share."""

    name = "elasticnet"
    parameters = GRIDS["elasticnet"]
    fitted = FittedElasticNet

    def first_steps(
        self, model: FittedClassifier, X: Any, y: Any, setting: Mapping[str, Any], newcomers: Any
    ) -> Floats:
        """Return the first Newton step of each new column; see the base class."""
        probabilities = model.predict_proba(X)
        return coordinate_descent.first_steps(
            y, probabilities, newcomers, c=setting["c"], l1_ratio=setting["l1Ratio"]
        )

    def _fit_settings(
        self,
        matrix: Matrix,
        labels: Labels,
        settings: Sequence[Setting],
        seed: int,
        value_columns: NDArray[np.bool_],
    ) -> list[FittedClassifier]:
        # Cold starts: warm starts are faster, but their last bits depend on the grid. Nothing is random.
        return [_fitted(matrix, labels, setting) for setting in settings]


def _fitted(matrix: Matrix, labels: Labels, setting: Setting) -> FittedElasticNet:
    result = coordinate_descent.fit(matrix, labels, c=setting["c"], l1_ratio=setting["l1Ratio"])
    return FittedElasticNet(
        values=result.coefficients,
        mean=result.mean,
        scale=result.scale,
        base=result.base,
        converged=result.converged,
        n_iterations=result.n_iterations,
    )
