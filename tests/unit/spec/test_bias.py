"""The section ``bias``: columns must be demographics, and an absent section does not change the run id."""

import pytest

from mlho.errors import SpecError
from mlho.sources.known import SOURCES
from mlho.spec.layout import PATIENT
from mlho.spec.training import normalised
from tests.builders import make_spec


def test_a_specification_without_the_section_has_no_trace_of_it():
    """Without the section, the run id is that of earlier versions."""
    assert "bias" not in normalised(make_spec().spec)
    assert normalised(make_spec({"bias": {"periods": "month"}}).spec)["bias"]["periods"] == "month"


@pytest.mark.parametrize(
    "bias", [{"groups": ["ward"]}, {"pairs": [["ward", "ward"]]}, {"references": {"ward": "3"}}]
)
def test_a_column_that_is_no_demographic_is_refused(bias):
    """A column of ``bias`` that is not a demographic is refused, because groups come from ``features.demographics``."""
    with pytest.raises(
        SpecError, match=r"bias names columns that neither features\.demographics nor bias\.columns has: ward"
    ):
        make_spec({"bias": bias})


def test_a_feature_is_not_named_as_a_column_of_the_audit():
    """A feature in ``bias.columns`` is refused, because features already make groups."""
    with pytest.raises(SpecError, match=r"bias\.columns names features: sex"):
        make_spec({"features.demographics": ["sex"], "bias": {"columns": ["sex"]}})


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"bias": {"columns": ["patient_id"]}}, "bias.columns"),
        ({"features.demographics": ["patient_id"]}, "features.demographics"),
        ({"validation.split": "site", "validation.splitColumn": "patient_id"}, "validation.splitColumn"),
        ({"data.columns": {"labels": {"patient_id": "MRN"}}, "bias": {"columns": ["MRN"]}}, "bias.columns"),
        (
            {"data.columns": {"demographics": {"patient_id": "MRN"}}, "bias": {"columns": ["MRN"]}},
            "bias.columns",
        ),
    ],
    ids=["audit", "feature", "site", "renamed in the labels", "renamed in the demographics"],
)
def test_the_column_of_the_patients_is_no_feature_site_or_group(changes, field):
    """Each patient would be a level; in the audit all of them would count as ``other``."""
    with pytest.raises(SpecError, match=rf"{field} must not name the column of the patients\. Remove"):
        make_spec(changes)


def test_each_layout_has_its_column_of_the_patients():
    """The names that a specification refuses are those that the layouts read."""
    assert {
        source.name: source.names.get("labels", {}).get("patient_id", "patient_id") for source in SOURCES
    } == PATIENT


def test_persons_and_index_dates_are_no_groups_of_the_audit():
    """A person or a date is too small for a group, and the message names what makes groups of dates."""
    with pytest.raises(
        SpecError, match=r"column of cohort\.groupBy: a person is not a group\. Remove 'person'"
    ):
        make_spec({"cohort.groupBy": "person", "bias": {"columns": ["person"]}})
    with pytest.raises(SpecError, match=r"must not name the index date\. Remove 'index_date'; bias\.periods"):
        make_spec({"bias": {"columns": ["index_date"]}})
