"""The objects of a bucket that belong to a table are those that a folder with equal names gives."""

from pathlib import Path

import pytest

from mlho.errors import DataError, SpecError
from mlho.sources.files import list_inputs
from mlho.sources.names import listing_prefix, select_keys
from mlho.store.inputs import S3Root, open_data

KEYS = [
    "labels.parquet",
    "labels.parquet.bak",
    "_labels.csv",
    "events/a.csv",
    "events/b.parquet",
    "events/notes.txt",
    "events/2024/01/part-0.parquet",
    "events/2024/01/_SUCCESS",
    "events/2024/.hidden/part-1.parquet",
    "events/_tmp/part-2.parquet",
    "events2/part-3.parquet",
    "more/x/y/part-4.csv.gz",
]
PATTERNS = [
    ".",
    "labels.parquet",
    "./labels.parquet",
    "_labels.csv",
    "events",
    "events/",
    "events/2024",
    "events/_tmp",
    "events/*.parquet",
    "events/*/*/part-*.parquet",
    "events/*",
    "events*",
    "events/20??",
    "**/*.parquet",
    "more/**/part-[0-9].csv.gz",
    "labels.parquet.bak",
    "nothing",
    "nothing/*",
    "events/notes.txt",
    "more/x/*.parquet",
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for key in KEYS:
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_text("x")
    return tmp_path


def outcome(call) -> list[str] | str:
    try:
        return call()
    except DataError as error:
        return error.rule


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_bucket_gives_the_inputs_of_a_folder_with_equal_names(root, pattern):
    """Files, folders, patterns, hidden names and errors are the same for a bucket and for a folder."""
    in_folder = outcome(lambda: [file.key for file in list_inputs(root, pattern)])

    assert outcome(lambda: [*select_keys(KEYS, pattern).found]) == in_folder


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_listing_contains_every_key_of_a_pattern(pattern):
    """A listing by the fixed prefix of a pattern contains every key that matches the pattern."""
    listed = [key for key in KEYS if key.startswith(listing_prefix(pattern))]

    assert outcome(lambda: select_keys(listed, pattern)) == outcome(lambda: select_keys(KEYS, pattern))


@pytest.mark.parametrize("pattern", ["/etc", "../up", "events/../../up"])
def test_a_pattern_cannot_leave_the_place(pattern):
    with pytest.raises(DataError, match=r"leaves data\.uri"):
        select_keys(KEYS, pattern)


def test_an_address_is_a_folder_or_a_bucket(tmp_path):
    """A path stays a path, an S3 URI becomes an object that lists and reads its keys, and other URIs are rejected."""
    assert open_data(tmp_path) == tmp_path
    assert open_data(str(tmp_path)) == tmp_path
    assert open_data(tmp_path.as_uri()) == tmp_path
    root = open_data("s3://bucket/a/b", env={})
    assert isinstance(root, S3Root)
    assert (root.bucket.name, root.prefix) == ("bucket", "a/b/")
    with pytest.raises(SpecError, match="from object storage"):
        open_data("gs://bucket/a")
