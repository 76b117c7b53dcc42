"""Tables with other names, separators and dates give the same model, figures and scores as our own layout."""

import copy
import json
from pathlib import Path
from typing import Any

import pandas as pd

from mlho.spec.training import normalised, parse_spec
from mlho.store.keys import run_key
from mlho.store.local import LocalStore
from mlho.store.memory import MemoryStore
from tests.builders import Home, Tables, make_spec, make_tables, run_inline, write_tables
from tests.unit.scoring.conftest import Trained, score_inline, train

THEIRS = {
    "events": {"patient_id": "MRN", "time": "EVENT_DT", "code": "ICD", "numeric_value": "RESULT"},
    "labels": {"patient_id": "MRN", "index_date": "VISIT"},
    "demographics": {"patient_id": "PAT", "birth_date": "DOB", "sex": "GENDER"},
    "concepts": {"description": "NAME"},
}
FORMAT = {
    "delimiter": ";",
    "encoding": "windows-1252",
    "dateFormats": ["%d.%m.%Y %H:%M:%S.%f", "%d.%m.%Y"],
}
COLUMNS = {**THEIRS, "labels": {"patient_id": "MRN"}}


def write_theirs(folder: Path, tables: Tables) -> None:
    for name, table in vars(tables).items():
        frame = table.to_pandas()
        for column in frame.columns:
            if column == "time":
                frame[column] = pd.to_datetime(frame[column]).dt.strftime("%d.%m.%Y %H:%M:%S.%f")
            elif column in ("index_date", "birth_date"):
                frame[column] = [None if pd.isna(day) else f"{day:%d.%m.%Y}" for day in frame[column]]
        frame = frame.rename(columns=THEIRS[name])
        parts = {f"{name}.csv": frame}
        if name == "events":
            place = frame["MRN"].map(lambda identifier: sum(map(ord, str(identifier))) % 2)
            parts = {f"events/{number}.csv": frame[place == number] for number in (0, 1)}
        for key, part in parts.items():
            (folder / key).parent.mkdir(parents=True, exist_ok=True)
            part.to_csv(folder / key, sep=";", index=False, encoding="windows-1252")


def result_of(home: Home) -> dict[str, Any]:
    return json.loads(home.run.store.get(run_key(home.run.run_id, "result.json")))


def changed() -> dict[str, Any]:
    tables = {name: f"{name}.csv" for name in THEIRS} | {"events": "events"}
    return {
        "data.tables": tables,
        "data.columns": COLUMNS,
        "data.format": FORMAT,
        "cohort.index.column": "VISIT",
        "features.aggregates": ["presence", "last"],
    }


def test_training_gives_the_same_figures(tmp_path):
    """The features, figures, ledger and cohort of a run are equal to the last digit."""
    tables = make_tables(150)
    write_tables(tmp_path / "ours", tables)
    write_theirs(tmp_path / "theirs", tables)

    plain = run_inline(tmp_path / "ours", tmp_path / "store", {"features.aggregates": ["presence", "last"]})
    renamed = run_inline(tmp_path / "theirs", LocalStore(tmp_path / "other"), changed())

    for part in ("features", "headline", "ledger", "cohort"):
        assert result_of(renamed)[part] == result_of(plain)[part]


def test_scoring_gives_the_same_scores(tmp_path):
    """The bundle does not depend on the layout of its training: a scoring run states its own layout and gives the same scores."""
    trained: Trained = train(tmp_path, {}, make_tables(150))
    write_theirs(tmp_path / "theirs", trained.tables)
    (trained.folder / "bundle").rename(tmp_path / "theirs" / "bundle")
    columns = copy.deepcopy(COLUMNS)
    columns["cohort"] = columns.pop("labels")
    del columns["concepts"]

    renamed = score_inline(
        tmp_path / "theirs",
        MemoryStore(),
        {
            "data.tables": {
                "events": "events",
                "cohort": "labels.csv",
                "demographics": "demographics.csv",
            },
            "data.columns": columns,
            "data.format": FORMAT,
            "index.column": "VISIT",
        },
    )
    (tmp_path / "theirs" / "bundle").rename(trained.folder / "bundle")
    plain = score_inline(trained.folder, MemoryStore())

    assert renamed.table().equals(plain.table())


def test_a_specification_without_these_sections_keeps_its_identity():
    """Absent sections are not hashed, so the run ids and task keys of earlier versions stay valid."""
    plain = normalised(make_spec().spec)

    assert set(plain["data"]) == {"source", "tables", "partitionedBy", "duplicates", "plausibleYears"}
    stated = make_spec({"data.columns": {"events": {"code": "ICD"}}})
    assert normalised(stated.spec)["data"]["columns"] == {"events": {"code": "ICD"}}
    assert stated.digest != make_spec().digest
    assert parse_spec(json.dumps(json.loads(stated.model_dump_json(by_alias=True)))) == stated
