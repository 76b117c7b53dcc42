"""Messages use the terms of YAML: expected, got, an example, the nearest name. They contain no Python class and no expression."""

from typing import Any

import pytest

from mlho.errors import SpecError
from tests.builders import make_spec


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (
            "features.aggregates",
            "presence",
            "expected a list; got the text 'presence'. Such as aggregates: [presence].",
        ),
        ("features.aggregates", [], "expected at least 1 entry; got 0."),
        ("features.aggregates", ["presense"], "Did you mean 'presence'?"),
        ("selection.ranking", "JMI", "Did you mean 'jmi'?"),
        ("SPEC", {}, "SPEC: unknown field."),
        ("cohort.Index", {}, "cohort.Index: unknown field. Did you mean 'index'?"),
        (
            "cohort.index",
            "index_date",
            "expected a mapping; got the text 'index_date'. Such as index: {column: index_date}.",
        ),
        ("cohort.index", {"column": 5}, "expected a text; got 5. Quote it: '5'."),
        ("cohort.lookBackDays", True, "lookBackDays: expected a whole number; got true."),
        ("cohort.lookBackDays", 0, "expected at least 1; got 0."),
        ("validation.testFraction", 30, "expected less than 1; got 30."),
        ("data.source", "dbmrt", "Did you mean 'dbmart'?"),
        ("data.format", {"encoding": "utf8"}, "Did you mean 'utf-8'?"),
        ("data.format", {"timeUnit": "seconds"}, "Did you mean 's'?"),
        ("data.format", {"dateFormats": ["%d.%m.%y"]}, "%y is a two-digit year"),
        ("data.format", {"dateFormats": ["%d/%m/%Y", "%m/%d/%Y"]}, "the same text as different days"),
        ("data.columns", {"labels": {"label": "X"}}, "cohort.outcome names the column of the outcome."),
        ("data.columns", {"events": {"patient": "X"}}, "Did you mean 'patient_id'?"),
        ("final.classifier", "xgbost", "expected one of best, glmboost, elasticnet, xgboost, ebm"),
        (
            "candidates",
            [{"classifier": "glmboost", "grid": {"nSteps": 50}}],
            "grid.nSteps: expected a list; got 50. Such as nSteps: [50, 100].",
        ),
        ("candidates", [{"classifier": "glmboost", "grid": {"nSteps": ["a"]}}], "expected a number"),
        ("data.tables.events", None, "spec.data.tables.events: is missing."),
    ],
)
def test_the_error_for_a_wrong_value_suggests_a_valid_one(path: str, value: Any, words: str):
    """A wrong value gives one line for its field, with a valid value or an example."""
    with pytest.raises(SpecError) as caught:
        make_spec({path: value})

    assert words in str(caught.value)
    assert str(caught.value).count("\n  - ") == 1
    for foreign in ("Tuple", "Input should", "pattern", "ValueError", "instance"):
        assert foreign not in str(caught.value)
