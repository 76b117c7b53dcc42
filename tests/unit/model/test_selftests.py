"""The tests in a bundle detect a faulty model."""

import json
import sys
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mlho.errors import BundleError
from mlho.method.evaluation.thresholds import Threshold
from mlho.model.bundle import load_bundle, write_bundle
from mlho.model.evidence import Association, Evidence, GroupFigure, associations_of
from mlho.model.golden import ColumnStatistics
from mlho.model.parts import Scoring, TrainingSamples
from mlho.model.testing.records import MEASURED, TESTS_FILE, parse_tests, written_tests
from mlho.model.testing.rows import direction
from mlho.model.testing.runner import CHECKS, run_tests
from mlho.model.testing.subject import Subject
from mlho.scoring.skew import find_skew
from mlho.spec.features import After
from mlho.spec.model_tests import Tests
from tests.unit.model.conftest import make_parts, training_design

CASE = {
    "name": "hypertension raises the risk",
    "higher": {"codes": ["I10"], "values": {"A1C": 6.5}},
    "lower": {"values": {"A1C": 6.5}},
}


@dataclass(frozen=True)
class Misbehaving:
    """A classifier that delegates to another one, except for the replaced methods."""

    true: Any
    replaced: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        return self.replaced[name] if name in self.replaced else getattr(self.true, name)


def centred(true, X):
    """Return scores that depend on the batch."""
    scores = true.predict_proba(X)
    return scores / (2 * scores.max())


def swapped(true, X):
    """Return log-odds with the opposite sign of the coefficients."""
    return -true.log_odds(X)


def beyond(true, X):
    """Return scores of exactly 1."""
    return np.ones(np.shape(X)[0])


def broken(true, X):
    """Raise an error."""
    raise RuntimeError("a message that might hold a patient's value")


def failed(results):
    return {result.id for result in results if not result.passed}


def test_the_tests_of_a_bundle_need_no_pandas(bundle_folder, monkeypatch):
    """A worker that tests a model need not import pandas, which takes longer than the tests."""
    monkeypatch.setitem(sys.modules, "pandas", None)

    assert not failed(run_tests(load_bundle(bundle_folder), measured=False))


@pytest.mark.parametrize(
    ("method", "behaviour", "must_fail"),
    [
        ("predict_proba", centred, {"scores.golden", "rows.single"}),
        ("log_odds", swapped, {"directions.coefficients", "reasons.sum"}),
        ("predict_proba", beyond, {"scores.golden", "scores.columns"}),
        ("predict_proba", broken, {"scores.golden", "rows.single", "missing.features", "events.ids"}),
    ],
)
def test_each_fault_fails_its_tests(method, behaviour, must_fail, bundle_folder):
    """Each fault fails the tests for it, and the other tests still run."""
    bundle = load_bundle(bundle_folder)
    true = bundle.classifier
    replaced = {method: lambda X: behaviour(true, X)}

    results = run_tests(replace(bundle, classifier=Misbehaving(true, replaced)))

    assert must_fail <= failed(results)
    assert "thresholds.stored" not in failed(results)
    assert not any("a message" in result.defect + result.got for result in results)


def test_the_results_are_the_same_every_time(bundle_folder):
    """Results contain no durations and no paths, so a result that includes them has a constant digest."""
    first, second = (load_bundle(bundle_folder).run_tests(measured=False) for _ in range(2))

    assert [result.plain() for result in first] == [result.plain() for result in second]
    assert not {result.kind for result in first} & MEASURED


@pytest.mark.parametrize("kind", ["glmboost", "xgboost", "ebm"])
def test_a_bundle_carries_at_least_25_tests_and_passes_them(kind, tmp_path):
    """Each test has a unique id, a check, and a sentence."""
    write_bundle(tmp_path / "bundle", make_parts(kind))
    bundle = load_bundle(tmp_path / "bundle")

    assert bundle.tests is not None
    assert len(bundle.tests) >= 25
    assert {test.kind for test in bundle.tests} <= set(CHECKS)
    assert all(test.meaning.endswith(".") for test in bundle.tests)
    assert failed(bundle.run_tests()) == set()


@pytest.mark.parametrize("years", [(2100, 2250), (1990, 2015), (2020, 2020), (1, 9999)])
def test_any_plausible_years_have_a_date_for_the_tests(years, tmp_path):
    """The synthetic patients have index date and events in the plausible years of training, such as those of shifted dates."""
    write_bundle(tmp_path / "bundle", make_parts(scoring=Scoring(index_kind="column", plausible_years=years)))
    bundle = load_bundle(tmp_path / "bundle")

    assert failed(bundle.run_tests(measured=False)) == set()
    [encoding] = [test for test in bundle.tests if test.kind == "encoding"]
    assert any(encoding.expected)
    (tmp_path / "skew").mkdir()
    assert find_skew(bundle, tmp_path / "skew").is_equal


