"""``features.monotone`` in a run: obeyed by trees, checked by a required test of the bundle, and never dropped in silence."""

import pytest

from mlho.model.bundle import load_bundle
from mlho.model.files import write_folder
from mlho.report.result import Result
from tests.builders import CREATININE, make_tables, run_inline, write_tables

TREES = {"candidates": [{"classifier": "xgboost", "grid": {"maxDepth": [2], "nRounds": [20]}}]}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tables(tmp_path_factory.mktemp("data"), make_tables(300, seed=4))


def built(data, place, monotone, changes):
    """The warnings of a run, and the directions that the tests of its bundle have judged."""
    asked = {"features.aggregates": ["presence", "last"], "features.monotone": monotone, **changes}
    home = run_inline(data, place / "store", asked)
    write_folder(place / "bundle", home.bundle())
    bundle = load_bundle(place / "bundle")
    tests = [own for own in bundle.run_tests(measured=False) if own.id.startswith("directions.monotone.")]
    result = Result.model_validate_json(home.run.store.get(f"runs/{home.finished.run_id}/result.json"))
    return result.warnings, tests


def test_trees_obey_directions_that_contradict_the_data(data, tmp_path):
    """Creatinine raises the planted risk; declared as decreasing, the model has no rise."""
    warnings, tests = built(data, tmp_path, {CREATININE: "decreasing", "age": "increasing"}, TREES)

    assert {own.id for own in tests} == {
        f"directions.monotone.{CREATININE}|all|last",
        "directions.monotone.age",
    }
    assert all(own.passed and own.level == "required" for own in tests)
    assert not any("features.monotone" in own for own in warnings)


def test_a_linear_model_against_its_declaration_fails_a_required_test_that_names_the_column(data, tmp_path):
    """And a name without a column of numbers is a warning."""
    warnings, tests = built(data, tmp_path, {CREATININE: "decreasing", "sex": "increasing"}, {})

    (own,) = tests
    assert (own.passed, own.level) == (False, "required")
    assert CREATININE in own.defect
    assert any("features.monotone has no effect" in sentence and "sex" in sentence for sentence in warnings)
