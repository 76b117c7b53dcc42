"""Events as normalised batches, from Parquet and CSV, and refused input."""

import datetime as dt
import gzip
import subprocess
import sys
import traceback
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv as arrow_csv

from mlho.errors import DataError, SpecError
from mlho.sources import SourceFile, iter_events, list_inputs, source_from, source_named

DBMART, NATIVE = source_named("dbmart"), source_named("native")
NOON = dt.datetime(2020, 1, 31, 12)
NOON_US = 1_580_472_000_000_000
SECRET = "Ada Lovelace"  # a name that must not be in any message


def write(path: Path, content: bytes | pa.Table, **options: object) -> SourceFile:
    if isinstance(content, pa.Table):
        pq.write_table(content, path, **options)
    else:
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return SourceFile(path.name, path, path.stat().st_size)


def read(source, file, **options) -> dict[str, list]:
    rows: dict[str, list] = {}
    for batch in iter_events(source, file, **options):
        n_before = len(next(iter(rows.values()), []))
        for name, values in batch.to_pydict().items():
            rows.setdefault(name, [None] * n_before).extend(values)
    return rows


def events_table(**columns: pa.Array) -> pa.Table:
    defaults = {
        "patient_id": pa.array([1, 2], pa.int64()),
        "time": pa.array([NOON, None], pa.timestamp("ms")),
        "code": pa.array(["A", "B"]),
        "numeric_value": pa.array([1.5, None], pa.float32()),
    }
    return pa.table({name: values for name, values in (defaults | columns).items() if values is not None})


def test_parquet_keeps_integer_ids_and_encodes_codes(tmp_path):
    """Events from Parquet have the column types that the encoding requires."""
    file = write(tmp_path / "part.parquet", events_table())

    (batch,) = iter_events(NATIVE, file)

    assert batch.schema == pa.schema(
        {
            "patient": pa.int64(),
            "time": pa.int64(),
            "code": pa.dictionary(pa.int32(), pa.string()),
            "value": pa.float32(),
        }
    )
    assert batch.to_pydict() == {
        "patient": [1, 2],
        "time": [NOON_US, None],
        "code": ["A", "B"],
        "value": [1.5, None],
    }


def test_csv_keeps_leading_zeros_of_codes_and_ids(tmp_path):
    """Codes and ids are unchanged text, and a missing field is null, quoted or not."""
    file = write(
        tmp_path / "dbmart.csv.gz",
        b'"patient_num","phenx","DESCRIPTION","start_date","value"\n'
        b'"007","0012","a, b\nand c","2020-01-31 12:00:00",1\n'
        b"007, x,,2020-01-31,\n"
        b'"",NA,NA,NA,NA\n'
        b'8,"NA",,31.1.2020, 2.5 \n',
    )

    (batch,) = iter_events(DBMART, file)

    assert batch.schema.field("patient").type == pa.dictionary(pa.int32(), pa.string())
    assert batch.to_pydict() == {
        "patient": ["007", "007", None, "8"],
        "time": [NOON_US, NOON_US - 43_200_000_000, None, None],
        "code": ["0012", " x", None, "NA"],
        "time_bad": [False, False, False, True],
        "value": [1.0, None, None, 2.5],
    }


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_the_data(tmp_path):
    """A byte order mark and Windows line ends, as written by spreadsheets, are not part of the data."""
    file = write(
        tmp_path / "events.csv", b"\xef\xbb\xbfpatient_id,time,code\r\n1,2020-01-31,A\r\n2,2020-01-31,B\r\n"
    )

    rows = read(NATIVE, file)

    assert (rows["patient"], rows["code"]) == (["1", "2"], ["A", "B"])


def test_na_is_a_code_in_the_native_layout(tmp_path):
    """In the native layout NA is sodium; only R's tables write a missing value as NA."""
    file = write(tmp_path / "events.csv", b"patient_id,time,code\n1,2020-01-31,NA\n")

    assert read(NATIVE, file)["code"] == ["NA"]


