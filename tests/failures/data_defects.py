"""Seed defects in clean tables, and count how many the intended check finds and how many findings clean tables have.

    make data-defects [DATA_DEFECTS_ARGS='--resamples 200 --seeds 3']
    make data-defects DATA_DEFECTS_ARGS='--seeds 0 --resamples 50 --first 150'   # a quarter of the clean tables

Every kind of defect states its dose and the check that must find it. Each seed draws new clean tables. A false alarm is any finding,
warnings included, in tables without a defect. The short form is ``test_data_defects.py``.
"""

import argparse
import contextlib
import datetime as dt
import json
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import structlog

from mlho.steps.base import Task
from mlho.steps.records import Outcome, read_commit
from mlho.store.keys import blob_key
from mlho.store.local import LocalStore
from scheduler.engine.loop import carry_out
from scheduler.engine.manifest import make_manifest
from scheduler.engine.training_run import TrainingRun
from tests.builders import InlineExecutor, NullObserver, make_spec

GLUCOSE, CREATININE = "GLU", "CREA"
SITES = ("A", "B", "C")
CHANGES: Final[dict[str, Any]] = {
    "data.tables": {
        "events": "events.parquet",
        "labels": "labels.parquet",
        "demographics": "demographics.parquet",
    },
    "cohort": {"outcome": "readmit", "index": {"column": "index_date"}, "outcomeDate": "outcome_date"},
    "features": {"aggregates": ["presence", "last"], "demographics": ["age", "sex"]},
    "validation": {
        "split": "given",
        "splitColumn": "site",
        "iterations": 1,
        "folds": 2,
        "bootstrapReplicates": 0,
    },
    "leakage": {"action": "warn"},
}


@dataclass
class Frames:
    """Tables, and the changes of the specification that they need."""

    events: pd.DataFrame
    labels: pd.DataFrame
    demographics: pd.DataFrame
    changes: dict[str, Any] = field(default_factory=dict)


def make_clean(seed: int, n: int = 600) -> Frames:
    """Return four years of events of three sites: more on weekdays and at noon, two codes with numbers, and two codes that raise the risk."""
    rng = np.random.default_rng(seed)
    ids = np.array([f"p{number:05d}" for number in range(n)])
    codes = np.array(["250", *(f"C{number:02d}" for number in range(60))])
    has = rng.random((n, len(codes))) < rng.uniform(0.1, 0.6, len(codes))
    patient, code = np.nonzero(has)
    again = rng.poisson(1.0, len(patient)) + 1
    patient, code = np.repeat(patient, again), np.repeat(code, again)
    labs = np.repeat(np.arange(n), 8)
    names = np.concatenate([codes[code], np.where(np.arange(len(labs)) % 2, GLUCOSE, CREATININE)])
    number = np.where(
        names[len(code) :] == GLUCOSE,
        rng.lognormal(np.log(100), 0.2, len(labs)),
        rng.lognormal(0, 0.2, len(labs)),
    )
    patient = np.concatenate([patient, labs])
    events = pd.DataFrame(
        {
            "patient_id": ids[patient],
            "time": _times(rng, len(patient)),
            "code": names,
            "numeric_value": np.concatenate([np.full(len(code), np.nan), number.round(3)]),
        }
    )
    risk = 1 / (1 + np.exp(1.5 - has[:, 1] - has[:, 2]))
    label = (rng.random(n) < risk).astype(np.int8)
    index = np.datetime64("2019-01-01", "us") + rng.integers(0, 20, n) * np.timedelta64(1, "D")
    outcome = pd.Series(index + rng.integers(1, 300, n) * np.timedelta64(1, "D")).where(label == 1)
    labels = pd.DataFrame(
        {
            "patient_id": ids,
            "index_date": index,
            "readmit": label,
            "outcome_date": outcome,
            "site": rng.choice(SITES, n),
        }
    )
    demographics = pd.DataFrame(
        {
            "patient_id": ids,
            "age": rng.normal(60, 12, n).round(1),
            "sex": rng.choice(["female", "male"], n),
            "birth_date": np.datetime64("1950-01-01", "us")
            + rng.integers(0, 9000, n) * np.timedelta64(1, "D"),
        }
    )
    return Frames(events, labels, demographics)


