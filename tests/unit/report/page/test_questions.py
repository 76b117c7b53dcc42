"""The questions of a reviewer are answered from the result alone."""

import re

from mlho.report.bias.audit import BiasAudit
from mlho.report.checks import Check, Leakage
from mlho.report.figures.groups import pictograms
from mlho.report.page.bias import content
from mlho.report.page.limits import limits
from mlho.report.page.questions import questions
from mlho.report.page.sections import headline
from mlho.report.page.training import SECTIONS
from mlho.report.result import Result


def answers(result: Result) -> dict[str, str]:
    return {question: answer for question, answer, _ in questions(result)}


def check(name, verdict="passed", n_findings=0, note=""):
    return Check(check=name, title=name, verdict=verdict, n_findings=n_findings, note=note)


def test_every_question_has_an_answer_and_a_section(result):
    """There are nine questions, and each answer names a section of the page."""
    found = questions(result)

    assert len(found) == 9
    assert all(answer and section in SECTIONS for _, answer, section in found)


def test_the_patients_flagged_of_100_are_those_of_the_pictures(result):
    """At each threshold, the answer has the numbers under the picture of 100 samples."""
    answer = answers(result)["What happens to 100 samples?"]

    pictures = pictograms(result)
    assert pictures
    for picture in pictures:
        n_cases, n_flagged, n_hit = re.findall(r"\d+", picture.reading)[1:]
        rule = picture.title[0].lower() + picture.title[1:]
        assert re.match(rf"{n_cases} of 100 (has|have) the outcome\.", answer)
        assert re.search(rf"“{re.escape(rule)}” {n_flagged}, of which {n_hit} (has|have) it", answer)
    without = result.model_copy(update={"headline": {}})
    assert answers(without)["What happens to 100 samples?"].startswith("Not known")


def test_the_largest_rule_of_the_ledger_is_named(result):
    largest = max(result.ledger.rules, key=lambda rule: rule.rows)

    assert f"“{largest.rule}”" in answers(result)["Which records were excluded, and why?"]


def test_a_leakage_finding_and_a_check_that_was_not_made_are_counted(result):
    """One of three checks passed, one was not made, and one has a finding that is allowed with a reason."""
    checks = [
        check("one"),
        check("two", note="Not checked: no dates."),
        check("three", "allowed", 1, note="Compared: 40 patients."),
    ]
    leakage = Leakage(checks=checks, findings=[], never_enter=0)

    found = answers(result.model_copy(update={"leakage": leakage}))["Could there be leakage?"]

    assert found.startswith(
        "1 of 3 checks passed; 1 could not be carried out. Findings: three (allowed with a reason)."
    )


def test_the_worst_group_and_the_groups_without_figures_are_named(result):
    """The answer has the group with the lowest AUROC and its figure, and lists the groups that are too small."""
    bias = result.bias
    shown = [group for group in bias.groups[1:] if group.figures]
    lowest = min(shown, key=lambda group: group.figures["auroc"].value)
    small = shown[0].model_copy(update={"level": "small", "figures": {}, "reason": "too few"})
    audit = BiasAudit.model_validate({**dict(bias), "groups": [*bias.groups, small]})

    found = answers(result.model_copy(update={"bias": audit}))["For whom does the model perform worst?"]

    assert f"Lowest AUROC: {lowest.by}: {lowest.level}" in found
    assert f"{small.by}: small." in found.partition("Too few patients to assess: ")[2]


def test_the_auroc_of_all_patients_says_why_it_differs_from_the_headline(result):
    """The audit has one prediction per sample; the headline is a mean over iterations, or pools the outer folds. One test set needs no reason."""
    question, (first, *_) = "For whom does the model perform worst?", result.test_sets
    folds = [first.model_copy(update={"name": f"outer fold {fold}"}) for fold in (1, 2)]
    drawn, pooled, single = (
        answers(result.model_copy(update={"test_sets": sets}))[question]
        for sets in (result.test_sets, folds, [first])
    )

    n = len(result.test_sets)
    assert n > 1
    assert (
        f"; each sample once, by the first model that tested it, unlike the headline: the mean over {n} iterations)"
        in drawn
    )
    assert "; within each outer fold, unlike the headline, which pools the folds)" in pooled
    assert "all patients:" in single
    assert "headline" not in single


def test_the_note_of_a_raw_figure_says_that_it_is_before_calibration(result):
    """Brier score and log loss of the headline are of the uncalibrated score."""
    rows = [row[0] for row in headline(result)]

    for name in ("Brier score", "Scaled Brier score", "Log loss"):
        (cell,) = (cell for cell in rows if cell.startswith(name) and "calibrated" not in cell)
        assert "score before calibration" in cell


def test_a_sample_that_is_too_small_is_a_limitation(result):
    """The report repeats the warning of the plan, but not for a sample that is large enough."""
    cohort = result.cohort.model_copy(update={"n_patients": 1_000, "n_positive_patients": 100})

    small = limits(result.model_copy(update={"cohort": cohort}))

    assert sum("1,000 patients, 100 with the outcome" in sentence for sentence in small) == 1
    assert not any("Sample size" in sentence for sentence in limits(result))


def test_stratified_test_sets_are_a_limitation_of_the_intervals(result):
    """Their share with the outcome is that of the cohort, so intervals that depend on it are too narrow; those of random test sets are not."""
    spec = result.lineage.spec
    drawn = spec | {"validation": spec["validation"] | {"split": "random"}}
    lineage = result.lineage.model_copy(update={"spec": drawn})

    assert any("Brier score" in sentence for sentence in limits(result))
    assert not any(
        "Brier score" in sentence for sentence in limits(result.model_copy(update={"lineage": lineage}))
    )


def test_without_groups_the_answer_says_so(result):
    found = answers(result.model_copy(update={"bias": None}))["For whom does the model perform worst?"]

    assert found.startswith("Not known")


def test_differences_without_a_p_value_are_not_called_insignificant(result):
    """Without bootstrap replicates nothing is tested, which is no finding about the groups."""
    untested = [
        comparison.model_copy(update={"p_value": None, "adjusted": None})
        for comparison in result.bias.comparisons
    ]
    audit = result.bias.model_copy(update={"comparisons": untested})

    found = answers(result.model_copy(update={"bias": audit}))["For whom does the model perform worst?"]

    assert "Differences between groups were not tested." in found
    assert "significant" not in found
    assert "without a test" in content(audit)["compared_words"]
