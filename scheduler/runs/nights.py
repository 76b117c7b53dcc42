"""Nights: the scoring runs of a store whose names end with a date, such as ``nightly-2026-11-24``."""

import datetime as dt
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mlho.errors import ArtifactNotFound
from mlho.store.base import Store
from mlho.store.keys import run_key
from scheduler.runs.stored import SCORING, StoredRun, stored_runs

_NAME: Final = re.compile(r"(?P<series>.+)-(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})")


@dataclass(frozen=True)
class Night:
    """A finished night.

    Attributes
    ----------
    n_rows : int
        Event rows that its tables had.
    events : sequence of mapping
        Its files of events, with ``size`` and ``version``.
    """

    name: str
    run_id: str
    n_rows: int
    events: Sequence[Mapping[str, Any]]


def day_of(name: str) -> dt.date | None:
    """Return the date at the end of a run's name; ``None`` if there is none.

    Examples
    --------
    >>> day_of("nightly-2026-11-24"), day_of("nightly")
    (datetime.date(2026, 11, 24), None)
    """
    found = _NAME.fullmatch(name)
    try:
        return dt.date.fromisoformat(found["day"]) if found else None
    except ValueError:
        return None


def finished_nights(store: Store) -> dict[str, StoredRun]:
    """Return the newest finished scoring run of each name that ends with a date."""
    runs = [
        own
        for own in stored_runs(store)
        if own.kind == SCORING and own.result is not None and day_of(own.name) is not None
    ]
    return {own.name: own for own in reversed(runs)}


def nights_before(store: Store, name: str, n: int) -> list[Night]:
    """Return the latest ``n`` finished nights of the same series with an earlier date, the latest first.

    What was scored for a later date does not count, so that a night that is scored late is compared with the same nights.
    """
    day, series = day_of(name), _series(name)
    nights = finished_nights(store)
    names = [
        own
        for own in nights
        if _series(own) == series and (day_of(own) or dt.date.max) < (day or dt.date.min)
    ]
    latest = sorted(names, key=lambda own: day_of(own) or dt.date.min, reverse=True)[:n]
    return [own for own in (_night(store, nights[name]) for name in latest) if own is not None]


def _series(name: str) -> str:
    found = _NAME.fullmatch(name)
    return found["series"] if found else name


def _night(store: Store, run: StoredRun) -> Night | None:
    assert run.result is not None
    try:
        scores = json.loads(store.get(run.result))["scores"]
        manifest = json.loads(store.get(run_key(run.run_id, "manifest.json")))
    except ArtifactNotFound:
        return None  # deleted meanwhile
    return Night(run.name, run.run_id, scores["ledger"]["rows_in"], manifest["events"])
