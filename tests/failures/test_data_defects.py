"""Each defect seeded in clean tables is found by the intended check, and clean tables have no finding. Long form: ``make data-defects``."""

import pytest

from mlho.spec.checks import WHOLE
from scheduler.cli.listing import result_of
from tests.builders import make_tables, run_inline, write_tables
from tests.failures.data_defects import KINDS, findings_of, make_clean, seeded

ONE_OF_EACH = {kind.check: kind for kind in KINDS}.values()


@pytest.mark.parametrize("kind", ONE_OF_EACH, ids=lambda kind: kind.name)
def test_a_seeded_defect_is_found_by_its_check(kind, tmp_path):
    """Each check finds one kind of defect that is meant for it. The long form covers all kinds."""
    assert kind.check in findings_of(seeded(kind, 0), tmp_path)


@pytest.mark.parametrize("seed", range(3))
def test_clean_tables_have_no_finding(seed, tmp_path):
    """Clean tables have neither a blocking finding nor a warning."""
    assert findings_of(make_clean(1000 + seed), tmp_path) == set()


def test_there_are_fifty_kinds_with_different_names():
    """The kinds cover every check that can have a finding in tables, and their names are unique."""
    assert len({kind.name for kind in KINDS}) == len(KINDS) >= 50


def test_an_override_allows_a_code_and_bounds_another(tmp_path):
    """An expected jump of glucose causes no finding if an override turns the check off; another override still applies to the other code."""
    frames = seeded(next(kind for kind in KINDS if kind.check == "value-jumps"), 0)
    frames.changes["quality"] = {
        "overrides": [
            {"checks": ["value-jumps", "two-scales"], "subjects": ["G?U"], "action": "off"},
            {"checks": ["value-jumps"], "subjects": ["*"], "action": "block"},
        ]
    }

    assert findings_of(frames, tmp_path) == set()


def test_a_check_with_one_figure_has_the_subject_that_overrides_know(tmp_path):
    """With all bounds at 0, each finding of such a check has the subject that overrides use, and an override by subject turns it off."""
    data = write_tables(tmp_path / "data", make_tables(300, seed=2))
    bounds = {name: {"max": 0} for name in WHOLE}
    off = [{"checks": ["first-of-month"], "subjects": ["events"], "action": "off"}]

    home = run_inline(data, tmp_path / "store", {"quality": {"checks": bounds, "overrides": off}})

    found = result_of(home.run.store, home.finished.run_id)["quality"]["findings"]
    subjects = {finding["check"]: finding["subject"] for finding in found if finding["check"] in WHOLE}
    assert subjects == {check: WHOLE[check] for check in subjects}
    assert len(subjects) >= 3
    assert "first-of-month" not in subjects
