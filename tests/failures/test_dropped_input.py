"""Input is never dropped silently: it is read, refused by name, or shown as left out in every output."""

import bz2
import datetime as dt
import gzip
import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyarrow import parquet

from mlho.report.digest import result_digest
from tests.builders import make_tables, write_spec, write_tables

TABLES = make_tables(200, seed=1)
CSV_PLACES = {f"data.tables.{name}": f"{name}.csv" for name in ("labels", "demographics", "concepts")}


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


def tabs(data: bytes) -> bytes:
    return data.replace(b",", b"\t")


# Names of partitions, and how their bytes are made from those of a CSV file.
FORMS = {
    "part-0.CSV": bytes,
    "part-1.csv.GZ": gzip.compress,
    "part-2.csv.bz2": bz2.compress,
    "part-3.csv.zst": zstd,
    "part-4.tsv": tabs,
    "part-5.TSV.gz": lambda data: gzip.compress(tabs(data)),
}


def digest_of(result: Path) -> str:
    return result_digest(json.loads(result.read_text()))


def test_every_form_of_a_partition_is_read(command, tmp_path):
    """Upper-case suffixes, compression, tabs and a linked folder do not change the result."""
    write_tables(tmp_path / "plain", TABLES, partitions=6, suffix=".csv")
    write_tables(tmp_path / "mixed", TABLES, partitions=6, suffix=".csv")
    events = tmp_path / "mixed/events"
    for number, (name, make) in enumerate(FORMS.items()):
        plain = events / f"part-{number}.csv"
        data = make(plain.read_bytes())
        plain.unlink()
        (events / name).write_bytes(data)
    elsewhere = tmp_path / "disk"
    elsewhere.mkdir()
    for name in ("part-4.tsv", "part-2.csv.bz2"):
        (events / name).rename(elsewhere / name)
    (events / "more").symlink_to(elsewhere)

    uniform = command("run", write_spec(tmp_path / "plain", CSV_PLACES), store=tmp_path / "a")
    mixed = command("run", write_spec(tmp_path / "mixed", CSV_PLACES), store=tmp_path / "b")

    assert (uniform.code, mixed.code) == (0, 0)
    assert digest_of(mixed.results[0]) == digest_of(uniform.results[0])


@pytest.mark.parametrize("name", ["more.xlsx", "more.json", "more.csv.xz", "more.parquet.gz", "part-00000"])
def test_a_file_that_cannot_be_read_is_refused_by_name(name, command, tmp_path):
    """A file of an unknown format fails the run, because its rows would be missing."""
    write_tables(tmp_path, TABLES)
    (tmp_path / "events" / name).write_bytes(b"rows")

    response = command("run", write_spec(tmp_path))

    assert (response.code, response.results) == (3, [])
    assert f"events/{name}: the format is not known" in response.error


def test_files_left_out_are_shown_in_every_output(command, tmp_path):
    """Files that are not read appear on the terminal before and after the run, in the plan, the result and the report; the figures do not change."""
    write_tables(tmp_path, TABLES)
    spec = write_spec(tmp_path)
    before = command("run", spec, store=tmp_path / "before")
    (tmp_path / "events/_temporary").mkdir()
    (tmp_path / "events/_temporary/part-9.parquet").write_bytes(b"x")
    (tmp_path / "events/README.txt").write_bytes(b"x")
    (tmp_path / "events/_SUCCESS").touch()
    (tmp_path / "events/.part-0.parquet.crc").touch()
    words = "Not read in the folder of events: 2 files (events/README.txt, events/_temporary/part-9.parquet)."

    plan, response = command("plan", spec), command("run", spec)
    (result,) = response.results
    shown = command("show", result.parent.name)

    assert f"Warning: {words}" in plan.err
    assert f"Warning: {words}" in response.err
    assert f"Warning: {words}" in response.out
    assert f"Warning: {words}" in shown.out
    assert json.loads(result.read_text())["inputs"]["left_out"] == {
        "events": {"files": 2, "first": ["events/README.txt", "events/_temporary/part-9.parquet"]}
    }
    assert "events/_temporary/part-9.parquet" in result.with_name("report.html").read_text()
    assert digest_of(result) == digest_of(before.results[0])


def changed(folder: Path, name: str, change) -> None:
    path = folder / f"{name}.parquet"
    parquet.write_table(change(parquet.read_table(path)), path)


def with_values(column: str, values: list[object]):
    """Return a function that puts values into the first rows of a column."""

    def change(table):
        old = table.column(column)
        new_values = pa.array(values, old.type)
        place = table.column_names.index(column)
        return table.set_column(place, column, pa.concat_arrays([new_values, *old.slice(len(values)).chunks]))

    return change


