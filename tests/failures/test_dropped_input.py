"""Input that would be dropped without a word: it is read, refused by name, or shown as left out wherever a user looks."""

import bz2
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest

from mlho.report.result import result_digest
from tests.builders import make_tables, write_spec, write_tables

TABLES = make_tables(200, seed=1)
CSV_PLACES = {f"data.tables.{name}": f"{name}.csv" for name in ("labels", "demographics", "concepts")}


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


def tabs(data: bytes) -> bytes:
    return data.replace(b",", b"\t")


# What a partition is named, and how its bytes are made of a CSV's.
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
    """Capitals, compression, tabs and a linked folder change nothing of the result."""
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

    said = command("run", write_spec(tmp_path / "plain", CSV_PLACES), store=tmp_path / "a")
    mixed = command("run", write_spec(tmp_path / "mixed", CSV_PLACES), store=tmp_path / "b")

    assert (said.code, mixed.code) == (0, 0)
    assert digest_of(mixed.results[0]) == digest_of(said.results[0])


@pytest.mark.parametrize("name", ["more.xlsx", "more.json", "more.csv.xz", "more.parquet.gz", "part-00000"])
def test_a_file_that_cannot_be_read_is_refused_by_name(name, command, tmp_path):
    """Nothing is published without its rows."""
    write_tables(tmp_path, TABLES)
    (tmp_path / "events" / name).write_bytes(b"rows")

    said = command("run", write_spec(tmp_path))

    assert (said.code, said.results) == (3, [])
    assert f"events/{name}: the format is not known" in said.error


def test_what_is_left_out_is_shown_wherever_a_user_looks(command, tmp_path):
    """On the terminal before and after, in the plan, in the result, in the report; the figures stay the same."""
    write_tables(tmp_path, TABLES)
    spec = write_spec(tmp_path)
    before = command("run", spec, store=tmp_path / "before")
    (tmp_path / "events/_temporary").mkdir()
    (tmp_path / "events/_temporary/part-9.parquet").write_bytes(b"x")
    (tmp_path / "events/README.txt").write_bytes(b"x")
    (tmp_path / "events/_SUCCESS").touch()
    (tmp_path / "events/.part-0.parquet.crc").touch()
    words = (
        "2 file(s) in the folder of events are not read: events/README.txt, events/_temporary/part-9.parquet."
    )

    plan, said = command("plan", spec), command("run", spec)
    (result,) = said.results
    shown = command("show", result.parent.name)

    assert f"Warning: {words}" in plan.err
    assert f"Warning: {words}" in said.err
    assert f"Warning: {words}" in said.out
    assert f"Warning: {words}" in shown.out
    assert json.loads(result.read_text())["inputs"]["left_out"] == {
        "events": {"files": 2, "first": ["events/README.txt", "events/_temporary/part-9.parquet"]}
    }
    assert "events/_temporary/part-9.parquet" in result.with_name("report.html").read_text()
    assert digest_of(result) == digest_of(before.results[0])
