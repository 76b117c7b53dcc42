"""Plant names of patients in the tables: no report, message, status or page of the commands shows them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlho.settings import Settings
from mlho.spec.training import parse_spec
from scheduler.api.status import ConditionType
from scheduler.controller import run_thread
from scheduler.controller.reconcile import decide
from scheduler.engine.loop import carry_out
from tests.builders import CommandOutput, InlineExecutor, NullObserver, Tables, write_spec, write_tables
from tests.planted_names import PLANTED, planted, planted_tables
from tests.unit.scheduler.controller.test_reconcile import OBSERVED
from tests.unit.scoring.conftest import make_score_document

CHANGES = {
    "features.demographics": ["age", "sex"],
    "features.aggregates": ["presence", "last", "outOfRange"],
    "report.realProfiles": True,
    "selection.minPrevalence": 0.08,  # text in place of a code occurs in two patients
}
# Scores, delivered to clinicians, hold ids. So do artifacts, which are not searched.
HOLDS_IDS = ("/scores/part-",)


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Write tables with names in ids and texts, and the specifications of a training and a scoring run."""
    return write_cohort(tmp_path / "cohort", planted_tables())


def write_cohort(folder: Path, tables: Tables) -> Path:
    write_tables(folder, tables, suffix=".csv", by_patient=True)
    places = {f"data.tables.{name}": f"{name}.csv" for name in ("labels", "demographics", "concepts")}
    write_spec(folder, {**places, **CHANGES})
    score = {"data.tables": {"events": "events", "cohort": "labels.csv", "demographics": "demographics.csv"}}
    document = make_score_document({**score, "bundle.uri": "run:small"})
    (folder / "score.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return folder


def compared_with_itself(cohort: Path) -> Path:
    """Write the specification of a run whose report compares it with the first run."""
    document = yaml.safe_load((cohort / "spec.yaml").read_text(encoding="utf-8"))
    document["spec"] |= {"compareWith": {"uri": "run:small"}}
    path = cohort / "later.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def shown(response: CommandOutput) -> str:
    """Return the printed and logged output of a command."""
    return response.out + response.err


def files_with_a_name(store: Path, *, more_than: int = 20) -> list[str]:
    """Return the files outside of the artifacts that contain a planted name in their name or their content."""
    paths = [path for path in store.rglob("*") if path.is_file() and store / "blobs" not in path.parents]
    assert len(paths) > more_than
    names = {str(path.relative_to(store)): path.read_bytes() for path in paths}
    needle = PLANTED.encode()
    return sorted(
        name
        for name, content in names.items()
        if (needle in content or PLANTED in name) and not any(part in f"/{name}" for part in HOLDS_IDS)
    )


def test_reports_and_printed_results_show_no_planted_name(
    command: Callable[..., CommandOutput], cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Training, scoring, and each command that shows a result (also as JSON) show no planted name. Only artifacts and scores contain ids."""
    monkeypatch.setenv("MLHO_PSEUDONYM_KEY", "k" * 32)
    store = tmp_path / "store"
    responses = [
        command("validate", cohort / "spec.yaml"),
        command("run", cohort / "spec.yaml"),
        command("run", compared_with_itself(cohort)),
        command("score", cohort / "score.yaml"),
    ]
    responses += [
        command(*words)
        for words in (
            ("list", "--json"),
            ("show", "small", "--json"),
            ("show", "nightly", "--json"),
            ("dossier", "small", "--to", tmp_path / "dossier"),
            ("site",),
            ("lineage", "small", "--json"),
            ("models", "--json"),
            ("promote", "small", "--channel", "production", "--why", "first"),
            ("audit", "--channel", "production", "--json"),
            ("test", "run:small"),
            ("evaluate", "run:small", "--spec", cohort / "spec.yaml", "--out", tmp_path / "evaluation"),
            ("compare", "small", "small", "--json"),
            ("export", "small", "--to", tmp_path / "export"),
            ("worklist", "small", "--to", tmp_path / "export" / "worklist.csv"),
            ("recalibrate", "run:small", "--spec", cohort / "spec.yaml"),
        )
    ]

    assert [response.code for response in responses] == [0] * len(responses), [
        response.error for response in responses if response.code
    ]
    assert [response.out for response in responses if PLANTED in shown(response)] == []
    assert files_with_a_name(store) == []
    folders = [tmp_path / name for name in ("evaluation", "dossier", "export")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".html", ".json"}
    assert [path.name for path in files if PLANTED.encode() in path.read_bytes()] == []


def test_a_training_run_with_a_key_stores_no_id(
    command: Callable[..., CommandOutput], cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """No file of the store holds an id of a planted patient, artifacts included. Without a key some do."""
    ids = [f"{PLANTED}-{number}".encode() for number in ("00001", "00150", "unknown", "nobody")]
    found = {}
    for name, key in (("plain", ""), ("encrypted", "k" * 32)):
        monkeypatch.setenv("MLHO_PSEUDONYM_KEY", key)
        assert command("run", cohort / "spec.yaml", store=tmp_path / name).code == 0
        files = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
        found[name] = {
            path.name for path in files if any(patient_id in path.read_bytes() for patient_id in ids)
        }

    assert found["plain"] != set()
    assert found["encrypted"] == set()
    content = [path.read_bytes() for path in (tmp_path / "encrypted").rglob("*") if path.is_file()]
    assert not any(b"k" * 32 in data for data in content)


def test_a_code_of_few_patients_in_a_report_is_warned_of(command: Callable[..., CommandOutput], cohort: Path):
    """The warning names the setting that leaves out such a code, but not the code."""
    document = yaml.safe_load((cohort / "spec.yaml").read_text(encoding="utf-8"))
    document["spec"]["selection"]["minPrevalence"] = 0.005
    (cohort / "spec.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    command("run", cohort / "spec.yaml")
    warnings = json.loads(command("show", "small", "--json").out)["warnings"]

    (warning,) = (sentence for sentence in warnings if "found in fewer than 11 patients" in sentence)
    assert "selection.minPrevalence: 0.079 excludes such features" in warning


def test_a_planted_name_that_fails_scoring_is_not_quoted(
    command: Callable[..., CommandOutput], cohort: Path, tmp_path: Path
):
    """If a name stands in place of a date or a number, the row is dropped or the table refused, and no message, log or record quotes it."""
    assert command("run", cohort / "spec.yaml").code == 0
    tables = planted_tables()
    for table, column in (("events", "time"), ("labels", "index_date"), ("demographics", "age")):
        bad = Tables(**{**vars(tables), table: planted(getattr(tables, table), column, rows=[1])})
        response = command("score", write_cohort(tmp_path / table, bad) / "score.yaml")

        assert response.code in (0, 3), table
        assert PLANTED not in shown(response), table
        assert files_with_a_name(tmp_path / "store") == [], table


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("events", "numeric_value"),
        ("labels", "patient_id"),
        ("labels", "index_date"),
        ("labels", "label"),
        ("demographics", "patient_id"),
        ("demographics", "age"),
        ("demographics", "birth_date"),
        ("concepts", "low"),
        ("concepts", "high"),
    ],
)
def test_a_planted_name_that_fails_a_run_is_not_quoted(
    command: Callable[..., CommandOutput],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    table: str,
    column: str,
):
    """A name in place of a number, a date or a patient's id fails the run and is not quoted, whether the inspection or a task finds it."""
    tables = planted_tables()
    bad = planted(getattr(tables, table), column, rows=[1])
    cohort = write_cohort(tmp_path / "cohort", Tables(**{**vars(tables), table: bad}))
    looked = command("run", cohort / "spec.yaml")
    monkeypatch.setattr("scheduler.cli.run.inspect_before_run", lambda *_, **__: None)
    ended = command("run", cohort / "spec.yaml")

    for response in (looked, ended):
        assert response.code == 3
        assert "Expected" in response.err
        assert PLANTED not in shown(response)
    assert files_with_a_name(tmp_path / "store", more_than=0) == []


@pytest.mark.parametrize(
    ("table", "column"),
    [(None, None), ("labels", "index_date"), ("labels", "label"), ("demographics", "age")],
)
def test_the_status_and_events_of_a_custom_resource_show_no_planted_name(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str | None, column: str | None
):
    """The status shows no planted name, neither after a run that succeeds nor after one that fails because of a name in place of a date, label or number."""
    if table is not None and column is not None:
        tables = planted_tables()
        bad = planted(getattr(tables, table), column, rows=[1])
        write_cohort(cohort, Tables(**{**vars(tables), table: bad}))
    address = str(tmp_path / "store")
    backend = run_thread.Backend(address, Settings(broker="redis://127.0.0.1:1/0", signing_key=b"k" * 32))
    document = yaml.safe_load((cohort / "spec.yaml").read_text(encoding="utf-8"))
    document["spec"]["data"]["uri"] = str(cohort)
    check, prepared = run_thread.check_run(backend, parse_spec(yaml.safe_dump(document)))
    assert prepared is not None, check.message

    def carry_out_here(run: Any, *_: object, **__: object) -> Any:
        return carry_out(run, InlineExecutor(run.store, cohort), NullObserver(), n_slots=1)

    monkeypatch.setattr(run_thread, "carry_out_on_queue", carry_out_here)
    thread = run_thread.RunThread(backend, prepared, lambda: None)
    thread.start()
    assert thread.join(120)
    decision = decide(replace(OBSERVED, check=check, progress=thread.snapshot()))
    text = decision.status.model_dump_json() + str(decision.events)

    end = ConditionType.SUCCEEDED if table is None else ConditionType.FAILED
    assert thread.snapshot().end is end
    assert len(decision.events) > 0
    assert ('"warnings":["' in text) if table is None else ("Expected" in text)
    assert PLANTED not in text
