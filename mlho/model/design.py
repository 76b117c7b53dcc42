"""The design matrix: features in their order, then the demographics, as training and scoring both build it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlho.method.features import Cells, Encoding


def build_design(
    encodings: Sequence[Encoding],
    cells: Sequence[Cells],
    n_samples: int,
    extra: NDArray[np.float64] | None = None,
) -> Any:
    """Return the matrix that a classifier sees: one column a feature, then the columns of ``extra``.

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
    from scipy.sparse import csc_array  # 0.4 s, and programs that only write bundles do without

    columns = [encoding.encode(column_cells) for encoding, column_cells in zip(encodings, cells, strict=True)]
    if extra is not None:
        if extra.ndim != 2 or extra.shape[0] != n_samples:
            raise ValueError(f"extra must have {n_samples} rows; got shape {extra.shape}")
        columns += [_dense_column(extra[:, number]) for number in range(extra.shape[1])]
    indptr = np.zeros(len(columns) + 1, np.int64)
    np.cumsum([len(samples) for samples, _ in columns], out=indptr[1:])
    indices = np.concatenate([samples for samples, _ in columns] or [np.empty(0, np.int32)]).astype(np.int32)
    data = np.concatenate([numbers for _, numbers in columns] or [np.empty(0)])
    # SciPy gives both index arrays one dtype; int32 keeps the kernels to one compiled form while it suffices.
    offsets = indptr.astype(np.int32) if indptr[-1] <= np.iinfo(np.int32).max else indptr
    return csc_array((data, indices, offsets), shape=(n_samples, len(columns)))


def _dense_column(column: NDArray[np.float64]) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    samples = np.flatnonzero(column).astype(np.int32)
    return samples, column[samples]
