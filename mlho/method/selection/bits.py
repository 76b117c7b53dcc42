"""Bit columns: features with two levels, packed 64 samples per word, so that contingency tables need only bit counts.

Samples outside the mask are omitted, positive samples come first, and each class starts at a new word. One pass
over the words of a column therefore counts both classes. The layout is computed once per ranking, within the process.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from mlho.method.selection.levels import frozen


@dataclass(frozen=True, eq=False)
class SampleLayout:
    """Bit position of each sample."""

    position: NDArray[np.int32]
    """Bit number of the sample; −1 outside the mask. Shape (n_samples,)."""
    n_by_class: NDArray[np.int64]
    """Number of masked samples of class 0 and class 1. Shape (2,)."""
    n_positive_words: int
    n_words: int
    """Number of words of the positive samples, which come first, and of all samples."""

    @property
    def n_samples(self) -> int:
        """Number of masked samples."""
        return int(self.n_by_class.sum())

    def base_codes(self) -> NDArray[np.int32]:
        """Return the class of the sample at every position, int32, shape (64 · n_words,)."""
        codes = np.zeros(64 * self.n_words, dtype=np.int32)
        codes[: 64 * self.n_positive_words] = 1
        return codes


def lay_out_samples(y: NDArray[np.bool_], mask: NDArray[np.bool_] | None) -> SampleLayout:
    """Return the layout of the masked samples, positive ones first.

    Parameters
    ----------
    y : ndarray of bool, shape (n_samples,)
        Labels.
    mask : ndarray of bool, shape (n_samples,), or None
        Samples to include; None for all.
    """
    is_in = np.ones(y.shape, dtype=np.bool_) if mask is None else mask
    positive, negative = np.flatnonzero(is_in & y), np.flatnonzero(is_in & ~y)
    n_positive_words, n_negative_words = -(-positive.size // 64), -(-negative.size // 64)
    position = np.full(y.shape, -1, dtype=np.int32)
    position[positive] = np.arange(positive.size)
    position[negative] = np.arange(negative.size) + 64 * n_positive_words
    return SampleLayout(
        position=frozen(position, np.int32),
        n_by_class=np.array([negative.size, positive.size], dtype=np.int64),
        n_positive_words=n_positive_words,
        n_words=n_positive_words + n_negative_words,
    )


@intrinsic
def _intrinsic_count_bits(typing_context: Any, word: Any) -> Any:
    """Count the ones in a word, with one machine instruction if available, and vectorised."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), codegen


# The typing context of an intrinsic is implicit, which a type checker cannot know.
_count_bits: Any = _intrinsic_count_bits


@njit(cache=True, nogil=True)
def pack_columns(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    is_set: NDArray[np.uint8],
    position: NDArray[np.int32],
    bits: NDArray[np.uint64],
) -> None:
    """Set the bits of all columns from their stored entries (CSC)."""
    for j in range(indptr.size - 1):
        for p in range(indptr[j], indptr[j + 1]):
            at = position[indices[p]]
            if at >= 0 and is_set[p] != 0:
                bits[j, at >> 6] |= np.uint64(1) << np.uint64(at & 63)


@njit(cache=True, nogil=True)
def pack_positions(
    starts: NDArray[np.int64],
    stops: NDArray[np.int64],
    positions: NDArray[np.int32],
    bits: NDArray[np.uint64],
) -> None:
    """Set the bits at positions [starts[i], stops[i]) in row i of ``bits``."""
    for i in range(starts.size):
        for p in range(starts[i], stops[i]):
            at = positions[p]
            bits[i, at >> 6] |= np.uint64(1) << np.uint64(at & 63)


@njit(cache=True, nogil=True)
def count_ones(bits: NDArray[np.uint64], n_positive_words: int, ones: NDArray[np.int64]) -> None:
    """Count for each row the samples of class 0 and of class 1 with the feature."""
    for i in range(bits.shape[0]):
        n = np.uint64(0)
        for word in bits[i, n_positive_words:]:
            n += _count_bits(word)
        ones[i, 0] = n
        n = np.uint64(0)
        for word in bits[i, :n_positive_words]:
            n += _count_bits(word)
        ones[i, 1] = n


@njit(cache=True, nogil=True)
def _count_shared(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> np.int64:
    n = np.uint64(0)
    for k in range(first.size):
        n += _count_bits(first[k] & second[k])
    return np.int64(n)


@njit(cache=True, nogil=True)
def bit_pair_sums(
    bits: NDArray[np.uint64],
    ones: NDArray[np.int64],
    rows: NDArray[np.int32],
    pick: int,
    n_positive_words: int,
    n_by_class: NDArray[np.int64],
    table: NDArray[np.int64],
    sums: NDArray[np.int64],
) -> None:
    """Write Σ h over the tables of (X, W, Y) and of (X, W), for X in ``rows`` and W in row ``pick``."""
    for i in range(rows.size):
        sums[i, 0], sums[i, 1] = bit_pair(bits, ones, rows[i], pick, n_positive_words, n_by_class, table)


@njit(cache=True, nogil=True)
def bit_pair(
    bits: NDArray[np.uint64],
    ones: NDArray[np.int64],
    row: int,
    pick: int,
    n_positive_words: int,
    n_by_class: NDArray[np.int64],
    table: NDArray[np.int64],
) -> tuple[np.int64, np.int64]:
    """Return Σ h over the tables of (X, W, Y) and of (X, W), for X in row ``row`` and W in row ``pick``.

    Let t samples of a class have both features, x and w have each one, and n be all. The four cells of that class are t,
    x − t, w − t and n − x − w + t, so one bit count determines them.
    """
    n0, n1 = n_by_class[0], n_by_class[1]
    w0, w1 = ones[pick, 0], ones[pick, 1]
    x0, x1 = ones[row, 0], ones[row, 1]
    t1 = _count_shared(bits[row, :n_positive_words], bits[pick, :n_positive_words])
    t0 = _count_shared(bits[row, n_positive_words:], bits[pick, n_positive_words:])
    a0, a1 = x0 - t0, x1 - t1
    b0, b1 = w0 - t0, w1 - t1
    c0, c1 = n0 - x0 - b0, n1 - x1 - b1
    of_three = table[t0] + table[t1] + table[a0] + table[a1] + table[b0] + table[b1] + table[c0] + table[c1]
    return of_three, table[t0 + t1] + table[a0 + a1] + table[b0 + b1] + table[c0 + c1]


@njit(cache=True, nogil=True)
def _fill_table(scale: float, table: NDArray[np.int64]) -> None:
    for count in range(1, table.size):
        table[count] = np.int64(np.rint(count * math.log(count) * scale))


def entropy_table(n_samples: int) -> tuple[NDArray[np.int64], float]:
    """Return h(c) = c · ln c for c = 0 … n_samples, scaled to integers, and the scale.

    Integer sums do not depend on the order of the terms: row order and the method of counting
    a table cannot affect the last bit, and equal tables have equal sums. The scale is the largest power of
    two for which four times h(n_samples) fits 63 bits; no sum over the cells of a table exceeds h(n_samples). Its resolution
    is far below the rounding error of a double.

    Parameters
    ----------
    n_samples : int
        At least 2.

    Returns
    -------
    table : ndarray of int64, shape (n_samples + 1,)
        round(scale · c · ln c); 0 at 0.
    scale : float
        A power of two.
    """
    exponent = 60 - math.ceil(math.log2(n_samples * math.log(n_samples) + 1))
    table = np.zeros(n_samples + 1, dtype=np.int64)
    _fill_table(2.0**exponent, table)
    return frozen(table, np.int64), 2.0**exponent
