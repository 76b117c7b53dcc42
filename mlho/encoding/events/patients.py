"""Lookup of cohort patients by the id in an event, and the check that each patient is in one partition.

A patient is identified by the text of the id, regardless of its type: the number 17 and the text "17" are one patient,
"017" is another.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit
from numpy.typing import NDArray

from mlho.encoding.cohort.cohort import Cohort
from mlho.errors import DataError, plural
from mlho.sources.arrow import as_numpy, bool_array, is_given, text_array

NO_PATIENT: Final = -2
UNKNOWN_PATIENT: Final = -1
_CANONICAL_INTEGER: Final = r"^(0|-?[1-9][0-9]*)$"
_LONGEST_INT64: Final = 20  # length of the smallest int64 in characters
_MULTIPLIER: Final = np.uint64(
    0x9E3779B97F4A7C15
)  # 2**64 / golden ratio: spreads consecutive ids (Knuth 6.4)


class PatientFinder:
    """Patient numbers by id. Created once for a cohort, used for any number of batches.

    Examples
    --------
    >>> finder.find(pa.array([17, None, 99], pa.int64())).tolist()  # a cohort of "17" and "2"
    [0, -2, -1]
    """

    def __init__(self, cohort: Cohort) -> None:
        self._ids = cohort.patient_ids
        self._texts: Any = None
        self._table: tuple[NDArray[np.int64], NDArray[np.int32]] | None = None
        self._dictionary: tuple[Any, NDArray[np.int32]] | None = None

    def find(self, ids: Any) -> NDArray[np.int32]:
        """Return the patient number of each row: ``NO_PATIENT`` without an id, ``UNKNOWN_PATIENT`` outside the cohort.

        Parameters
        ----------
        ids : pyarrow Array
            Integers, or text (dictionary-encoded or plain).

        Raises
        ------
        DataError
            The ids have a different type.
        """
        if pa.types.is_integer(ids.type):
            return self._find_integers(ids)
        if pa.types.is_string(ids.type) or pa.types.is_large_string(ids.type):
            ids = ids.dictionary_encode()
        if not pa.types.is_dictionary(ids.type):
            raise DataError(
                "events",
                "patient ids of a type that cannot identify a patient",
                expected="integers or text",
                got=str(ids.type),
                remedy="Write the patient's id as text or as a whole number.",
            )
        return take_ids(ids, self._numbers_of(ids.dictionary), missing=NO_PATIENT)

    def _find_integers(self, ids: Any) -> NDArray[np.int32]:
        if self._table is None:
            self._table = _integer_table(self._ids)
        keys, numbers = self._table
        values, validity, offset = buffers_of(ids.cast(pa.int64()), np.int64)
        return np.asarray(_find_integers(values, validity, offset, keys, numbers))

    def _numbers_of(self, dictionary: Any) -> NDArray[np.int32]:
        """Return the patient number of each dictionary value; batches of a row group share one dictionary."""
        if self._dictionary is None or not dictionary.equals(self._dictionary[0]):
            if self._texts is None:
                self._texts = text_array(self._ids)
            texts = dictionary.cast(pa.large_string())
            positions = pc.index_in(texts, value_set=self._texts)
            numbers = np.where(is_given(positions), as_numpy(positions), UNKNOWN_PATIENT)
            is_empty = ~is_given(texts) | (as_numpy(pc.binary_length(texts)) == 0)
            self._dictionary = dictionary, np.where(is_empty, NO_PATIENT, numbers).astype(np.int32)
        return self._dictionary[1]


def check_partitioned_by_patient(
    patients_by_partition: Mapping[str, NDArray[np.int32]], n_patients: int
) -> None:
    """Verify that no patient of the cohort has rows in two partitions.

    Parameters
    ----------
    patients_by_partition : mapping of key to int32 array
        Distinct patients with rows (used or not) in each partition.

    Raises
    ------
    DataError
        Partitions share patients; the message names two such partitions and the number of patients in more than one.
    """
    owner = np.full(n_patients, -1, np.int32)
    is_shared = np.zeros(n_patients, np.bool_)
    keys = list(patients_by_partition)
    first_pair: tuple[str, str] | None = None
    for number, patients in enumerate(patients_by_partition.values()):
        owners = owner[patients]
        shared = patients[owners >= 0]
        is_shared[shared] = True
        if len(shared) and first_pair is None:
            first_pair = keys[int(owner[shared[0]])], keys[number]
        owner[patients[owners < 0]] = number
    if first_pair is not None:
        raise DataError(
            f"{first_pair[0]} and {first_pair[1]}",
            "data.partitionedBy is patient, and a patient is in two partitions",
            expected="all rows of a patient in one partition",
            got=f"{plural(int(is_shared.sum()), 'patient')} in more than one of {plural(len(keys), 'partition')}",
            remedy="Set partitionedBy: nothing, or write the events partitioned by patient.",
        )


def buffers_of(array: Any, dtype: Any) -> tuple[NDArray[Any], NDArray[np.uint8], int]:
    """Return the values, validity bits (empty: all valid) and bit offset of a fixed-width Arrow array, without copying."""
    validity, data = array.buffers()[:2]
    if data is None:  # an empty array may have no buffer
        return frozen(np.empty(0, dtype)), frozen(np.empty(0, np.uint8)), 0
    values = np.frombuffer(data, dtype, count=array.offset + len(array))[array.offset :]
    has_nulls = validity is not None and array.null_count > 0
    bits = np.frombuffer(validity, np.uint8) if has_nulls else np.empty(0, np.uint8)
    return frozen(values), frozen(bits), array.offset


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """Return a read-only view, so that mapped and computed arrays have the same compiled type."""
    view = array.view()
    view.flags.writeable = False
    return view


def take_ids(array: Any, ids: NDArray[np.int32], *, missing: int) -> NDArray[np.int32]:
    """Return the id of each row of a dictionary-encoded Arrow array, given the id of each dictionary value."""
    indices, validity, offset = buffers_of(array.indices.cast(pa.int32()), np.int32)
    return np.asarray(_take_ids(indices, validity, offset, frozen(ids), missing))


def _integer_table(ids: tuple[str, ...]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Open-addressing table of ids that are int64 in canonical decimal text; other ids cannot match an integer."""
    texts = text_array(ids)
    lengths = as_numpy(pc.utf8_length(texts))
    is_candidate = as_numpy(pc.match_substring_regex(texts, _CANONICAL_INTEGER)) & (lengths <= _LONGEST_INT64)
    # Integers of 19 or 20 characters may exceed int64; Arrow's cast would then refuse the whole array.
    limits = np.iinfo(np.int64)
    for number in np.flatnonzero(is_candidate & (lengths >= _LONGEST_INT64 - 1)).tolist():
        is_candidate[number] = limits.min <= int(ids[number]) <= limits.max
    numbers = np.flatnonzero(is_candidate).astype(np.int32)
    keys = as_numpy(texts.filter(bool_array(is_candidate)).cast(pa.int64()))
    bits = max(4, int(2 * len(keys)).bit_length())
    table_keys, table_numbers = np.zeros(1 << bits, np.int64), np.full(1 << bits, UNKNOWN_PATIENT, np.int32)
    _fill_table(frozen(keys), frozen(numbers), table_keys, table_numbers)
    return frozen(table_keys), frozen(table_numbers)


