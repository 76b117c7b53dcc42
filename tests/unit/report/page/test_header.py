"""The head of the report: purpose, outcome, use and dates."""

from mlho.report.page.header import about, eyebrow, heading
from mlho.report.page.html import render_html
from mlho.report.result import About, Result
from mlho.spec.training import RunMetadata


def said(result: Result, **changes) -> Result:
    return result.model_copy(update=changes)


def test_the_author_names_the_report_or_the_outcome_does(result: Result):
    """The heading is the author's title, and otherwise names the predicted outcome."""
    assert heading(result) == "Prediction of “readmit_30”"
    assert heading(said(result, about=About(title="Readmission"))) == "Readmission"
    assert heading(said(result, predictive=False)) == "Association of “readmit_30”"


def test_the_head_has_outcome_use_and_dates(result: Result):
    """The head has the author's statements, and the months and years of the data."""
    statements = About(
        name="readmission",
        description="To plan visits.",
        outcome_definition="Readmitted within 30 days.",
        follow_up="30 days",
        intended_use="Ward rounds.",
    )
    stated_result = said(result, about=statements, made_at="2026-11-26T09:12:00+00:00")
    facts = dict(about(stated_result))

    assert facts["Outcome"] == "Readmitted within 30 days (column “readmit_30” of the labels is 1)"
    assert facts["Intended use"] == "Ward rounds."
    assert facts["Not for"] == (
        "decisions about a patient without human judgement. The model is not a medical device."
    )
    assert facts["Index dates"] == "March 2014 to November 2018"
    assert facts["Events used"] == f"{result.ledger.rows_used:,} rows, 99 % of them from 2013 to 2014"
    assert facts["Follow-up"] == "30 days"
    assert facts["Computed on"] == "26 November 2026"
    assert "readmission · 26 November 2026" in eyebrow(stated_result)
    assert "To plan visits." in render_html(stated_result)


def test_uses_that_the_author_excludes_are_in_the_head(result: Result):
    """``metadata.statements.outOfScope`` comes first, before what is excluded for every model; a result without it is unchanged."""
    statements = {"outOfScope": "Children; palliative care."}
    metadata = RunMetadata.model_validate({"name": "readmission", "statements": statements})
    stated = said(result, about=About(**metadata.about))

    assert dict(about(stated))["Not for"] == (
        "Children; palliative care; decisions about a patient without human judgement. The model is not a medical device."
    )
    assert "Children; palliative care; decisions" in render_html(stated)
    assert "out_of_scope" not in result.model_dump(mode="json")["about"]


def test_missing_statements_are_marked_as_not_stated(result: Result):
    """A missing statement is reported with its field."""
    facts = dict(about(result))

    assert facts["Intended use"] == "not stated (metadata.intendedUse)"
    assert facts["Follow-up"] == "not stated (metadata.followUp)"
    assert facts["Computed on"] == "not available"


def test_one_patient_has_the_outcome(result: Result):
    """The page says "1 patient", in the singular form."""
    cohort = result.cohort.model_copy(update={"n_positive_patients": 1, "n_positive_samples": 1})

    assert "<b>1 patient with the outcome</b>" in render_html(said(result, cohort=cohort))


def test_a_cohort_by_rule_says_outcome_and_time_at_risk(result):
    """Without the author's words, both come from the rules of the specification, and the table of labels is not mentioned."""
    rules = {"outcome": {"codes": ["GI:*"], "fromDays": 0, "toDays": 365}}
    lineage = result.lineage.model_copy(update={"spec": {**result.lineage.spec, "cohort": {"rules": rules}}})
    untold = result.about.model_copy(update={"outcome_definition": None, "follow_up": None})

    facts = dict(about(said(result, lineage=lineage, about=untold)))

    assert facts["Outcome"] == "An event of GI:* in the time at risk"
    assert facts["Follow-up"] == "up to 365 days after the index date"


def with_spec(result: Result, **sections) -> Result:
    lineage = result.lineage.model_copy(update={"spec": {**result.lineage.spec, **sections}})
    return said(result, lineage=lineage)


def test_every_window_of_the_features_is_in_the_head(result):
    """``features.allHistory`` adds all history to the windows, and one day is in the singular."""
    several = with_spec(result, features={"windows": [1, 365], "allHistory": True}, cohort={})
    single = with_spec(result, features={"windows": [90]}, cohort={"gapDays": 1})

    assert dict(about(several))["Data before them"] == (
        "1 day, 365 days and all history up to and including the index date"
    )
    assert dict(about(single))["Data before them"] == "90 days up to 1 day before the index date"


def test_a_run_on_events_after_the_index_date_is_not_said_to_have_none(result):
    """It does not predict, for a reason of its own: the banner and the head name the time after the index date."""
    after = {"fromDays": 0, "toDays": 180}
    features = {"after": after, "demographics": []}
    page = render_html(with_spec(said(result, predictive=False), features=features, cohort={}))

    assert "no index date" not in page
    assert "<dt>Data after them</dt><dd>1 to 180 days after the index date" in page
    assert (
        "Features are computed from records after the index date, when the outcome may already be known. Its figures"
        in page
    )
