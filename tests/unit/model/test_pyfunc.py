"""A bundle loaded as MLflow does. With MLflow: ``make test-newest NEWEST=mlflow-skinny NEWEST_TESTS=tests/unit/model/test_pyfunc.py``."""

import pandas as pd
import pytest
import yaml

from mlho.errors import DataError
from mlho.model.bundle import load_bundle
from mlho.pyfunc import _load_pyfunc
from tests.unit.model.test_scoring import EVENTS, INDEX


def test_events_get_the_scores_of_the_bundle(bundle_folder):
    """The keys of the dict are the arguments of ``predict_events``."""
    expected = load_bundle(bundle_folder).predict_events(EVENTS, INDEX)

    found = _load_pyfunc(str(bundle_folder)).predict({"events": EVENTS, "index": INDEX})

    pd.testing.assert_frame_equal(found, expected)


def test_a_matrix_gets_probabilities_under_its_own_index(bundle_folder):
    """A matrix gets probabilities with its own index, and its columns are found by name."""
    bundle = load_bundle(bundle_folder)
    matrix = pd.DataFrame(0.0, index=["first", "second"], columns=list(reversed(bundle.columns)))
    matrix.iloc[1] = 1.0

    found = _load_pyfunc(str(bundle_folder)).predict(matrix)

    assert list(found.index) == ["first", "second"]
    assert found["probability"].tolist() == bundle.predict_proba(matrix).tolist()


@pytest.mark.parametrize("tables", [{"index": INDEX}, {"events": EVENTS, "patients": EVENTS}])
def test_other_tables_are_refused(bundle_folder, tables):
    with pytest.raises(DataError, match="events"):
        _load_pyfunc(str(bundle_folder)).predict(tables)


def test_params_are_refused_instead_of_ignored(bundle_folder):
    with pytest.raises(DataError, match="params"):
        _load_pyfunc(str(bundle_folder)).predict({"events": EVENTS, "index": INDEX}, {"threshold": 0.5})


def test_mlflow_loads_an_exported_folder(bundle_folder, tmp_path):
    """MLflow gives the same scores; the test is skipped if it is not installed."""
    pyfunc = pytest.importorskip("mlflow.pyfunc")
    (tmp_path / "bundle").symlink_to(bundle_folder)
    described = {"flavors": {"python_function": {"loader_module": "mlho.pyfunc", "data": "bundle"}}}
    (tmp_path / "MLmodel").write_text(yaml.safe_dump(described), encoding="utf-8")

    found = pyfunc.load_model(str(tmp_path)).predict({"events": EVENTS, "index": INDEX})

    pd.testing.assert_frame_equal(found, load_bundle(bundle_folder).predict_events(EVENTS, INDEX))
