"""``features.monotone`` in a run: trees follow it, a required test of the bundle checks it, and it is never ignored silently."""

import numpy as np
import pytest

from mlho.method.classifiers import classifier_named
from mlho.model.bundle import load_bundle
from mlho.model.files import write_folder
from mlho.report.result import Result
from tests.builders import CREATININE, INFORMATIVE, make_tables, run_inline, write_tables

TREES = {"candidates": [{"classifier": "xgboost", "grid": {"maxDepth": [2], "nRounds": [20]}}]}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tables(tmp_path_factory.mktemp("data"), make_tables(300, seed=4))


def built(data, place, monotone, changes):
    """Return the warnings of a run, and the tests of directions in its bundle."""
    all_changes = {"features.aggregates": ["presence", "last"], "features.monotone": monotone, **changes}
    home = run_inline(data, place / "store", all_changes)
    write_folder(place / "bundle", home.bundle())
    bundle = load_bundle(place / "bundle")
    tests = [test for test in bundle.run_tests(measured=False) if test.id.startswith("directions.monotone.")]
    result = Result.model_validate_json(home.run.store.get(f"runs/{home.finished.run_id}/result.json"))
    return result.warnings, tests


def test_trees_obey_directions_that_contradict_the_data(data, tmp_path):
    """Creatinine raises the planted risk. If it is declared as decreasing, the model has no increase."""
    warnings, tests = built(data, tmp_path, {CREATININE: "decreasing", "age": "increasing"}, TREES)

    assert {test.id for test in tests} == {
        f"directions.monotone.{CREATININE}|all|last",
        "directions.monotone.age",
    }
    assert all(test.passed and test.level == "required" for test in tests)
    assert not any("features.monotone" in warning for warning in warnings)


def test_a_linear_model_against_its_declaration_fails_a_required_test_that_names_the_column(data, tmp_path):
    """A linear model against its declared direction fails a required test, and a name without a numeric column gives a warning."""
    warnings, tests = built(data, tmp_path, {CREATININE: "decreasing", "sex": "increasing"}, {})

    (test,) = tests
    assert (test.passed, test.level) == (False, "required")
    assert CREATININE in test.defect
    assert any("features.monotone has no effect" in sentence and "sex" in sentence for sentence in warnings)


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("xgboost", {"maxDepth": 3, "nRounds": 30}),
        ("ebm", {"maxRounds": 100, "nBags": 1, "nInteractions": 1}),
    ],
)
@pytest.mark.parametrize("direction", [1, -1])
def test_an_absent_code_has_the_place_of_zero_in_a_declared_order(name, setting, direction):
    """The true risk falls and rises with the count, but the model follows the direction from 0 to 4, with any other codes present."""
    rng = np.random.default_rng(8)
    X = np.column_stack([rng.integers(0, 5, 1200), rng.random((1200, 2)) < 0.4]).astype(float)
    y = (rng.random(1200) < np.array([0.6, 0.2, 0.45, 0.65, 0.35])[X[:, 0].astype(int)]).astype(int)
    kind = classifier_named(name).constrained(np.array([direction, 0, 0], np.int8))

    fitted = kind.fit(X, y, setting, seed=3)

    rows = np.array([[count, a, b] for a in (0, 1) for b in (0, 1) for count in range(5)], float)
    steps = np.diff(fitted.log_odds(rows).reshape(4, 5), axis=1) * direction
    assert steps.min() >= -1e-6
    assert steps.max() > 0.01


def test_a_declared_presence_is_judged_apart_from_the_numbers_of_a_code(data, tmp_path):
    """Trees follow it against the data, the test of the bundle names the column, and a code without numbers gives a warning."""
    code = INFORMATIVE[0]
    warnings, tests = built(data, tmp_path, {f"{code}|presence": "decreasing", code: "increasing"}, TREES)

    assert [(test.id, test.passed) for test in tests] == [(f"directions.monotone.{code}|all|presence", True)]
    assert any("features.monotone has no effect" in warning and code in warning for warning in warnings)
