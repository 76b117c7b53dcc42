"""glmboost as a classifier: the default of R MLHO and of this package."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlho.grids import GRIDS, Setting
from mlho.method.classifiers import boosting
from mlho.method.classifiers.base import Classifier, FittedClassifier, TrainingData, prefix_groups, prefix_key
from mlho.method.classifiers.design_matrix import Floats
from mlho.method.classifiers.files import ModelFields
from mlho.method.classifiers.linear import FittedLinear


@dataclass(frozen=True, eq=False)
class FittedGLMBoost(FittedLinear):
    """A boosted linear model."""

    name: ClassVar[str] = "glmboost"

    learning_rate: float
    """Fraction of the fitted step that is applied."""
    path: NDArray[np.int64]
    """Column selected by each step; -1 is the intercept. Shape (n_steps,)."""
    dropped: NDArray[np.int64]
    """Columns that were constant in training. Shape (n_dropped,)."""

    @classmethod
    def of(cls, result: boosting.GLMBoostResult) -> "FittedGLMBoost":
        """Return the classifier with the predictions of the boosted model."""
        return cls(
            values=result.coefficients,
            mean=result.mean,
            scale=result.scale,
            base=result.base,
            learning_rate=result.learning_rate,
            path=result.path,
            dropped=result.dropped,
        )

    def _fields(self) -> dict[str, Any]:
        return super()._fields() | {
            "learningRate": self.learning_rate,
            "path": self.path,
            "dropped": self.dropped,
        }

    @classmethod
    def _attributes(cls, fields: ModelFields) -> dict[str, Any]:
        shared = super()._attributes(fields)
        last = shared["values"].size - 1
        return shared | {
            "learning_rate": fields.number("learningRate", low=0.0),
            "path": fields.integers("path", low=boosting.INTERCEPT, high=last),
            "dropped": fields.integers("dropped", low=0, high=last),
        }


class GLMBoost(Classifier):
    """Component-wise L2 boosting of the logistic loss. Simpler means a lower learning rate, then fewer steps."""

    name = "glmboost"
    parameters = GRIDS["glmboost"]
    fitted = FittedGLMBoost

    def first_steps(
        self, model: FittedClassifier, X: Any, y: Any, setting: Mapping[str, Any], newcomers: Any
    ) -> Floats:
        """Return the effect of each new column's first step; see the base class."""
        assert isinstance(model, FittedGLMBoost)
        return boosting.first_steps(X, y, model.path, newcomers, learning_rate=model.learning_rate)

    def _fit_settings(self, data: TrainingData, settings: Sequence[Setting]) -> list[FittedClassifier]:
        # Nothing is random and one thread suffices: the result does not depend on seed or threads.
        longest = {
            key: boosting.fit(data.matrix, data.labels, n_steps, learning_rate=dict(key)["learningRate"])
            for key, n_steps in prefix_groups(settings, "nSteps").items()
        }
        return [
            FittedGLMBoost.of(longest[prefix_key(setting, "nSteps")].after(int(setting["nSteps"])))
            for setting in settings
        ]
