"""The model and the demographics of a bundle, restored from its files."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from mlho.errors import BundleError, MlhoError, SpecError
from mlho.method.classifiers import fitted_from_files
from mlho.method.classifiers.base import FittedClassifier
from mlho.model.document import BundleDocument
from mlho.model.files import DOCUMENT
from mlho.model.parts import BundleFeature, Scoring

if TYPE_CHECKING:
    from mlho.encoding.cohort.demographics import DemographicsEncoder

MODEL_FOLDER: Final = "model/"


def classifier_of(document: BundleDocument, files: Mapping[str, bytes]) -> FittedClassifier:
    """Return the model of a bundle from its files.

    Raises
    ------
    BundleError
        It cannot be read, or does not fit the columns.
    """
    model_files = {
        name.removeprefix(MODEL_FOLDER): content
        for name, content in files.items()
        if name.startswith(MODEL_FOLDER)
    }
    try:
        classifier = fitted_from_files(document.classifier, model_files)
    except SpecError as error:
        raise BundleError(
            f"{DOCUMENT}: unknown classifier {document.classifier[:64]!r}. Use the version of mlho that wrote the bundle."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        if isinstance(error, MlhoError):
            raise
        raise BundleError(
            f"{MODEL_FOLDER}: the model's files cannot be read. Expected the format of this version of mlho. Build the bundle again."
        ) from error
    if classifier.n_features != len(document.columns):
        raise BundleError(
            f"{DOCUMENT}: the parts are inconsistent. Expected a model of {len(document.columns)} columns; got"
            f" {classifier.n_features}. Build the bundle again."
        )
    return classifier


def demographics_of(document: BundleDocument) -> "DemographicsEncoder | None":
    """Return the encoder of a bundle's demographics; ``None`` if it uses none.

    Raises
    ------
    BundleError
        It cannot be read, or does not fit the columns.
    """
    if document.demographics is None:
        return None
    from mlho.encoding.cohort.demographics import DemographicsEncoder

    try:
        encoder = DemographicsEncoder.from_json(document.demographics)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise BundleError(
            f"{DOCUMENT}: demographics cannot be read. Expected the format of this version of mlho. Build the bundle again."
        ) from error
    columns = (*document.columns[: len(document.features)], *encoder.names, *document.scoring.utilisation)
    if columns != document.columns:
        raise BundleError(
            f"{DOCUMENT}: the demographics' names are not the columns after the features. Build the bundle again."
        )
    return encoder


def has_value_columns(
    classifier: FittedClassifier,
    features: Sequence[BundleFeature],
    scoring: Scoring,
    demographics: "DemographicsEncoder | None",
) -> bool:
    """Return whether the value columns of a classifier match its features, demographics and utilisation."""
    from mlho.model.design import value_columns

    is_value = classifier.value_columns
    if is_value is None:  # no number may be missing
        return demographics is None or not demographics.is_value.any()
    of_features = value_columns([feature.encoding for feature in features], demographics)
    return np.array_equal(is_value, np.append(of_features, np.ones(len(scoring.utilisation), np.bool_)))
