"""Validation of the input matrix (dense, or sparse by rows or columns), and packing for counting."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlho.errors import DataError
from mlho.method.selection.bits import SampleLayout, lay_out_samples
from mlho.method.selection.contingency import (
    BitColumns,
    LevelColumns,
    bit_columns_from_block,
    level_columns_from_block,
)
from mlho.method.selection.levels import ColumnBlock, columns_from_dense, cut_levels

Mode = Literal["presence", "levels", "counts"]

# Values are checked in chunks, so that the check needs no memory of the size of the matrix.
_VALUES_AT_ONCE = 1 << 20


def pack_matrix(
    X: Any, mode: Mode, cut_points: Sequence[int], layout: SampleLayout
) -> BitColumns | LevelColumns:
    """Return the matrix as packed columns of level codes."""
    if isinstance(X, np.ndarray):
        _check_values(X)
        block = columns_from_dense(X)
        if mode == "presence":
            return bit_columns_from_block(block, layout)
        return _levels_of(block, mode, cut_points, layout)
    X = X.tocsc()
    _check_values(X.data)
    if mode == "presence":
        is_set = (X.data != 0).view(np.uint8)
        return bit_columns_from_block(ColumnBlock(X.shape[0], X.indptr, X.indices, is_set), layout)
    if not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
        _check_values(X.data)
    block = ColumnBlock(X.shape[0], X.indptr, X.indices, X.data.astype(np.int32, copy=False))
    return _levels_of(block, mode, cut_points, layout)


def _levels_of(
    block: ColumnBlock, mode: Mode, cut_points: Sequence[int], layout: SampleLayout
) -> BitColumns | LevelColumns:
    if mode == "levels":
        block = ColumnBlock(
            block.n_samples, block.indptr, block.indices, cut_levels(block.values, cut_points)
        )
    return level_columns_from_block(block, layout)


def layout_of(y: ArrayLike, mask: NDArray[np.bool_] | None, shape: tuple[int, int]) -> SampleLayout:
    """Return the layout of the masked samples. Refuse invalid labels and masks."""
    n_samples, n_columns = shape
    if n_columns == 0:
        raise bad_matrix("no columns", "at least one", "0")
    labels = np.asarray(y)
    if labels.shape != (n_samples,):
        raise bad_matrix("labels", f"shape ({n_samples},), one per row of X", f"shape {labels.shape}")
    if labels.dtype.kind not in "biuf" or not np.isin(labels, (0, 1)).all():
        raise bad_matrix("labels", "0 and 1 only", f"other values, dtype {labels.dtype}")
    if mask is not None:
        mask = np.asarray(mask)
        if mask.dtype != np.bool_ or mask.shape != labels.shape:
            raise bad_matrix(
                "mask", f"booleans of shape {labels.shape}", f"{mask.dtype} of shape {mask.shape}"
            )
    layout = lay_out_samples(labels.astype(np.bool_), mask)
    if not layout.n_by_class.all():
        raise DataError(
            "rank",
            "one class only under the mask",
            expected="positive and negative samples",
            got=f"{layout.n_by_class[1]} positive and {layout.n_by_class[0]} negative ones",
            remedy="Use fewer folds, or split: stratified.",
        )
    return layout


def shape_of(X: Any) -> tuple[int, int]:
    """Return the numbers of samples and columns. Refuse anything but a numeric matrix."""
    if len(X.shape) != 2:
        raise bad_matrix("X", "two dimensions, samples by columns", f"shape {X.shape}")
    if not hasattr(X, "tocsc") and X.dtype.kind not in "biuf":
        raise bad_matrix("X", "whole numbers", f"dtype {X.dtype}")
    return int(X.shape[0]), int(X.shape[1])


def _check_values(values: NDArray[Any]) -> None:
    """Refuse values that are not counts."""
    if values.dtype.kind == "b" or values.dtype in (np.dtype(np.uint8), np.dtype(np.uint16)):
        return
    if values.dtype.kind not in "iuf":
        raise bad_matrix("X", "whole numbers", f"dtype {values.dtype}")
    n_rows = max(1, _VALUES_AT_ONCE * values.shape[0] // max(1, values.size)) if values.size else 1
    for start in range(0, values.shape[0], n_rows):
        part = values[start : start + n_rows]
        if part.size == 0:
            continue
        if values.dtype.kind == "f" and not (np.isfinite(part) & (np.floor(part) == part)).all():
            raise bad_matrix("X", "whole numbers", "missing, infinite or fractional values")
        if part.min() < 0 or part.max() > np.iinfo(np.int32).max:
            raise bad_matrix("X", "counts from 0 to 2³¹ − 1", "negative or larger values")


def bad_matrix(rule: str, expected: str, got: str) -> DataError:
    """Return the error for a matrix, its labels or its mask."""
    return DataError(
        "rank", rule, expected=expected, got=got, remedy="Build the feature matrix and its labels again."
    )
