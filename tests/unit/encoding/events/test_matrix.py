"""The matrix gives the columns and counts of its packed blocks, under any mask."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from mlho.arrays import write_arrays
from mlho.encoding.cohort.cohort import BLOCK_PATIENTS
from mlho.encoding.events.matrix import Matrix
from mlho.errors import ArtifactDamaged

N_PATIENTS = BLOCK_PATIENTS + 40
N_CODES, N_WINDOWS = 3, 2


@pytest.fixture(scope="module")
def planted(make_cohort, tmp_path_factory):
    """Return a matrix of two blocks and the same numbers as dense arrays; every third patient has two samples."""
    folder = tmp_path_factory.mktemp("blocks")
    cohort = make_cohort({f"{n:06d}": [0, 1] if n % 3 == 0 else [0] for n in range(N_PATIENTS)})
    rng = np.random.default_rng(2)
    shape = (cohort.n_samples, N_CODES * N_WINDOWS)
    count = (rng.random(shape) < 0.05) * rng.integers(1, 9, shape)
    count[:, 4] = 0
    last = np.where((count > 0) & (rng.random(shape) < 0.5), rng.random(shape), np.nan)
    starts, paths = cohort.sample_starts(), []
    for block in range(cohort.n_blocks):
        first, stop = (starts[patient] for patient in cohort.block_patients(block))
        cells = sp.csc_array(count[first:stop])
        columns = np.repeat(np.arange(shape[1]), np.diff(cells.indptr))
        paths.append(folder / f"block-{block}")
        write_arrays(
            paths[-1],
            {
                "indptr": cells.indptr.astype(np.int64),
                "indices": cells.indices.astype(np.int32),
                "count": cells.data.astype(np.int32),
                "last": last[first:stop][cells.indices, columns],
            },
        )
    matrix = Matrix.open(paths, cohort, n_codes=N_CODES, n_windows=N_WINDOWS)
    return matrix, cohort, count, last, paths


def masks(n):
    share = st.sampled_from([0.0, 0.01, 0.5, 1.0])
    return st.builds(lambda seed, p: np.random.default_rng(seed).random(n) < p, st.integers(0, 999), share)


def test_the_shape_is_samples_by_codes_and_windows(planted):
    """The column number is code × windows + window."""
    matrix, cohort, count, _, _ = planted
    assert (matrix.n_samples, matrix.n_columns, matrix.n_windows) == (*count.shape, N_WINDOWS)
    assert matrix.n_cells == np.count_nonzero(count)
    assert cohort.n_blocks == 2


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_patients_are_counted_once_among_the_masked(planted, data):
    """A patient with two samples in the mask counts once, and one whose only event is outside the mask does not count."""
    matrix, cohort, count, last, _ = planted
    mask = data.draw(masks(matrix.n_samples))
    for found, cells in (
        (matrix.patients_per_column(mask), count > 0),
        (matrix.patients_per_column(mask, "last"), ~np.isnan(last)),
    ):
        expected = [len(set(cohort.patient_of[cells[:, j] & mask].tolist())) for j in range(matrix.n_columns)]
        assert found.tolist() == expected
    assert (
        matrix.patients_per_column().tolist() == matrix.patients_per_column(np.ones(len(mask), bool)).tolist()
    )


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_columns_come_in_the_order_asked_with_masked_samples_renumbered(planted, data):
    """Any columns, also repeated ones, under any mask equal the cells of the dense arrays."""
    matrix, _, count, last, _ = planted
    columns = data.draw(st.lists(st.integers(0, matrix.n_columns - 1), max_size=5))
    mask = data.draw(st.none() | masks(matrix.n_samples))
    rows = slice(None) if mask is None else mask
    block = matrix.column_block(columns, mask, numbers=["last"] * len(columns))
    indptr, indices, counts, lasts = block.indptr, block.indices, block.count, block.number
    for j, column in enumerate(columns):
        dense, numbers = count[rows, column], last[rows, column]
        cells = slice(indptr[j], indptr[j + 1])
        assert indices[cells].tolist() == np.flatnonzero(dense).tolist()
        assert counts[cells].tolist() == dense[dense > 0].tolist()
        np.testing.assert_array_equal(lasts[cells], numbers[dense > 0])
    assert len(indptr) == len(columns) + 1


def test_a_matrix_without_numbers_says_so(planted, make_cohort, tmp_path):
    """Blocks of presence have no numbers: the numbers are None, and no patient has one."""
    arrays = {"indptr": np.array([0, 1]), "indices": np.zeros(1, np.int32), "count": np.ones(1, np.int32)}
    write_arrays(tmp_path / "block", arrays)
    matrix = Matrix.open([tmp_path / "block"], make_cohort({"1": [0]}), n_codes=1, n_windows=1)
    assert matrix.column_block([0], numbers=[None]).number is None
    assert matrix.patients_per_column(number="last").tolist() == [0]
    assert matrix.patients_per_column().tolist() == [1]


def test_a_block_of_another_dictionary_is_refused(planted):
    """A block of another dictionary is refused, because its columns would silently mean other codes."""
    _, cohort, _, _, paths = planted
    with pytest.raises(ArtifactDamaged, match="not a block of this dictionary"):
        Matrix.open(paths, cohort, n_codes=N_CODES + 1, n_windows=N_WINDOWS)


@pytest.mark.parametrize("mask", [np.ones(3, bool), np.ones(N_PATIENTS + N_PATIENTS // 3 + 1, np.int8)])
def test_a_mask_of_another_shape_or_type_is_refused(planted, mask):
    """A mask must be Boolean with one entry per sample; an index array would select other samples."""
    with pytest.raises(ValueError, match=r"sample_mask: expected \d+ Booleans"):
        planted[0].patients_per_column(mask)
