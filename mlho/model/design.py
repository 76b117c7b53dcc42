"""The design matrix: features in their order, then the demographics, as training and scoring both build it.

Linear models take one in which absent is zero, trees one in which it is missing: see :mod:`mlho.method.classifiers.tree_matrix`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.demographics import DemographicsEncoder
from mlho.method.selection.features import Cells, Encoding

_Column = tuple[NDArray[np.int32], NDArray[np.float64]]


def build_design(
    encodings: Sequence[Encoding],
    cells: Sequence[Cells],
    n_samples: int,
    extra: NDArray[np.float64] | None = None,
) -> Any:
    """Return the matrix that a linear model sees: one column a feature, then the columns of ``extra``.

    Parameters
    ----------
    encodings : sequence of Encoding, length n_features
        Learned from training samples only.
    cells : sequence of Cells, length n_features
        The cells of each feature's column, in the same order; samples count from 0 and rise.
    n_samples : int
        Rows, those without any cell included.
    extra : float64, shape (n_samples, k), optional
        Dense columns to put after the features: the demographics.

    Returns
    -------
    scipy.sparse.csc_array of float64, shape (n_samples, n_features + k)
        Canonical: rows rise within a column and no zero is stored, so that equal numbers have one form.

    Raises
    ------
    ValueError
        Encodings and cells differ in number, or ``extra`` has other rows: a fault of the caller.

    Examples
    --------
    >>> cells = Cells(np.array([1, 2], np.int32), np.array([1, 3], np.int32))
    >>> build_design([Encoding("count")], [cells], 4).toarray().ravel().tolist()
    [0.0, 1.0, 3.0, 0.0]
    """
    columns = [encoding.encode(column_cells) for encoding, column_cells in zip(encodings, cells, strict=True)]
    nowhere = np.zeros(0 if extra is None else extra.shape[-1], np.bool_)
    return _csc([*columns, *_dense_columns(extra, nowhere, n_samples)], n_samples)


def build_tree_design(
    encodings: Sequence[Encoding],
    cells: Sequence[Cells],
    n_samples: int,
    extra: NDArray[np.float64] | None = None,
    *,
    is_value: NDArray[np.bool_],
    names: Sequence[str],
) -> Any:
    """Return the matrix that trees see: the columns of :func:`build_design`, with nothing imputed or centred.

    Parameters
    ----------
    encodings, cells, n_samples
        As :func:`build_design` takes them.
    extra : float64, shape (n_samples, k), optional
        NaN in a column of values is a number that is not known.
    is_value : bool, shape (n_features + k,)
        The columns of values; see :func:`value_columns`.
    names : sequence of str, length n_features + k
        What an error calls the columns.

    Returns
    -------
    scipy.sparse.csr_array of float32, shape (n_samples, n_features + k)
        As :func:`mlho.method.classifiers.tree_matrix.tree_matrix` gives it.

    Raises
    ------
    DataError
        A number is beyond float32; the error names its column.
    """
    from mlho.method.classifiers.tree_matrix import tree_matrix

    columns = [encoding.stored(column_cells) for encoding, column_cells in zip(encodings, cells, strict=True)]
    columns += _dense_columns(extra, is_value[len(columns) :], n_samples)
    return tree_matrix(_csc(columns, n_samples), is_value, where="features", names=names)


def value_columns(
    encodings: Sequence[Encoding], demographics: DemographicsEncoder | None
) -> NDArray[np.bool_]:
    """Return which columns of a design for trees hold values, bool, shape (n_features + k,)."""
    features = np.array([encoding.is_value for encoding in encodings], np.bool_)
    return features if demographics is None else np.concatenate([features, demographics.is_value])


def _dense_columns(
    extra: NDArray[np.float64] | None, is_value: NDArray[np.bool_], n_samples: int
) -> list[_Column]:
    """Stored cells of dense columns: numbers that are not NaN in columns of values, else those that are not zero."""
    if extra is None:
        return []
    if extra.ndim != 2 or extra.shape[0] != n_samples:
        raise ValueError(f"extra must have {n_samples} rows; got shape {extra.shape}")
    is_stored = np.where(is_value, ~np.isnan(extra), extra != 0)
    samples = [np.flatnonzero(is_stored[:, number]).astype(np.int32) for number in range(extra.shape[1])]
    return [(own, extra[own, number]) for number, own in enumerate(samples)]


def _csc(columns: Sequence[_Column], n_samples: int) -> Any:
    from scipy.sparse import csc_array  # 0.4 s, and programs that only write bundles do without

    indptr = np.zeros(len(columns) + 1, np.int64)
    np.cumsum([len(samples) for samples, _ in columns], out=indptr[1:])
    indices = np.concatenate([samples for samples, _ in columns] or [np.empty(0, np.int32)]).astype(np.int32)
    data = np.concatenate([numbers for _, numbers in columns] or [np.empty(0)])
    # SciPy gives both index arrays one dtype; int32 keeps the kernels to one compiled form while it suffices.
    offsets = indptr.astype(np.int32) if indptr[-1] <= np.iinfo(np.int32).max else indptr
    return csc_array((data, indices, offsets), shape=(n_samples, len(columns)))
