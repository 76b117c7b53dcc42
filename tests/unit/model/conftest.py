"""Bundles to test: a small fitted model on synthetic events, written to a folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csc_array

from mlho.method.classifiers import classifier_named
from mlho.method.evaluation.calibration import PlattCalibrator
from mlho.method.evaluation.thresholds import Threshold
from mlho.method.selection.features import Encoding, Range
from mlho.method.survival.times import EventTimes
from mlho.model.bundle import write_bundle
from mlho.model.design import value_columns
from mlho.model.golden import column_statistics
from mlho.model.parts import BundleFeature, BundleParts, Scoring

N_PATIENTS = 240
ENCODINGS = {
    "I10|365|presence": ("I10", 365, Encoding("presence")),
    "E11|365|count": ("E11", 365, Encoding("count")),
    "A1C|730|last": ("A1C", 730, Encoding("last", centre=6.5)),
    "A1C|730|outOfRange": ("A1C", 730, Encoding("outOfRange", reference=Range(4.0, float("inf")))),
    "J45|730|levels": ("J45", 730, Encoding("levels", level_cuts=(1, 2, 3))),
}


def training_design(seed: int = 5) -> tuple[Any, np.ndarray]:
    """Return a design matrix with one column per feature, and labels that depend on the first two."""
    generator = np.random.Generator(np.random.PCG64(seed))
    is_present = generator.random((N_PATIENTS, len(ENCODINGS))) < 0.4
    numbers = np.ones((N_PATIENTS, len(ENCODINGS)))
    numbers[:, 1] = generator.integers(1, 9, N_PATIENTS)
    numbers[:, 2] = np.round(generator.normal(0, 2, N_PATIENTS), 3)
    numbers[:, 4] = generator.integers(1, 4, N_PATIENTS)
    X = np.where(is_present, numbers, 0.0)
    risk = 1 / (1 + np.exp(-(-1.5 + 2 * X[:, 0] + 0.3 * X[:, 1])))
    return csc_array(X), (generator.random(N_PATIENTS) < risk).astype(np.int8)


def make_parts(kind: str = "glmboost", setting: dict[str, Any] | None = None, **changes: Any) -> BundleParts:
    """Return the parts of a bundle of a small fitted model."""
    X, y = training_design()
    encodings = [encoding for _, _, encoding in ENCODINGS.values()]
    is_value = value_columns(encodings, None)
    classifier = classifier_named(kind)
    # For a classifier of times: the outcome on day 5, or nothing until day 20.
    times = EventTimes(np.where(y == 1, 5.0, 20.0), y.astype(np.uint8), 10.0)
    target = times if classifier.target == "time" else y
    fitted = classifier.fit(X, target, setting or {}, seed=1, value_columns=is_value)
    coefficients = fitted.coefficients()
    features = tuple(
        BundleFeature(
            id=name,
            code=code,
            description=f"description of {code}",
            window_days=window,
            encoding=encoding,
            words=f"{code}, {encoding.aggregate}, within {window} days",
            importance=1.0 / (number + 1),
            coefficient=None if coefficients is None else float(coefficients.values[number]),
        )
        for number, (name, (code, window, encoding)) in enumerate(ENCODINGS.items())
    )
    parts = {
        "classifier": fitted,
        "features": features,
        "calibrator": PlattCalibrator(-0.1, 1.3),
        "thresholds": (Threshold("youden", 0.4), Threshold("fixed-alert-rate:0.1", None, "one class only")),
        "outcome": "label",
        "predictive": True,
        "scoring": Scoring(index_kind="column"),
        "statistics": column_statistics(X, np.arange(N_PATIENTS), min_cell=11),
        "lineage": {"seed": 7, "specDigest": "ab" * 32, "versions": {"mlho": "0.1.0"}},
        "metrics": {"auroc": {"mean": 0.81, "low": 0.75, "high": 0.87}},
    }
    return BundleParts(**{**parts, **changes})


@pytest.fixture
def parts() -> Callable[..., BundleParts]:
    """Return a function that makes the parts of a bundle."""
    return make_parts


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a bundle with glmboost; tests must not change it."""
    folder = tmp_path_factory.mktemp("bundles") / "glmboost"
    write_bundle(folder, make_parts())
    return folder