def test_implausible_index_dates_are_counted(command, tmp_path):
    """A sample of the year 9999 would use events of the future. It is dropped by a rule, and the attrition counts it."""
    write_tables(tmp_path, TABLES)
    odd = [dt.datetime(9999, 12, 31), dt.datetime(1, 1, 1), dt.datetime(2300, 1, 1)] * 4
    changed(tmp_path, "labels", with_values("index_date", odd))

    response = command("run", write_spec(tmp_path, {"report.minCell": 0}))

    cohort = json.loads(response.results[0].read_text())["cohort"]
    assert cohort["label_ledger"]["implausible index date"] == 12
    assert "implausible index date" in response.out
    assert cohort["n_samples"] == TABLES.labels.num_rows - 12


def test_dates_of_the_future_are_read_where_they_are_plausible(command, tmp_path):
    """Dates shifted into 2200 to 2299, as some hospitals do to protect patients, give the same figures."""
    write_tables(tmp_path / "now", TABLES)
    write_tables(tmp_path / "then", TABLES)
    days = dt.timedelta(days=365 * 230)  # from about 2019 to 2248
    for name, column in (("labels", "index_date"), ("events/part-0", "time"), ("events/part-1", "time")):
        changed(
            tmp_path / "then",
            name,
            lambda t, c=column: t.set_column(
                t.column_names.index(c), c, pc.add(t.column(c), pa.scalar(days, pa.duration("us")))
            ),
        )

    now = command("run", write_spec(tmp_path / "now"), store=tmp_path / "a")
    then = command("run", write_spec(tmp_path / "then"), store=tmp_path / "b")

    results = [json.loads(response.results[0].read_text()) for response in (now, then)]
    dates = [
        (document["cohort"].pop("index_dates"), document["cohort"].pop("event_years")) for document in results
    ]
    assert dates[0][0]["first"] < "2020" < "2248" < dates[1][0]["first"]
    assert max(dates[0][1]) < "2020" < "2245" < min(dates[1][1])
    for part in ("ledger", "cohort", "headline", "features"):
        assert results[0][part] == results[1][part], part
    warnings = [re.sub(r"\b\d{4}-\d\d\b", "MONTH", " ".join(document["warnings"])) for document in results]
    assert warnings[0] == warnings[1]


def test_samples_that_lose_all_events_to_a_rule_are_warned_about(command, tmp_path):
    """If a rule drops all events of half of the patients, the samples are counted, and the terminal shows the warning."""
    write_tables(tmp_path, TABLES, by_patient=True)
    changed(
        tmp_path, "events/part-1", lambda t: with_values("time", [dt.datetime(2150, 1, 1)] * t.num_rows)(t)
    )

    response = command("run", write_spec(tmp_path, {"data.plausibleYears": [1950, 2100]}))

    (warning,) = [
        sentence
        for sentence in json.loads(response.results[0].read_text())["warnings"]
        if "have no event features" in sentence
    ]
    assert re.search(r"\d+ samples by “implausible date”", warning)
    assert warning in response.out


@pytest.mark.parametrize(
    ("column", "values", "says"),
    [
        ("age", [-50.0, 999_999.0] * 8, "16 patients with an age below 0 or above 150 years"),
        (
            "birth_date",
            [dt.date(1, 1, 1)] * 12,
            "12 patients born more than 150 years before data.plausibleYears",
        ),
    ],
)
def test_impossible_ages_are_warned_about(column, values, says, command, tmp_path):
    """Impossible ages are used unchanged, because some hospitals shift ages to protect patients, and a warning counts them."""
    write_tables(tmp_path, TABLES)
    changed(tmp_path, "demographics", with_values(column, values))

    response = command("run", write_spec(tmp_path))

    warnings = json.loads(response.results[0].read_text())["warnings"]
    assert any(warning.startswith(says) for warning in warnings), warnings
    assert says in response.out


def test_two_stray_quotes_are_refused(command, tmp_path):
    """Two stray quotes, which would turn the rows between them into one text, fail the run."""
    write_tables(tmp_path, TABLES, suffix=".csv")
    path = tmp_path / "events/part-1.csv"
    lines = path.read_text().replace('"', "").splitlines()
    for number, mark in ((100, ',"5 foot'), (397, ',6 f"oot')):
        lines[number] = lines[number].rpartition(",")[0] + mark
    path.write_text("\n".join([*(line for line in lines), ""]))

    response = command("run", write_spec(tmp_path, CSV_PLACES))

    assert (response.code, response.results) == (3, [])
    assert "events/part-1.csv: a quoted field holds whole rows" in response.error
    assert "foot" not in response.err


def test_codes_that_cannot_be_shown_are_a_rule_of_the_ledger(command, tmp_path):
    """Codes with control characters or thousands of characters are dropped, and a rule of the ledger counts them."""
    write_tables(tmp_path, TABLES)
    odd = ["I10\x1b[2J", "I10\n", "x" * 100_000, "I10\u202e"] * 5
    changed(tmp_path, "events/part-1", with_values("code", odd))

    response = command("run", write_spec(tmp_path))

    rules = {
        rule["rule"]: rule["rows"] for rule in json.loads(response.results[0].read_text())["ledger"]["rules"]
    }
    assert rules["unusable code"] == 20
    assert "dropped: unusable code" in response.out
