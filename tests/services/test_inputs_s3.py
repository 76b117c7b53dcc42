"""Tables in object storage are listed without reading them, read by ranges, and never read in two versions at once."""

import resource
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from mlho.errors import DataError, InputChanged, StoreAccessDenied, StoreUnavailable
from mlho.inspection.training import inspect_training
from mlho.sources import SourceFile, iter_events, list_inputs, source_named
from mlho.sources.counting import count_rows
from mlho.sources.meds import DATASET, check_version
from mlho.sources.reading import open_table, read_columns
from mlho.spec.training import Tables
from mlho.store.inputs import S3Root
from mlho.store.s3 import Bucket
from scheduler.engine.manifest import make_manifest
from tests.builders import make_spec, make_tables, write_tables
from tests.limits import GUARD_SECONDS
from tests.services.s3_proxy import CUT, REFUSE, Proxy
from tests.services.s3_servers import BUCKET, S3Server, client_of

pytestmark = pytest.mark.usefixtures("credentials")
NATIVE = source_named("native")


@pytest.fixture
def root(proxy: Proxy, seaweedfs: S3Server) -> S3Root:
    settings = seaweedfs.settings(endpoint=proxy.endpoint, deadline_seconds=GUARD_SECONDS)
    return S3Root(Bucket(BUCKET, settings), f"{uuid4().hex[:8]}/")


@pytest.fixture
def put(seaweedfs: S3Server, root: S3Root):
    """Return a function that writes an object under the root without the proxy."""
    client = client_of(seaweedfs)

    def put(key: str, data: bytes) -> None:
        client.put_object(Bucket=BUCKET, Key=root.prefix + key, Body=data)

    return put


def make_events(n_rows: int, *, seed: int = 0) -> pa.Table:
    """Return events with three quarters of the bytes in unused columns."""
    rng = np.random.default_rng(seed)
    codes = pa.array([f"C{number}" for number in range(300)])
    unwanted = {f"other_{number}": rng.normal(size=n_rows) for number in range(10)}
    return pa.table(
        {
            **unwanted,
            "patient_id": rng.integers(0, 1000, n_rows),
            "time": pa.array(rng.integers(0, 10**15, n_rows), pa.timestamp("us")),
            "code": codes.take(pa.array(rng.integers(0, 300, n_rows))),
            "numeric_value": rng.normal(size=n_rows),
        }
    )


def as_parquet(table: pa.Table, **options) -> bytes:
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink, **options)
    return sink.getvalue().to_pybytes()