def _times(rng: Any, n: int) -> Any:
    days = np.arange(np.datetime64("2015-01-01"), np.datetime64("2019-01-01"))
    weekday = (days.astype(int) + 3) % 7
    weight = np.where(weekday < 5, 1.0, 0.15)
    day = rng.choice(days, n, p=weight / weight.sum()).astype("datetime64[us]")
    seconds = np.clip(rng.normal(12 * 3600, 2.5 * 3600, n), 1, 86_399).astype(int)
    return day + seconds * np.timedelta64(1, "s")


class _EnoughError(Exception):
    """Raised to end the run after the checks."""


class _UntilChecks(InlineExecutor):
    def submit(self, task: Task) -> "Future[Outcome]":
        if task.kind == "check_splits":
            raise _EnoughError
        return super().submit(task)


def findings_of(frames: Frames, folder: Path) -> set[str]:
    """Return the checks that have a finding. The run ends before anything is split or trained."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("events", "labels", "demographics"):
        getattr(frames, name).to_parquet(folder / f"{name}.parquet", index=False)
    spec, store = make_spec({**CHANGES, **frames.changes}), LocalStore(folder / "store")
    run = TrainingRun(spec, make_manifest(spec.spec.data.tables, folder), folder, store)
    executor = _UntilChecks(store, folder)
    with contextlib.suppress(_EnoughError):
        carry_out(run, executor, NullObserver(), n_slots=1)
    found: set[str] = set()
    for task in executor.submitted:
        if task.kind in ("check_leakage", "check_quality"):
            commit = read_commit(store, task.key)
            assert commit is not None
            for file in commit.files.values():
                document = json.loads(store.get(blob_key(file.sha256)))
                found |= {finding["check"] for finding in document["findings"]}
    return found


Defect = Callable[[Frames, Any], None]


@dataclass(frozen=True)
class Kind:
    """A kind of defect: its name with the dose, the check that must find it, and the function that seeds it."""

    name: str
    check: str
    seed_in: Defect


def _some(rng: Any, rows: Any, share: float) -> Any:
    return rows & (rng.random(len(rows)) < share)


def _set(column: str, value: Any, share: float, code: str | None = None) -> Defect:
    """Replace a share of a column of the events by a value, or by a function of the old values."""

    def defect(frames: Frames, rng: Any) -> None:
        every = (
            np.ones(len(frames.events), np.bool_)
            if code is None
            else (frames.events["code"] == code).to_numpy()
        )
        rows = _some(rng, every, share)
        old = frames.events.loc[rows, column]
        frames.events.loc[rows, column] = value(old) if callable(value) else value

    return defect


def _of_year(year: int, change: Callable[[Any], Any], share: float = 1.0) -> Defect:
    def defect(frames: Frames, rng: Any) -> None:
        rows = _some(rng, (frames.events["time"].dt.year == year).to_numpy(), share)
        frames.events.loc[rows, "time"] = change(frames.events.loc[rows, "time"])

    return defect


def _drop(which: Callable[[Frames, Any], Any], share: float = 1.0) -> Defect:
    def defect(frames: Frames, rng: Any) -> None:
        frames.events = frames.events[~_some(rng, np.asarray(which(frames, rng)), share)].reset_index(
            drop=True
        )

    return defect


def _repeat(which: Callable[[Frames, Any], Any]) -> Defect:
    def defect(frames: Frames, rng: Any) -> None:
        frames.events = pd.concat(
            [frames.events, frames.events[np.asarray(which(frames, rng))]], ignore_index=True
        )

    return defect


def _in_months(*months: str) -> Callable[[Frames, Any], Any]:
    return lambda frames, _: frames.events["time"].dt.strftime("%Y-%m").isin(months).to_numpy()


def _at_sites(*sites: str) -> Callable[[Frames, Any], Any]:
    return lambda frames, _: (
        frames.events["patient_id"].map(frames.labels.set_index("patient_id")["site"]).isin(sites).to_numpy()
    )


def _both(*parts: Callable[[Frames, Any], Any]) -> Callable[[Frames, Any], Any]:
    return lambda frames, rng: np.logical_and.reduce([part(frames, rng) for part in parts])


def _patients(frames: Frames, rng: Any, share: float, label: int | None = None) -> Any:
    rows = frames.labels if label is None else frames.labels[frames.labels["readmit"] == label]
    return rows["patient_id"][rng.random(len(rows)) < share]


def _without_patients(share: float, label: int | None = None) -> Defect:
    return _drop(lambda frames, rng: frames.events["patient_id"].isin(_patients(frames, rng, share, label)))


def _at_site(change: Callable[[Any], Any], *sites: str) -> Defect:
    def defect(frames: Frames, rng: Any) -> None:
        rows = _at_sites(*sites)(frames, rng)
        frames.events.loc[rows, "code"] = change(frames.events.loc[rows, "code"])

    return defect


def _proxy(code: str, of_positive: float, of_negative: float, *, value: bool = False) -> Defect:
    """Add a code, dated the day before the index date. With ``value``, its number reveals the outcome."""

    def defect(frames: Frames, rng: Any) -> None:
        positive = frames.labels["readmit"] == 1
        chosen = frames.labels[rng.random(len(positive)) < np.where(positive, of_positive, of_negative)]
        number = chosen["readmit"] * 5.0 + rng.uniform(1, 2, len(chosen)) if value else np.nan
        rows = pd.DataFrame(
            {
                "patient_id": chosen["patient_id"],
                "time": chosen["index_date"] - pd.Timedelta(hours=13),
                "code": code,
                "numeric_value": number,
            }
        )
        frames.events = pd.concat([frames.events, rows], ignore_index=True)

    return defect


def _missing(column: str, label: int, share: float) -> Defect:
    def defect(frames: Frames, rng: Any) -> None:
        frames.demographics.loc[
            frames.demographics["patient_id"].isin(_patients(frames, rng, share, label)), column
        ] = None

    return defect


def _early_outcome(share: float, days: int) -> Defect:
    def defect(frames: Frames, rng: Any) -> None:
        rows = _some(rng, (frames.labels["readmit"] == 1).to_numpy(), share)
        frames.labels.loc[rows, "outcome_date"] = frames.labels.loc[rows, "index_date"] - pd.Timedelta(
            days=days
        )

    return defect


def _late_index(share: float, date: dt.datetime) -> Defect:
    def defect(frames: Frames, rng: Any) -> None:
        rows = _some(rng, np.ones(len(frames.labels), np.bool_), share)
        frames.labels.loc[rows, ["index_date", "outcome_date"]] = date, date + dt.timedelta(days=30)
        frames.labels.loc[frames.labels["readmit"] == 0, "outcome_date"] = pd.NaT

    return defect


def _after_outcome(frames: Frames, rng: Any) -> None:
    frames.changes["cohort"] = {**CHANGES["cohort"], "index": "none"}
    _proxy("LETTER", 0.5, 0.5)(frames, rng)
    rows = frames.events["code"] == "LETTER"
    later = frames.labels.set_index("patient_id")["outcome_date"] + pd.Timedelta(hours=30)
    dates = frames.events.loc[rows, "patient_id"].map(later)
    frames.events.loc[rows, "time"] = dates.fillna(frames.events.loc[rows, "time"])


def _twins(frames: Frames, rng: Any) -> None:
    chosen = set(_patients(frames, rng, 0.05))
    for name in ("events", "labels", "demographics"):
        table = getattr(frames, name)
        again = table[table["patient_id"].isin(chosen)].assign(
            patient_id=lambda rows: "q" + rows["patient_id"]
        )
        setattr(frames, name, pd.concat([table, again], ignore_index=True))


def _texts(bad: str, share: float) -> Defect:
    def defect(frames: Frames, rng: Any) -> None:
        frames.events["time"] = frames.events["time"].dt.strftime("%Y-%m-%dT%H:%M:%S")
        _set("time", bad, share)(frames, rng)

    return defect


def _before_birth(frames: Frames, rng: Any) -> None:
    rows = _some(rng, np.ones(len(frames.events), np.bool_), 0.05)
    birth = frames.events["patient_id"].map(frames.demographics.set_index("patient_id")["birth_date"])
    frames.events.loc[rows, "time"] = birth[rows] - pd.Timedelta(days=200)


def _range(frames: Frames, rng: Any) -> None:
    frames.changes["quality"] = {"codes": {GLUCOSE: {"range": [30, 300]}}}
    _set("numeric_value", lambda old: old * 4, 0.1, GLUCOSE)(frames, rng)


def _numbers(code: str, factor: float, first: str, last: str, share: float = 1.0) -> Defect:
    """Multiply the values of a code in the months from ``first`` to ``last``."""

    def defect(frames: Frames, rng: Any) -> None:
        month = frames.events["time"].dt.strftime("%Y-%m")
        rows = _some(rng, ((frames.events["code"] == code) & month.between(first, last)).to_numpy(), share)
        frames.events.loc[rows, "numeric_value"] *= factor

    return defect


def _carried(code: str, share: float) -> Defect:
    """Replace values of a code by the previous value of the patient."""

    def defect(frames: Frames, rng: Any) -> None:
        rows = frames.events[frames.events["code"] == code].sort_values(["patient_id", "time"], kind="stable")
        is_kept = (rng.random(len(rows)) >= share) | ~rows["patient_id"].duplicated()
        frames.events.loc[rows.index, "numeric_value"] = rows["numeric_value"].where(is_kept).ffill()

    return defect


def _others(frames: Frames, rng: Any) -> None:
    more = [
        frames.events.assign(patient_id=f"other{place}-" + frames.events["patient_id"]) for place in range(2)
    ]
    frames.events = pd.concat([frames.events, *more], ignore_index=True)


def _from_year(year: int, share: float) -> Defect:
    def defect(frames: Frames, rng: Any) -> None:
        names = np.unique(frames.events["code"])
        chosen = set(names[rng.random(len(names)) < share])
        rows = frames.events["code"].isin(chosen) & (frames.events["time"].dt.year >= year)
        frames.events.loc[rows, "code"] = "NEW-" + frames.events.loc[rows, "code"]

    return defect


def _ends(which: Callable[[Any], Any], share: float) -> Defect:
    def rows(frames: Frames, rng: Any) -> Any:
        names = np.unique(frames.events["code"])
        return frames.events["code"].isin(names[rng.random(len(names)) < share]) & which(
            frames.events["time"].dt.year
        )

    return _drop(rows)


def _month_start(times: Any) -> Any:
    return times - pd.to_timedelta(times.dt.day - 1, unit="D")


def _shift(**by: float) -> Callable[[Any], Any]:
    return lambda old: old + pd.Timedelta(**by)


KINDS: Final[tuple[Kind, ...]] = (
    Kind("code NA in 5 % of the rows", "code-form", _set("code", "NA", 0.05)),
    Kind("code nan in 2 %", "code-form", _set("code", "nan", 0.02)),
    Kind("code NULL in 2 %", "code-form", _set("code", "NULL", 0.02)),
    Kind("codes read as numbers: 250.0", "code-form", _set("code", "250.0", 1, "250")),
    Kind("codes read as numbers: 2.5e+02", "code-form", _set("code", "2.5e+02", 1, "250")),
    Kind("blank after the code in 2 %", "code-form", _set("code", lambda old: old + " ", 0.02)),
    Kind("codes in lower case in 5 %", "code-variants", _set("code", lambda old: old.str.lower(), 0.05)),
    Kind(
        "blank within the code in 5 %",
        "code-variants",
        _set("code", lambda old: old.str[0] + " " + old.str[1:], 0.05),
    ),
    Kind("codes of one site in lower case", "code-variants", _at_site(lambda old: old.str.lower(), "B")),
    Kind("code missing in 10 %", "unusable-rows", _set("code", None, 0.1)),
    Kind("code empty in 10 %", "unusable-rows", _set("code", "", 0.1)),
    Kind("control character in 10 % of the codes", "unusable-rows", _set("code", "A\x07", 0.1)),
    Kind("free text of 2,000 characters as code in 10 %", "unusable-rows", _set("code", "x" * 2000, 0.1)),
    Kind("patient missing in 10 %", "unusable-rows", _set("patient_id", None, 0.1)),
    Kind("patient empty in 10 %", "unusable-rows", _set("patient_id", "", 0.1)),
    Kind("time missing in 10 %", "unusable-rows", _set("time", pd.NaT, 0.1)),
    Kind("unreadable time in 10 %", "unusable-rows", _texts("31/31/2016", 0.1)),
    Kind("Excel's serial number as time in 10 %", "unusable-rows", _texts("#####", 0.1)),
    Kind(
        "leading zero in 60 % of the ids", "unknown-patients", _set("patient_id", lambda old: "0" + old, 0.6)
    ),
    Kind(
        "ids cut by a character in 70 %",
        "unknown-patients",
        _set("patient_id", lambda old: old.str[:-1], 0.7),
    ),
    Kind("events of two other cohorts", "unknown-patients", _others),
    Kind("no events of 60 % of the patients", "empty-samples", _without_patients(0.6)),
    Kind("one month lost", "months", _drop(_in_months("2016-06"))),
    Kind("three months lost", "months", _drop(_in_months("2016-06", "2016-07", "2016-08"))),
    Kind("90 % of one month lost (truncated partition)", "months", _drop(_in_months("2017-03"), 0.9)),
    Kind("one month of one site lost", "site-months", _drop(_both(_in_months("2016-06"), _at_sites("B")))),
    Kind(
        "two months of one site lost",
        "site-months",
        _drop(_both(_in_months("2016-06", "2016-07"), _at_sites("C"))),
    ),
    Kind(
        "numbers lost in 50 % of the rows of a code",
        "values-missing",
        _set("numeric_value", np.nan, 0.5, GLUCOSE),
    ),
    Kind(
        "numbers lost in 30 % of the rows of a code",
        "values-missing",
        _set("numeric_value", np.nan, 0.3, CREATININE),
    ),
    Kind("age missing in 40 % with the outcome", "missing-by-outcome", _missing("age", 1, 0.4)),
    Kind("sex missing in 40 % without the outcome", "missing-by-outcome", _missing("sex", 0, 0.4)),
    Kind("no events of 30 % without the outcome", "missing-by-outcome", _without_patients(0.3, 0)),
    Kind("year 2999 in 5 %", "implausible-dates", _set("time", np.datetime64("2999-01-01", "us"), 0.05)),
    Kind("year 1800 in 5 %", "implausible-dates", _set("time", np.datetime64("1800-01-01", "us"), 0.05)),
    Kind("dates before birth in 5 %", "implausible-dates", _before_birth),
    Kind("index date in 2062 of 3 %", "late-index", _late_index(0.03, dt.datetime(2062, 3, 1))),
    Kind("index date half a year late of 3 %", "late-index", _late_index(0.03, dt.datetime(2019, 7, 1))),
    Kind("every row twice", "duplicates", _repeat(lambda frames, _: np.ones(len(frames.events), np.bool_))),
    Kind(
        "30 % of the rows twice",
        "duplicates",
        _repeat(lambda frames, rng: rng.random(len(frames.events)) < 0.3),
    ),
    Kind("rows of one site twice", "duplicates", _repeat(_at_sites("A"))),
    Kind(
        "-999 in 5 % of the numbers of a code",
        "placeholder-values",
        _set("numeric_value", -999.0, 0.05, GLUCOSE),
    ),
    Kind("9999 in 5 %", "placeholder-values", _set("numeric_value", 9999.0, 0.05, GLUCOSE)),
    Kind("-1 in 5 %", "placeholder-values", _set("numeric_value", -1.0, 0.05, CREATININE)),
    Kind("sign changed in 5 %", "negative-values", _set("numeric_value", lambda old: -old, 0.05, GLUCOSE)),
    Kind("sign changed in 50 %", "negative-values", _set("numeric_value", lambda old: -old, 0.5, CREATININE)),
    Kind(
        "20 % of glucose in mmol/l (÷ 18)",
        "two-scales",
        _set("numeric_value", lambda old: old / 18, 0.2, GLUCOSE),
    ),
    Kind(
        "10 % of creatinine in µmol/l (× 88.4)",
        "two-scales",
        _set("numeric_value", lambda old: old * 88.4, 0.1, CREATININE),
    ),
    Kind(
        "5 % of a code × 1,000", "two-scales", _set("numeric_value", lambda old: old * 1000, 0.05, CREATININE)
    ),
    Kind("5 % of a code ÷ 1,000", "two-scales", _set("numeric_value", lambda old: old / 1000, 0.05, GLUCOSE)),
    Kind("numbers outside a given range (× 4) in 10 %", "value-range", _range),
    Kind(
        "one month of glucose in mmol/l (÷ 18)",
        "value-jumps",
        _numbers(GLUCOSE, 1 / 18, "2016-06", "2016-06"),
    ),
    Kind(
        "40 % of one month of creatinine in µmol/l (× 88.4)",
        "value-jumps",
        _numbers(CREATININE, 88.4, "2016-06", "2016-06", 0.4),
    ),
    Kind("creatinine × 1.6 from 2017 on", "value-jumps", _numbers(CREATININE, 1.6, "2017-01", "2018-12")),
    Kind("first month of glucose × 10", "value-jumps", _numbers(GLUCOSE, 10, "2015-01", "2015-01")),
    Kind("60 % of glucose carried forward", "copy-forward", _carried(GLUCOSE, 0.6)),
    Kind("80 % of creatinine carried forward", "copy-forward", _carried(CREATININE, 0.8)),
    Kind("60 % of the codes renamed from 2017 on", "code-churn", _from_year(2017, 0.6)),
    Kind("60 % of the codes begin in 2017", "code-churn", _ends(lambda year: year < 2017, 0.6)),
    Kind("60 % of the codes end in 2016", "code-churn", _ends(lambda year: year > 2016, 0.6)),
    Kind("local codes of one site", "one-site", _at_site(lambda old: "B:" + old, "B")),
    Kind("local codes of two sites", "one-site", _at_site(lambda old: "L:" + old, "C")),
    Kind("50 % of the times at midnight", "midnight", _set("time", lambda old: old.dt.floor("D"), 0.5)),
    Kind("90 % of the times at midnight", "midnight", _set("time", lambda old: old.dt.floor("D"), 0.9)),
    Kind("15 % on the first of the month", "first-of-month", _set("time", _month_start, 0.15)),
    Kind("all dates cut to the month", "first-of-month", _set("time", _month_start, 1)),
    Kind(
        "20 % on the first of January",
        "first-of-month",
        _set("time", np.datetime64("2016-01-01T09", "us"), 0.2),
    ),
    Kind("time zone +8 hours in 2017", "hours", _of_year(2017, _shift(hours=8))),
    Kind("time zone -6 hours in 2018", "hours", _of_year(2018, _shift(hours=-6))),
    Kind(
        "a.m. and p.m. lost in 2016",
        "hours",
        _of_year(2016, lambda old: old.dt.floor("D") + (old - old.dt.floor("D")) % pd.Timedelta(hours=12)),
    ),
    Kind("dates of 2016 3 days later", "weekdays", _of_year(2016, _shift(days=3))),
    Kind("dates of 2017 2 days earlier", "weekdays", _of_year(2017, _shift(days=-2))),
    Kind("a code of all with the outcome", "one-code-auroc", _proxy("HOSPICE", 1.0, 0.01)),
    Kind("a number that tells the outcome", "one-code-auroc", _proxy("SCORE", 1.0, 1.0, value=True)),
    Kind(
        "a code of half with the outcome, of none without",
        "outcome-given-code",
        _proxy("DISCHARGE", 0.5, 0.0),
    ),
    Kind(
        "a code of all with the outcome, of 35 % without", "code-given-outcome", _proxy("LETTER", 1.0, 0.35)
    ),
    Kind("a code of 95 % with and of 2 % without", "co-occurrence", _proxy("PALLIATIVE", 0.95, 0.02)),
    Kind("a code named like the outcome", "name", _proxy("READMISSION", 0.6, 0.05)),
    Kind("10 % of the outcomes before the index date", "outcome-dates", _early_outcome(0.1, 20)),
    Kind("all outcomes on the index date", "outcome-dates", _early_outcome(1.0, 0)),
    Kind("a code recorded from the outcome on (no index date)", "after-outcome", _after_outcome),
    Kind("5 % of the patients under two ids", "near-duplicates", _twins),
)


def seeded(kind: Kind, seed: int) -> Frames:
    """Return clean tables with the defect seeded in."""
    frames = make_clean(seed)
    kind.seed_in(frames, np.random.default_rng(10_000 + seed))
    return frames


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """Print each kind that was missed, each false alarm, and the two rates with their promised bounds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--resamples", type=int, default=200, help="clean tables (default: 200)")
    parser.add_argument("--first", type=int, default=0, help="number of the first clean tables (default: 0)")
    parser.add_argument("--seeds", type=int, default=1, help="tables for each kind, 0 for none (default: 1)")
    options = parser.parse_args()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    caught, alarms = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for number, kind in enumerate(KINDS):
            for seed in range(options.seeds):
                found = findings_of(seeded(kind, seed), Path(folder) / f"{number}-{seed}")
                caught += kind.check in found
                if kind.check not in found:
                    _say(f"missed  {kind.name}: expected {kind.check}, found {sorted(found) or 'nothing'}")
        for seed in range(options.first, options.first + options.resamples):
            found = findings_of(make_clean(1000 + seed), Path(folder) / f"clean-{seed}")
            alarms += bool(found)
            if found:
                _say(f"alarm   clean tables {seed}: {sorted(found)}")
    total = len(KINDS) * options.seeds
    _say(
        f"caught  {caught} of {total} ({100 * caught / max(total, 1):.1f} %) of {len(KINDS)} kinds; promised 95 %"
    )
    _say(
        f"alarms  {alarms} of {options.resamples} clean tables ({100 * alarms / max(options.resamples, 1):.1f} %); promised 2 %"
    )
    return int(caught < 0.95 * total or alarms > 0.02 * options.resamples)


if __name__ == "__main__":
    sys.exit(main())
