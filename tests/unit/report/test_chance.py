"""The report on selection by chance: its stability, and the expected false features of the consensus."""

import pytest

from mlho.report.page.html import render_html
from mlho.report.page.sections import confidence_levels, consensus_words, expected_false, stability_facts
from mlho.report.result import Estimate, Result
from mlho.report.words import stability_gain


def with_stability(result: Result, **changes) -> Result:
    return result.model_copy(update={"stability": result.stability.model_copy(update=changes)})


@pytest.mark.parametrize(
    ("value", "permuted", "words"),
    [
        (0.71, 0.64, "hardly more"),
        (0.71, 0.5, "perhaps more"),
        (0.71, 0.2, "clearly more"),
        (0.5, 0.87, "hardly more"),
    ],
)
def test_a_stability_is_judged_by_that_on_permuted_labels(value, permuted, words):
    """Splits that share patients agree even on permuted labels, so a high stability alone is not an achievement."""
    assert stability_gain(value, permuted) == words


def test_the_summary_names_both_stabilities_and_the_false_features(result: Result):
    """The summary has a sentence on each, and does not praise the stability alone."""
    text = " ".join(result.summary)

    assert "The stability of the selection was 0.71" in text
    assert "With randomly permuted labels it was 0.64" in text
    assert "hardly more stable than the patients shared by the iterations alone would explain" in text
    assert "By chance alone, 1 would be expected." in text
    assert "excellent" not in text
    assert "good stability" not in text


def test_the_report_shows_the_figures_of_chance(result: Result):
    """The report has the figures, and the table of thresholds from the strictest to those mostly reached by chance."""
    facts = dict(stability_facts(result))

    assert facts["Stability on permuted labels"].startswith("0.64")
    assert facts["Stable features expected to have no effect"].startswith("1 (12")
    assert confidence_levels(result) == [("86", "8", "1"), ("57", "14", "5")]
    assert "Expected by chance" in render_html(result)


def test_a_chosen_threshold_is_the_one_that_is_named(result: Result):
    """If a share was requested, the report names the score that was chosen."""
    found = result.stability.false_features
    assert found is not None
    chosen = found.model_copy(update={"min_confidence": 86, "max_share": 0.1})

    assert consensus_words(with_stability(result, false_features=chosen)).startswith(
        "A feature with a score of 86 or more"
    )
    assert "chosen to keep the share at or below 10" in expected_false(chosen)


def test_missing_figures_are_reported_as_missing(result: Result):
    """A ranking without shadows, permuted labels of one class, and a result of an earlier version have no figures, and the report says so."""
    reason = Estimate(value=None, reason="ranking: mlho-r gives no order in which shadows could be placed")
    found = result.stability.false_features
    assert found is not None

    assert "mlho-r gives no order" in expected_false(found.model_copy(update={"expected": reason}))
    before = with_stability(result, false_features=None, permuted=Estimate(value=None, reason="not measured"))
    assert dict(stability_facts(before))["Stability on permuted labels"] == "not available (not measured)"
    assert confidence_levels(before) == []
    assert "Expected by chance" not in render_html(before)


def test_a_contradiction_of_odds_ratios_stands_beside_its_feature(result: Result):
    """The note is next to the feature, where a reader would quote one of the odds ratios."""
    first = result.features[0].model_copy(update={"note": "They lie on different sides of 1."})

    page = render_html(result.model_copy(update={"features": [first, *result.features[1:]]}))

    assert "They lie on different sides of 1." in page
