"""Segments return the rows of each block, and damaged files are refused."""

import numpy as np
import pytest

from mlho.encoding.cohort.cohort import BLOCK_PATIENTS
from mlho.encoding.events.rows import UsedRows
from mlho.encoding.events.segments import Segments, SegmentWriter
from mlho.errors import ArtifactDamaged


def rows_of(patients, *, times=True):
    patient = np.array(patients, np.int32)
    time = np.arange(len(patient), dtype=np.int64) if times else np.empty(0, np.int64)
    return UsedRows(patient, np.arange(len(patient), dtype=np.int32) * 2, time, np.empty(0, np.float64))


@pytest.fixture
def path(tmp_path):
    with SegmentWriter(tmp_path / "segments", 3) as writer:
        writer.write(rows_of([BLOCK_PATIENTS + 5, 3, 2 * BLOCK_PATIENTS, BLOCK_PATIENTS]))
        writer.write(rows_of([]))
        writer.write(rows_of([1]))
    return tmp_path / "segments"


def test_rows_come_back_by_block(path):
    """Every block has its rows from every segment in the order of writing, with patients numbered from its first one."""
    segments = Segments.open(path)
    assert segments.n_blocks == 3
    found = [
        [(r.patient.tolist(), r.code.tolist(), r.time.tolist()) for r in segments.rows(b)] for b in range(3)
    ]
    assert found == [[([3], [2], [1]), ([1], [0], [0])], [([5, 0], [0, 6], [0, 3])], [([0], [4], [2])]]


def test_columns_that_do_not_matter_take_no_room(tmp_path):
    """Without times, a row takes 6 bytes: patient and code."""
    with SegmentWriter(tmp_path / "segments", 1) as writer:
        writer.write(rows_of(range(10_000), times=False))
    assert (tmp_path / "segments").stat().st_size < 60_500
    (rows,) = Segments.open(tmp_path / "segments").rows(0)
    assert rows.time.size == rows.value.size == 0


@pytest.mark.parametrize("n_bytes", [0, 5, 100, 300])
def test_a_file_cut_short_is_refused(path, n_bytes):
    """A truncated file is damaged and not a file with fewer rows."""
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(ArtifactDamaged, match="segments"):
        Segments.open(path)


def test_a_file_without_its_first_half_is_refused(path):
    """A file without its first half is refused, because the index at its end refers to missing bytes."""
    data = path.read_bytes()
    path.write_bytes(data[len(data) - 300 :])
    with pytest.raises(ArtifactDamaged, match="damaged segments"):
        Segments.open(path)


def test_a_damaged_index_is_refused(path):
    """An index that is not valid JSON is damage."""
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"n_blocks"', b'"n_blocks,'))
    with pytest.raises(ArtifactDamaged, match="damaged segments"):
        Segments.open(path)
