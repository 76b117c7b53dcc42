"""The files that a table consists of."""

import os
from pathlib import Path

import pytest

from mlho.errors import DataError
from mlho.sources import SourceFile, list_inputs
from mlho.sources.files import find_inputs
from mlho.sources.names import Format, format_of, select_keys


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


def keys(files: list[SourceFile]) -> list[str]:
    return [file.key for file in files]


def test_a_folder_is_read_recursively_in_the_order_of_keys(root):
    """Hidden files, temporary files of other programs and other formats are left out."""
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
    """A file that is named explicitly is read even if its name is hidden; one that is found must not be hidden."""
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
def test_a_missing_table_is_an_error_with_its_remedy(root, pattern, rule, remedy):
    """The error for a missing or unreadable table has place, rule and remedy."""
    with pytest.raises(DataError, match=remedy) as caught:
        list_inputs(root, pattern)

    assert caught.value.where == pattern
    assert caught.value.rule == rule


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.parquet", Format(None)),
        ("a.PARQUET", Format(None)),
        ("a.Pq", Format(None)),
        ("a.parq", Format(None)),
        ("a.csv", Format(",")),
        ("a.CSV", Format(",")),
        ("a.csv.GZ", Format(",", "gzip")),
        ("a.csv.bz2", Format(",", "bz2")),
        ("a.Csv.zst", Format(",", "zstd")),
        ("a.tsv", Format("\t")),
        ("a.tsv.zst", Format("\t", "zstd")),
        ("a.csv.xz", None),
        ("a.parquet.gz", None),
        ("a.gz", None),
        ("csv", None),
        ("a.csv.bak", None),
    ],
)
def test_the_suffix_says_the_format_in_any_case(name, expected):
    """The suffix gives the format and the compression, in upper or lower case."""
    assert format_of(f"events/{name}") == expected


def test_nothing_of_a_folder_is_skipped_silently(root):
    """Temporary files and other documents are listed as left out; hidden files and markers of writers are not listed."""
    found = find_inputs(root, "events")

    assert found.left_out == ("events/_temporary/part-9.parquet", "events/readme.txt")


@pytest.mark.parametrize(
    "name", ["more.xlsx", "more.json", "more.csv.xz", "more.orc", "part-00000", "more.csv.bak", "more.txt"]
)
@pytest.mark.parametrize("pattern", ["events", "events/*", "**", "."])
def test_a_file_that_may_hold_rows_and_cannot_be_read_is_refused(name, pattern, tmp_path):
    """A file of an unknown format that may contain rows is refused; the error names it and says how to leave it out."""
    put(tmp_path, "events/a.csv", f"events/{name}")

    with pytest.raises(DataError, match=r"by a pattern, such as events/\*\.parquet") as caught:
        list_inputs(tmp_path, pattern)

    assert caught.value.where == f"events/{name}"
    assert keys(list_inputs(tmp_path, "events/*.csv")) == ["events/a.csv"]


@pytest.mark.parametrize(
    "mark",
    [
        "table/_delta_log/00000.json",
        "table/.hoodie/hoodie.properties",
        "table/metadata/v1.metadata.json",
        "table/metadata/version-hint.text",
    ],
)
@pytest.mark.parametrize(
    "pattern",
    ["table", "table/data", "table/data/*.parquet", "*/data", "table/data/a.parquet", "**/*.parquet"],
)
def test_a_table_with_a_list_of_its_valid_files_is_refused(mark, pattern, tmp_path):
    """Delta, Iceberg and Hudi tables are refused, in a folder and in a bucket, because their deleted rows would count."""
    put(tmp_path, "table/data/a.parquet", mark, "other/b.parquet")

    for look in (
        lambda: list_inputs(tmp_path, pattern),
        lambda: select_keys(["table/data/a.parquet", mark], pattern),
    ):
        with pytest.raises(DataError, match=r"Delta, Iceberg or Hudi table.*Export") as caught:
            look()
        assert caught.value.where == "table"
    assert keys(list_inputs(tmp_path, "other")) == ["other/b.parquet"]


def test_linked_folders_are_followed(tmp_path):
    """A linked folder on another disk is part of the folder."""
    put(tmp_path, "data/events/a.csv", "disk/2020/b.csv")
    (tmp_path / "data/events/2020").symlink_to(tmp_path / "disk/2020")

    for pattern in ("events", "events/*", "**/*.csv", "events/*/*.csv"):
        assert "events/2020/b.csv" in keys(list_inputs(tmp_path / "data", pattern))


def test_a_link_that_leads_back_is_refused(tmp_path):
    """A link to a parent folder is refused, because every file would be found again endlessly."""
    put(tmp_path, "events/2020/a.csv")
    (tmp_path / "events/2020/all").symlink_to(tmp_path / "events")

    with pytest.raises(DataError, match="leads back"):
        list_inputs(tmp_path, "events")


@pytest.mark.parametrize("link", ["folder", "file", "hard"])
def test_a_file_under_two_names_is_refused(link, tmp_path):
    """A file with two names is refused, because its rows would count twice."""
    put(tmp_path, "events/2020/a.csv")
    if link == "folder":
        (tmp_path / "events/latest").symlink_to(tmp_path / "events/2020")
    elif link == "file":
        (tmp_path / "events/latest.csv").symlink_to(tmp_path / "events/2020/a.csv")
    else:
        (tmp_path / "events/latest.csv").hardlink_to(tmp_path / "events/2020/a.csv")

    with pytest.raises(DataError, match="under two names"):
        list_inputs(tmp_path, "events")


def test_a_link_to_nothing_and_a_pipe_are_refused(tmp_path):
    """A partition on a missing disk is not skipped, and a pipe does not block."""
    put(tmp_path, "events/a.csv")
    (tmp_path / "events/b.csv").symlink_to(tmp_path / "away.csv")
    with pytest.raises(DataError, match=r"events/b\.csv: the file cannot be read"):
        list_inputs(tmp_path, "events")
    (tmp_path / "events/b.csv").unlink()
    os.mkfifo(tmp_path / "events/b.csv")
    with pytest.raises(DataError, match=r"events/b\.csv: the file cannot be read"):
        list_inputs(tmp_path, "events")


@pytest.mark.parametrize("name", [b"events/\xff.csv", b"events/a\nb.csv", b"events/\x1b[2J.csv"])
def test_a_name_that_is_no_text_is_refused(name, tmp_path):
    """A file name that is not printable text is refused, because messages and manifests cannot contain it."""
    (tmp_path / "events").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"x")

    with pytest.raises(DataError, match="Rename the file") as caught:
        list_inputs(tmp_path, "events")

    str(caught.value).encode()
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "pattern", ["x" * 5000, "a/" * 500, "**/" * 300 + "a", "a\0b", "a\nb", "\ud800", "x" * 300]
)
def test_a_pattern_that_can_name_nothing_is_an_error(pattern, root):
    """Patterns that are too long, or contain characters that no name has, are refused."""
    with pytest.raises(DataError):
        list_inputs(root, pattern)


@pytest.mark.parametrize("pattern", ["**", "**/**", "*"])
def test_a_pattern_may_be_all(pattern, root):
    """A pattern that matches everything is equivalent to the folder itself."""
    (root / "notes.txt").unlink()

    assert len(list_inputs(root, pattern)) == 4


def test_an_empty_folder_differs_from_a_missing_one(tmp_path):
    """The error for an existing empty folder differs from that for a missing one."""
    (tmp_path / "events").mkdir()

    with pytest.raises(DataError) as caught:
        list_inputs(tmp_path, "events")

    assert caught.value.rule == "the table has no file"
