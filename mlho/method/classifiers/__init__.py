"""The classifiers, behind one interface. To add one, write its class in a separate module and add one line here."""

from collections.abc import Mapping

from mlho.errors import SpecError
from mlho.grids import Setting, nearest_name
from mlho.method.classifiers.base import Classifier, Coefficients, FittedClassifier
from mlho.method.classifiers.cox import Cox
from mlho.method.classifiers.discrete_time import DiscreteTime
from mlho.method.classifiers.ebm import EBM
from mlho.method.classifiers.elasticnet import ElasticNet
from mlho.method.classifiers.glmboost import GLMBoost
from mlho.method.classifiers.settings import choose_setting
from mlho.method.classifiers.xgboost import XGBoost
from mlho.method.classifiers.xgboost_aft import XGBoostAFT

__all__ = [
    "CLASSIFIERS",
    "Classifier",
    "Coefficients",
    "FittedClassifier",
    "Setting",
    "choose_setting",
    "classifier_named",
    "fitted_from_files",
]

#: Every classifier by its name in a specification. Libraries that take seconds to import are imported at the first fit.
CLASSIFIERS: dict[str, Classifier] = {
    kind.name: kind
    for kind in (GLMBoost(), ElasticNet(), XGBoost(), EBM(), Cox(), XGBoostAFT(), DiscreteTime())
}


def classifier_named(name: str) -> Classifier:
    """Return the classifier with this name. Raise SpecError with the nearest valid name if there is none."""
    if name not in CLASSIFIERS:
        nearest = nearest_name(name, CLASSIFIERS)
        raise SpecError(
            f"candidates: unknown classifier {name[:64]!r}. Did you mean {nearest!r}? Valid: {', '.join(CLASSIFIERS)}."
        )
    return CLASSIFIERS[name]


def fitted_from_files(name: str, files: Mapping[str, bytes]) -> FittedClassifier:
    """Restore a fitted classifier from the output of ``to_files``. Raise BundleError if the files do not match."""
    return classifier_named(name).fitted.from_files(files)