@pytest.mark.parametrize(
    ("years", "to_days", "expected"),
    [
        ((1900, 2299), None, "2020-01-01"),
        ((1900, 2299), 400, "2020-01-01"),
        ((2019, 2020), 400, "2019-10-28"),
        ((1990, 2015), 400, "2014-10-27"),
        ((2100, 2250), 400, "2102-01-01"),
    ],
)
def test_the_window_after_the_index_date_is_in_the_plausible_years(years, to_days, expected):
    """Features of a window after the index date see events there, which would be implausible after the last year."""
    after = None if to_days is None else After(to_days=to_days)
    scoring = Scoring(index_kind="column", plausible_years=years, after=after)
    subject = Subject(SimpleNamespace(document=SimpleNamespace(scoring=scoring)))

    assert subject.index_date.isoformat() == expected
    assert years[0] <= subject.last_day.year <= years[1]


def test_a_bundle_that_is_too_large_misses_its_budget(bundle_folder):
    """A bundle above the default of 20 MB misses its budget, and the result has its size."""
    results = run_tests(replace(load_bundle(bundle_folder), n_bytes=21 * 1024**2))

    [result] = [result for result in results if not result.passed]
    assert (result.id, result.got, result.level) == ("size.bundle", "22020096 bytes", "expected")


@pytest.mark.parametrize(("is_right", "expected"), [(True, set()), (False, {f"cases.{CASE['name']}"})])
def test_a_clinical_case_is_a_required_test(is_right, expected, tmp_path):
    """A model that contradicts a clinical case fails a required test that names the case."""
    sides = {"higher": CASE["higher"], "lower": CASE["lower"]}
    patients = sides if is_right else {"higher": sides["lower"], "lower": sides["higher"]}
    stated = Tests.model_validate({"cases": [{"name": CASE["name"], **patients}]})
    write_bundle(tmp_path / "bundle", make_parts(requirements=stated))

    results = load_bundle(tmp_path / "bundle").run_tests()

    assert failed(results) == expected
    [case] = [result for result in results if result.kind == "case"]
    assert case.level == "required"
    assert is_right or CASE["name"] in case.defect


def test_a_case_with_a_code_that_the_model_does_not_use_names_the_code(tmp_path):
    """A clinical case fails if the model does not use its code, because both patients have the same score; the defect names the code."""
    stated = Tests.model_validate({"cases": [{"name": "x", "higher": {"codes": ["Z99"]}, "lower": {}}]})
    write_bundle(tmp_path / "bundle", make_parts(requirements=stated))

    [result] = [test for test in load_bundle(tmp_path / "bundle").run_tests() if not test.passed]
    assert "The model does not use Z99." in result.defect


@pytest.mark.parametrize(
    ("rule", "reason", "rate", "passes"),
    [
        ("fixed-alert-rate:0.1", None, 0.2, True),
        ("fixed-alert-rate:0.1", None, 0.34, False),
        ("fixed-alert-rate:0.1", "ties at the highest prediction", 0.34, True),
        ("fixed-alert-rate:0.1", "ties at the highest prediction", 0.95, False),
        ("fixed-sensitivity:0.8", None, 1.0, True),
        ("fixed-sensitivity:0.8", None, 0.0, False),
        ("youden", None, 0.95, False),
    ],
)
def test_alerts_that_a_sound_model_with_few_scores_needs_are_accepted(tmp_path, rule, reason, rate, passes):
    """By default, alerts are not bounded if a sensitivity is specified, and less strictly if ties exceed the rate."""
    parts = make_parts(
        thresholds=(Threshold(rule, 0.4, reason),),
        training=TrainingSamples(without_events=0.1, alert_rates={rule: rate}),
    )
    write_bundle(tmp_path / "bundle", parts)

    results = load_bundle(tmp_path / "bundle").run_tests(measured=False)

    assert (f"alerts.{rule}" not in failed(results)) == passes


def test_floors_and_budgets_of_the_specification_replace_the_defaults(tmp_path):
    """An AUROC of 0.81 is below 0.9, 30 alerts of 100 are above 25, and a group with 0.6 is below 0.7."""
    stated = Tests.model_validate(
        {"floors": {"auroc": 0.9, "groupAuroc": 0.7}, "budgets": {"alertsPer100": 25}}
    )
    parts = make_parts(
        requirements=stated,
        training=TrainingSamples(without_events=0.1, alert_rates={"youden": 0.3}),
        evidence=Evidence(groups=(GroupFigure("sex", "F", 0.6, 0.72), GroupFigure("sex", "M", 0.8, 0.9))),
    )
    write_bundle(tmp_path / "bundle", parts)

    results = load_bundle(tmp_path / "bundle").run_tests()

    assert failed(results) == {"floor.auroc", "groups.sex: F", "alerts.youden"}
    [floor] = [test for test in results if test.id == "floor.auroc"]
    assert floor.defect.startswith("It ranks patients by risk less well than tests.floors.auroc requires.")
    assert {test.level for test in results if not test.passed} == {"required"}


