"""``cohort.timeToEvent``: its default candidate, and the fields that it excludes, each with a remedy."""

import pytest
import yaml

from mlho.errors import SpecError
from mlho.spec.training import parse_spec
from mlho.steps import STEPS
from mlho.steps.base import Task
from tests.builders import make_document

TIMES = {"event": "event_date", "end": "end_date", "horizonDays": [365, 730]}
RULES = {"entry": {"codes": ["A"]}, "outcome": {"codes": ["B"], "toDays": 730}}
BY_RULES = {
    "data.tables.labels": None,
    "cohort.index": None,
    "cohort.rules": RULES,
    "cohort.timeToEvent": {"horizonDays": [365]},
}
ASKED = {"cohort.timeToEvent": TIMES, "candidates": None}


def parsed(changes):
    return parse_spec(yaml.safe_dump(make_document({**ASKED, **changes}))).spec


def test_cox_is_the_default_candidate():
    """glmboost is also fitted, for the consensus, on the event up to the first horizon."""
    spec = parsed({})

    assert [candidate.classifier for candidate in spec.candidates] == ["cox"]
    assert [candidate.classifier for candidate in spec.fitted] == ["cox", "glmboost"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"candidates": [{"classifier": "glmboost"}]},
            "requires the candidates cox, xgboostAft, discreteTime",
        ),
        (
            {"cohort.timeToEvent": None, "candidates": [{"classifier": "cox"}]},
            "is required by the candidates cox, xgboostAft, discreteTime",
        ),
        ({"evolution": {"windows": [[0, 90]]}}, "and evolution"),
        ({"cohort.timeToEvent": {"horizonDays": [365]}}, "timeToEvent requires event and end"),
        (
            {**BY_RULES, "cohort.timeToEvent": TIMES},
            "rules create the labels. Remove them; a competing event belongs in rules.competing",
        ),
        (
            {
                **BY_RULES,
                "cohort.rules": {**RULES, "competing": {"codes": ["DEATH"]}},
                "cohort.timeToEvent": None,
            },
            "rules.competing requires timeToEvent",
        ),
        (
            {**BY_RULES, "cohort.timeToEvent": {"horizonDays": [365, 731]}},
            "Set rules.outcome.toDays to 731 or more",
        ),
        (
            {**BY_RULES, "cohort.rules": {**RULES, "notObservable": "negative"}},
            "timeToEvent and rules.notObservable exclude",
        ),
        ({"validation.temporalCheck": True}, "excludes validation.temporalCheck"),
        ({"final.features": "consensus", "validation.folds": 3}, "final.features: consensus"),
        ({"cohort.index": "none"}, "timeToEvent and index: none exclude"),
        ({"cohort.shareEncoding": True}, "timeToEvent and shareEncoding exclude"),
        ({"cohort.outcomes": ["a", "b"]}, "timeToEvent and outcomes exclude"),
        ({"cohort.conflictingLabels": "any"}, "timeToEvent and conflictingLabels exclude"),
        ({"cohort.followUpDays": 365}, "timeToEvent and followUpDays exclude"),
        ({"cohort.timeToEvent": {**TIMES, "horizonDays": [730, 365]}}, "horizonDays must be ascending"),
        ({"cohort.timeToEvent": {**TIMES, "end": "event_date"}}, "must be different columns"),
        ({"candidates": [{"classifier": "cox", "grid": {"nSteps": [5]}}]}, "unknown parameter 'nSteps'"),
    ],
)
def test_fields_that_it_excludes_are_refused(changes, words):
    """Fields that ``timeToEvent`` excludes are refused before any table is read."""
    with pytest.raises(SpecError) as caught:
        parsed(changes)

    assert words in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [{}, BY_RULES, {**BY_RULES, "validation.split": "temporal"}, {"validation.split": "temporal"}],
    ids=["labels", "rules", "rules by date", "by date"],
)
def test_every_step_reads_its_part_of_the_specification_back(changes):
    """The part of the specification that a step reads is a valid specification, also on a worker."""
    spec = parsed(changes)

    for kind, step in STEPS.items():
        narrowed = step.narrow(spec)
        task = Task(kind=kind, spec=narrowed)
        assert Task.model_validate_json(task.document()).spec == narrowed