@pytest.mark.parametrize("batch_rows", [1, 2, 3, 100])
@pytest.mark.parametrize("name", ["part.parquet", "part.csv"])
def test_batches_are_cut_and_hold_the_same_rows(tmp_path, name, batch_rows):
    """Row groups and blocks larger than a batch are split."""
    table = pa.table(
        {
            "patient_id": [str(i % 3) for i in range(7)],
            "time": ["2020-01-31"] * 3 + ["bad"] + ["2020-01-31 12:00"] * 3,
            "code": ["A", "", "B", "  ", None, "A", "C"],
        }
    )
    if name.endswith(".csv"):
        rows = "\n".join(",".join(v or "" for v in row.values()) for row in table.to_pylist())
        file = write(tmp_path / name, f"patient_id,time,code\n{rows}\n".encode())
    else:
        file = write(tmp_path / name, table, row_group_size=5)

    batches = list(iter_events(NATIVE, file, batch_rows=batch_rows))

    assert max(batch.num_rows for batch in batches) <= batch_rows
    assert sum(batch.num_rows for batch in batches) == 7
    rows = read(NATIVE, file, batch_rows=batch_rows)
    assert rows["code"] == ["A", None, "B", None, None, "A", "C"]
    assert rows["patient"] == ["0", "1", "2", "0", "1", "2", "0"]
    assert [bool(bad) for bad in rows["time_bad"]][:4] == [False, False, False, True]


@pytest.mark.parametrize(
    ("column", "array", "expected"),
    [
        ("patient_id", pa.array([1, 2], pa.uint16()), [1, 2]),
        ("patient_id", pa.array([Decimal(7), None], pa.decimal128(38, 0)), [7, None]),
        ("patient_id", pa.array([Decimal(7), Decimal(8)], pa.decimal256(76, 0)).dictionary_encode(), [7, 8]),
        ("patient_id", pa.array(["a", " "], pa.large_string()), ["a", None]),
        ("patient_id", pa.array([5, 6]).dictionary_encode(), [5, 6]),
        ("patient_id", pa.array(["a", None]).dictionary_encode(), ["a", None]),
        ("code", pa.array(["A", "B"], pa.large_string()), ["A", "B"]),
        ("code", pa.array(["A", ""]).dictionary_encode(), ["A", None]),
        ("code", pa.nulls(2), [None, None]),
        ("time", pa.array([dt.date(2020, 1, 31)] * 2), [NOON_US - 43_200_000_000] * 2),
        ("time", pa.array(["2020-01-31T12:00:00Z", None]), [NOON_US, None]),
        ("numeric_value", pa.array([1, None], pa.int32()), [1.0, None]),
        ("numeric_value", pa.array([1.25, None], pa.float64()), [1.25, None]),
    ],
)
def test_parquet_types_are_normalised(tmp_path, column, array, expected):
    """Every accepted type is converted to one of the four types of the contract."""
    ours = {"patient_id": "patient", "numeric_value": "value"}.get(column, column)
    file = write(tmp_path / "part.parquet", events_table(**{column: array}))

    rows = read(NATIVE, file)

    assert rows[ours] == expected
    assert "time_bad" not in rows


def test_dates_of_spark_beyond_nanoseconds_are_read(tmp_path):
    """An INT96 timestamp, as Spark writes it, is not read as nanoseconds: 9999-12-31, a date for "open", would be one of 1816."""
    times = [dt.datetime(9999, 12, 31), dt.datetime(1500, 1, 1)]
    table = events_table(time=pa.array(times, pa.timestamp("us")))
    file = write(tmp_path / "a.parquet", table, use_deprecated_int96_timestamps=True)

    read_times = read(NATIVE, file)["time"]

    epoch = dt.datetime(1970, 1, 1)
    assert [epoch + dt.timedelta(microseconds=time) for time in read_times] == times


@pytest.mark.parametrize("column", ["patient_id", "code"])
def test_text_in_parquet_that_is_not_utf_8_is_named(tmp_path, column):
    """Some programs write text of another encoding into Parquet files. The error says so, and does not advise a setting for CSV files."""
    raw = pa.array([b"Gr\xfc\xdfe", b"A"]).buffers()
    text = pa.Array.from_buffers(pa.string(), 2, raw)
    file = write(tmp_path / "a.parquet", events_table(**{column: text}))

    with pytest.raises(DataError, match=r"a\.parquet.*not UTF-8.*Write it with text as UTF-8") as caught:
        read(NATIVE, file)
    assert "data.format" not in str(caught.value)


def test_the_value_is_optional_and_can_be_left_unread(tmp_path):
    """A file without values is valid, and a run without values does not read them."""
    without = write(tmp_path / "a.parquet", events_table(numeric_value=None))
    with_it = write(tmp_path / "b.parquet", events_table())

    assert "value" not in read(NATIVE, without)
    assert "value" not in read(NATIVE, with_it, values=False)


