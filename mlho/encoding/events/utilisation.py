"""Utilisation: a patient's numbers of events, distinct codes, and days with an event in each window.

These numbers measure morbidity and contact with care, which no single code measures. They enter every candidate, like demographics.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlho.encoding.cohort.cohort import NumericColumn
from mlho.encoding.cohort.windows import DAY_US, SampleWindows
from mlho.encoding.events.matrix import Matrix
from mlho.encoding.events.patients import frozen
from mlho.encoding.events.rows import UsedRows
from mlho.spec.features import utilisation_names

N_KINDS: Final = 3  # events, codes, days


def count_utilisation(
    rows: UsedRows, windows: SampleWindows, cells: dict[str, NDArray[Any]]
) -> NDArray[np.int32]:
    """Count the events, codes and days of each sample of a block.

    Parameters
    ----------
    rows : UsedRows
        In any order, with times.
    cells : dict of array
        ``indptr``, ``indices`` and ``count`` of the block. Events are counted as in ``count``: once a day if duplicates are
        dropped.

    Returns
    -------
    int32, shape (n_windows × 3, n_samples)
        Events, codes and days of the first window, then those of the next.
    """
    n_samples = len(windows.index_us)
    counts = np.zeros((windows.n_windows, N_KINDS, n_samples), np.int32)
    _count_cells(frozen(cells["indptr"]), frozen(cells["indices"]), frozen(cells["count"]), counts)
    days = rows.time // DAY_US
    order = np.lexsort((rows.time, rows.patient))
    _count_days(
        frozen(rows.patient[order]),
        frozen(rows.time[order]),
        frozen(days[order]),
        frozen(windows.starts),
        frozen(windows.upper_us),
        frozen(windows.lower_us),
        counts,
    )
    return counts.reshape(-1, n_samples)


def utilisation_columns(matrix: Matrix, windows: Sequence[int | None]) -> tuple[NumericColumn, ...]:
    """Return the columns of all samples, three for each window."""
    counts = matrix.utilisation.astype(np.float64)
    return tuple(
        NumericColumn(name, count) for name, count in zip(utilisation_names(windows), counts, strict=True)
    )


@njit(cache=True, nogil=True)
def _count_cells(indptr: Any, indices: Any, count: Any, counts: Any) -> None:  # pragma: no cover - compiled
    n_windows = counts.shape[0]
    for column in range(indptr.size - 1):
        for at in range(indptr[column], indptr[column + 1]):
            counts[column % n_windows, 0, indices[at]] += count[at]
            counts[column % n_windows, 1, indices[at]] += 1


@njit(cache=True, nogil=True)
def _count_days(
    patient: Any, time: Any, day: Any, sample_starts: Any, upper_us: Any, lower_us: Any, counts: Any
) -> None:  # pragma: no cover - compiled
    n_windows = counts.shape[0]
    start = 0
    while start < patient.size:
        p = patient[start]
        stop = start + 1
        while stop < patient.size and patient[stop] == p:
            stop += 1
        for s in range(sample_starts[p], sample_starts[p + 1]):
            for k in range(n_windows):
                is_any, day_before = False, day[start]
                for i in range(start, stop):
                    if time[i] > upper_us[s]:
                        break
                    if time[i] <= lower_us[k, s]:
                        continue
                    if not is_any or day[i] != day_before:
                        counts[k, 2, s] += 1
                    is_any, day_before = True, day[i]
        start = stop