@njit(cache=True, nogil=True)
def _slot(key: Any, n_slots: Any) -> Any:  # pragma: no cover - compiled
    mixed = np.uint64(key) * _MULTIPLIER
    return np.int64((mixed ^ (mixed >> np.uint64(32))) & np.uint64(n_slots - 1))


@njit(cache=True, nogil=True)
def _fill_table(keys: Any, numbers: Any, table_keys: Any, table_numbers: Any) -> None:  # pragma: no cover
    n_slots = table_keys.size
    for i in range(keys.size):
        slot = _slot(keys[i], n_slots)
        while table_numbers[slot] >= 0:
            slot = (slot + 1) & (n_slots - 1)
        table_keys[slot] = keys[i]
        table_numbers[slot] = numbers[i]


@njit(cache=True, nogil=True)
def _find_integers(
    ids: Any, validity: Any, offset: Any, table_keys: Any, table_numbers: Any
) -> Any:  # pragma: no cover - compiled
    numbers = np.empty(ids.size, np.int32)
    n_slots = table_keys.size
    # Rows of one patient are often adjacent, so the previous result is tried first.
    last_id, last_number, is_known = np.int64(0), np.int32(0), False
    for i in range(ids.size):
        if validity.size and not (validity[(i + offset) >> 3] >> ((i + offset) & 7)) & 1:
            numbers[i] = NO_PATIENT
            continue
        if not is_known or ids[i] != last_id:
            slot = _slot(ids[i], n_slots)
            while table_numbers[slot] >= 0 and table_keys[slot] != ids[i]:
                slot = (slot + 1) & (n_slots - 1)
            last_id, last_number, is_known = ids[i], table_numbers[slot], True
        numbers[i] = last_number
    return numbers


@njit(cache=True, nogil=True)
def _take_ids(indices: Any, validity: Any, offset: Any, ids: Any, missing: Any) -> Any:  # pragma: no cover
    taken = np.empty(indices.size, np.int32)
    for i in range(indices.size):
        if validity.size and not (validity[(i + offset) >> 3] >> ((i + offset) & 7)) & 1:
            taken[i] = missing
        else:
            taken[i] = ids[indices[i]]
    return taken
