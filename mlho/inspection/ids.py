"""Hints at the cause of patient ids that are in one table and not in another. Pure."""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from mlho.encoding.cohort.counts import LARGE_SHARE
from mlho.encoding.cohort.join import person_of_patients
from mlho.encoding.cohort.labels import MISSING
from mlho.encoding.cohort.persons import Persons

# Ways to normalise ids, by the words that describe them.
_ALIKE: Final[dict[str, Callable[[str], str]]] = {
    "without leading zeros": lambda text: text.lstrip("0"),
    "without a decimal point and zero at the end": lambda text: re.sub(r"\.0+$", "", text),
    "without white space at the ends": str.strip,
    "without regard to case": str.casefold,
    "by their digits alone": lambda text: re.sub(r"\D", "", text).lstrip("0"),
}
_MOST: Final = 0.5  # minimum share of the unknown ids that a change must explain


def hint_of_ids(ours: set[str], known: Sequence[str]) -> list[str]:
    """State how ids of a table would have to change to match those of another; nothing if no simple change is enough.

    Examples
    --------
    >>> hint_of_ids({"007", "008"}, ["7", "8"])
    ['Most of the unknown patient ids would match without leading zeros: write ids in the same form in all tables.']
    """
    unknown = ours - set(known)
    for words, change in _ALIKE.items():
        wanted = {change(patient_id) for patient_id in known} - {""}
        n_found = sum(change(patient_id) in wanted for patient_id in unknown)
        if unknown and n_found > _MOST * len(unknown):
            return [
                f"Most of the unknown patient ids would match {words}: write ids in the same form in all tables."
            ]
    return []


def judge_ids(labelled: Any, persons: Persons, where: str) -> list[str]:
    """State how ids of the labels would have to change to match those of the demographics, if many of them are unknown.

    Parameters
    ----------
    labelled : Arrow string array
        Distinct patients of the labels.
    where : str
        Origin of the demographics.
    """
    n_unknown = np.count_nonzero(person_of_patients(persons, labelled) == MISSING)
    if n_unknown <= LARGE_SHARE * len(labelled):
        return []
    hints = hint_of_ids(set(labelled.to_pylist()), persons.patient_ids.to_pylist())
    return [f"Labels and {where}: {hint}" for hint in hints]
