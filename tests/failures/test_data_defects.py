"""Defects seeded in clean tables are found by the right check; clean tables have no finding. Long form: ``make data-defects``."""

import pytest

from mlho.spec.checks import WHOLE
from scheduler.cli.listing import result_of
from tests.builders import make_tables, run_inline, write_tables
from tests.failures.data_defects import KINDS, findings_of, make_clean, seeded

ONE_OF_EACH = {kind.check: kind for kind in KINDS}.values()


@pytest.mark.parametrize("kind", ONE_OF_EACH, ids=lambda kind: kind.name)
def test_a_seeded_defect_is_found_by_its_check(kind, tmp_path):
    """One kind for each check; all kinds are in the long form."""
    assert kind.check in findings_of(seeded(kind, 0), tmp_path)


@pytest.mark.parametrize("seed", range(3))
def test_clean_tables_have_no_finding(seed, tmp_path):
    """No block and no warning."""
    assert findings_of(make_clean(1000 + seed), tmp_path) == set()


def test_there_are_fifty_kinds_with_different_names():
    """For every check that can find something in tables."""
    assert len({kind.name for kind in KINDS}) == len(KINDS) >= 50


def test_an_override_allows_a_code_and_bounds_another(tmp_path):
    """A jump of glucose is expected at this hospital: its override is off, and that of the other code keeps its bound."""
    frames = seeded(next(kind for kind in KINDS if kind.check == "value-jumps"), 0)
    frames.changes["quality"] = {
        "overrides": [
            {"checks": ["value-jumps", "two-scales"], "subjects": ["G?U"], "action": "off"},
            {"checks": ["value-jumps"], "subjects": ["*"], "action": "block"},
        ]
    }

    assert findings_of(frames, tmp_path) == set()


def test_a_check_with_one_figure_has_the_subject_that_overrides_know(tmp_path):
    """Each finding at the bound 0; an override can name this subject, also in place of the check."""
    data = write_tables(tmp_path / "data", make_tables(300, seed=2))
    bounds = {name: {"max": 0} for name in WHOLE}
    off = [{"checks": ["first-of-month"], "subjects": ["events"], "action": "off"}]

    home = run_inline(data, tmp_path / "store", {"quality": {"checks": bounds, "overrides": off}})

    found = result_of(home.run.store, home.finished.run_id)["quality"]["findings"]
    subjects = {own["check"]: own["subject"] for own in found if own["check"] in WHOLE}
    assert subjects == {check: WHOLE[check] for check in subjects}
    assert len(subjects) >= 3
    assert "first-of-month" not in subjects
