"""The section ``tests`` has few fields and strict checks."""

import json

import pytest

from mlho.errors import SpecError
from mlho.spec.training import canonical_json
from tests.builders import make_spec

CASE = {"name": "a", "higher": {"codes": ["E11"], "demographics": {"age": 70}}, "lower": {"codes": []}}


def copied(tests):
    """Return a deep copy, because YAML would write a repeated object as an alias."""
    return json.loads(json.dumps(tests))


@pytest.mark.parametrize(
    ("tests", "words"),
    [
        ({"cases": [{**CASE, "lower": CASE["higher"]}]}, "higher and lower are the same patient"),
        ({"cases": [CASE, CASE]}, "cases must not repeat a name"),
        ({"cases": [{**CASE, "equal": {}}]}, "tests.cases.0.equal"),
        (
            {"cases": [{**CASE, "lower": {"demographics": {"ward": 3}}}]},
            "demographics that the model does not use: ward",
        ),
        (
            {"cases": [{**CASE, "lower": {"demographics": {"sex": True}}}]},
            "tests.cases.0.lower.demographics.sex",
        ),
        ({"floors": {"calibrationSlope": [1.25, 0.8]}}, "the smallest and the largest slope"),
        ({"floors": {"auroc": 70}}, "tests.floors.auroc"),
        ({"floors": {"accuracy": 0.7}}, "tests.floors.accuracy"),
        ({"budgets": {"reasons": 0}}, "tests.budgets.reasons"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_an_invalid_test_is_refused(tests, words):
    """The error for an invalid test names the field."""
    with pytest.raises(SpecError) as caught:
        make_spec({"tests": copied(tests)})

    assert words in str(caught.value)


def test_a_specification_without_tests_has_no_trace_of_them():
    """Without tests the run id does not change, and with tests it does."""
    without, stated = make_spec(), make_spec({"tests": {"cases": [CASE]}})

    assert b'"tests"' not in canonical_json(without.spec.model_dump(mode="json", by_alias=True))
    assert without.digest != stated.digest


def test_a_number_and_its_text_are_the_same_demographic():
    """A number and its text are the same demographic, because a Kubernetes API server may return either form."""
    as_text = {**CASE, "higher": {**CASE["higher"], "demographics": {"age": "70"}}}

    assert make_spec({"tests": {"cases": [CASE]}}).spec == make_spec({"tests": {"cases": [as_text]}}).spec
