"""Small cohorts with a planted signal, written as tables in a folder, and an executor that runs tasks in this process.

All data are drawn from a seed: equal arguments give equal tables. No data are of real patients.
"""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pytest
import structlog
import yaml
from pyarrow import csv, parquet

import scheduler.cli.parser
import scheduler.engine.process_pool
from mlho.spec.training import RunSpec, parse_spec
from mlho.steps.base import Task, execute
from mlho.steps.records import Outcome
from mlho.store.base import Store
from mlho.store.local import LocalStore
from mlho.store.memory import MemoryStore
from scheduler.engine.loop import Finished, carry_out
from scheduler.engine.manifest import make_manifest
from scheduler.engine.progress import Stages
from scheduler.engine.training_run import TrainingRun, compared

DAY_US: Final = 86_400_000_000
INFORMATIVE: Final = ("E11", "I10")  # codes that increase the risk of the outcome
CREATININE: Final = "LOINC:2160-0"  # a code with values; high values increase the risk of the outcome
_INDEX_US: Final = 18_000 * DAY_US  # 2019-04-14, the first index date of all patients except for a few days
_DBMART: Final = {
    "events": {"patient_id": "patient_num", "time": "start_date", "code": "phenx", "numeric_value": "value"},
    "labels": {"patient_id": "patient_num"},
    "demographics": {"patient_id": "patient_num"},
}


@dataclass(frozen=True)
class Tables:
    """A cohort as Arrow tables with our own column names."""

    events: Any
    labels: Any
    demographics: Any
    concepts: Any


def make_tables(n_patients: int = 300, *, seed: int = 0, n_noise: int = 10, prefix: str = "p") -> Tables:
    """Draw a cohort with two informative codes, one code with values, noise, and some invalid rows.

    A fifth of the patients have two samples, some demographics are missing, and one row in ten is duplicated, one of them
    with another value.
    """
    rng = np.random.default_rng(seed)
    ids = np.array([f"{prefix}{number:05d}" for number in range(n_patients)])
    has = rng.random((n_patients, len(INFORMATIVE))) < 0.35
    creatinine = rng.normal(1.0, 0.3, n_patients)
    n_samples = np.where(rng.random(n_patients) < 0.2, 2, 1)
    log_odds = -1.6 + has @ np.array([1.8, 1.4]) + 1.5 * (creatinine > 1.2)
    patient = np.repeat(np.arange(n_patients), n_samples)
    is_second = np.r_[False, patient[1:] == patient[:-1]]
    outcome = rng.random(len(patient)) < 1 / (1 + np.exp(-log_odds[patient]))
    index = _INDEX_US + rng.integers(0, 30, n_patients)[patient] * DAY_US + is_second * 200 * DAY_US
    labels = pa.table(
        {
            "patient_id": ids[patient],
            "index_date": pa.array(index, pa.timestamp("us")),
            "label": outcome.astype(np.int8),
        }
    )
    return Tables(
        _make_events(rng, ids, has, creatinine, n_noise),
        labels,
        _make_demographics(rng, ids),
        pa.table(
            {
                "code": [*INFORMATIVE, CREATININE],
                "description": ["Type 2 diabetes", "Essential hypertension", "Creatinine"],
                "low": [None, None, 0.6],
                "high": [None, None, 1.2],
            }
        ),
    )


