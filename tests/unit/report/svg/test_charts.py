import datetime as dt
import re
import time
import xml.etree.ElementTree as ET

import pytest

from mlho.report.figures.catalogue import figures_of
from mlho.report.figures.findings import chart_labels
from mlho.report.page.cells import feature_row
from mlho.report.result import FeatureResult, OddsRatio
from mlho.report.svg import charts, curves
from mlho.report.svg.canvas import (
    WIDE_WIDTH,
    Scale,
    fitted_text,
    linear_ticks,
    log_ticks,
    text_width,
    tick_label,
)
from mlho.report.svg.charts import Row
from mlho.report.svg.curves import mean_curve, value_at
from mlho.report.svg.timeline import DayValue, timeline

SVG = "{http://www.w3.org/2000/svg}"


def test_a_log_scale_puts_one_in_the_middle_of_its_inverse_bounds():
    """0.5 and 2 are at equal distances from 1 on a logarithmic axis."""
    scale = Scale(0.5, 2.0, 0.0, 100.0, is_log=True)

    assert scale.at(1.0) == pytest.approx(50.0)
    assert scale.at(100.0) == 100.0


def test_ticks_have_thousands_separators():
    """Counts of rows on the site are read as in the tables next to them."""
    written = [tick_label(value) for value in (0.0, 0.25, -0.05, 800.0, 1_200.0, 2_500_000.0)]

    assert written == ["0", "0.25", "\N{MINUS SIGN}0.05", "800", "1,200", "2,500,000"]


def test_ticks_are_round_and_within_the_bounds():
    """Ticks have steps of 1, 2 or 5 and are never outside the bounds."""
    assert linear_ticks(0.0, 1.0) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert log_ticks(0.4, 2.5) == [0.5, 0.7, 1.0, 1.5, 2.0]
    assert log_ticks(0.04, 21.0) == [0.1, 1.0, 10.0]


def test_a_curve_is_read_at_the_upper_end_of_a_jump():
    """ROC curves rise vertically, and the sensitivity at a jump is the highest one at that false positive rate."""
    xs, ys = [0.0, 0.0, 0.5, 1.0], [0.0, 0.4, 0.8, 1.0]

    assert value_at(xs, ys, 0.0) == 0.4
    assert value_at(xs, ys, 0.25) == pytest.approx(0.6)
    assert value_at(xs, ys, 2.0) == 1.0


def test_the_mean_curve_lies_between_its_curves_and_one_curve_has_no_interval():
    """Curves are averaged vertically, and a single curve has no interval."""
    low, high = {"x": [0, 1], "y": [0.0, 0.5]}, {"x": [0, 1], "y": [0.5, 1.0]}

    both = mean_curve([low, high], [0.0, 0.5, 1.0], overlap=0.4)

    assert both.mean == [0.25, 0.5, 0.75]
    assert both.low is not None
    assert all(0.0 <= v <= 1.0 for v in both.low)
    assert mean_curve([low], [0.0, 1.0], overlap=0.4).low is None


def test_overlap_widens_the_interval():
    """By Nadeau and Bengio, shared patients add variance that more iterations do not remove."""
    lines = [{"x": [0, 1], "y": [v, v]} for v in (0.49, 0.5, 0.51)]

    independent, shared = (mean_curve(lines, [0.5], overlap=o) for o in (0.0, 0.43))

    # t(2 df) = 4.303, sd = 0.01: 4.303 · 0.01 · sqrt(1/3) and 4.303 · 0.01 · sqrt(1/3 + 0.43)
    assert independent.high == [pytest.approx(0.5 + 0.024843, abs=1e-5)]
    assert shared.high == [pytest.approx(0.5 + 0.037597, abs=1e-5)]


def test_a_forest_puts_marks_on_their_side_of_one():
    """An odds ratio above 1 is right of the line at 1, and one below 1 is left of it. An interval beyond the axis ends with an arrow."""
    rows = [Row("up", values=(2.0, 1.5, 90.0), kind="up"), Row("down", values=(0.5, 0.4, 0.6), kind="down")]

    picture = ET.fromstring(charts.forest("f", "Forest", rows, (0.25, 4.0), "OR"))

    at_one = next(float(e.attrib["x1"]) for e in picture.iter(f"{SVG}line") if e.get("class") == "reference")
    middle = {e.attrib["class"]: _middle(e) for e in picture.iter(f"{SVG}polygon")}
    assert middle["down"] < at_one < middle["up"]
    assert sum(e.get("class") == "arrow" for e in picture.iter(f"{SVG}path")) == 1


def _middle(polygon: ET.Element) -> float:
    xs = [float(pair.split(",")[0]) for pair in polygon.attrib["points"].split()]
    return sum(xs) / len(xs)


