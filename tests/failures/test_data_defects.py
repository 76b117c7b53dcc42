"""Each defect seeded in clean tables is found by the intended check, and clean tables have no finding. Long form: ``make data-defects``."""

import numpy as np
import pandas as pd
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


@pytest.mark.parametrize("seed", range(4))
def test_few_events_before_the_last_index_dates_are_no_late_index(seed, tmp_path):
    """In a small cohort with five events a patient, recruited to the end of the data, the last months have few events up to the index dates."""
    frames, rng = make_clean(seed, n=2000), np.random.default_rng(seed)
    index = np.datetime64("2015-01-01", "us") + rng.integers(0, 1500, 2000) * np.timedelta64(1, "D")
    frames.labels["index_date"] = index
    frames.labels["outcome_date"] = pd.Series(index + np.timedelta64(30, "D")).where(
        frames.labels["readmit"] == 1
    )
    frames.events = frames.events.sample(10_000, random_state=seed)
    before = pd.to_timedelta(rng.integers(1, 700, 10_000), "D")
    frames.events["time"] = (
        frames.events["patient_id"].map(pd.Series(index, frames.labels["patient_id"])) - before
    )

    assert "late-index" not in findings_of(frames, tmp_path)


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
