"""Names of Kubernetes objects are valid, short and unique."""

import datetime as dt
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.api.names import dns_label, label_value, nightly_name, worker_job_name

DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
UID = "5f9bdc05-b6b2-4289-8746-c1b51198d1a5"


@given(run=st.text(min_size=1, max_size=253), uid=st.uuids(), generation=st.integers(1, 99_999))
def test_a_job_of_any_run_has_a_valid_name_that_leaves_room_for_pods(run: str, uid: object, generation: int):
    """A Job name has at most 52 characters, because it is also a label value and its pods append six characters."""
    name = worker_job_name(run, str(uid), generation)

    assert DNS_LABEL.fullmatch(name)
    assert len(name) <= 52
    assert name.endswith(f"-w{generation}")


def test_runs_that_begin_alike_have_different_names():
    """Truncated names stay unique, because they contain part of the uid."""
    long = "cohort-2026-of-the-whole-hospital-with-all-departments-"
    other = "6a9bdc05-b6b2-4289-8746-c1b51198d1a5"

    assert worker_job_name(f"{long}a", UID, 1) == "cohort-2026-of-the-whole-hospital-with-a-5f9bdc05-w1"
    assert worker_job_name(f"{long}b", other, 1) != worker_job_name(f"{long}a", UID, 1)
    assert worker_job_name("a", UID, 1) != worker_job_name("a", UID, 2)


def test_a_run_without_uid_is_refused():
    """A Job name requires a uid: only a resource stored in the API server has workers."""
    with pytest.raises(ValueError, match="has no uid"):
        worker_job_name("a", "", 1)


@given(st.text())
def test_any_text_becomes_a_valid_label_value(text: str):
    """The label value is empty if the text has no valid character."""
    value = label_value(text)

    assert len(value) <= 63
    assert LABEL_VALUE.fullmatch(value)


@pytest.mark.parametrize(
    ("text", "label"),
    [("Pre.Diabetes_2026", "pre-diabetes-2026"), ("2026", "r-2026"), ("---", "r"), ("x" * 80, "x" * 63)],
)
def test_any_text_becomes_a_dns_label(text: str, label: str):
    """A DNS label is lower case, has no dots and begins with a letter."""
    assert dns_label(text) == label


def test_a_night_has_one_name():
    """A nightly run's name is a function of its schedule and date, so that creating it twice gives the same run."""
    assert nightly_name("nightly", dt.date(2026, 11, 24)) == "nightly-2026-11-24"
    assert len(nightly_name("n" * 80, dt.date(2026, 11, 24))) == 52
