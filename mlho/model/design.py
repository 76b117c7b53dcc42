"""The design matrix, built identically in training and scoring: features in order, then demographics.

For linear models absent means zero, for trees missing: see :mod:`mlho.method.classifiers.tree_matrix`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.demographics import DemographicsEncoder
from mlho.errors import plural
from mlho.method.selection.features import Cells, Encoding

#: Aggregates that return a value of the code, so that a direction can be declared for them.
ORDERED: Final = frozenset({"last", "first", "min", "max", "mean"})
#: Aggregates of events, in which absent means zero.
COUNTED: Final = frozenset({"presence", "count"})
_Column = tuple[NDArray[np.int32], NDArray[np.float64]]


def build_design(
    encodings: Sequence[Encoding],
    cells: Sequence[Cells],
    n_samples: int,
    extra: NDArray[np.float64] | None = None,
) -> Any:
    """Build the matrix for a linear model: one column per feature, then the columns of ``extra``.

    Parameters
    ----------
    encodings : sequence of Encoding, length n_features
        Learned from training samples only.
    cells : sequence of Cells, length n_features
        Cells of each feature's column, in the same order; samples are numbered from 0, ascending.
    n_samples : int
        Number of rows, including those without any cell.
    extra : float64, shape (n_samples, k), optional
        Dense columns after the features: the demographics.

    Returns
    -------
    scipy.sparse.csc_array of float64, shape (n_samples, n_features + k)
        Canonical: row numbers ascend within a column and no zero is stored, so that equal matrices have equal arrays.

    Raises
    ------
    ValueError
        Encodings and cells differ in number, or ``extra`` has a different number of rows: a programming error.

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
    """Build the matrix for trees: the columns of :func:`build_design` without imputation or centring.

    Parameters
    ----------
    encodings, cells, n_samples
        As for :func:`build_design`.
    extra : float64, shape (n_samples, k), optional
        NaN in a value column is an unknown number.
    is_value : bool, shape (n_features + k,)
        Mask of the value columns; see :func:`value_columns`.
    names : sequence of str, length n_features + k
        Names of the columns in errors.

    Returns
    -------
    scipy.sparse.csr_array of float32, shape (n_samples, n_features + k)
        Output of :func:`mlho.method.classifiers.tree_matrix.tree_matrix`.

    Raises
    ------
    DataError
        A number exceeds float32; the error names its column.
    """
    from mlho.method.classifiers.tree_matrix import tree_matrix

    columns = [encoding.stored(column_cells) for encoding, column_cells in zip(encodings, cells, strict=True)]
    columns += _dense_columns(extra, is_value[len(columns) :], n_samples)
    return tree_matrix(_csc(columns, n_samples), is_value, where="features", names=names)


def value_columns(
    encodings: Sequence[Encoding], demographics: DemographicsEncoder | None
) -> NDArray[np.bool_]:
    """Return the mask of value columns of a design for trees, bool, shape (n_features + k,)."""
    features = np.array([encoding.is_value for encoding in encodings], np.bool_)
    return features if demographics is None else np.concatenate([features, demographics.is_value])


def monotone_directions(
    names: Sequence[str], declared: Mapping[str, str] | None, is_value: NDArray[np.bool_] | None = None
) -> NDArray[np.int8]:
    """Return the declared direction of each column: 1 increasing, -1 decreasing, 0 none.

    Parameters
    ----------
    names : sequence of str, length n_columns
        Ids of features (``code|window|aggregate``), then names of demographics.
    declared : mapping of code, code with ``|presence`` or ``|count``, or demographic to ``increasing`` or ``decreasing``, or None
        A code alone means its numbers, which say something else than its presence.
    is_value : bool, shape (n_columns,), optional
        Of numbers and demographics, only these columns have a direction.

    Examples
    --------
    >>> monotone_directions(["HB|all|last", "HB|all|slope", "age"], {"HB": "decreasing", "age": "increasing"}).tolist()
    [-1, 0, 1]
    >>> monotone_directions(["E11|730|presence", "E11|730|count"], {"E11|presence": "increasing"}).tolist()
    [1, 0]
    """
    directions = np.zeros(len(names), np.int8)
    for place, name in enumerate(names):
        window, _, aggregate = name.rpartition("|")
        code, is_counted = window.rpartition("|")[0], aggregate in COUNTED
        declared_name = f"{code}|{aggregate}" if is_counted else code if aggregate in ORDERED else name
        if declared_name in (declared or {}) and (is_counted or is_value is None or is_value[place]):
            directions[place] = 1 if (declared or {})[declared_name] == "increasing" else -1
    return directions


def _dense_columns(
    extra: NDArray[np.float64] | None, is_value: NDArray[np.bool_], n_samples: int
) -> list[_Column]:
    """Return the stored cells of dense columns: in value columns all numbers but NaN, elsewhere all non-zeros."""
    if extra is None:
        return []
    if extra.ndim != 2 or extra.shape[0] != n_samples:
        raise ValueError(f"extra must have {plural(n_samples, 'row')}; got shape {extra.shape}")
    is_stored = np.where(is_value, ~np.isnan(extra), extra != 0)
    samples = [np.flatnonzero(is_stored[:, number]).astype(np.int32) for number in range(extra.shape[1])]
    return [(stored, extra[stored, number]) for number, stored in enumerate(samples)]


def _csc(columns: Sequence[_Column], n_samples: int) -> Any:
    from scipy.sparse import csc_array  # takes 0.4 s; programs that only write bundles do not need it

    indptr = np.zeros(len(columns) + 1, np.int64)
    np.cumsum([len(samples) for samples, _ in columns], out=indptr[1:])
    indices = np.concatenate([samples for samples, _ in columns] or [np.empty(0, np.int32)]).astype(np.int32)
    data = np.concatenate([numbers for _, numbers in columns] or [np.empty(0)])
    # SciPy uses one dtype for both index arrays. int32, while it suffices, keeps one compiled form of the kernels.
    offsets = indptr.astype(np.int32) if indptr[-1] <= np.iinfo(np.int32).max else indptr
    return csc_array((data, indices, offsets), shape=(n_samples, len(columns)))


def samples_per_column(design: Any) -> NDArray[np.int64]:
    """Return the number of samples with a cell in each column of a sparse matrix; int64, shape (n_columns,)."""
    counts: NDArray[np.int64] = np.diff(design.tocsc().indptr).astype(np.int64)
    return counts
