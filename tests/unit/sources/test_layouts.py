"""Tables with other column names, separators, encodings and date formats are read like our own."""

import datetime as dt

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlho.errors import DataError
from mlho.sources import SourceFile, iter_events, source_from
from mlho.sources.reading import open_table, read_columns
from mlho.sources.times import read_times
from mlho.spec.layout import Format

NAMES = {"events": {"patient_id": "MRN", "time": "WHEN", "code": "ICD", "numeric_value": "RESULT"}}
NIGHT = dt.datetime(2020, 1, 31, 14, 5)
DAY = dt.datetime(2020, 1, 31)


@pytest.mark.parametrize(
    ("text", "form", "time", "is_date"),
    [
        ("31.01.2020", "%d.%m.%Y", DAY, True),
        ("1/31/2020", "%m/%d/%Y", DAY, True),
        ("20200131", "%Y%m%d", DAY, True),
        ("31JAN2020:14:05:00", "%d%b%Y:%H:%M:%S", NIGHT, False),
        ("January 31 2020 2:05 pm", "%B %d %Y %I:%M %p", NIGHT, False),
        ("31.01.2020 15:05 +0100", "%d.%m.%Y %H:%M %z", NIGHT, False),
        ("2020-01-31 14:05:00.250", "%Y-%m-%d %H:%M:%S.%f", NIGHT + dt.timedelta(milliseconds=250), False),
        ("2020-01-31", "%m/%d/%Y", None, False),
        ("30.02.2020", "%d.%m.%Y", None, False),
        ("2020131", "%Y%m%d", None, False),
        ("13:05 PM 31.01.2020", "%I:%M %p %d.%m.%Y", None, False),
    ],
)
def test_a_text_is_read_by_its_stated_form_only(text, form, time, is_date):
    """Only the stated format is accepted. Non-existent days and other formats are unreadable, and a format with hours gives an instant."""
    times = read_times(pa.array([text, None]), Format(date_formats=(form,)))

    assert times.microseconds.cast(pa.timestamp("us")).to_pylist() == [time, None]
    assert times.is_date.to_pylist() == [is_date, False]
    assert (times.is_bad is not None) is (time is None)


def test_the_first_form_that_fits_is_taken():
    """The format ``iso`` is the default of a column without stated formats."""
    times = read_times(pa.array(["01/31/2020", "2020-01-31"]), Format(date_formats=("%m/%d/%Y", "iso")))

    assert times.microseconds.cast(pa.timestamp("us")).to_pylist() == [DAY, DAY]


@pytest.mark.parametrize(
    ("unit", "number", "is_date"),
    [("days", 18292, True), ("s", 1580428800, False), ("ms", 1580428800000, False)],
)
def test_numbers_are_read_with_their_unit(unit, number, is_date):
    """Numbers may be integers, floats or text, and out-of-range numbers are unreadable without an overflow."""
    form = Format(time_unit=unit)
    for column in (
        pa.array([number, None]),
        pa.array([float(number), None]),
        pa.array([str(number), ""]),
        pa.array([f"{number}.0", None]),
    ):
        times = read_times(column, form)

        assert times.microseconds.cast(pa.timestamp("us")).to_pylist() == [DAY, None]
        assert times.is_date.to_pylist()[0] is is_date
    assert read_times(pa.array([2**62]), form).is_bad.to_pylist() == [True]


def test_csv_of_another_layout_is_read_as_ours(tmp_path):
    """Names, separator, encoding and dates are those stated in the specification."""
    path = tmp_path / "events.csv"
    path.write_bytes("MRN;WHEN;ICD;RESULT\n007;31.01.2020;Fußpilz;5\n".encode("latin-1"))
    form = {"delimiter": ";", "encoding": "latin-1", "dateFormats": ["%d.%m.%Y"]}
    source = source_from({"source": "native", "columns": NAMES, "format": form})

    (batch,) = iter_events(source, SourceFile("events.csv", path, path.stat().st_size))

    assert batch.column("patient").to_pylist() == ["007"]
    assert batch.column("code").to_pylist() == ["Fußpilz"]
    assert batch.column("time").cast(pa.timestamp("us")).to_pylist() == [DAY]
    assert batch.column("value").to_pylist() == [5.0]


