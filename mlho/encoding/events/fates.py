"""Fates of patients: the rules that dropped rows of each patient, and whether any row was used.

A fate is a bit set: bit 0 for a used row, bit ``rule + 1`` for a row dropped by a rule. Fates from several partitions are
combined by bitwise "or", so the result does not depend on the partitions.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.counts import shown_count
from mlho.encoding.events.ledger import Rule

SEVERAL: Final = "several rules"
_USED_BIT: Final = np.uint16(1)


def join_fates(
    parts: Sequence[tuple[NDArray[np.int32], NDArray[np.uint16]]], n_patients: int
) -> NDArray[np.uint16]:
    """Return the fate of every patient, from patients and fates by partition; 0 for a patient without rows."""
    joined = np.zeros(n_patients, np.uint16)
    for patients, fates in parts:
        joined[patients] |= fates
    return joined


def samples_lost(fates: NDArray[np.uint16], n_samples: NDArray[np.int64]) -> dict[str, int]:
    """Count the samples of patients who lost all their rows, by the rule that dropped the rows.

    Parameters
    ----------
    fates : uint16, shape (n_patients,)
    n_samples : int64, shape (n_patients,)
        Number of samples of each patient.

    Returns
    -------
    dict of rule to samples
        Rules in the published order, then ``several rules``; only those with a non-zero count.

    Examples
    --------
    >>> samples_lost(np.array([0, 1, 1 << 7, 3 << 7], np.uint16), np.array([1, 1, 2, 1]))
    {'implausible date': 2, 'several rules': 1}
    """
    is_lost = (fates != 0) & (fates & _USED_BIT == 0)
    by_rule = {rule.words: int(n_samples[fates == 1 << (rule + 1)].sum()) for rule in Rule}
    several = int(n_samples[is_lost].sum()) - sum(by_rule.values())
    return {rule: n for rule, n in {**by_rule, SEVERAL: several}.items() if n}


def lost_sentence(lost: Mapping[str, int], min_cell: int = 0) -> str:
    """Describe how many samples lost all their events to each rule. Small counts are shown only as a bound."""
    parts = ", ".join(f"{shown_count(n, 'sample', min_cell)} by “{rule}”" for rule, n in lost.items())
    return f"All events of some patients were dropped, so their samples have no event features: {parts}."