def test_hive_keys_do_not_become_columns(tmp_path):
    """A folder named code=… does not override the column."""
    folder = tmp_path / "events" / "code=Z"
    folder.mkdir(parents=True)
    write(folder / "part-0.parquet", events_table())

    (file,) = list_inputs(tmp_path, "events")

    assert file.key == "events/code=Z/part-0.parquet"
    assert read(NATIVE, file)["code"] == ["A", "B"]


def test_an_empty_partition_has_no_batch(tmp_path):
    """A table without rows has no batches and is not an error."""
    empty_parquet = write(tmp_path / "a.parquet", events_table().slice(0, 0))
    empty_csv = write(tmp_path / "b.csv", b"patient_id,time,code\n")

    assert list(iter_events(NATIVE, empty_parquet)) == []
    assert list(iter_events(NATIVE, empty_csv)) == []


@pytest.mark.parametrize(
    ("column", "array", "rule", "expected", "got", "remedy"),
    [
        (
            "code",
            pa.array([250, 401]),
            "column 'code' is a number; codes are text",
            "a string column (or a dictionary of strings)",
            "int64",
            "Write it as a string column.",
        ),
        (
            "code",
            None,
            "column 'code' is missing",
            "a column named 'code'",
            "3 columns, none of that name",
            "Rename",
        ),
        (
            "time",
            pa.array([1, 2]),
            "column 'time' is a number, and its unit",
            "a timestamp",
            "int64",
            "timestamp",
        ),
        (
            "patient_id",
            pa.array([1.0, 2.0]),
            "column 'patient_id' has the wrong type",
            "string or",
            "double",
            "string",
        ),
        (
            "patient_id",
            pa.array([Decimal("17.00"), Decimal(1)], pa.decimal128(38, 2)),
            "column 'patient_id' has the wrong type",
            "string or",
            "decimal128(38, 2)",
            "strings without decimals",
        ),
        (
            "patient_id",
            pa.array([Decimal(10**30), Decimal(1)], pa.decimal128(38, 0)),
            "integers that are too large",
            "2^63",
            "decimal128(38, 0)",
            "string",
        ),
        (
            "patient_id",
            pa.array([2**63, 1], pa.uint64()),
            "integers that are too large",
            "2^63",
            "uint64",
            "string",
        ),
        (
            "numeric_value",
            pa.array([SECRET, "1"]),
            "column 'numeric_value' has the wrong type",
            "num",
            "string",
            "type",
        ),
    ],
)
def test_a_column_of_a_wrong_type_is_named(tmp_path, column, array, rule, expected, got, remedy):
    """The error for a column of a wrong type has file, column, rule, expected, got and remedy."""
    file = write(tmp_path / "part-0007.parquet", events_table(**{column: array}))

    with pytest.raises(DataError) as caught:
        list(iter_events(NATIVE, file))

    error = caught.value
    assert error.where == "part-0007.parquet"
    assert rule in error.rule
    assert expected in error.expected
    assert error.got == got
    assert remedy in error.remedy


def test_the_other_layout_is_recognised(tmp_path):
    """For R's names under ``source: native`` and ours under ``source: dbmart``, the error says which source to set."""
    native = write(tmp_path / "a.parquet", events_table())
    dbmart = write(tmp_path / "b.csv", b"patient_num,start_date,phenx\n1,2020-01-31,A\n")

    with pytest.raises(DataError, match=r"set data.source to native"):
        list(iter_events(DBMART, native))
    with pytest.raises(DataError, match=r"set data.source to dbmart"):
        list(iter_events(NATIVE, dbmart))


def test_the_remedy_for_another_layout_also_names_the_mapping_of_columns(tmp_path):
    """If only one table has the names of another source, a change of ``data.source`` would only move the error."""
    dbmart = write(tmp_path / "b.csv", b"patient_num,start_date,phenx\n1,2020-01-31,A\n")

    with pytest.raises(DataError, match=r"If only this table has it, name its columns in data\.columns"):
        list(iter_events(NATIVE, dbmart))


def test_a_name_that_is_nearly_right_is_shown(tmp_path):
    """The nearest column is named. The others are not, because the columns of a file without a header are values."""
    file = write(tmp_path / "a.csv", f"patient_ID,time,code,{SECRET}\n1,2020-01-31,A,x\n".encode())

    with pytest.raises(DataError, match="'patient_ID' is near 'patient_id'") as caught:
        list(iter_events(NATIVE, file))
    assert SECRET not in str(caught.value)