def as_csv(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    csv.write_csv(table, sink)
    return sink.getvalue().to_pybytes()


def write_forms(folder: Path, table: pa.Table) -> dict[str, bytes]:
    """Write the table in every format, and return the bytes by file name."""
    import gzip

    plain = as_csv(table)
    forms = {
        "events.parquet": as_parquet(table, row_group_size=7_000),
        "events.csv": plain,
        "events.csv.gz": gzip.compress(plain, mtime=0),
    }
    for name, data in forms.items():
        (folder / name).write_bytes(data)
    return forms


def rows_of(file: SourceFile) -> pa.Table:
    batches = [batch.to_pylist() for batch in iter_events(NATIVE, file)]
    return [row for batch in batches for row in batch]


def test_a_manifest_is_listed_without_reading(root, put, proxy):
    """The manifest has keys, sizes and ETags from listings, without a request for an object."""
    for number in range(3):
        put(f"events/part-{number}.parquet", b"x" * (number + 1))
    requests = []
    proxy.fate = lambda method, path: requests.append((method, "list-type" in path))
    found = list_inputs(root, "events")

    assert [(file.key, file.size) for file in found] == [
        (f"events/part-{number}.parquet", number + 1) for number in range(3)
    ]
    assert len({file.path.version for file in found}) == 3
    assert set(requests) == {("GET", True)}


def test_equal_content_has_an_equal_version(root, put):
    """Two writes of the same content give the same version."""
    put("a.csv", b"x\n1\n")
    (first,) = list_inputs(root, "a.csv")
    put("a.csv", b"x\n1\n")

    assert list_inputs(root, "a.csv") == [first]


@pytest.mark.parametrize("name", ["events.parquet", "events.csv"])
def test_rows_are_counted_by_ranges(root, put, proxy, tmp_path, name):
    """For a plan, the number of rows is estimated from a footer or the beginning of a text, within 2 % and without reading the whole file."""
    n_rows = 60_000
    data = write_forms(tmp_path, make_events(n_rows))[name]
    put(name, data)
    files = list_inputs(root, name)
    requests = []
    proxy.fate = lambda method, path: requests.append(method)

    counted = count_rows(files)

    assert abs(counted.n_rows - n_rows) < n_rows / 50
    assert len(requests) <= 3 < len(data) / (1 << 20)


@pytest.mark.parametrize("name", ["events.parquet", "events.csv", "events.csv.gz"])
def test_rows_are_those_of_a_folder(root, put, tmp_path, name):
    """Parquet, CSV and compressed CSV give the same batches of rows as in a folder."""
    put(name, write_forms(tmp_path, make_events(20_000))[name])
    (here,), (there,) = list_inputs(tmp_path, name), list_inputs(root, name)

    assert rows_of(there) == rows_of(here)


@pytest.mark.parametrize("name", ["events.parquet", "events.csv"])
def test_small_tables_are_read_whole(root, put, tmp_path, name):
    """Small tables, such as labels and demographics, give the same columns as in a folder."""
    put(name, write_forms(tmp_path, make_events(100))[name])
    (here,), (there,) = list_inputs(tmp_path, name), list_inputs(root, name)

    assert read_columns(open_table(there), ["code", "time"]) == read_columns(
        open_table(here), ["code", "time"]
    )


def test_only_the_wanted_columns_are_read(root, put, proxy):
    """Only the used columns are read, by a few range requests, although an unused column has most of the bytes."""
    data = as_parquet(
        make_events(300_000), row_group_size=100_000, compression="none", use_dictionary=["code"]
    )
    put("events.parquet", data)
    (file,) = list_inputs(root, "events.parquet")
    requests = []
    proxy.fate = lambda method, path: requests.append(method)
    read = []
    get_range = file.path.bucket.get_range
    object.__setattr__(file.path, "bucket", _Counting(get_range, read))
    n_rows = sum(batch.num_rows for batch in iter_events(NATIVE, file))

    assert n_rows == 300_000
    assert sum(read) < 0.35 * len(data)
    assert len(requests) < 30


class _Counting:
    """A bucket that counts the bytes of range requests."""

    def __init__(self, get_range, read: list[int]) -> None:
        self._get_range, self._read = get_range, read

    def get_range(self, key: str, start: int, size: int, *, etag: str) -> bytes | None:
        self._read.append(size)
        return self._get_range(key, start, size, etag=etag)


def test_memory_stays_flat(root, put):
    """Reading a file of more than 100 MB increases the process's memory by only a fraction of that."""
    table = make_events(1_000_000)
    put("events.parquet", as_parquet(table, row_group_size=250_000, compression="none", use_dictionary=False))
    del table
    (file,) = list_inputs(root, "events.parquet")
    for _ in iter_events(NATIVE, file):
        break  # libraries are loaded, the first windows filled
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    n_rows = sum(batch.num_rows for batch in iter_events(NATIVE, file))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024

    assert n_rows == 1_000_000
    assert file.size > 100e6
    assert grown < 60e6


@pytest.mark.parametrize("name", ["events.parquet", "events.csv", "events.csv.gz"])
@pytest.mark.parametrize("fate", ["replaced", "removed"])
def test_an_object_that_changed_is_refused(root, put, seaweedfs, tmp_path, name, fate):
    """An object that is replaced or deleted between the manifest and the first read is refused."""
    put(name, write_forms(tmp_path, make_events(1_000))[name])
    (file,) = list_inputs(root, name)
    if fate == "replaced":
        put(name, write_forms(tmp_path, make_events(1_000, seed=1))[name])
    else:
        client_of(seaweedfs).delete_object(Bucket=BUCKET, Key=root.prefix + name)

    with pytest.raises(InputChanged, match="changed after the run began"):
        rows_of(file)


def test_an_object_that_changes_while_it_is_read_is_refused(root, put):
    """If an object changes after the first batch, the next range is refused, so that rows of two versions are never mixed."""
    data = as_parquet(make_events(400_000), row_group_size=100_000)
    put("events.parquet", data)
    (file,) = list_inputs(root, "events.parquet")
    batches = iter_events(NATIVE, file, batch_rows=10_000)
    next(batches)
    put("events.parquet", data + b"x")

    with pytest.raises(InputChanged, match=r"events\.parquet"):
        list(batches)


def test_a_stream_reads_and_seeks_like_a_file(root, put):
    """A stream reads bytes at any position, across windows and at the end. If the version is gone, reading is refused."""
    data = np.random.default_rng(0).bytes(5_000_000)
    put("a.csv", data)
    (file,) = list_inputs(root, "a.csv")
    with file.path.open() as stream:
        assert stream.read(10) == data[:10]
        assert stream.seek(-10, 2) == len(data) - 10
        assert stream.read() == data[-10:]
        assert stream.read() == b""
        stream.seek(1_500_000)
        assert stream.read(3_000_000) == data[1_500_000:4_500_000]
        stream.seek(0)
        assert stream.read() == data
    with file.path.open() as stream:
        stream.read(10)
        put("a.csv", data + b"x")
        with pytest.raises(InputChanged):
            stream.read()


def test_reads_are_retried_after_faults(root, put, proxy, tmp_path):
    """Requests that fail with 503 or end early are repeated, and the rows are the same."""
    name = "events.parquet"
    put(name, write_forms(tmp_path, make_events(20_000))[name])
    (here,), (there,) = list_inputs(tmp_path, name), list_inputs(root, name)
    fates = iter([REFUSE, None, CUT, None, None, CUT, REFUSE])
    proxy.fate = lambda method, path: next(fates, None)

    assert rows_of(there) == rows_of(here)
    assert len(proxy.done) >= 3


def test_an_unavailable_store_is_not_reported_as_a_bad_file(root, put, proxy, tmp_path):
    """An unavailable store raises a retryable error instead of an error in the table."""
    put("events.csv", write_forms(tmp_path, make_events(100))["events.csv"])
    (file,) = list_inputs(root, "events.csv")
    settings = root.bucket.settings
    quick = type(settings)(**{**vars(settings), "deadline_seconds": 0.5, "max_attempts": 1})
    object.__setattr__(file.path, "bucket", Bucket(BUCKET, quick))
    proxy.fate = lambda method, path: REFUSE

    with pytest.raises(StoreUnavailable, match="SlowDown"):
        rows_of(file)


def test_a_damaged_object_is_a_bad_file(root, put):
    """The error for an invalid Parquet file names the file and does not quote its bytes."""
    put("events.parquet", b"Jane Doe, not a Parquet file")
    (file,) = list_inputs(root, "events.parquet")

    with pytest.raises(DataError, match="not readable Parquet") as caught:
        rows_of(file)
    assert "Jane" not in str(caught.value)


def test_a_missing_table_and_a_missing_bucket_are_different_errors(root, put, seaweedfs):
    """A missing table and a missing bucket give different errors, because the remedies differ: the specification or the address."""
    with pytest.raises(DataError, match="no such file or folder"):
        list_inputs(root, "events")
    with pytest.raises(StoreAccessDenied, match="no such bucket"):
        list_inputs(S3Root(Bucket("nonesuch", seaweedfs.settings()), ""), "events")


def test_tables_of_a_bucket_are_inspected_like_those_of_a_folder(root, put, tmp_path):
    """The inspection of tables in a bucket has the same findings as that of a folder."""
    folder = write_tables(tmp_path, make_tables(100))
    for path in folder.rglob("*.parquet"):
        put(path.relative_to(folder).as_posix(), path.read_bytes())
    spec = make_spec().spec

    there = inspect_training(spec, root)

    assert there.errors == []
    assert there.to_json() == inspect_training(spec, folder).to_json()


def test_the_description_of_a_meds_data_set_is_an_input(root, put):
    """The metadata of a MEDS data set is found by its exact key, pinned by version and checked; without the object nothing is checked."""
    check_version(root)
    put("data/0.parquet", as_parquet(make_events(10)))
    put("labels.parquet", as_parquet(make_events(10)))
    put(f"{DATASET}.old", b"{}")
    tables = Tables(events="data", labels="labels.parquet")
    assert "dataset" not in make_manifest(tables, root, source="meds").tables

    put(DATASET, b'{"meds_version": "0.2.0"}')
    (pinned,) = make_manifest(tables, root, source="meds").tables["dataset"]

    assert (pinned.key, pinned.size) == (DATASET, 25)
    with pytest.raises(DataError, match=r"got version 0\.2\.0"):
        check_version(root)
