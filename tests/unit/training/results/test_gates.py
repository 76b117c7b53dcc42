"""Gates: each bound is inclusive, and a missing figure never passes."""

import pytest

from mlho.report.bias.audit import BiasAudit
from mlho.report.result import BundleTest, Spread
from mlho.spec.gates import Gate
from mlho.training.results.gates import gate_warning, judge_gates

HEADLINE = {
    "auroc": Spread(mean=0.8, low=0.75, high=0.85, n=5),
    "calibration_slope": Spread(mean=0.9, n=5),
    "brier": Spread(mean=None),
    "fixed-alert-rate:0.1/ppv": Spread(mean=0.4, low=0.3, high=0.5, n=5),
}
SEX = {"by": "sex", "level": "male", "reference": "female"}
BIAS = BiasAudit.model_validate(
    {
        "unit": "year",
        "rules": ["youden"],
        "groups": [
            {"by": "all", "level": "all patients", "n_samples": 1400, "n_positive": 140},
            {
                "by": "sex",
                "level": "female",
                "n_samples": 900,
                "n_positive": 90,
                "figures": {"auroc": {"value": 0.7, "low": 0.6, "high": 0.8}, "youden/ppv": {"value": 0.3}},
            },
            {"by": "sex", "level": "other", "n_samples": None, "n_positive": None, "reason": "too few"},
            {
                "by": "age",
                "level": "65–79",
                "n_samples": 500,
                "n_positive": 50,
                "figures": {"auroc": {"value": 0.66}},
            },
            {"by": "sex", "level": "male", "n_samples": 500, "n_positive": 50},
        ],
        "comparisons": [
            SEX
            | {
                "metric": "auroc",
                "difference": {"value": -0.05, "low": -0.1, "high": 0.0},
                "ratio": {"value": 0.93},
                "p_value": 0.05,
                "adjusted": 0.2,
            }
        ],
        "errors": [],
        "gaps": [
            {
                "by": "sex",
                "metric": "youden/equalised_odds",
                "value": {"value": 0.1, "high": 0.15},
                "by_chance": 0.02,
            }
        ],
        "trends": [
            {
                "by": "sex",
                "level": "male",
                "metric": "auroc",
                "n_periods": 4,
                "per_year": {"value": -0.02, "low": -0.04, "high": 0.0},
                "p_value": 0.05,
                "adjusted": 0.1,
            }
        ],
    }
)
TESTS = [BundleTest(name="golden rows", passed=True, detail="")]


def judged(**gate):
    """Return the result of one gate."""
    return judge_gates([Gate.model_validate(gate)], HEADLINE, BIAS, TESTS)[1]


@pytest.mark.parametrize(
    ("gate", "passes"),
    [
        ({"metric": "auroc", "min": 0.8}, True),
        ({"metric": "auroc", "min": 0.8000001}, False),
        ({"metric": "auroc", "max": 0.8}, True),
        ({"metric": "auroc", "max": 0.7999999}, False),
        ({"metric": "auroc", "between": [0.8, 0.9]}, True),
        ({"metric": "auroc", "between": [0.5, 0.7]}, False),
        ({"metric": "auroc", "lower95": {"min": 0.75}}, True),
        ({"metric": "auroc", "lower95": {"min": 0.76}}, False),
        ({"metric": "auroc", "upper95": {"max": 0.85}}, True),
        ({"metric": "auroc", "upper95": {"max": 0.84}}, False),
        ({"metric": "auroc", "min": 0.5, "lower95": {"min": 0.9}}, False),
        ({"metric": "calibrationSlope", "between": [0.8, 1.25]}, True),
        ({"metric": "ppv", "threshold": "fixed-alert-rate", "lower95": {"min": 0.3}}, True),
        ({"metric": "auroc", "group": {"sex": "female"}, "min": 0.7}, True),
        ({"metric": "auroc", "group": {"sex": "female"}, "min": 0.71}, False),
        ({"metric": "ppv", "threshold": "youden", "group": {"sex": "female"}, "min": 0.3}, True),
        ({"metric": "auroc", "group": {"age": "65-79"}, "min": 0.6}, True),
        ({"metric": "auroc", "group": {"sex": "male"}, "versus": "difference", "min": -0.05}, True),
        (
            {"metric": "auroc", "group": {"sex": "male"}, "versus": "difference", "lower95": {"min": -0.05}},
            False,
        ),
        ({"metric": "auroc", "group": {"sex": "male"}, "versus": "ratio", "min": 0.95}, False),
        ({"metric": "auroc", "group": {"sex": "male"}, "versus": "perYear", "min": -0.02}, True),
        ({"metric": "auroc", "group": {"sex": "female"}, "versus": "difference", "min": -1}, False),
        ({"metric": "equalisedOdds", "threshold": "youden", "groupsBy": "sex", "max": 0.1}, True),
        (
            {"metric": "equalisedOdds", "threshold": "youden", "groupsBy": "sex", "upper95": {"max": 0.1}},
            False,
        ),
    ],
)
def test_bounds_are_inclusive_and_all_must_hold(gate, passes):
    """Bounds apply to the mean and to each end of the interval, for all patients and for a group."""
    assert judged(**gate).passed is passes