def test_a_group_without_an_interval_is_held_to_a_stated_floor_only(tmp_path):
    """By default the upper bound of the interval decides; by the mean alone, chance would reject sound models."""
    evidence = Evidence(groups=(GroupFigure("sex", "F", 0.6, None),))
    stated = Tests.model_validate({"floors": {"groupAuroc": 0.7}})
    write_bundle(tmp_path / "default", make_parts(evidence=evidence))
    write_bundle(tmp_path / "stated", make_parts(evidence=evidence, requirements=stated))

    by_default, by_floor = (load_bundle(tmp_path / name).run_tests() for name in ("default", "stated"))

    assert not any(test.id.startswith("groups.") for test in by_default)
    assert "groups.sex: F" in failed(by_floor)


def test_an_association_against_the_model_fails_its_direction(tmp_path):
    """A strong association that contradicts the model fails its direction, and the defect names the column."""
    evidence = Evidence(associations=(Association("I10|365|presence", "lower", None, 1.0),))
    write_bundle(tmp_path / "bundle", make_parts(evidence=evidence))

    [result] = [test for test in load_bundle(tmp_path / "bundle").run_tests() if not test.passed]
    assert (result.id, result.kind) == ("directions.strong-01", "direction")
    assert "I10|365|presence raises the score" in result.defect


def test_an_interaction_against_a_direction_is_not_called_a_flipped_coefficient():
    """On average the column raises the score, but in a quarter of the rows another column inverts its effect."""
    crossed = np.array([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    classifier = SimpleNamespace(
        empty_row=np.zeros(2), log_odds=lambda rows: rows[:, 0] * (1 - 2 * rows[:, 1])
    )
    subject = SimpleNamespace(
        bundle=SimpleNamespace(columns=("E11", "I10"), classifier=classifier), crossed=crossed
    )
    inputs = {"column": "E11", "from": None, "to": 1.0}

    finding = direction(subject, SimpleNamespace(inputs=inputs, expected="higher", tolerance=0.05))

    assert not finding.passed
    assert "against it in 25 % of the rows" in finding.got
    assert "features.monotone" in finding.defect


def test_strong_associations_are_found_unless_another_column_may_explain_them():
    """A strong association is found, but not if a copy of the column makes both ambiguous."""
    from scipy.sparse import csc_array, hstack

    X, _ = training_design()
    X = csc_array(np.tile(X.toarray(), (8, 1)))
    y = (X.toarray()[:, 0] > 0).astype(np.int8)
    y[:200] = 1 - y[:200]
    statistics = [ColumnStatistics(0.4, (1.0,))] * X.shape[1]
    names = [f"c{number}" for number in range(X.shape[1])]
    options = {"is_value": None, "n_patients": 1920, "min_cell": 11}

    found = associations_of(X, y, names, statistics, is_number=np.zeros(5, np.bool_), **options)
    copied = associations_of(
        csc_array(hstack([X, X[:, [0]]])),
        y,
        [*names, "copy"],
        [*statistics, statistics[0]],
        is_number=np.zeros(6, np.bool_),
        **options,
    )

    assert [(association.column, association.direction) for association in found] == [("c0", "higher")]
    assert copied == ()


def test_the_tests_survive_their_file_and_nothing_else_is_accepted(bundle_folder):
    """Tests with another schema, a repeated id or an unknown field are refused."""
    tests = load_bundle(bundle_folder).tests
    content = written_tests(tests)
    plain = json.loads(content)

    assert parse_tests(content) == tests
    for wrong in (
        {**plain, "schema": "mlho.io/bundle-tests/v2"},
        {**plain, "tests": [plain["tests"][0]] * 2},
        {**plain, "tests": [{**plain["tests"][0], "more": 1}]},
        [],
    ):
        with pytest.raises(BundleError, match=f"{TESTS_FILE}: not the tests of a bundle"):
            parse_tests(json.dumps(wrong).encode())


def test_a_test_of_an_unknown_kind_fails_with_the_remedy(bundle_folder):
    """A test of an unknown kind fails, so a bundle of a later version does not pass by default."""
    bundle = load_bundle(bundle_folder)
    unknown = bundle.tests[0].model_copy(update={"kind": "of-tomorrow"})

    [result] = run_tests(replace(bundle, tests=(unknown,)))

    assert not result.passed
    assert "Use the one that wrote the bundle" in result.defect


def test_a_bundle_without_tests_gets_those_that_need_no_training_data(bundle_folder):
    """A bundle of an earlier version, without tests, gets those that need no training data."""
    results = run_tests(replace(load_bundle(bundle_folder), tests=None))

    assert len(results) >= 25
    assert failed(results) == set()


def test_a_bound_that_decides_is_named_beside_its_figure(tmp_path):
    """The report states a mean of 0.60 for the group: the figure of the test is the upper bound, and says so."""
    evidence = Evidence(groups=(GroupFigure("sex", "F", 0.6, 0.72),))
    write_bundle(tmp_path / "bundle", make_parts(evidence=evidence))

    results = {test.id: test.got for test in load_bundle(tmp_path / "bundle").run_tests(measured=False)}

    assert results["groups.sex: F"] == "0.72 as the upper bound of its interval"
    assert results["floor.auroc"].endswith(" as the lower bound of its interval")
