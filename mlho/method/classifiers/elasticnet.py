"""Elastic-net logistic regression as a classifier."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mlho.grids import GRIDS, Setting
from mlho.method.classifiers.base import Classifier, FittedClassifier, TrainingData
from mlho.method.classifiers.coordinate_descent import first_steps, fit_logistic, penalty_of
from mlho.method.classifiers.design_matrix import Floats, checked_labels, checked_matrix, columns_of, per_unit
from mlho.method.classifiers.files import ModelFields
from mlho.method.classifiers.linear import FittedLinear


@dataclass(frozen=True, eq=False)
class FittedElasticNet(FittedLinear):
    """A penalised linear model."""

    name: ClassVar[str] = "elasticnet"

    converged: bool
    """False if the coefficients did not converge: use a stronger penalty."""
    n_iterations: int
    """Number of Newton steps."""

    def _fields(self) -> dict[str, Any]:
        return super()._fields() | {"converged": self.converged, "nIterations": self.n_iterations}

    @classmethod
    def _attributes(cls, fields: ModelFields) -> dict[str, Any]:
        return super()._attributes(fields) | {
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
        return first_steps(y, probabilities, newcomers, c=setting["c"], l1_ratio=setting["l1Ratio"])

    def _fit_settings(self, data: TrainingData, settings: Sequence[Setting]) -> list[FittedClassifier]:
        # Cold starts: warm starts are faster, but their last bits depend on the grid. Nothing is random.
        return [
            fit(data.matrix, data.labels, c=setting["c"], l1_ratio=setting["l1Ratio"]) for setting in settings
        ]


def fit(X: Any, y: Any, *, c: float = 1.0, l1_ratio: float = 0.5) -> FittedElasticNet:
    """Fit a penalised logistic regression on standardised columns.

    Minimises ``Σ log(1 + exp(−s·f)) + (1/c) · (l1_ratio · ‖β‖₁ + (1 − l1_ratio)/2 · ‖β‖²)``, s = ±1, over β
    per training standard deviation and an intercept that is not penalised: scikit-learn's
    ``LogisticRegression(C=c, l1_ratio=l1_ratio)`` on scaled columns.

    Parameters
    ----------
    X : dense or SciPy sparse, shape (n_samples, n_features)
        Unscaled: columns are scaled internally. A constant column has coefficient 0.
    y : array-like of 0 and 1, shape (n_samples,)
        Both classes must be present.
    c : float above 0
        Inverse strength of the penalty.
    l1_ratio : float in [0, 1]
        0 is ridge, 1 the lasso.

    References
    ----------
    Friedman, J., Hastie, T. and Tibshirani, R. (2010). Regularization paths for generalized linear models via
    coordinate descent. Journal of Statistical Software 33(1).
    """
    matrix = checked_matrix(X, where="training matrix")
    labels = checked_labels(y, matrix.shape[0])
    columns, spread = columns_of(matrix)
    beta, base, converged, n_iterations = fit_logistic(
        columns, labels.astype(np.float64), penalty_of(c, l1_ratio, labels.size)
    )
    return FittedElasticNet(
        values=per_unit(beta, spread.sd),
        mean=spread.mean,
        scale=spread.sd,
        base=float(base),
        converged=bool(converged),
        n_iterations=int(n_iterations),
    )
