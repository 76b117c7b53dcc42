"""The rows of a table are counted before it is read: by footers, or by its size and a sample of rows."""

import gzip
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from mlho.errors import DataError
from mlho.sources import list_inputs
from mlho.sources.counting import MOST_FILES, RowCount, count_rows

LINE = "p{:07d},2019-04-14,{:06d}\n"


def text(n_rows: int) -> bytes:
    return (
        "patient_id,time,code\n" + "".join(LINE.format(k, k * 7919 % 10**6) for k in range(n_rows))
    ).encode()


def test_parquet_is_counted_by_its_footers(tmp_path: Path):
    """The footer has the number of rows, for any number of row groups."""
    for number, n_rows in enumerate((10, 2_500)):
        table = pa.table({"x": list(range(n_rows))})
        parquet.write_table(table, tmp_path / f"{number}.parquet", row_group_size=1_000)

    assert count_rows(list_inputs(tmp_path, ".")) == RowCount(2_510, "counted")


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_long_text_is_estimated_from_its_beginning(suffix, tmp_path: Path):
    """The estimate is within a tenth and marked as one. Short text is counted, with or without a final line break."""
    data = text(150_000)
    (tmp_path / f"long{suffix}").write_bytes(data if suffix == ".csv" else gzip.compress(data))
    (tmp_path / f"short{suffix}").write_bytes(text(3) if suffix == ".csv" else gzip.compress(text(3)))
    (tmp_path / f"open{suffix}").write_bytes(
        text(3)[:-1] if suffix == ".csv" else gzip.compress(text(3)[:-1])
    )
    found = {name: count_rows(list_inputs(tmp_path, f"{name}{suffix}")) for name in ("long", "short", "open")}

    assert abs(found["long"].n_rows - 150_000) < 15_000
    assert found["long"].basis == "from size and a sample of rows"
    assert found["short"] == found["open"] == RowCount(3, "counted")


def test_of_many_files_some_are_looked_at(tmp_path: Path):
    """Of many files, some are counted, and the rows of the others are estimated by their size."""
    for number in range(3 * MOST_FILES):
        parquet.write_table(pa.table({"x": list(range(100))}), tmp_path / f"{number:03d}.parquet")

    assert count_rows(list_inputs(tmp_path, ".")) == RowCount(
        300 * MOST_FILES, f"counted, in {MOST_FILES} of {3 * MOST_FILES} files, the others by size"
    )


def test_a_file_that_is_not_what_its_suffix_says_is_refused(tmp_path: Path):
    """A file whose content does not match its suffix is refused before a run begins, and the error names it."""
    (tmp_path / "labels.parquet").write_bytes(b"patient_id,label\n1,0\n")

    with pytest.raises(DataError, match=r"labels\.parquet: the file is not readable Parquet"):
        count_rows(list_inputs(tmp_path, "labels.parquet"))
