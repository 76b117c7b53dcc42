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
from scheduler.runs.stored import SCORING, StoredRun, read_document, stored_runs

_NAME: Final = re.compile(r"(?P<series>.+)-(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})")


@dataclass(frozen=True)
class Night:
    """A finished night."""

    name: str
    run_id: str
    n_rows: int
    """Event rows that its tables had."""
    events: Sequence[Mapping[str, Any]]
    """Its files of events, with ``size`` and ``version``."""


def day_of(name: str) -> dt.date | None:
    """Return the date at the end of a run's name; ``None`` if there is none.

    Examples
    --------
    >>> day_of("nightly-2026-11-24"), day_of("nightly")
    (datetime.date(2026, 11, 24), None)
    """
    match = _NAME.fullmatch(name)
    try:
        return dt.date.fromisoformat(match["day"]) if match else None
    except ValueError:
        return None


def finished_nights(store: Store) -> dict[str, StoredRun]:
    """Return the newest finished scoring run of each name that ends with a date."""
    runs = [
        run
        for run in stored_runs(store)
        if run.kind == SCORING and run.result is not None and day_of(run.name) is not None
    ]
    return {run.name: run for run in reversed(runs)}


def nights_before(store: Store, name: str, n: int) -> list[Night]:
    """Return the latest ``n`` finished nights of the same series with an earlier date, the latest first.

    Nights with a later date are ignored, so that a night is compared with the same nights even if it is scored late.
    """
    day, series = day_of(name), _series(name)
    nights = finished_nights(store)
    names = [
        night_name
        for night_name in nights
        if _series(night_name) == series and (day_of(night_name) or dt.date.max) < (day or dt.date.min)
    ]
    latest = sorted(names, key=lambda night_name: day_of(night_name) or dt.date.min, reverse=True)[:n]
    return [night for night in (_night(store, nights[name]) for name in latest) if night is not None]


def lost_files(store: Store, run: StoredRun) -> list[str]:
    """Return the files of scores that the manifest of a finished scoring run names and that no longer exist.

    Raise ArtifactDamaged if the manifest is damaged.
    """
    assert run.result is not None
    folder = run.result.rpartition("/")[0]
    found = set(store.keys(f"{folder}/"))
    parts = read_document(store, run.run_id, run.result)["parts"]
    files = [file for part in parts for file in (part, *part.get("delivered", ()))]
    return [name for file in files if (name := f"{folder}/{file['name']}") not in found]


def _series(name: str) -> str:
    match = _NAME.fullmatch(name)
    return match["series"] if match else name


def _night(store: Store, run: StoredRun) -> Night | None:
    assert run.result is not None
    try:
        scores = json.loads(store.get(run.result))["scores"]
        manifest = json.loads(store.get(run_key(run.run_id, "manifest.json")))
    except ArtifactNotFound:
        return None  # deleted meanwhile
    return Night(run.name, run.run_id, scores["ledger"]["rows_in"], manifest["events"])
