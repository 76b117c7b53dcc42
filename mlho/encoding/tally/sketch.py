"""A sample of distinct rows with their multiplicity, to estimate how many rows are duplicates.

The sample holds the rows with the smallest hashes (bottom-k). Copies of a row have the same hash, so they are sampled
together, and samples of partitions can be merged exactly. The result depends on the rows alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlho.arrays import is_new

SAMPLED: Final = 1 << 14
"""Distinct rows of a sample. The standard error of a share of duplicates is at most 0.4 percentage points."""


@dataclass(frozen=True)
class RowSample:
    """Hashes of distinct rows, ascending, and the number of rows with each."""

    hashes: NDArray[np.uint64]
    counts: NDArray[np.int64]

    @property
    def duplicate_share(self) -> float:
        """Share of rows that repeat another one."""
        total = int(self.counts.sum())
        return 1 - len(self.hashes) / total if total else 0.0


def merge_samples(samples: Iterable[RowSample]) -> RowSample:
    """Return the sample of all rows.

    Examples
    --------
    >>> one = RowSample(np.array([1, 5], np.uint64), np.array([1, 2]))
    >>> merge_samples([one, one]).counts.tolist()
    [2, 4]
    """
    parts = list(samples)
    hashes = np.concatenate([np.empty(0, np.uint64), *(sample.hashes for sample in parts)])
    counts = np.concatenate([np.empty(0, np.int64), *(sample.counts for sample in parts)])
    order = np.argsort(hashes)
    ascending = hashes[order]
    first = np.flatnonzero(is_new(ascending))
    if not len(first):
        return RowSample(hashes, counts)
    total = np.add.reduceat(counts[order], first)
    return RowSample(ascending[first[:SAMPLED]], total[:SAMPLED])


class RowSampler:
    """Builds the sample of one partition from its rows."""

    def __init__(self) -> None:
        self._sample = RowSample(np.empty(0, np.uint64), np.empty(0, np.int64))
        self._new = np.empty(2 * SAMPLED, np.uint64)
        self._n_new = 0
        self._bound = np.uint64(np.iinfo(np.uint64).max)
        """Hashes at or above this bound are not in the sample."""

    def add(
        self,
        code_hashes: NDArray[np.uint64],
        patient: NDArray[np.int32],
        code: NDArray[np.int32],
        time: NDArray[np.int64],
        bits: NDArray[np.uint64],
    ) -> None:
        """Add rows; ``bits`` are the bits of the values, empty if there are no values."""
        start = 0
        while start < len(patient):
            rows = (patient, code, time, bits)
            start, self._n_new = _collect(rows, code_hashes, start, self._bound, self._new, self._n_new)
            if self._n_new == len(self._new):
                self._merge()

    def sample(self) -> RowSample:
        """Return the sample of the rows so far."""
        self._merge()
        return self._sample

    def _merge(self) -> None:
        # NumPy sorts these arrays several times faster than Numba's compiled code, which therefore only collects the rows.
        new = RowSample(self._new[: self._n_new], np.ones(self._n_new, np.int64))
        self._sample, self._n_new = merge_samples([self._sample, new]), 0
        if len(self._sample.hashes) == SAMPLED:
            self._bound = self._sample.hashes[-1] + np.uint64(1)


@njit(cache=True, nogil=True)
def mix(x: Any) -> Any:  # pragma: no cover - compiled
    """Return the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True, nogil=True)
def _collect(
    rows: Any, code_hashes: Any, start: Any, bound: Any, new: Any, n_new: Any
) -> Any:  # pragma: no cover - compiled
    """Append the hashes below the bound until the buffer is full. Return the next row and the number of hashes."""
    patient, code, time, bits = rows
    for i in range(start, patient.size):
        row_hash = code_hashes[np.uint64(code[i])] ^ (np.uint64(patient[i]) * np.uint64(0x9E3779B97F4A7C15))
        row_hash = (row_hash + np.uint64(time[i])) * np.uint64(0xD1B54A32D192ED03)
        if bits.size:
            row_hash ^= bits[i]
        row_hash = mix(row_hash)
        if row_hash < bound:
            new[n_new] = row_hash
            n_new += 1
            if n_new == new.size:
                return i + 1, n_new
    return patient.size, n_new
