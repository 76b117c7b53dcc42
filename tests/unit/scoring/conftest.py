"""A small trained run and its bundle, and scoring runs on it in this process."""

import copy
import datetime as dt
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from mlho.model.bundle import Bundle, load_bundle
from mlho.spec.scoring import parse_scoring_spec
from mlho.steps.base import Task
from mlho.store.base import Store
from mlho.store.local import LocalStore
from scheduler.engine.loop import Finished, carry_out
from scheduler.engine.scoring_run import ScoringRun, prepare_scoring
from tests.builders import Home, InlineExecutor, NullObserver, Tables, make_tables, run_inline, write_tables

CHANGES = {
    "features.aggregates": ["presence", "count", "last", "outOfRange", "mean", "recency"],
    "features.windows": [365, 900],
    "features.sequences": {"maxCandidates": 3},
    "features.allHistory": True,
    "features.utilisation": True,
    "features.demographics": ["age", "sex", "index_year", "index_month"],
    "cohort.gapDays": 5,
    "data.duplicates": "drop",
    "selection.nFeatures": 16,  # enough for values to be among them
}
SCORE = {
    "apiVersion": "mlho.io/v1alpha1",
    "kind": "ScoringRun",
    "metadata": {"name": "nightly"},
    "spec": {
        "bundle": {"uri": "bundle"},
        "data": {
            "tables": {
                "events": "events",
                "cohort": "labels.parquet",
                "demographics": "demographics.parquet",
            },
            "partitionedBy": "patient",
        },
        "index": {"column": "index_date"},
    },
}
AS_OF = {"index": {"date": dt.date(2019, 5, 1)}, "data.tables.cohort": None}


def make_score_document(changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a scoring specification as plain values; ``changes`` sets fields by path, and ``None`` removes them."""
    document = copy.deepcopy(SCORE)
    for path, value in (changes or {}).items():
        *parents, last = path.split(".")
        place: Any = document["spec"]
        for part in parents:
            place = place.setdefault(part, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    return document


@dataclass(frozen=True)
class Scored:
    """A finished scoring run, with access to its files."""

    run: ScoringRun
    finished: Finished
    submitted: tuple[Task, ...]

    def file(self, name: str) -> bytes:
        """Return a published file."""
        return self.run.store.get(self.run.key(name))

    @property
    def manifest(self) -> dict[str, Any]:
        """Return the manifest."""
        return json.loads(self.file("manifest.json"))

    @property
    def scores(self) -> dict[str, Any]:
        """Return the summary."""
        return json.loads(self.file("scores.json"))

    def parts(self) -> dict[str, bytes]:
        """Return the files of the parts by name."""
        return {part["name"]: self.file(part["name"]) for part in self.manifest["parts"]}

    def table(self) -> pd.DataFrame:
        """Return all rows, by patient and index date."""
        tables = [pq.read_table(io.BytesIO(content)) for content in self.parts().values()]
        frame = pa.concat_tables(tables).to_pandas()
        return frame.sort_values(["patient_id", "index_date"]).reset_index(drop=True)

    def kinds(self) -> list[str]:
        """Return the kinds of the tasks that ran."""
        return [task.kind for task in self.submitted]


@dataclass
class FailingExecutor(InlineExecutor):
    """An executor that is interrupted after ``n_tasks`` tasks."""

    n_tasks: int = 0

    def submit(self, task: Task) -> Any:
        if len(self.submitted) >= self.n_tasks:
            raise KeyboardInterrupt
        return super().submit(task)


def prepare(folder: Path, store: Store, changes: Mapping[str, Any] | None = None) -> ScoringRun:
    """Prepare a scoring run on the tables in a folder."""
    spec = parse_scoring_spec(yaml.safe_dump(make_score_document(changes)))
    return prepare_scoring(spec, folder / "score.yaml", store, inspect=lambda *_: None)


def score_inline(
    folder: Path, store: Store, changes: Mapping[str, Any] | None = None, *, n_slots: int = 3
) -> Scored:
    """Carry out a scoring run on the tables in a folder, in this process."""
    run = prepare(folder, store, changes)
    executor = InlineExecutor(store, folder)
    finished = carry_out(run, executor, NullObserver(), n_slots=n_slots)
    return Scored(run, finished, tuple(executor.submitted))


@dataclass(frozen=True)
class Trained:
    """A trained run: its tables, the folder with them and the bundle, and the run."""

    tables: Tables
    folder: Path
    home: Home
    store: LocalStore = field(repr=False)

    @property
    def bundle(self) -> Bundle:
        """Load and return the bundle."""
        return load_bundle(self.folder / "bundle")

    def frames(self) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Return events, cohort and demographics as DataFrames."""
        labels = self.tables.labels.to_pandas()[["patient_id", "index_date"]]
        return self.tables.events.to_pandas(), labels, self.tables.demographics.to_pandas()


def train(root: Path, changes: Mapping[str, Any], tables: Tables) -> Trained:
    """Train on tables, and write the bundle into their folder."""
    folder = write_tables(root / "data", tables, partitions=3, by_patient=True)
    store = LocalStore(root / "store")
    home = run_inline(folder, store, changes)
    for name, content in home.bundle().items():
        path = folder / "bundle" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return Trained(tables, folder, home, store)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Return a run with counts, values, two windows, a gap and demographics; tests must not change it."""
    return train(tmp_path_factory.mktemp("trained"), CHANGES, make_tables(200, seed=4))


@pytest.fixture
def beside(trained: Trained, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes tables into a folder that also has the bundle."""

    def write(tables: Tables | None = None, **options: Any) -> Path:
        folder = write_tables(
            tmp_path / "data", tables or trained.tables, **{"partitions": 3, "by_patient": True, **options}
        )
        (folder / "bundle").symlink_to(trained.folder / "bundle", target_is_directory=True)
        return folder

    return write
