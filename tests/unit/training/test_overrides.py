"""Overrides of the checks of data quality: one that has no effect is told to the user, and its known subjects are right."""

import pytest

from mlho.encoding.events.ledger import Rule
from mlho.report.checks import Quality as Report
from mlho.spec.checks import CheckName, Quality
from mlho.spec.checks.subjects import NAMED
from mlho.training.checks.conformance import _UNUSABLE
from mlho.training.checks.quality import quality_warnings, unused_overrides

SUBJECTS = {"copy-forward": ["LOINC:1", "LOINC:2"], "value-jumps": ["LOINC:1"], "hours": []}


def notes(*overrides, reasons=None):
    return unused_overrides(Quality(overrides=overrides), SUBJECTS, reasons or {})


def override(*subjects: str, checks: tuple[CheckName, ...] = ("copy-forward",)):
    return {"checks": checks, "subjects": subjects, "action": "off"}


@pytest.mark.parametrize(
    "overrides",
    [
        [override("LOINC:1"), override("LOINC:*")],
        [override("LOINC:2", checks=("copy-forward", "value-jumps"))],
        [override("LOINC:1"), override("LOINC:1", checks=("value-jumps",))],
    ],
    ids=["a wider one after it", "of one of its checks", "the same code of another check"],
)
def test_an_override_with_an_effect_has_no_note(overrides):
    """An override has an effect if it is the first for a subject of one of its checks."""
    assert notes(*overrides) == []


def test_a_subject_without_a_figure_is_named():
    """A misspelt code had no effect and no sign."""
    (note,) = notes(override("LOINC:1", "loinc:2"))

    assert note == (
        "quality.overrides names 'loinc:2', for which copy-forward had no figure, so it had no effect. Correct or remove it."
    )


def test_the_note_says_why_a_check_was_not_made():
    """Where the check itself could not be made, the subject may be right."""
    (note,) = notes(override("2020", checks=("hours",)), reasons={"hours": "Not checked: no time of day."})

    assert note.endswith("so it had no effect. Not checked: no time of day.")


def test_an_override_behind_a_wider_one_is_named():
    """The first that matches holds, so that a narrow override after a wide one has no effect."""
    (note,) = notes(override("LOINC:*"), override("LOINC:2"))

    assert "'LOINC:2' for copy-forward after an override that applies to the same subjects" in note


def test_the_known_subjects_are_those_of_the_checks():
    """Subjects that a specification may name are the names of the rules that the checks measure."""
    assert NAMED["unusable-rows"] == tuple(rule.words for rule in _UNUSABLE)
    assert NAMED["implausible-dates"] == (Rule.IMPLAUSIBLE_DATE.words, Rule.AFTER_DEATH.words)


def test_a_note_is_a_warning_of_the_run_and_absent_without_one():
    """Results of runs without such a note have the digest of earlier versions."""
    found = Report(checks=[], findings=[], series=[], notes=["An override had no effect."])

    assert quality_warnings(found) == ["An override had no effect."]
    assert "notes" not in Report(checks=[], findings=[], series=[]).model_dump()
