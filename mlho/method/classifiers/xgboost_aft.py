"""Accelerated failure time with boosted trees (xgboost), as a classifier of the risk up to a horizon.

The log of the time is a sum of trees plus a logistic error. The log-odds of an event up to day h are then
``(log h − trees) / scale``, so the contributions of features add up. A competing event counts as the end of observation.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mlho.grids import GRIDS, Setting
from mlho.method.classifiers.base import FittedClassifier, TimeClassifier, TrainingData
from mlho.method.classifiers.design_matrix import Floats, Matrix
from mlho.method.classifiers.files import ModelFields
from mlho.method.classifiers.xgboost import FittedXGBoost, boosted, training_parameters, with_intercept
from mlho.method.survival.times import EVENT, EventTimes


@dataclass(frozen=True, eq=False)
class FittedXGBoostAFT(FittedXGBoost):
    """Boosted trees of the log of the time to the event."""

    name: ClassVar[str] = "xgboostAft"

    horizon: float = 1.0
    """In days."""
    scale: float = 1.0
    """Scale of the logistic distribution of the log of the time."""

    def _log_odds(self, matrix: Matrix) -> Floats:
        return (math.log(self.horizon) - super()._log_odds(matrix)) / self.scale

    def _contributions(self, matrix: Matrix) -> Floats:
        """Return TreeSHAP values on the scale of the log-odds; the intercept includes the rounding difference."""
        return with_intercept(
            self._predicted(matrix, pred_contribs=True) / -self.scale, self._log_odds(matrix)
        )

    def _feature_contributions(self, matrix: Matrix) -> Floats:
        return self._contributions(matrix)[:, :-1]  # the tables are on the scale of the log of the time

    def _fields(self) -> dict[str, Any]:
        return super()._fields() | {"horizon": self.horizon, "scale": self.scale}

    @classmethod
    def _attributes(cls, fields: ModelFields) -> dict[str, Any]:
        own_fields = {"horizon": fields.number("horizon", low=0.0), "scale": fields.number("scale", low=0.0)}
        if not all(own_fields.values()):
            fields.refuse("horizon and scale are above 0")
        return super()._attributes(fields) | own_fields


class XGBoostAFT(TimeClassifier):
    """Boosted trees of the log of the time. Simpler means the same as for xgboost, and a larger scale."""

    name = "xgboostAft"
    parameters = GRIDS["xgboostAft"]
    fitted = FittedXGBoostAFT
    absent = "missing"

    def _fit_settings(self, data: TrainingData, settings: Sequence[Setting]) -> list[FittedClassifier]:
        times: EventTimes = data.labels
        start = math.exp(math.fsum(np.log(times.days).tolist()) / len(times))
        fits = boosted(
            data,
            settings,
            lambda setting: _parameters(setting, data.seed, start),
            label_lower_bound=times.days,
            label_upper_bound=np.where(times.status == EVENT, times.days, np.inf),
        )
        return [
            FittedXGBoostAFT(**fit, horizon=float(times.horizon), scale=float(setting["scale"]))
            for fit, setting in zip(fits, settings, strict=True)
        ]


def _parameters(values: Mapping[str, float], seed: int, start: float) -> dict[str, Any]:
    return {
        **training_parameters(values, seed),
        "objective": "survival:aft",
        "aft_loss_distribution": "logistic",
        "aft_loss_distribution_scale": values["scale"],
        "base_score": start,
    }
