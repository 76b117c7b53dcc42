"""A fitted linear model, shared by the classifiers with one coefficient per feature."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from mlho.method.classifiers import log_odds
from mlho.method.classifiers.base import Coefficients, FittedClassifier
from mlho.method.classifiers.boosting import intercept_at_zero
from mlho.method.classifiers.design_matrix import Floats, Matrix
from mlho.method.classifiers.files import ModelFields, absent_fields


@dataclass(frozen=True, eq=False)
class FittedLinear(FittedClassifier):
    """Log-odds = base + Σ_j values_j · (x_j − mean_j)."""

    values: Floats
    """Log odds ratio per original unit. Shape (n_features,)."""
    mean: Floats
    scale: Floats
    """Training mean and standard deviation (ddof 1). Shape (n_features,)."""
    base: float
    """Log-odds at the training mean."""

    @property
    def n_features(self) -> int:
        """Number of columns in training."""
        return self.values.size

    def _log_odds(self, matrix: Matrix) -> Floats:
        return log_odds.log_odds(matrix, self.values, self.mean, self.base)

    def _contributions(self, matrix: Matrix) -> Floats:
        return log_odds.contributions(matrix, self.values, self.mean, self.base)

    def coefficients(self) -> Coefficients:
        """Return the intercept, log odds ratios per original unit, and the standard deviations for scaling."""
        return Coefficients(intercept_at_zero(self.base, self.values, self.mean), self.values, self.scale)

    def _fields(self) -> dict[str, Any]:
        return {
            "nFeatures": self.n_features,
            "values": self.values,
            "mean": self.mean,
            "scale": self.scale,
            "base": self.base,
            **absent_fields(None),
        }

    @classmethod
    def _attributes(cls, fields: ModelFields) -> dict[str, Any]:
        n_features = fields.integer("nFeatures")
        values = fields.floats("values", size=n_features)
        mean = fields.floats("mean", size=n_features)
        scale = fields.floats("scale", size=n_features, low=0.0)
        base = fields.number("base")
        if fields.value_columns(n_features) is not None:
            fields.refuse("a linear model computes with zeros, and absent is not zero")
        if np.any(values[scale == 0.0]):
            fields.refuse("a constant column has a coefficient")
        return {"values": values, "mean": mean, "scale": scale, "base": base}


@dataclass(frozen=True, eq=False)
class FittedHazard(FittedLinear):
    """A penalised linear model of the hazard, which gives the risk up to a horizon."""

    horizon: float
    """In days."""
    converged: bool
    """False if the coefficients did not converge: use a stronger penalty."""

    def coefficients(self) -> None:  # type: ignore[override]  # a linear model has them, but no log odds ratios
        """Return None: the coefficients apply to the hazard, not to the odds of the risk."""

    def _fields(self) -> dict[str, Any]:
        return super()._fields() | {"horizon": self.horizon, "converged": self.converged}

    @classmethod
    def _attributes(cls, fields: ModelFields) -> dict[str, Any]:
        return super()._attributes(fields) | {
            "horizon": fields.number("horizon", low=0.0),
            "converged": fields.boolean("converged"),
        }