BAD_FILES = {
    "damaged.parquet": (SECRET.encode() * 20, "not readable Parquet", "damaged or of a different format"),
    "empty.parquet": (b"", "not readable Parquet", "0 bytes"),
    "empty.csv": (b"", "the file is empty", "0 bytes"),
    "cut.csv.gz": (
        gzip.compress(b"patient_id,time,code\n" + f"1,2020-01-31,{SECRET}\n".encode() * 9999)[:-200],
        "not readable CSV",
        "damaged",
    ),
    "plain.csv.gz": (b"patient_id,time,code\n1,2020-01-31,A\n", "not readable CSV", "damaged"),
    "ragged.csv": (
        f"patient_id,time,code\n1,2020-01-31,A\n2,2020-01-31,{SECRET},x\n".encode(),
        "row 3 has a different number of fields",
        "4",
    ),
    "latin.csv": (b"patient_id,time,code\n1,2020-01-31,Gr\xfc\xdfe\n", "not readable CSV", "not UTF-8"),
    "sixteen.csv": (
        "patient_id,time,code\n1,2020-01-31,A\n".encode("utf-16"),
        "not readable CSV",
        "not UTF-8",
    ),
    "latin_header.csv": (
        b"patient_id,time,code,Gr\xfc\xdfe\n1,2020-01-31,A,1\n",
        "not readable CSV",
        "not UTF-8",
    ),
    "blank_line.csv": (b"\npatient_id,time,code\n1,2020-01-31,A\n", "the first line is empty", "37 bytes"),
    "separator.csv": (
        b"sep=;\npatient_id;time;code\n1;2020-01-31;A\n",
        "the first line states a separator",
        "a line that only spreadsheets read",
    ),
    "semicolons.csv": (b"patient_id;time;code\n1;2020-01-31;A\n", "are missing", "1 column"),
    "twice.csv": (
        b"patient_id,time,code,code\n1,2020-01-31,A,B\n",
        "two columns have the same name",
        "1 repeated",
    ),
    "headerless.csv": (f"{SECRET},2020-01-31,A\n".encode(), "are missing", "3 columns, none"),
    "text_value.csv": (
        f"patient_id,time,code,numeric_value\n1,2020-01-31,A,{SECRET}\n1,2020-01-31,A,3\n".encode(),
        "column 'numeric_value' contains text that is not a number",
        "1 such row among 2",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_cannot_be_read_is_named_without_its_values(tmp_path, name):
    """Neither the message nor the traceback with all causes shows content of the file."""
    content, rule, got = BAD_FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    file = SourceFile(name, path, len(content))

    with pytest.raises(DataError) as caught:
        list(iter_events(NATIVE, file))

    assert caught.value.where == name
    assert rule in caught.value.rule
    assert got in caught.value.got
    assert name != "sixteen.csv" or "utf-16" in caught.value.remedy
    assert caught.value.remedy
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("row", "remedy"),
    [
        ("2;2020-01-31;A", "Write the empty fields at the end of a row, which some spreadsheets omit"),
        ("2;2020-01-31;A;B;3", "Quote texts that hold this character or line breaks"),
    ],
    ids=["fewer", "more"],
)
def test_the_remedy_for_a_row_of_another_length_depends_on_it(tmp_path, row, remedy):
    """Spreadsheets omit separators of empty fields at the end of a row, which quotes do not mend."""
    file = write(
        tmp_path / "a.csv", f"patient_id;time;code;numeric_value\n1;2020-01-31;A;1\n{row}\n".encode()
    )

    with pytest.raises(DataError, match="row 3 has a different number of fields") as caught:
        read(source_from({"source": "native", "format": {"delimiter": ";"}}), file)

    assert caught.value.remedy.startswith(remedy)


def test_a_decimal_comma_is_read_if_it_is_stated_and_named_if_not(tmp_path):
    """Without ``data.format.decimal`` the error names the cause; with it a decimal point is refused, because 1.234 could be thousands."""
    text = b"patient_id;time;code;numeric_value\n1;2020-01-31;A;3,5\n1;2020-01-31;A;-0,25\n1;2020-01-31;A;7\n1;2020-01-31;A;\n"
    file = write(tmp_path / "a.csv", text)
    form = {"delimiter": ";"}

    with pytest.raises(
        DataError, match=r"got 2 such rows among 4, 2 with a decimal comma. Set data.format.decimal to ','"
    ):
        read(source_from({"source": "native", "format": form}), file)
    stated = source_from({"source": "native", "format": {**form, "decimal": ","}})
    assert read(stated, file)["value"] == [3.5, -0.25, 7.0, None]
    pointed = write(tmp_path / "b.csv", text.replace(b"3,5", b"1.234"))
    with pytest.raises(DataError, match=r"Expected numbers with a decimal comma.*1 such row among 4"):
        read(stated, pointed)


def test_thousands_are_not_taken_for_a_decimal_comma(tmp_path):
    """Three digits after a comma may be thousands: the error does not advise to read 1,234 as 1.234."""
    file = write(tmp_path / "a.csv", b'patient_id,time,code,numeric_value\n1,2020-01-31,A,"1,234"\n')

    with pytest.raises(DataError, match="1 such row among 1") as caught:
        read(NATIVE, file)
    assert "data.format.decimal" not in str(caught.value)


@pytest.mark.parametrize("text", ["100,5", "1,234.5", "100.5 mg"])
def test_numbers_written_otherwise_are_told_how(tmp_path, text):
    """A decimal comma is no text result: moving it to another column would lose every value."""
    path = tmp_path / "a.csv"
    path.write_text(f'patient_id,time,code,numeric_value\n1,2020-01-31,A,"{text}"\n', encoding="utf-8")

    with pytest.raises(DataError) as caught:
        list(iter_events(NATIVE, SourceFile("a.csv", path, path.stat().st_size)))

    assert "decimal point" in caught.value.remedy


def test_a_file_that_is_gone_is_named(tmp_path):
    """A file that disappears between listing and reading is named in the error."""
    with pytest.raises(DataError, match="a file that no longer exists"):
        list(iter_events(NATIVE, SourceFile("gone.parquet", tmp_path / "gone.parquet", 1)))


def test_an_unknown_source_is_refused():
    """The error for an unknown source lists the known ones."""
    with pytest.raises(SpecError, match="Known: native, dbmart"):
        source_named("fhir")


def test_reading_events_does_not_import_pandas(tmp_path):
    """Reading events does not import pandas, which costs each worker a second and which some functions of Arrow import implicitly."""
    write(tmp_path / "a.parquet", events_table())
    write(tmp_path / "b.csv", b"patient_id,time,code,numeric_value\n1,bad,,3\n,2020-01-31 12:00,A,\n")
    program = (
        "import sys, pathlib\n"
        "from mlho.sources import iter_events, list_inputs, source_named\n"
        "for file in list_inputs(pathlib.Path(sys.argv[1]), '.'):\n"
        "    list(iter_events(source_named('native'), file))\n"
        "assert 'pandas' not in sys.modules\n"
    )

    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)


