"""Which files a table consists of."""

from pathlib import Path

import pytest

from mlho.errors import DataError
from mlho.sources import InputFile, list_inputs


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in (
        "events/bucket=0002/part-0.parquet",
        "events/bucket=0001/part-0.parquet",
        "events/bucket=0001/part-0.csv.gz",
        "events/_SUCCESS",
        "events/_temporary/part-9.parquet",
        "events/.hidden/part-8.parquet",
        "events/bucket=0001/.part-0.parquet.crc",
        "events/readme.txt",
        "labels.csv",
        "notes.txt",
        "_labels.csv",
        "empty/readme.txt",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"four")
    return tmp_path


def keys(files: list[InputFile]) -> list[str]:
    return [file.key for file in files]


def test_a_folder_is_read_recursively_in_the_order_of_keys(root):
    """Hidden files, files of other programs and other formats are left out."""
    found = list_inputs(root, "events")

    assert keys(found) == [
        "events/bucket=0001/part-0.csv.gz",
        "events/bucket=0001/part-0.parquet",
        "events/bucket=0002/part-0.parquet",
    ]
    assert found[0].size == 4
    assert found[0].path == root / "events/bucket=0001/part-0.csv.gz"
    assert [file.is_parquet for file in found] == [False, True, True]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("labels.csv", ["labels.csv"]),
        ("_labels.csv", ["_labels.csv"]),
        ("events/", 3),
        ("./events", 3),
        (
            "events/*/part-0.parquet",
            ["events/bucket=0001/part-0.parquet", "events/bucket=0002/part-0.parquet"],
        ),
        ("events/bucket=000[2]", ["events/bucket=0002/part-0.parquet"]),
        ("events/**/*.csv.gz", ["events/bucket=0001/part-0.csv.gz"]),
        ("*.csv", ["labels.csv"]),
    ],
)
def test_a_table_is_a_file_a_folder_or_a_pattern(root, pattern, expected):
    """A file that is named is read whatever its name; one that is found must not be hidden."""
    found = keys(list_inputs(root, pattern))

    assert (len(found) if isinstance(expected, int) else found) == expected


@pytest.mark.parametrize(
    ("pattern", "rule", "remedy"),
    [
        ("nothing.parquet", "no such file or folder", "Correct data.uri or data.tables"),
        ("events/*.parquet", "no such file or folder", "Correct data.uri or data.tables"),
        ("empty", "the table has no file", "Correct data.uri or data.tables"),
        ("notes.txt", "the format is not known", "Write the table in one of these formats"),
        ("../elsewhere", "the path leaves data.uri", "Set data.uri"),
        ("/etc/passwd", "the path leaves data.uri", "Set data.uri"),
    ],
)
def test_what_is_not_there_is_an_error_with_its_remedy(root, pattern, rule, remedy):
    """Where, rule and remedy stand in the message."""
    with pytest.raises(DataError, match=remedy) as caught:
        list_inputs(root, pattern)

    assert caught.value.where == pattern
    assert caught.value.rule == rule