@pytest.mark.parametrize(
    ("gate", "reason"),
    [
        ({"metric": "brier", "max": 1}, "no test set has a value"),
        ({"metric": "calibrationIci", "max": 1}, "no test set has a value"),
        ({"metric": "ppv", "threshold": "youden", "min": 0}, "no test set has a value"),
        ({"metric": "calibrationSlope", "lower95": {"min": 0}}, "there is no interval"),
        ({"metric": "auroc", "group": {"sex": "other"}, "min": 0}, "too few"),
        ({"metric": "auroc", "group": {"sex": "F"}, "min": 0}, "no group F of sex; it has: female, other"),
    ],
)
def test_a_figure_without_a_value_does_not_pass(gate, reason):
    """A gate on a missing figure fails, and the detail has the reason: a small group, an unknown level, or a missing interval."""
    found = judged(**gate)

    assert not found.passed
    assert reason in found.detail


def test_the_self_tests_are_a_gate_too():
    """The tests of the bundle are the first gate, and one failed test fails it."""
    failed = BundleTest(name="size", passed=False, detail="")
    first = judge_gates([Gate(metric="auroc", min=0.5)], HEADLINE, BIAS, [*TESTS, failed])[0]

    assert (first.passed, first.detail) == (False, "1 of 2 passed")


def test_a_gate_states_its_condition_and_the_figure():
    """The text of a gate can be read without the specification."""
    found = judged(metric="auroc", group={"sex": "female"}, lower95={"min": 0.65})

    assert found.words == "AUROC of sex female, lower end of the 95 % interval, at least 0.65"
    assert (found.value, found.low, found.detail) == (0.7, 0.6, "0.700 (0.600 to 0.800)")
    assert judged(metric="auroc", between=[0.5, 0.9]).words == "AUROC between 0.5 and 0.9"
    assert gate_warning([found, judged(metric="auroc", min=0.5)]) == [
        "1 of 2 gates failed, which blocks the promotion of this model: AUROC of sex female, lower end of the 95 % interval, "
        "at least 0.65: 0.700 (0.600 to 0.800)."
    ]


def test_a_gate_against_a_champion_stays_open():
    """A gate against a champion has no result after training, because the model in use is only known at the promotion."""
    found = judged(metric="auroc", champion="production", minDifference=-0.01)

    assert (found.passed, found.words) == (None, "AUROC minus that of the model in production at least -0.01")
    assert gate_warning([found]) == []


def test_without_gates_there_is_no_result_of_them():
    """Without gates, result.json has no field for them."""
    assert judge_gates(None, HEADLINE, BIAS, TESTS) is None
    assert gate_warning(None) == []
