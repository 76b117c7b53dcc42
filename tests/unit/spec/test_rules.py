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
            "spec.cohort.rules.entry: washoutDays requires which: any",
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
        (
            RULES,
            {"cohort.followUpDays": 30},
            "followUpDays is less than rules.outcome.toDays, the end of the time at risk. Remove followUpDays",
        ),
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


BY_DATE = ("check_splits", "run_fold", "run_iteration", "judge_model", "write_report")


@pytest.mark.parametrize("kind", BY_DATE)
def test_a_split_by_date_takes_the_outcome_window_of_the_rules(kind):
    """Every step that splits by date leaves out samples whose time at risk reaches the test period, without ``followUpDays``."""
    spec = spec_of(RULES, **{"validation.split": "temporal"}).spec

    assert STEPS[kind].narrow(spec).cohort.outcome_days == 365


def test_the_temporal_check_takes_the_outcome_window_of_the_rules():
    """The evaluation on later samples beside a drawn split follows the same rule as a split by date."""
    spec = spec_of(RULES, **{"validation.temporalCheck": True}).spec

    assert STEPS["evaluate_later"].narrow(spec).cohort.outcome_days == 365


def test_a_longer_follow_up_than_the_time_at_risk_counts():
    """A number that the specification gives takes precedence, if it does not end before the time at risk."""
    spec = spec_of(RULES, **{"validation.split": "temporal", "cohort.followUpDays": 400}).spec

    assert STEPS["run_iteration"].narrow(spec).cohort.outcome_days == 400


def test_a_split_by_date_shares_the_encoding_of_a_drawn_one():
    """The outcome window is no part of the keys of steps that do not split."""
    drawn, by_date = (spec_of(RULES, **{"validation.split": split}).spec for split in ("random", "temporal"))

    for kind in ("apply_rules", "define_cohort", "encode_partition", "pack_features"):
        assert STEPS[kind].narrow(drawn) == STEPS[kind].narrow(by_date)