def test_an_odds_ratio_beyond_the_axis_is_an_arrow_not_a_mark():
    """An odds ratio beyond the axis is drawn as an arrow, because a mark at the edge would be read as a value there."""
    rows = [Row("far", values=(900.0, 800.0, 1_000.0), kind="up")]

    picture = ET.fromstring(charts.forest("f", "Forest", rows, (0.25, 4.0), "OR"))

    assert not list(picture.iter(f"{SVG}polygon"))
    assert [e.get("class") for e in picture.iter(f"{SVG}path")] == ["arrow"]


def test_long_labels_are_cut_to_their_lane_with_the_whole_as_tooltip():
    """Capitals and digits are wide; a long drug name must not exceed the picture."""
    label = "24 HR METFORMIN HYDROCHLORIDE 500 MG EXTENDED RELEASE ORAL TABLET"

    picture = ET.fromstring(charts.importance([Row(label, "0.5", (0.5,))]))

    (shown,) = [e for e in picture.iter(f"{SVG}text") if (e.text or "").startswith("24 HR")]
    assert shown.text.endswith("…")
    assert shown.find(f"{SVG}title").text == label


def test_selection_frequency_falls_and_marks_the_consensus():
    """Equal neighbours share a step, and each feature of the consensus has a dot (the legend has one more)."""
    picture = ET.fromstring(curves.frequency([1.0, 1.0, 0.5], [True, False, True]))

    dots = [e for e in picture.iter(f"{SVG}circle") if e.get("class") == "accent"]
    steps = next(e for e in picture.iter(f"{SVG}polyline") if e.get("class") == "bold")
    assert len(dots) == 3
    assert len(steps.attrib["points"].split()) == 4


def test_a_decision_curve_is_cut_where_it_leaves_the_picture():
    """The line of treat-all falls without bound; it stops at the lower edge instead of following it."""
    curve = {"threshold": [0.1, 0.5, 0.9], "model": {"mean": [0.1, 0.05, 0.0]}, "all": [0.1, -1.0, -9.0]}

    picture = ET.fromstring(curves.decision("decision", curve, 0.9))

    treat_all = next(e for e in picture.iter(f"{SVG}polyline") if e.get("class") == "second")
    assert len(treat_all.attrib["points"].split()) == 2


def test_a_waterfall_adds_up_exactly(result):
    """Base, contributions and the rest add up to the log-odds of the probability."""
    for profile in result.final_model.profiles:
        rows = figures_of(result)[f"profile_{result.final_model.profiles.index(profile) + 1}"].rows
        parts = [float(row[2].replace("−", "-")) for row in rows]
        assert sum(parts[:-1]) == pytest.approx(parts[-1], abs=0.001 * len(parts))


def test_every_figure_is_drawn_with_title_and_description(result):
    """Each picture has a title and a description, and a table of its numbers."""
    figures = figures_of(result)

    assert list(figures) == [
        "roc", "precision_recall", "calibration", "decision", "auroc", "candidates", "consensus", "confidence",
        "frequency", "errors", "importance", "lineage", "groups", "group_calibration", "periods", "period_calibration", "hundred_1", "profile_1", "profile_2", "profile_3",
    ]  # fmt: skip
    for figure in figures.values():
        for picture in (figure.wide, figure.narrow or figure.wide):
            root = ET.fromstring(picture)
            assert root.get("role") == "img"
            assert [child.tag for child in list(root)[:2]] == [f"{SVG}title", f"{SVG}desc"]
        assert all(len(row) == len(figure.columns) for row in figure.rows)


def test_no_mark_lies_outside_its_picture(result):
    """For any values, all marks are within the picture."""
    for figure in figures_of(result).values():
        width = float(re.search(r'viewBox="0 0 ([\d.]+) ', figure.wide)[1])
        xs = [float(x) for x in re.findall(r' (?:x|cx|x1|x2)="(-?[\d.]+)"', figure.wide)]
        assert min(xs) >= 0.0
        assert max(xs) <= width, figure.name


def test_text_from_data_is_escaped_in_pictures():
    """Markup in a label is escaped in pictures."""
    picture = charts.importance([Row('<script>alert("x")</script>', "0.5", (0.5,))])

    assert "<script>" not in picture
    assert "&lt;script&gt;" in picture


def test_a_figure_alone_carries_its_style_and_can_be_saved(result, tmp_path):
    """A saved figure contains its style, because a notebook or a file has no page around it."""
    figure = figures_of(result)["roc"]

    path = figure.save(tmp_path / "roc.svg")

    assert ET.fromstring(path.read_text(encoding="utf-8")).find(f"{SVG}style") is not None
    assert figure._repr_svg_() == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("words", ["i" * 100, "Wide Words With Many Capitals", "abcdefghijklmnopqrstuvw"])
def test_a_cut_text_is_the_longest_beginning_that_fits(words):
    """One more character would not fit before the ellipsis, and the tooltip has the whole text."""
    room = text_width(words) / 2

    mark = ET.fromstring(fitted_text(0, 0, words, room))

    kept = mark.text.removesuffix("…")
    assert text_width(kept) <= room - WIDE_WIDTH < text_width(words[: len(kept) + 1])
    assert mark.find("title").text == words


