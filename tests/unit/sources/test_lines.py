"""Stray quotes: a field that contains rows is found, and a text with line breaks is accepted."""

import gzip
import traceback
from pathlib import Path

import pytest

from mlho.errors import DataError
from mlho.sources.files import SourceFile
from mlho.sources.reading import open_table, read_columns

HEADER = "patient_id,time,code,note"


def rows(n: int) -> list[str]:
    return [f"p{number},2020-01-{number % 28 + 1:02d},C{number % 7},fine" for number in range(n)]


def read(path: Path) -> int:
    file = SourceFile(path.name, path, path.stat().st_size)
    return len(read_columns(open_table(file), ["patient_id"])["patient_id"])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
@pytest.mark.parametrize(("first", "last"), [(10, 307), (10, 11), (0, 999), (500, 501)])
def test_two_stray_quotes_that_swallow_rows_are_found(first, last, suffix, end, tmp_path):
    """Rows within a quoted text are not dropped silently: the file is refused, and the error has the line."""
    lines = rows(1000)
    lines[first] = lines[first].replace("fine", '"5 foot')
    lines[last] = lines[last].replace("fine", 'fi"ne')
    data = (end.join([HEADER, *lines]) + end).encode()
    path = tmp_path / f"events{suffix}"
    path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)

    with pytest.raises(DataError, match="a quoted field holds whole rows") as caught:
        read(path)

    assert f"begins in line {first + 2:,} " in str(caught.value)
    assert "foot" not in str(caught.value)


@pytest.mark.parametrize(
    ("at", "field", "line"),
    [
        (10, "note", 12),
        (10, "code", 12),
        (9_998, "note", 10_000),
        (9_998, "code", 10_000),
        (9_999, "code", 10_001),
    ],
)
@pytest.mark.parametrize("n_columns", [4, 300])
def test_a_quote_that_is_never_closed_is_named(at, field, line, n_columns, tmp_path):
    """An unclosed quote makes the rest of the file one field: the error names its line, in a file of one block or of several."""
    further = ",x" * (n_columns - 4)
    lines = [f"p1,2020-01-01{further},C,fine"] * 10_000
    lines[at] = f'p1,2020-01-01{further},C,"fine' if field == "note" else f'p1,2020-01-01{further},"C,fine'
    path = tmp_path / "events.csv"
    header = f"patient_id,time{''.join(f',x{n}' for n in range(n_columns - 4))},code,note"
    path.write_text("\n".join([header, *lines]) + "\n")

    with pytest.raises(DataError, match="a quote is not closed") as caught:
        read(path)

    assert f"begins in line {line:,} " in str(caught.value)
    assert "fine" not in "".join(traceback.format_exception(caught.value))


def test_the_line_of_an_open_quote_is_that_of_its_field(tmp_path):
    """The row begins two lines earlier, with a text of several lines that is closed."""
    path = tmp_path / "events.csv"
    path.write_text(f'{HEADER}\np1,"2020\n-01\n-01","C,fine\n')

    with pytest.raises(DataError, match="begins in line 4 "):
        read(path)


def test_a_short_last_row_with_closed_quotes_lacks_fields(tmp_path):
    """A closed text of several lines in the last row is not taken for an open quote."""
    path = tmp_path / "events.csv"
    path.write_text(f'{HEADER}\np1,2020-01-01,"C\nfine"')

    with pytest.raises(DataError, match="row 2 has a different number of fields"):
        read(path)


def test_a_long_letter_of_several_lines_is_a_text(tmp_path):
    """A text longer than the usual limit of Python's reader of CSV files has swallowed no rows."""
    lines = rows(100)
    lines[40] = lines[40].replace("fine", '"' + "a line of a letter\n" * 10_000 + '"')
    path = tmp_path / "events.csv"
    path.write_text("\n".join([HEADER, *lines]))

    assert read(path) == 100


def test_texts_with_line_breaks_are_texts(tmp_path):
    """A letter of several lines is one field, and blank lines are not rows."""
    lines = rows(100)
    lines[40] = lines[40].replace("fine", '"Dear colleague,\n\nthank you, yours\n"')
    path = tmp_path / "events.csv"
    path.write_text("\n".join([HEADER, *lines[:50], "", *lines[50:], "", ""]))

    assert read(path) == 100
