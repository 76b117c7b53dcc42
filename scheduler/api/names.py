"""Names of Kubernetes objects: valid, short enough, and free of collisions.

A Kubernetes Job's name becomes a label's value (63 characters) and the beginning of its pods' names (six more), and the
name of a run may be as long and hold dots. So a name is made of a readable beginning, eight digits of the run's uid,
which no other run has, and what distinguishes it from its siblings.
"""

import datetime as dt
import re
from typing import Final

MAX_NAME: Final = 52  # what Kubernetes itself keeps to where it adds to a name
MAX_LABEL: Final = 63
_UID_DIGITS: Final = 8


def worker_job_name(run: str, uid: str, generation: int) -> str:
    """Name of the Kubernetes Job of a run's workers.

    Parameters
    ----------
    run : str
        Name of the custom resource.
    uid : str
        Its uid.
    generation : int
        Number of the Job among those of the run, from 1.

    Examples
    --------
    >>> worker_job_name("prediabetes", "5f9bdc05-b6b2-4289-8746-c1b51198d1a5", 3)
    'prediabetes-5f9bdc05-w3'
    """
    tail = f"-{_digits(uid)}-w{generation}"
    return dns_label(run, MAX_NAME - len(tail)) + tail


def lease_name(release: str) -> str:
    """Name of the Lease that the scheduler's replicas compete for."""
    return dns_label(release, MAX_NAME - len("-scheduler")) + "-scheduler"


def nightly_name(prefix: str, day: dt.date) -> str:
    """Name of the run that belongs to a day: made twice, it is the same run.

    Examples
    --------
    >>> nightly_name("nightly", datetime.date(2026, 11, 24))
    'nightly-2026-11-24'
    """
    return f"{dns_label(prefix, MAX_NAME - 11)}-{day.isoformat()}"


def dns_label(text: str, length: int = MAX_LABEL) -> str:
    """A text as a DNS label: lower-case letters, digits and ``-``, beginning with a letter, ending with neither ``-``.

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
    """A text as the value of a label: at most 63 letters, digits, ``-``, ``_`` and ``.``, and well begun and ended."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "-", text)[:MAX_LABEL]
    return plain.strip("-_.")


def _digits(uid: str) -> str:
    digits = re.sub(r"[^a-z0-9]", "", uid.lower())[:_UID_DIGITS]
    if not digits:
        raise ValueError("a run without uid: only an object that the API server holds has workers")
    return digits