def test_cutting_a_long_text_takes_time_in_proportion_to_its_length():
    """A code of 50,000 characters is cut within milliseconds; repeated measuring took minutes."""
    before = time.process_time()

    fitted_text(0, 0, "x" * 50_000, 300.0)

    assert time.process_time() - before < 1.0


def test_forest_and_table_give_odds_ratios_of_small_units_per_standard_deviation(result):
    """For a value counted in thousands, the mark is at 1.49, and label and cell state the unit."""
    odds = OddsRatio(
        per_unit=1.0001,
        wald_low=1.00005,
        wald_high=1.00015,
        sd=4000.0,
        per_sd=1.49,
        per_sd_low=1.22,
        per_sd_high=1.82,
    )
    first = result.features[0].model_copy(update={"odds_ratio": odds})
    changed = result.model_copy(update={"features": [first, *result.features[1:]]})

    figure = figures_of(changed)["consensus"]

    assert any("(per SD of 4,000)" in row[0] and row[1] == "1.49 (1.22–1.82)" for row in figure.rows)
    assert "per SD of 4,000" in feature_row(first, 7, 11)["odds"]


def test_a_mean_over_test_sets_that_are_not_drawn_has_no_interval():
    """Sites and periods are no random draws: the report says that their mean has no interval, and draws none."""
    lines = [{"x": [0, 1], "y": [v, v]} for v in (0.4, 0.5, 0.6)]

    assert mean_curve(lines, [0.5], overlap=None).low is None


def test_a_month_between_months_without_a_figure_is_drawn():
    """A line needs two neighbours. A value alone is a mark with its interval, also where the chart has too many days for marks."""
    days = [dt.date(2011 + month // 12, month % 12 + 1, 1) for month in range(60)]
    known = {10: 0.7, 11: 0.71, 20: 0.68}
    values = [
        DayValue(day, known.get(i), *((known[i] - 0.1, known[i] + 0.1) if i in known else ()))
        for i, day in enumerate(days)
    ]

    picture = timeline("t", "AUROC", "By month.", values)

    assert picture.count("<circle") == picture.count('class="whisker"') == 1
    assert picture.count("<polyline") == picture.count("<polygon") == 1


def test_an_axis_of_counts_has_no_half():
    """Between none and one there is nothing to count; a share of the same height keeps its ticks."""
    days = [dt.date(2021, 1, day) for day in (1, 2, 3)]
    counts, shares = ([DayValue(day, kind(day.day == 3)) for day in days] for kind in (int, float))

    assert ">0.5<" not in timeline("t", "New codes", "By night.", counts)
    assert ">0.5<" in timeline("t", "Share", "By night.", shares)


def test_the_title_of_an_axis_is_not_cut_off_on_a_phone():
    """The narrow forest plot has an axis of half the width, and its title begins at the left edge."""
    title = "Odds ratio per unit, or per SD where it says so (logarithmic)"
    rows = [Row("A feature", "1.20 (1.10–1.30)", (1.2, 1.1, 1.3), "up")]

    chart = ET.fromstring(charts.forest("f", "F", rows, (0.5, 2.0), title, width=charts.NARROW))
    [axis] = [text for text in chart.iter(f"{SVG}text") if text.text == title]

    assert text_width(title) < charts.NARROW
    assert float(axis.attrib["x"]) >= text_width(title) / 2


def test_labels_of_different_features_differ_where_a_chart_cuts_them():
    """Descriptions that begin alike, and windows and aggregates of one code, are told apart within 44 characters."""
    long = "Type 2 diabetes mellitus with hyperosmolarity, "

    def feature(code, window, aggregate, description):
        words = f"{description} ({code}): {aggregate}, in the {window} before the index date"
        return FeatureResult(
            id=f"{code}|{window}|{aggregate}",
            words=words,
            kind="feature",
            code=code,
            description=description,
            selection_frequency=1.0,
        )

    alike = [
        feature("E11.00", "all", "presence", f"{long}without coma"),
        feature("E11.01", "all", "presence", f"{long}with coma"),
        feature("I10", "all", "presence", "Hypertension"),
    ]
    windows = [feature("I10", window, "count", "Hypertension") for window in ("90d", "365d", "all")]

    assert list(chart_labels(alike).values()) == [
        "Type 2 diabetes mellitus with hype… (E11.00)",
        "Type 2 diabetes mellitus with hype… (E11.01)",
        "Hypertension",
    ]
    assert list(chart_labels(windows).values()) == [
        "Hypertension (I10, 90 days)",
        "Hypertension (I10, 365 days)",
        "Hypertension (I10, all history)",
    ]
    assert chart_labels([*windows, alike[0]])["I10|90d|count"] == "Hypertension (I10, count, 90 days)"