ABANDON = """
import sys, time
sys.setswitchinterval(1e-6)
from pathlib import Path
from mlho.sources import SourceFile, iter_events, source_named
from mlho.sources.lines import LineCounter

read = LineCounter.read
def slow(self, size=-1, /):
    time.sleep(0.5)
    return read(self, size)
LineCounter.read = slow

path = Path(sys.argv[1])
rows = iter_events(source_named("native"), SourceFile(path.name, path, path.stat().st_size), batch_rows=10)
print(next(rows).num_rows)
del rows
"""


def test_a_process_that_reads_the_first_rows_of_a_csv_ends_well(tmp_path):
    """Arrow reads ahead in threads, which would abort a process that ends during a read, or while they drop what they have read."""
    path = tmp_path / "part.csv"
    path.write_text("patient_id,time,code\n" + "1,2020-01-31,A\n" * 2_000_000)
    command = [sys.executable, "-c", ABANDON, path]

    begun = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)
    ]

    ends = [(process.communicate(timeout=60), process.returncode) for process in begun]
    assert ends == [(("10\n", ""), 0)] * 4


def test_arrow_is_given_no_handler_of_invalid_rows(tmp_path, monkeypatch):
    """A thread of Arrow can drop such a handler last, after the exit, and then abort the process: nothing waits for it."""
    handlers = []
    open_csv = arrow_csv.open_csv

    def record(file, read, parse, convert):
        handlers.append(parse.invalid_row_handler)
        return open_csv(file, read, parse, convert)

    monkeypatch.setattr(arrow_csv, "open_csv", record)
    file = write(tmp_path / "a.csv", b"patient_id,time,code\n1,2020-01-31,A\n")

    assert sum(rows.num_rows for rows in iter_events(source_named("native"), file)) == 1
    assert handlers == [None]
