"""Names of Kubernetes objects: valid, short enough, and unique.

A Kubernetes Job's name becomes a label value (63 characters) and a prefix of its pods' names (six more
characters). The name of a run may have the same length and contain dots. Names are therefore built from a
readable prefix, eight characters of the resource's uid, and a suffix that distinguishes objects of one run.
"""

import datetime as dt
import re
from typing import Final

MAX_NAME: Final = 52  # Kubernetes' limit for names to which it adds a suffix, such as those of CronJobs
MAX_LABEL: Final = 63
_UID_DIGITS: Final = 8
_LATEST_START: Final = dt.timedelta(days=31)
_CLOCK_DIFFERENCE: Final = dt.timedelta(minutes=5)


def worker_job_name(run: str, uid: str, generation: int) -> str:
    """Return the name of the Kubernetes Job of a run's workers.

    Parameters
    ----------
    generation : int
        Number of the Job within the run, starting with 1.

    Examples
    --------
    >>> worker_job_name("prediabetes", "5f9bdc05-b6b2-4289-8746-c1b51198d1a5", 3)
    'prediabetes-5f9bdc05-w3'
    """
    tail = f"-{_digits(uid)}-w{generation}"
    return dns_label(run, MAX_NAME - len(tail)) + tail


def nightly_name(prefix: str, day: dt.date) -> str:
    """Return the name of the run for a day. The same day gives the same name.

    Examples
    --------
    >>> nightly_name("nightly", datetime.date(2026, 11, 24))
    'nightly-2026-11-24'
    """
    return f"{dns_label(prefix, MAX_NAME - 11)}-{day.isoformat()}"


def scheduled_time(job: str, now: dt.datetime) -> dt.datetime | None:
    """Return the scheduled time of a Kubernetes Job that a CronJob created; ``None`` if it was created manually.

    Kubernetes appends the scheduled time, in minutes since 1970, to the name of such a Job.

    Parameters
    ----------
    now : datetime
        Current time. The number is a scheduled time only if it lies within the past 31 days; otherwise it is part of
        the name. The clock may be five minutes slow.

    Examples
    --------
    >>> noon = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
    >>> scheduled_time("mlho-nightly-29924638", noon).isoformat()
    '2026-11-23T23:58:00+00:00'
    >>> scheduled_time("mlho-nightly-20261124", noon)
    """
    match = re.fullmatch(r".+-([0-9]{8})", job)
    if match is None:
        return None
    time = dt.datetime.fromtimestamp(60 * int(match[1]), dt.UTC)
    return time if now - _LATEST_START <= time <= now + _CLOCK_DIFFERENCE else None


def dns_label(text: str, length: int = MAX_LABEL) -> str:
    """Return a text as a DNS label: lower-case letters, digits and ``-``, starting with a letter and not ending with ``-``.

    Examples
    --------
    >>> dns_label("Pre.Diabetes_2026")
    'pre-diabetes-2026'
    """
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if not plain[:1].isalpha():
        plain = f"r-{plain}".rstrip("-")
    return plain[:length].rstrip("-")


def label_value(text: str) -> str:
    """Return a text as a label value: at most 63 letters, digits, ``-``, ``_`` and ``.``, starting and ending with a letter or digit."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "-", text)[:MAX_LABEL]
    return plain.strip("-_.")


def _digits(uid: str) -> str:
    digits = re.sub(r"[^a-z0-9]", "", uid.lower())[:_UID_DIGITS]
    if not digits:
        raise ValueError("the run has no uid: only a stored custom resource can have workers")
    return digits
