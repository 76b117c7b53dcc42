"""The design matrix is built in the same way for training and scoring."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlho.method.classifiers.design_matrix import checked_matrix
from mlho.method.selection.features import Cells, Encoding, Range
from mlho.model.design import build_design, build_tree_design

A1C = Cells(np.array([0, 2, 3], np.int32), np.array([1, 5, 2], np.int32), np.array([6.5, np.nan, 9.0]))


def test_every_aggregate_has_its_column_and_demographics_come_last():
    """The columns are presence, count, levels, last value minus centre, and out of range, followed by the demographics."""
    encodings = [
        Encoding("presence"),
        Encoding("count"),
        Encoding("levels", level_cuts=(1, 3)),
        Encoding("last", centre=6.5),
        Encoding("outOfRange", reference=Range(4.0, 7.0)),
    ]
    demographics = np.array([[61.0, 0.0], [0.0, 1.0], [54.0, 0.0], [33.0, 1.0]])

    design = build_design(encodings, [A1C] * 5, 4, demographics)

    assert design.toarray().tolist() == [
        [1, 1, 1, 0, 0, 61, 0],
        [0, 0, 0, 0, 0, 0, 1],
        [1, 5, 2, 0, 0, 54, 0],
        [1, 2, 1, 2.5, 1, 33, 1],
    ]


def test_trees_store_known_values_only():
    """Presence, count, levels and ranges are stored if not 0. Known values and ages are stored even if 0, without a median."""
    encodings = [
        Encoding("presence"),
        Encoding("levels", level_cuts=(2, 3)),
        Encoding("last", centre=6.5),
        Encoding("outOfRange", reference=Range(4.0, 7.0)),
    ]
    cells = Cells(A1C.samples, A1C.counts, np.array([0.0, np.nan, 9.0]))
    demographics = np.array([[61.0, 0.0], [0.0, 1.0], [np.nan, 0.0], [33.0, 1.0]])
    is_value = np.array([False, False, True, False, True, False])

    design = build_tree_design(
        encodings, [cells] * 4, 4, demographics, is_value=is_value, names=[*"ABCD", "age", "sex: M"]
    )

    rows = [
        dict(zip(row.indices.tolist(), row.data.tolist(), strict=True))
        for row in (design[[k]] for k in range(4))
    ]
    assert design.dtype == np.float32
    assert rows == [
        {0: 1, 2: 0, 3: 1, 4: 61},
        {4: 0, 5: 1},
        {0: 1, 1: 2},
        {0: 1, 1: 1, 2: 9, 3: 1, 4: 33, 5: 1},
    ]


def test_no_features_and_no_samples_are_matrices_too():
    """A model of demographics only and an empty batch need no special case."""
    assert build_design([], [], 3).shape == (3, 0)
    assert build_design([], [], 2, np.ones((2, 1))).toarray().tolist() == [[1], [1]]
    nobody = Cells(np.empty(0, np.int32), np.empty(0, np.int32))
    assert build_design([Encoding("count")], [nobody], 0, np.empty((0, 2))).shape == (0, 3)


def test_demographics_of_other_samples_are_refused():
    """Demographics with another number of rows than samples are refused."""
    with pytest.raises(ValueError, match="extra must have 4 rows"):
        build_design([Encoding("count")], [A1C], 4, np.ones((3, 1)))
    with pytest.raises(ValueError, match="zip"):
        build_design([Encoding("count")], [], 4)


@given(st.lists(st.lists(st.integers(0, 3), min_size=6, max_size=6), min_size=1, max_size=5))
def test_the_matrix_is_canonical(columns):
    """Row indices are sorted, no zero is stored, and classifiers use the arrays without a copy."""
    cells = []
    for column in columns:
        samples = np.flatnonzero(column).astype(np.int32)
        cells.append(Cells(samples, np.array(column, np.int32)[samples]))

    design = build_design([Encoding("count")] * len(columns), cells, 6)

    assert design.toarray().T.tolist() == columns
    assert np.shares_memory(checked_matrix(design).data, design.data) or not design.nnz
