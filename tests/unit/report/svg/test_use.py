"""Figures for the use of the model: groups, a hundred patients, and charts limited to the range of the predictions."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from mlho.report.figures.catalogue import figures_of
from mlho.report.page.bias import content
from mlho.report.result import Result, Spread

SVG = "{http://www.w3.org/2000/svg}"


def test_a_hundred_samples_are_drawn_with_those_of_the_headline(result: Result):
    """Of 100 samples, 11 have the outcome and 39 are flagged, and 0.62 of the 11 are among the flagged."""
    figure = figures_of(result)["hundred_1"]

    assert figure.rows == (("With the outcome", "7", "4"), ("Without the outcome", "32", "57"))
    assert (
        figure.reading
        == "Of 100 samples, 11 have the outcome. The model flags 39, of which 7 have the outcome."
    )
    marks = re.findall(r'class="person (\w+)"', figure.wide)
    # The legend has one more of each.
    assert {kind: marks.count(kind) - 1 for kind in set(marks)} == {
        "hit": 7,
        "false": 32,
        "missed": 4,
        "rest": 57,
    }


def test_a_hundred_patients_have_the_prevalence_of_the_test_sets(result: Result):
    """Where 20 and 30 % of two test sets have the outcome, 25 of 100 patients have it, not the 11 of the cohort; so does the dashed line of random alerts."""
    shares, thresholds = np.array([[0.2], [0.3]]), np.array(result.curves.decision["threshold"])
    weights = thresholds / (1 - thresholds)
    decision = {
        **result.curves.decision,
        "all": (shares - (1 - shares) * weights).mean(axis=0).tolist(),
    }
    curves = result.curves.model_copy(update={"decision": decision})

    cohort = result.cohort.model_copy(update={"n_samples": result.cohort.n_patients})  # each patient once
    figures = figures_of(result.model_copy(update={"curves": curves, "cohort": cohort}))

    assert "Of 100 patients, 25 have the outcome. The model flags 39, of whom" in figures["hundred_1"].reading
    assert "the prevalence (25.0" in figures["precision_recall"].reading


@pytest.mark.parametrize(("sensitivity", "alerts"), [(0.0, 0.0), (1.0, 100.0), (0.05, 0.4)])
def test_a_hundred_patients_add_up_at_the_ends(result: Result, sensitivity: float, alerts: float):
    """If no or all patients are flagged, no count is negative."""
    ends = {"youden/sensitivity": Spread(mean=sensitivity), "youden/alerts_per_100": Spread(mean=alerts)}
    figure = figures_of(result.model_copy(update={"headline": result.headline | ends}))["hundred_1"]
    counts = [int(cell) for row in figure.rows for cell in row[1:]]

    assert sum(counts) == 100
    assert min(counts) >= 0


def test_groups_are_compared_with_all_patients_and_small_ones_left_out(result: Result):
    """The chart has the groups with figures, and the table has all groups without hidden counts."""
    assert result.bias is not None
    table = content(result.bias)

    assert [row[0] for row in figures_of(result)["groups"].rows] == ["sex: female", "sex: male"]
    assert [row[1] for row in table["performance"]] == ["71,515", "38,295", "33,220", "not shown"]
    assert "fewer than 11" in table["performance"][3][0]
    assert table["performance"][3][3:] == ("–",) * 5
    assert table["rule"] == "flag 10\u202f% of samples"


def test_only_significant_differences_are_listed_and_all_are_counted(result: Result):
    """The table lists the one significant difference, and the sentence counts both."""
    assert result.bias is not None
    table = content(result.bias)

    assert [row[:3] for row in table["compared"]] == [("sex: male", "female", "Observed ÷ expected")]
    assert table["compared_words"] == "1 of 2 differences is significant after correction for their number."


def test_periods_are_small_multiples_with_intervals(result: Result):
    """Three years of all patients give three points with an interval each, in both figures."""
    for name in ("periods", "period_calibration"):
        figure = figures_of(result)[name]

        assert [row[1] for row in figure.rows] == ["2012", "2013", "2014"]
        assert figure.wide.count('class="whisker"') == 3


def test_calibration_and_decision_curve_end_with_the_predictions(result: Result):
    """Nearly all predictions are below 0.3; a second picture has the whole range."""
    for name in ("calibration", "decision"):
        figure = figures_of(result)[name]
        assert figure.whole is not None
        shown, whole = (float(_axes(picture)[3]) for picture in (figure.wide, figure.whole))
        assert shown == pytest.approx(0.25, abs=0.051)
        assert whole > shown


def test_the_script_finds_the_values_of_a_curve(result: Result):
    """The axes stored in the chart convert the points of its bold line into the numbers of the mean curve."""
    picture = figures_of(result)["roc"].wide
    x0, x1, low, high, y0, y1, bottom, top = map(float, _axes(picture))
    line = next(
        polyline
        for polyline in ET.fromstring(picture).iter(f"{SVG}polyline")
        if polyline.get("class") == "bold"
    )
    points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]

    found = {
        round(low + (x - x0) / (x1 - x0) * (high - low), 2): bottom + (y - y0) / (y1 - y0) * (top - bottom)
        for x, y in points
    }
    for at, value, _ in figures_of(result)["roc"].rows:
        assert found[float(at)] == pytest.approx(float(value), abs=0.005)


def test_a_forest_is_sorted_by_effect_within_a_direction(result: Result):
    """The largest odds ratio is first, followed by those below 1 from the smallest."""
    values = [float(row[1].split(" ")[0]) for row in figures_of(result)["consensus"].rows]
    up, down = [v for v in values if v >= 1], [v for v in values if v < 1]

    assert values == sorted(up, reverse=True) + sorted(down)


def _axes(picture: str) -> list[str]:
    found = re.search(r'data-axes="([^"]+)"', picture)
    assert found is not None
    return found[1].split()
