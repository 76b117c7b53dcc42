"""The section ``cohort.rules``: valid rules are read, and invalid ones are refused with a message."""

from typing import Any

import pytest
import yaml

from mlho.errors import SpecError
from mlho.spec.rules import BY_RULES
from mlho.spec.training import RunSpec, TrainingSpec, parse_spec
from mlho.steps import STEPS
from tests.builders import make_document

RULES: dict[str, Any] = {
    "entry": {"codes": ["RX:*"]},
    "criteria": [{"name": "adults", "age": {"atLeast": 18}}],
    "outcome": {"codes": ["GI:*"], "toDays": 365},
}


def spec_of(rules: dict[str, Any], **changes: Any) -> RunSpec:
    all_changes = {"data.tables.labels": None, "cohort.index": None, "cohort.rules": rules, **changes}
    return parse_spec(yaml.safe_dump(make_document(all_changes)))


def with_count(**count: Any) -> dict[str, Any]:
    return {**RULES, "criteria": [{"name": "counted", "count": {"codes": ["A"], **count}}]}


def test_rules_stand_in_place_of_labels_and_index():
    """Defaults are filled in, and the specification is equal after a round trip through JSON."""
    spec = spec_of(RULES).spec

    assert (spec.data.tables.labels, spec.cohort.index.column) == (None, BY_RULES)
    assert spec.cohort.has_index
    assert TrainingSpec.model_validate_json(spec.model_dump_json(by_alias=True)) == spec


@pytest.mark.parametrize(
    ("rules", "changes", "message"),
    [
        (RULES, {"data.tables.labels": "l.csv"}, "data.tables.labels and cohort.rules exclude each other"),
        (None, {"cohort.index": "none"}, "data.tables.labels is missing"),
        (RULES, {"cohort.index": {"column": "t"}}, "rules and index exclude each other"),
        (RULES, {"cohort.outcomes": ["a", "b"]}, "rules and outcomes exclude each other"),
        (
            RULES,
            {"data.tables.demographics": None, "features.demographics": None},
            "cohort.rules with age, sex or a column of the observation requires data.tables.demographics",
        ),
        ({**RULES, "entry": {"codes": []}}, {}, "spec.cohort.rules.entry.codes: expected at least 1 entry"),
        (
            {**RULES, "entry": {"codes": ["A"], "washoutDays": 3}},
            {},
            "spec.cohort.rules.entry: washoutDays is for which: any",
        ),
        ({**RULES, "outcome": {"codes": ["A"]}}, {}, "spec.cohort.rules.outcome.toDays: is missing"),
        (
            {**RULES, "outcome": {"codes": ["A"], "fromDays": 9, "toDays": 9}},
            {},
            "fromDays must be less than toDays",
        ),
        (
            {**RULES, "outcome": {"codes": ["A"], "toDays": 9, "low": 2, "high": 1}},
            {},
            "low must not be more",
        ),
        (with_count(), {}, "give atLeast, atMost or both"),
        (with_count(atLeast=2, atMost=1), {}, "atLeast must not be more than atMost"),
        (with_count(atLeast=1, fromDays=0), {}, "fromDays must be less than toDays"),
        (with_count(atLeast=1, toDays=1), {}, "a criterion's window ends after the index date"),
        ({**RULES, "criteria": [{"name": "none"}]}, {}, "give exactly one of count, age and sex"),
        (
            {**RULES, "criteria": [{"name": "a", "sex": [sex]} for sex in "FM"]},
            {},
            "criteria must have distinct names",
        ),
        (
            {**RULES, "criteria": [{"name": "first entry", "sex": ["F"]}]},
            {},
            "a criterion cannot be named 'first entry'",
        ),
        (
            {**RULES, "observation": {"endColumn": "end", "endDate": "2020-01-01"}},
            {},
            "endColumn and endDate exclude each other",
        ),
        ({**RULES, "index": "first"}, {}, "spec.cohort.rules.index: unknown field"),
    ],
)
def test_rules_that_do_not_fit_are_refused(rules, changes, message):
    """The message for invalid rules names the field and the remedy."""
    with pytest.raises(SpecError) as error:
        spec_of(rules, **changes)

    assert message in str(error.value)


@pytest.mark.parametrize("kind", STEPS)
def test_a_step_reads_rules_or_nothing_of_them(kind):
    """Steps after the labels have keys without the rules, and each narrowed specification is valid."""
    spec = spec_of(RULES).spec
    narrowed = STEPS[kind].narrow(spec)
    if narrowed is None:
        return

    assert TrainingSpec.model_validate_json(narrowed.model_dump_json(by_alias=True)) == narrowed
    assert (narrowed.cohort.rules is not None) == STEPS[kind].reads_rules