def test_parquet_with_integer_times_is_read(tmp_path):
    """An integer without a stated unit is refused, and the error names the field to set."""
    path = tmp_path / "events.parquet"
    pq.write_table(pa.table({"MRN": [7], "WHEN": [1580428800], "ICD": ["A"], "RESULT": [1.0]}), path)
    file = SourceFile("events.parquet", path, path.stat().st_size)

    (batch,) = iter_events(
        source_from({"source": "native", "columns": NAMES, "format": {"timeUnit": "s"}}), file
    )
    assert batch.column("time").cast(pa.timestamp("us")).to_pylist() == [DAY]
    with pytest.raises(DataError, match=r"data\.format\.timeUnit"):
        list(iter_events(source_from({"source": "native", "columns": NAMES}), file))


def test_a_stated_column_must_be_there(tmp_path):
    """A wrong name of an optional column is an error, and not a column of missing values."""
    path = tmp_path / "events.csv"
    path.write_text("patient_id,time,code\n1,2020-01-31,A\n")
    source = source_from({"source": "native", "columns": {"events": {"numeric_value": "RESULT"}}})

    with pytest.raises(DataError, match="column 'RESULT' is missing"):
        list(iter_events(source, SourceFile("events.csv", path, path.stat().st_size)))


@pytest.mark.parametrize("encoding", ["utf-16", "windows-1252", "shift-jis", "gb18030"])
def test_encodings_are_read(tmp_path, encoding):
    """Text is converted to UTF-8 from any of these encodings."""
    text = "né" if encoding == "windows-1252" else "漢字"
    path = tmp_path / "codes.csv"
    path.write_bytes(f"code,other\n{text},1\n".encode(encoding))
    source = source_from({"source": "native", "format": {"encoding": encoding}})

    table = open_table(SourceFile("codes.csv", path, path.stat().st_size), source)

    assert list(table.column_names) == ["code", "other"]
    assert read_columns(table, ["code"])["code"].to_pylist() == [text]


def test_another_encoding_than_stated_is_an_error(tmp_path):
    """For text in another encoding than stated, the message names the field to set."""
    path = tmp_path / "codes.csv"
    path.write_bytes("code,other\nFußpilz,1\n".encode("latin-1"))

    with pytest.raises(DataError, match=r"data\.format\.encoding"):
        read_columns(open_table(SourceFile("codes.csv", path, path.stat().st_size)), ["code"])


def test_one_of_several_encodings_is_an_error_with_its_own_remedy(tmp_path):
    """If an encoding is stated and one file has another, the remedy is not to state an encoding."""
    path = tmp_path / "labels.csv"
    path.write_text("code,other\nA,1\n", encoding="utf-8")
    source = source_from({"source": "native", "format": {"encoding": "utf-16"}})

    with pytest.raises(
        DataError,
        match=r"not UTF-16.*data\.format\.encoding applies to all CSV files: write them in one encoding",
    ):
        open_table(SourceFile("labels.csv", path, path.stat().st_size), source)


@pytest.mark.parametrize("encoding", ["windows-1252", "utf-16", "gb18030"])
def test_a_file_with_the_mark_of_utf8_is_not_read_in_another_encoding(encoding, tmp_path):
    """Its codes would silently be other codes: Windows-1252 reads any UTF-8."""
    path = tmp_path / "codes.csv"
    path.write_text("n,code\n1,Größe\n", encoding="utf-8-sig")
    source = source_from({"source": "native", "format": {"encoding": encoding}})

    with pytest.raises(DataError, match=r"byte order mark of UTF-8.*write this file in that encoding"):
        open_table(SourceFile("codes.csv", path, path.stat().st_size), source)


def test_columns_without_a_name_are_not_part_of_a_table(tmp_path):
    """Spreadsheets export empty columns at the end, and R row names: such columns are no columns of one name."""
    path = tmp_path / "codes.csv"
    path.write_text("\ufeff,code,other,,\r\n1,A,1,,\r\n2,B,2,,\r\n,,,,\r\n", encoding="utf-8")

    table = open_table(SourceFile("codes.csv", path, path.stat().st_size))

    assert list(table.column_names) == ["code", "other"]
    assert read_columns(table, table.column_names)["code"].to_pylist() == ["A", "B", None]