def _make_events(rng: Any, ids: Any, has: Any, creatinine: Any, n_noise: int) -> Any:
    patient, code, value = [], [], []
    for column, name in enumerate(INFORMATIVE):
        carriers = np.repeat(np.flatnonzero(has[:, column]), 2)
        patient += ids[carriers].tolist()
        code += [name] * len(carriers)
        value += [None] * len(carriers)
    patient += ids.tolist()
    code += [CREATININE] * len(ids)
    value += np.round(creatinine, 3).tolist()
    for number in range(n_noise):
        carriers = np.flatnonzero(rng.random(len(ids)) < rng.uniform(0.05, 0.4))
        patient += ids[carriers].tolist()
        code += [f"N{number:02d}"] * len(carriers)
        value += [None] * len(carriers)
    # From a thousand days before the index dates to some days after them: each row has a different time.
    time = (
        _INDEX_US - rng.integers(-60, 1000, len(patient)) * DAY_US + rng.integers(0, DAY_US, len(patient))
    ).tolist()
    again = rng.choice(len(patient), len(patient) // 10, replace=False).tolist()
    rows = [*range(len(patient)), *again]
    # A duplicated row gets another value at the same time, so that a patient's latest value is a tie.
    value = [*value, *(None if value[row] is None else value[row] + 0.25 for row in again)]
    patient, code, time = ([column[row] for row in rows] for column in (patient, code, time))
    for number, (patient_id, what, when) in enumerate(
        [
            ("", "N00", _INDEX_US),
            ("p-unknown", "N00", _INDEX_US),
            (str(ids[0]), None, _INDEX_US),
            (str(ids[1]), "N01", None),
        ]
    ):
        for _ in range(number + 1):
            patient.append(patient_id)
            code.append(what)
            value.append(None)
            time.append(when)
    return pa.table(
        {
            "patient_id": pa.array(patient, pa.string()),
            "time": pa.array(time, pa.timestamp("us")),
            "code": pa.array(code, pa.string()),
            "numeric_value": pa.array(value, pa.float64()),
        }
    )


def _make_demographics(rng: Any, ids: Any) -> Any:
    age = np.round(rng.normal(60, 12, len(ids)), 1)
    sex = rng.choice(["female", "male"], len(ids))
    is_missing = rng.random((2, len(ids))) < 0.08
    return pa.table(
        {
            "patient_id": ids,
            "age": pa.array(np.where(is_missing[0], None, age).tolist(), pa.float64()),
            "sex": pa.array(np.where(is_missing[1], None, sex).tolist(), pa.string()),
            "birth_date": pa.array([-(number % 40) * 365 for number in range(len(ids))], pa.date32()),
        }
    )


def write_tables(
    folder: Path,
    tables: Tables,
    *,
    partitions: int = 2,
    by_patient: bool = False,
    shuffle: int | None = None,
    layout: str = "native",
    suffix: str = ".parquet",
) -> Path:
    """Write the tables into a folder, with the events in several files under ``events/``.

    Parameters
    ----------
    folder : Path
    tables : Tables
    partitions : int
        Number of events files. Rows alternate between them, so that a patient is in many, unless ``by_patient``.
    by_patient : bool
        Keep each patient's rows in one file.
    shuffle : int, optional
        Seed of a random order of every table's rows.
    layout : "native" or "dbmart"
        Layout of the column names.
    suffix : ".parquet", ".csv" or ".csv.gz"
    """
    names = _DBMART if layout == "dbmart" else {}
    (folder / "events").mkdir(parents=True, exist_ok=True)
    shuffled = {name: _shuffled(getattr(tables, name), shuffle) for name in vars(tables)}
    events = shuffled.pop("events")
    patients = events.column("patient_id").to_pylist()
    place = (
        np.array([sum(map(ord, text)) if by_patient else row for row, text in enumerate(patients)])
        % partitions
    )
    for number in range(partitions):
        part = events.take(np.flatnonzero(place == number))
        write_table(folder / "events" / f"part-{number}{suffix}", _renamed(part, names.get("events", {})))
    for name, table in shuffled.items():
        write_table(folder / f"{name}{suffix}", _renamed(table, names.get(name, {})))
    return folder


def write_table(path: Path, table: Any) -> None:
    """Write one table in the format of the file's suffix."""
    if path.suffix == ".parquet":
        parquet.write_table(table, path)
    else:
        with pa.output_stream(str(path), compression="gzip" if path.suffix == ".gz" else None) as stream:
            csv.write_csv(table, stream)


def _shuffled(table: Any, seed: int | None) -> Any:
    return table if seed is None else table.take(np.random.default_rng(seed).permutation(table.num_rows))


def _renamed(table: Any, names: Mapping[str, str]) -> Any:
    return table.rename_columns([names.get(name, name) for name in table.column_names])


_SPEC: Final[dict[str, Any]] = {
    "apiVersion": "mlho.io/v1alpha1",
    "kind": "TrainingRun",
    "metadata": {"name": "small"},
    "spec": {
        "data": {
            "tables": {
                "events": "events",
                "labels": "labels.parquet",
                "demographics": "demographics.parquet",
                "concepts": "concepts.parquet",
            }
        },
        "cohort": {"index": {"column": "index_date"}},
        "features": {"demographics": ["age", "sex"]},
        "selection": {"nFeatures": 6},
        "validation": {"iterations": 2, "folds": 2, "seed": 7, "bootstrapReplicates": 20},
        "candidates": [{"classifier": "glmboost", "grid": {"nSteps": [20, 50]}}],
    },
}


def make_document(
    changes: Mapping[str, Any] | None = None, *, uri: str = ".", name: str = "small"
) -> dict[str, Any]:
    """Return a specification as plain values; ``changes`` sets fields by path: ``{"validation.folds": 3}``; ``None`` removes one."""
    document = copy.deepcopy(_SPEC)
    document["metadata"]["name"] = name
    document["spec"]["data"]["uri"] = uri
    for path, value in (changes or {}).items():
        *parents, last = path.split(".")
        place = document["spec"]
        for part in parents:
            place = place.setdefault(part, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    return document


def make_spec(changes: Mapping[str, Any] | None = None) -> RunSpec:
    """Return the specification as a model."""
    return parse_spec(yaml.safe_dump(make_document(changes)))


def write_spec(
    folder: Path, changes: Mapping[str, Any] | None = None, *, uri: str = ".", name: str = "small"
) -> Path:
    """Write ``spec.yaml`` into a folder and return its path."""
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(make_document(changes, uri=uri, name=name), sort_keys=False))
    return path


@dataclass
class InlineExecutor:
    """An executor that runs a task in this process when it is submitted, and records it."""

    store: Store
    data: Path
    submitted: list[Task] = field(default_factory=list)

    def submit_all(self, tasks: Sequence[Task]) -> "list[Future[Outcome]]":
        """Return finished futures."""
        return [self.submit(task) for task in tasks]

    def submit(self, task: Task) -> "Future[Outcome]":
        """Return a finished future."""
        self.submitted.append(task)
        future: Future[Outcome] = Future()
        try:
            future.set_result(execute(task, self.store, self.data))
        except Exception as error:
            future.set_exception(error)
        return future


class NullObserver:
    """An observer that does nothing."""

    def update(self, stages: Stages, running: int) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Home:
    """A finished run and its properties for tests."""

    run: TrainingRun
    finished: Finished
    submitted: tuple[Task, ...]

    @property
    def digest(self) -> str:
        """Return the digest of the result."""
        return str(self.finished.report.facts["result_digest"])

    def bundle(self) -> dict[str, bytes]:
        """Return the files of the bundle by name."""
        store, prefix = self.run.store, f"runs/{self.finished.run_id}/bundle/"
        return {key.removeprefix(prefix): store.get(key) for key in store.keys(prefix)}

    def kinds(self) -> list[str]:
        """Return the kinds of the executed tasks in order."""
        return [task.kind for task in self.submitted]


def make_run(data: Path, store: Store | Path, changes: Mapping[str, Any] | None = None) -> TrainingRun:
    """Return a run on a folder of tables that has not started."""
    store = LocalStore(store) if isinstance(store, Path) else store
    spec = make_spec(changes)
    run_spec = spec.spec
    manifest = make_manifest(
        run_spec.data.tables, data, source=run_spec.data.source, further=run_spec.further_tables
    )
    return compared(TrainingRun(spec, manifest, data, store))


def run_inline(
    data: Path, store: Store | Path, changes: Mapping[str, Any] | None = None, *, n_slots: int = 3
) -> Home:
    """Carry out a run on a folder of tables, in this process."""
    run = make_run(data, store, changes)
    executor = InlineExecutor(run.store, data)
    finished = carry_out(run, executor, NullObserver(), n_slots=n_slots)
    return Home(run, finished, tuple(executor.submitted))


def runs_on(data: Path) -> Callable[[Mapping[str, Any]], Home]:
    """Return a function that gives the run of a specification on a folder of tables; each run is carried out once, in memory."""
    runs: dict[str, Home] = {}

    def run(changes: Mapping[str, Any]) -> Home:
        name = repr(changes)
        if name not in runs:
            runs[name] = run_inline(data, MemoryStore(), changes)
        return runs[name]

    return run


@dataclass(frozen=True)
class CommandOutput:
    """The outcome of a command: exit code, output, and store."""

    code: int
    out: str
    err: str
    store: Path

    @property
    def error(self) -> str:
        """Return the lines of stderr that are not JSON logs, and the error that ended a command with such a log, as text."""
        lines = []
        for line in self.err.splitlines():
            if not line.startswith("{"):
                lines.append(line)
            elif (event := json.loads(line))["event"] == "command_failed":
                lines.append(f"error: {event['error']}")
        return "\n".join(lines)

    @property
    def results(self) -> list[Path]:
        """Return the results in the store."""
        return list(self.store.glob("runs/*/result.json"))


class InlinePool:
    """Executes a task as a worker does, in this process. ``before`` is called first."""

    before: Callable[[Task], Any] | None = None

    def __init__(self, store_address: str, data: Path, *, n_workers: int) -> None:
        self._where = store_address, data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        return

    def submit_all(self, tasks: Sequence[Task]) -> "list[Future[Outcome]]":
        """Return finished futures."""
        return [self.submit(task) for task in tasks]

    def submit(self, task: Task) -> "Future[Outcome]":
        """Return a finished future."""
        if InlinePool.before:
            InlinePool.before(task)
        future: Future[Outcome] = Future()
        try:
            future.set_result(scheduler.engine.process_pool._execute(task, *self._where))
        except Exception as error:
            future.set_exception(error)
        return future


def call_command(
    arguments: Sequence[object], store: Path, capsys: pytest.CaptureFixture[str]
) -> CommandOutput:
    """Call the command. An exception fails the test, because a user would see a traceback."""
    capsys.readouterr()
    try:
        code = scheduler.cli.parser.main([*map(str, arguments), "--store", str(store)])
    finally:
        structlog.reset_defaults()  # the command's logs go to this test's stderr, which ends with it
    captured = capsys.readouterr()
    return CommandOutput(code, captured.out, captured.err, store)
