"""Suppression of small cells: counts to hide, so that neither they nor their neighbours disclose a few patients.

References
----------
Hundepool et al. (2012), Statistical Disclosure Control, chapter 4: primary and complementary suppression.
"""

from collections.abc import Sequence


def hidden_cells(
    counts: Sequence[int], min_cell: int, *, n_patients: Sequence[int] | None = None
) -> frozenset[int]:
    """Return the positions of the counts to hide, given that their total is published.

    Cells of 1 to ``min_cell`` − 1 patients are hidden. A single hidden cell equals the total minus the others, and several
    small ones may be determined by the total (two cells that add up to 2 are 1 and 1). Therefore the smallest other cells are
    also hidden, until each hidden cell can have at least ``min_cell`` different values given the total.

    Parameters
    ----------
    counts : sequence of int
        Counts to publish: patients or samples.
    min_cell : int
        0 or 1 hides nothing.
    n_patients : sequence of int, optional
        Patients behind each count; default: the counts.

    Examples
    --------
    >>> sorted(hidden_cells([500, 3, 40], 11)), sorted(hidden_cells([500, 30, 40], 11))
    ([1, 2], [])
    """
    patients = counts if n_patients is None else n_patients
    hidden = {i for i, n in enumerate(patients) if 0 < n < min_cell}
    # Zeros last: a zero discloses no patient, and hiding it adds nothing to the hidden sum.
    others = sorted(
        (i for i in range(len(counts)) if i not in hidden), key=lambda i: (not counts[i], counts[i], i)
    )
    while hidden and others and not _is_ambiguous([counts[i] for i in hidden], min_cell):
        hidden.add(others.pop(0))
    return frozenset(hidden)


def _is_ambiguous(hidden: Sequence[int], min_cell: int) -> bool:
    """Return whether each hidden cell, known to be at least 1, can have ``min_cell`` different values."""
    return len(hidden) > 1 and sum(hidden) - len(hidden) + 1 >= min_cell


def shown_counts(
    counts: Sequence[int], min_cell: int, *, n_patients: Sequence[int] | None = None
) -> list[int | None]:
    """Return the counts with the hidden ones as None; see :func:`hidden_cells`."""
    hidden = hidden_cells(counts, min_cell, n_patients=n_patients)
    return [None if i in hidden else n for i, n in enumerate(counts)]
