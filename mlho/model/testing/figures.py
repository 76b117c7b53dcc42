"""Checks of figures that were measured when the model was fitted: floors, calibration, and subgroups."""

import math
from typing import Any, Final

from mlho.model.testing.records import ModelTest
from mlho.model.testing.subject import Finding, Subject

_BOUNDS: Final = {"low": " as the lower bound of its interval", "high": " as the upper bound of its interval"}


def metric(subject: Subject, test: ModelTest) -> Finding:
    """Compare a figure of the test sets with its bounds."""
    spread = subject.bundle.document.metrics.get(test.inputs["metric"])
    value, bound = _statistic(spread, test.inputs["statistic"])
    return _within(value, test, test.inputs["metric"], bound)


def recorded(subject: Subject, test: ModelTest) -> Finding:
    """Compare a figure that is stored with the test with its bounds."""
    bound = _BOUNDS.get(test.inputs.get("statistic", ""), "")
    return _within(_number(test.inputs["value"]), test, test.inputs["figure"], bound)


def _statistic(spread: Any, name: str) -> tuple[float | None, str]:
    """Return mean, low or high of a spread, and in words which bound it is; the mean if there is no interval."""
    if not isinstance(spread, dict):
        return None, ""
    found = _number(spread.get(name))
    return (_number(spread.get("mean")), "") if found is None else (found, _BOUNDS.get(name, ""))


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None


def _within(value: float | None, test: ModelTest, name: str, bound: str) -> Finding:
    low, high = test.expected.get("min"), test.expected.get("max")
    defect = test.inputs["defect"]
    if value is None:
        return Finding(False, "no figure", f"The bundle has no {name}. {defect}")
    is_within = (low is None or value >= low - test.tolerance) and (
        high is None or value <= high + test.tolerance
    )
    return Finding(is_within, f"{value:.4g}{bound}", defect)
