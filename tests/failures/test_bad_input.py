"""Bad input to the command gives a clear error and its exit code, publishes nothing, and never shows a patient's value."""

import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyarrow import parquet

import mlho.encoding.cohort.define
from tests.builders import Tables, make_tables, write_spec, write_tables

CANARY = "Jane-Q-Canary-"


def canary_tables() -> Tables:
    """Return a cohort in which the ids, and an ignored column of each table, contain the canary text."""
    tables = make_tables(200, seed=1, prefix=CANARY)
    named = {
        name: getattr(tables, name).append_column(
            "name", pa.array([f"{CANARY}1234"] * getattr(tables, name).num_rows)
        )
        for name in ("events", "labels", "demographics")
    }
    return Tables(**named, concepts=tables.concepts)


TABLES = canary_tables()


def replaced(table: Any, column: str, values: Any) -> Any:
    return table.set_column(table.column_names.index(column), column, values)


def rewrite(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Return a function that changes one table after all have been written."""

    def apply(folder: Path) -> None:
        path = folder / f"{name}.parquet"
        parquet.write_table(change(parquet.read_table(path)), path)

    return apply


def rewrite_events(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    return rewrite("events/part-1", change)


def first_of_the_label_again(table: Any) -> Any:
    other = replaced(table.slice(0, 3), "label", pc.subtract(1, table.slice(0, 3).column("label")))
    return pa.concat_tables([table, other.cast(table.schema)])


def few_positive(table: Any) -> Any:
    label = np.zeros(table.num_rows, np.int8)
    label[:4] = 1
    return replaced(table, "label", pa.array(label))


def by_chance(table: Any) -> Any:
    label = np.random.default_rng(1).permutation(table.column("label").to_numpy())
    return replaced(table, "label", pa.array(label))


def cut(name: str, n_bytes: int) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / name
        path.write_bytes(path.read_bytes()[:-n_bytes])

    return apply


def garbage(folder: Path) -> None:
    (folder / "events/part-1.parquet").write_bytes(f"{CANARY}1234 is no Parquet".encode() * 20)


def text_values(folder: Path) -> None:
    rewrite_events(lambda t: replaced(t, "numeric_value", pa.array([f"{CANARY}1234"] * t.num_rows)))(folder)


def american_dates(folder: Path) -> None:
    for part in ("events/part-0", "events/part-1"):
        rewrite(part, lambda t: replaced(t, "time", pc.strftime(t.column("time"), format="%m/%d/%Y")))(folder)


def nothing(_: Path) -> None:
    return


# id, change of the tables, changes of the specification, exit code, pattern of the error
CASES: list[tuple[str, Callable[[Path], None], dict[str, Any], int, str]] = [
    ("missing file", nothing, {"data.tables.labels": "label.parquet"}, 3, r"label\.parquet: no such file.*Expected Parquet.*got nothing.*Correct data"),
    ("missing folder", nothing, {"data.uri": "elsewhere"}, 3, r"no such file or folder.*Correct data\.uri"),
    ("folder without tables", lambda f: (f / "empty").mkdir(), {"data.tables.events": "empty"}, 3, r"empty: the table has no file"),
    ("missing column in events", rewrite_events(lambda t: t.drop_columns("code")), {}, 3, r"events/part-1\.parquet: column 'code' is missing.*Expected a column named 'code'; got 4 columns"),
    ("missing column in labels", rewrite("labels", lambda t: t.drop_columns("label")), {}, 3, r"labels\.parquet: column 'label' is missing.*Set cohort\.outcome"),
    ("missing index date", rewrite("labels", lambda t: t.drop_columns("index_date")), {}, 3, r"labels\.parquet: column 'index_date' is missing.*cohort\.index"),
    ("missing patient in demographics", rewrite("demographics", lambda t: t.drop_columns("patient_id")), {}, 3, r"demographics\.parquet: column 'patient_id' is missing"),
    ("missing demographic", nothing, {"features.demographics": ["age", "weight"]}, 3, r"demographics\.parquet: column 'weight' is missing.*correct features\.demographics"),
    ("a dbmart read as native", rewrite_events(lambda t: t.rename_columns(["patient_num", "start_date", "phenx", "value", "name"])), {}, 3, r"set data\.source to dbmart"),
    ("codes are numbers", rewrite_events(lambda t: replaced(t, "code", pa.array(np.arange(t.num_rows)))), {}, 3, r"events/part-1\.parquet: column 'code' is a number; codes are text.*got int64.*Write it as a string"),
    ("times are numbers", rewrite_events(lambda t: replaced(t, "time", pa.array(np.arange(t.num_rows)))), {}, 3, r"events/part-1\.parquet: column 'time' is a number"),
    ("values are text", text_values, {"features.aggregates": ["presence", "last"]}, 3, r"events/part-1\.parquet: column 'numeric_value'.*Expected a numeric column; got string"),
    ("no values for last", rewrite_events(lambda t: t.drop_columns("numeric_value")), {"features.aggregates": ["presence", "last"]}, 3, r"events/part-1\.parquet: column 'numeric_value' is missing.*aggregates of values need it"),
    ("outcomes are text", rewrite("labels", lambda t: replaced(t, "label", pa.array([f"{CANARY}1234"] * t.num_rows))), {}, 3, r"labels\.parquet: outcome column 'label' holds a value that is not an outcome.*got other values in \d+ of"),
    ("index dates are text", rewrite("labels", lambda t: replaced(t, "index_date", pa.array([f"{CANARY}1234"] * t.num_rows))), {}, 3, r"labels\.parquet: column 'index_date' holds dates that cannot be read.*got \d+ such rows"),
    ("empty labels", rewrite("labels", lambda t: t.slice(0, 0)), {}, 3, r"labels\.parquet: the labels are empty.*Write the labels"),
    ("empty demographics", rewrite("demographics", lambda t: t.slice(0, 0)), {}, 3, r"demographics\.parquet: the demographics are empty"),
    ("empty events", lambda f: [rewrite(f"events/part-{n}", lambda t: t.slice(0, 0))(f) for n in (0, 1)] and None, {}, 3, r"events: no row can be used.*got 0 rows"),
    ("no usable event", nothing, {"cohort.index": {"date": "1990-01-01"}, "cohort.conflictingLabels": "any"}, 3, r"events: no row can be used.*after index.*Check"),
    ("dates of another form", american_dates, {}, 3, r"events: no row can be used.*got \d+ rows, dropped: .*unreadable time.*Write times as 2020-01-31"),
    ("labels without patients", rewrite("labels", lambda t: replaced(t, "patient_id", pa.nulls(t.num_rows, pa.string()))), {}, 3, r"labels\.parquet: no row of the labels has a patient"),
    ("a column twice", rewrite("labels", lambda t: pa.Table.from_arrays([*t.columns, t.column("label")], names=[*t.column_names, "label"])), {}, 3, r"labels\.parquet: two columns have the same name"),
    ("a column of events twice", rewrite_events(lambda t: pa.Table.from_arrays([*t.columns, t.column("code")], names=[*t.column_names, "code"])), {}, 3, r"events/part-1\.parquet: two columns have the same name"),
    ("a value of 1e308", rewrite_events(lambda t: replaced(t, "numeric_value", pa.array([1e308] * t.num_rows))), {"features.aggregates": ["presence", "last"]}, 3, r"events/part-1\.parquet: column 'numeric_value' holds numbers that are too large for a measurement"),
    ("an age of 1e308", rewrite("demographics", lambda t: replaced(t, "age", pa.array([1e308] * t.num_rows))), {}, 3, r"demographics\.parquet: column 'age' holds numbers that are too large for a measurement"),
    ("a category that is a text", rewrite("demographics", lambda t: replaced(t, "sex", pa.array(["x" * 2000] * t.num_rows))), {}, 3, r"column 'sex' holds categories that cannot be shown"),
    ("every index date in the year 9999", rewrite("labels", lambda t: replaced(t, "index_date", pa.array(["9999-12-31"] * t.num_rows))), {}, 3, r"labels\.parquet: no label row gives a sample.*237 implausible index date"),
    ("an index date of 9999 for all", nothing, {"cohort.index": {"date": "9999-12-31"}}, 2, r"cohort\.index\.date must be within data\.plausibleYears"),
    ("one class", rewrite("labels", lambda t: replaced(t, "label", pa.array(np.zeros(t.num_rows, np.int8)))), {}, 3, r"labels\.parquet: .*(one class|class).*[Ee]xpected.*got"),
    ("conflicting labels", rewrite("labels", first_of_the_label_again), {}, 3, r"labels\.parquet: .*conflict.*got 3 .*cohort\.conflictingLabels"),
    ("patients without demographics", rewrite("demographics", lambda t: t.slice(5)), {}, 3, r"labels\.parquet: labelled patients are missing from the demographics.*5 .*cohort\.unknownPatients"),
    ("differing demographics", rewrite("demographics", lambda t: pa.concat_tables([t, replaced(t.slice(0, 2), "age", pa.array([1.0, 2.0]))])), {}, 3, r"demographics\.parquet: a patient has differing rows.*2 patients whose rows differ in 'age'"),
    ("a patient in two partitions", nothing, {"data.partitionedBy": "patient"}, 3, r"events/part-0\.parquet and events/part-1\.parquet: .*a patient is in two partitions.*Set partitionedBy: nothing"),
    ("unreadable Parquet", garbage, {}, 3, r"events/part-1\.parquet: the file is not readable Parquet.*Write it again"),
    ("truncated Parquet", cut("events/part-0.parquet", 40), {}, 3, r"events/part-0\.parquet: the file is not readable Parquet"),
    ("one-class fold", rewrite("labels", few_positive), {"validation.folds": 10}, 3, r"validation: a part of a split has one class only.*Use fewer folds"),
    ("a screen that leaves nothing", nothing, {"selection.minPrevalence": 0.999, "features.windows": [1]}, 3, r"selection\.minPrevalence: no feature passes the screen.*0\.999.*got none of \d+ columns.*Lower"),
    ("R's name", nothing, {"selection.topn": 200}, 2, r"selection\.topn: R MLHO's name 'topn' corresponds to selection\.nFeatures"),
    ("R's unit", nothing, {"validation.test_sample": 30}, 2, r"R MLHO's name 'test_sample' corresponds to validation\.testFraction \(a fraction"),
    ("a truth value for a number", nothing, {"report.minCell": True}, 2, r"report\.minCell: expected a whole number"),
    ("an unknown setting", nothing, {"candidates": [{"classifier": "glmboost", "grid": {"steps": [5]}}]}, 2, r"candidates\.0: .*unknown parameter 'steps'.*Did you mean 'nSteps'"),
    ("a grid of everything", nothing, {"candidates": [{"classifier": "xgboost", "grid": {"nRounds": list(range(1, 2000))}}], "consensus.classifier": "elasticnet"}, 2, r"at most 1,000 are tried"),
    ("a pattern of everything", nothing, {"data.tables.events": "**"}, 3, r"(concepts|demographics)\.parquet: columns .* are missing"),
    ("an endless path", nothing, {"data.tables.events": "x" * 400}, 3, r"no such file or folder"),
    ("somebody's home", nothing, {"data.uri": "~nobody-of-this-name/x"}, 2, r"no such user here"),
    ("a percentage", nothing, {"validation.testFraction": 30}, 2, r"validation\.testFraction: .*less than 1"),
    ("unknown field", nothing, {"selection.minPrevalance": 0.1}, 2, r"selection\.minPrevalance: unknown field.*Did you mean 'minPrevalence'"),
    ("no consensus for the final model", rewrite("labels", by_chance), {"final.features": "consensus", "consensus.minConfidence": 100, "selection.nFeatures": 1, "validation.iterations": 4, "validation.folds": 3, "data.tables.demographics": None, "features.demographics": None}, 3, r"final\.features: no feature is stable, and there are no demographics.*Lower consensus"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("spoil", "changes", "code", "says"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_bad_input_is_a_clear_error(spoil, changes, code, says, command, tmp_path):
    """Bad input gives one message with place, problem, expected, got and remedy, and the exit code of its kind. Nothing is published."""
    write_tables(tmp_path, TABLES)
    spoil(tmp_path)
    uri = changes.get("data.uri", ".")
    response = command("run", write_spec(tmp_path, changes, uri=uri), "--log", "json")

    assert re.search(says, response.error), response.error
    assert response.error.count("error:") == 1
    assert (response.code, response.results, response.out) == (code, [], "")
    assert "Traceback" not in response.err
    assert CANARY not in response.err
    assert not any(CANARY in str(path) for path in response.store.rglob("*"))


def test_a_truncated_gzip_is_named(command, tmp_path):
    """A CSV file that was truncated during a copy is refused and not read as a shorter table."""
    write_tables(tmp_path, TABLES, suffix=".csv.gz")
    cut("events/part-1.csv.gz", 200)(tmp_path)
    places = {f"data.tables.{name}": f"{name}.csv.gz" for name in ("labels", "demographics", "concepts")}

    response = command("run", write_spec(tmp_path, places))

    assert (response.code, response.results) == (3, [])
    assert "events/part-1.csv.gz: the file is not readable CSV" in response.err
    assert CANARY not in response.err


@pytest.mark.parametrize(
    "text",
    [
        "spec: [",
        "just words",
        "",
        "apiVersion: mlho.io/v1alpha1\n\tkind: x",
        "a: !!int abc",
        "? [a]\n: b",
        "a: &a [*a]",
        "[" * 600,
        "a: 010",
        "spec: {date: 1:30}",
        "kind: yes",
        "a: [.nan]",
        "a: " + "9" * 5000,
        "x: 1\n" * 100000,
    ],
)
def test_a_specification_that_is_not_yaml_is_refused(text, command, tmp_path):
    """Text that is not valid YAML is refused with the name of the file, and nothing is written, not even a store."""
    (tmp_path / "spec.yaml").write_text(text)

    response = command("run", tmp_path / "spec.yaml")

    assert response.code == 2
    assert "spec.yaml" in response.err
    assert not response.store.exists()


def test_a_missing_specification_is_refused(command, tmp_path):
    """For a specification that does not exist, the error names the file."""
    response = command("run", tmp_path / "none.yaml")

    assert response.code == 2
    assert "none.yaml: cannot be read" in response.err


@pytest.mark.parametrize("policy", ["drop", "any"])
def test_conflicting_labels_follow_the_policy(policy, command, tmp_path):
    """With an explicit policy, conflicting labels are dropped or count as positive, and the ledger of labels counts them."""
    write_tables(tmp_path, TABLES)
    rewrite("labels", first_of_the_label_again)(tmp_path)

    response = command("run", write_spec(tmp_path, {"cohort.conflictingLabels": policy, "report.minCell": 0}))

    assert response.code == 0
    cohort = json.loads(response.results[0].read_text())["cohort"]
    assert cohort["label_ledger"]["conflicting labels"] == {"drop": 6, "any": 3}[policy]
    assert cohort["n_samples"] == TABLES.labels.num_rows - {"drop": 3, "any": 0}[policy]


@pytest.mark.parametrize("policy", ["drop", "keep"])
def test_unknown_patients_follow_the_policy(policy, command, tmp_path):
    """With an explicit policy, patients who are not in the demographics are dropped or kept."""
    write_tables(tmp_path, TABLES)
    rewrite("demographics", lambda t: t.slice(5))(tmp_path)

    response = command("run", write_spec(tmp_path, {"cohort.unknownPatients": policy}))

    assert response.code == 0
    assert (
        json.loads(response.results[0].read_text())["cohort"]["n_patients"]
        == {"drop": 195, "keep": 200}[policy]
    )


def test_more_features_than_columns_takes_them_all(command, tmp_path):
    """``nFeatures`` is an upper bound: if fewer columns exist, all are taken."""
    write_tables(tmp_path, TABLES)

    response = command(
        "run", write_spec(tmp_path, {"selection.nFeatures": 5000, "selection.minPrevalence": 0})
    )

    assert response.code == 0
    assert json.loads(response.results[0].read_text())["final_model"]["n_features"] == 13


def append_a_byte(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (append_a_byte, "the file changed after the run began"),
        (flip_a_byte, "the file changed after the run began"),
        (Path.unlink, f"not there on this machine ({socket.gethostname()})"),
    ],
    ids=["longer", "other", "gone"],
)
@pytest.mark.parametrize(
    ("file", "at"), [("events/part-1.parquet", "define_cohort"), ("concepts.parquet", "define_cohort"), ("labels.parquet", "define_cohort")],
)  # fmt: skip
def test_an_input_that_changes_while_the_run_goes_fails_it(
    change, words, file, at, command, inline, tmp_path
):
    """The manifest pins every file: other content, even of the same size, fails the run."""
    write_tables(tmp_path, TABLES)
    inline.before = lambda task: change(tmp_path / file) if task.kind == at else None

    response = command("run", write_spec(tmp_path), "--log", "json")

    assert (response.code, response.results) == (3, [])
    assert f"{file}: {words}" in response.error
    assert "Submit the run again" in response.error


def test_a_foreign_error_shows_its_kind_and_place_only(command, inline, tmp_path, monkeypatch):
    """The message of a library may quote a patient, so only the type and the place of the error leave the worker."""

    def fail(*_: object, **__: object) -> None:
        raise KeyError(f"{CANARY}1234")

    monkeypatch.setattr(mlho.encoding.cohort.define, "define_cohort", fail)
    write_tables(tmp_path, TABLES)

    response = command("run", write_spec(tmp_path), "--log", "json")

    assert response.code == 1
    assert re.search(r"define_cohort: KeyError in .*, line \d+\. Report this as a defect", response.error)
    assert CANARY not in response.err


def test_a_good_run_shows_no_patient(command, tmp_path):
    """Patient ids appear in no output, log, file name or published file (result, report, bundle)."""
    write_tables(tmp_path, TABLES)

    response = command("run", write_spec(tmp_path), "--log", "json")

    assert response.code == 0
    assert CANARY not in response.out + response.err
    published = [path for path in (response.store / "runs").rglob("*") if path.is_file()]
    assert {"result.json", "report.html", "spec.yaml", "manifest.json"} <= {path.name for path in published}
    assert not any(CANARY.encode() in path.read_bytes() or CANARY in str(path) for path in published)
    commits = [path.read_bytes() for path in (response.store / "commits").rglob("*") if path.is_file()]
    assert commits
    assert not any(CANARY.encode() in commit for commit in commits)


def test_real_profiles_show_no_patient(command, tmp_path):
    """With ``report.realProfiles``, real patients explain the model without their ids and dates."""
    write_tables(tmp_path, TABLES)

    response = command("run", write_spec(tmp_path, {"report.realProfiles": True}))

    assert response.code == 0
    result = response.results[0].read_text()
    assert {profile["synthetic"] for profile in json.loads(result)["final_model"]["profiles"]} == {False}
    assert CANARY not in result


def test_a_csv_whose_first_line_is_data_shows_nothing_of_it(command, tmp_path):
    """In a CSV file without a header, the values of the first line would be column names; the error does not show them."""
    write_tables(tmp_path, TABLES)
    (tmp_path / "labels.csv").write_text(f"{CANARY}1234,2019-01-01,1\n{CANARY}1235,2019-01-01,0\n")

    response = command("run", write_spec(tmp_path, {"data.tables.labels": "labels.csv"}), "--log", "json")

    assert response.code == 3
    assert "labels.csv: column 'patient_id' is missing" in response.error
    assert CANARY not in response.err
