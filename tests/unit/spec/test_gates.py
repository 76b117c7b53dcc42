"""Gates in a specification: invalid gates are refused, and a specification without gates keeps its run id."""

import re
from typing import get_args

import pytest

from mlho.errors import SpecError
from mlho.spec.gates import AT_THRESHOLD, METRIC_KEYS, OF_GROUPS, Metric
from mlho.spec.training import normalised
from tests.builders import make_spec

LOWEST = {"metric": "auroc", "lower95": {"min": 0.75}}


def test_a_specification_without_gates_has_no_trace_of_them():
    """Without gates, the run id and the task keys are those of earlier versions."""
    assert "gates" not in normalised(make_spec().spec)
    assert normalised(make_spec({"gates": [LOWEST]}).spec)["gates"] == [LOWEST]


def test_every_metric_has_a_key_and_its_kind():
    """Specification and result use the same list of metrics."""
    assert set(get_args(Metric)) == set(METRIC_KEYS)
    assert set(AT_THRESHOLD) | set(OF_GROUPS) <= set(METRIC_KEYS)


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        ({"metric": "auroc"}, "requires a bound: min, max, between, lower95 or upper95"),
        ({"metric": "auroc", "lower95": {}}, "requires min or max"),
        ({"metric": "auroc", "between": [0.9, 0.8]}, "lowest and the highest"),
        ({"metric": "auroc", "between": [0.9]}, "gates"),
        ({"metric": "ppv", "min": 0.2}, "threshold is required for"),
        ({"metric": "auroc", "threshold": "youden", "min": 0.2}, "threshold is required for"),
        ({"metric": "observedExpected", "max": 2}, "observedExpected requires a group"),
        (
            {"metric": "logLoss", "group": {"sex": "female"}, "max": 0.2},
            "group requires one of the metrics auroc",
        ),
        ({"metric": "auroc", "group": {"sex": "female", "age": "65-79"}, "min": 0.7}, "group"),
        (
            {"metric": "auroc", "group": {"ward": "3"}, "min": 0.7},
            "features.demographics does not have: ward",
        ),
        ({"metric": "aurc", "min": 0.7}, "auroc"),
        ({"metric": "auroc", "min": float("nan")}, "not a usable number"),
        ({"metric": "auroc", "champion": "production"}, "with a champion minDifference"),
        ({"metric": "auroc", "champion": "production", "min": 0.7}, "min cannot be combined with a champion"),
        ({"metric": "auroc", "minDifference": -0.01}, "minDifference requires a champion"),
        ({"metric": "auroc", "champion": "Prod", "minDifference": -0.01}, "champion"),
        (
            {"metric": "calibrationSlope", "champion": "production", "minDifference": 0},
            "champion requires one of the metrics auroc",
        ),
        ({"metric": "auroc", "versus": "difference", "min": 0}, "versus requires a group"),
        (
            {"metric": "expectedCalibrationError", "group": {"sex": "f"}, "versus": "ratio", "max": 1},
            "is not compared between groups",
        ),
        ({"metric": "equalisedOdds", "threshold": "youden", "max": 0.1}, "groupsBy is required for"),
        ({"metric": "auroc", "groupsBy": "sex", "max": 0.1}, "groupsBy is required for"),
    ],
    ids=[
        "no bound",
        "empty interval bound",
        "reversed",
        "half",
        "no threshold",
        "needless threshold",
        "no group",
        "not of groups",
        "two groups",
        "unknown demographic",
        "misspelt",
        "nan",
        "champion without a bound",
        "champion and min",
        "difference without a champion",
        "malformed champion",
        "not compared",
        "versus without a group",
        "not against a reference",
        "gap without a column",
        "column without a gap",
    ],
)
def test_an_invalid_gate_is_refused(gate, words):
    """The error for an invalid gate names the field and the expected value."""
    with pytest.raises(SpecError, match=re.escape(words)):
        make_spec({"gates": [gate]})


def test_an_empty_list_of_gates_is_refused():
    """An empty list of gates is refused, because it would promise a check without checking anything."""
    with pytest.raises(SpecError, match="gates"):
        make_spec({"gates": []})
