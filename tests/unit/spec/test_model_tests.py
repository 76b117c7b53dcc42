"""The section ``tests`` is small and strict."""

import json

import pytest

from mlho.errors import SpecError
from mlho.spec.training import canonical_json
from tests.builders import make_spec

CASE = {"name": "a", "higher": {"codes": ["E11"], "demographics": {"age": 70}}, "lower": {"codes": []}}


def copied(tests):
    """Return it with no object twice, which YAML would write as an alias."""
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
    ids=lambda own: own[:24] if isinstance(own, str) else "",
)
def test_a_test_that_cannot_be_meant_is_refused(tests, words):
    """With the field."""
    with pytest.raises(SpecError) as caught:
        make_spec({"tests": copied(tests)})

    assert words in str(caught.value)


def test_a_specification_without_tests_has_no_trace_of_them():
    """Its run id stays; one with tests has another."""
    without, stated = make_spec(), make_spec({"tests": {"cases": [CASE]}})

    assert b'"tests"' not in canonical_json(without.spec.model_dump(mode="json", by_alias=True))
    assert without.digest != stated.digest


def test_a_number_and_its_text_are_the_same_demographic():
    """An API server may hold either."""
    as_text = {**CASE, "higher": {**CASE["higher"], "demographics": {"age": "70"}}}

    assert make_spec({"tests": {"cases": [CASE]}}).spec == make_spec({"tests": {"cases": [as_text]}}).spec
