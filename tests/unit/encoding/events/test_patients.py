"""Patients are found by the text of their id, and the stated partitioning is verified."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlho.encoding.events.patients import (
    NO_PATIENT,
    UNKNOWN_PATIENT,
    PatientFinder,
    check_partitioned_by_patient,
)
from mlho.errors import DataError

INT64 = st.integers(-(2**63), 2**63 - 1)


@given(st.sets(INT64, max_size=30), st.lists(INT64, max_size=10))
def test_integers_and_their_texts_name_the_same_patients(make_cohort, known, others):
    """An id in any form gives the position of its text among the sorted texts."""
    texts = sorted(str(number) for number in known)
    finder = PatientFinder(make_cohort({text: [0] for text in texts}))
    ids = [*known, *others, *known]
    expected = [texts.index(str(number)) if number in known else UNKNOWN_PATIENT for number in ids]
    assert finder.find(pa.array(ids, pa.int64())).tolist() == expected
    assert finder.find(pa.array([str(n) for n in ids], pa.string()).dictionary_encode()).tolist() == expected
    assert finder.find(pa.array([str(n) for n in ids], pa.large_string())).tolist() == expected


def test_a_number_is_its_canonical_text_only(make_cohort):
    """017 and 1e1 are different texts. A number beyond int64 matches no integer, but its text matches."""
    beyond = str(2**63)
    finder = PatientFinder(make_cohort({text: [0] for text in ("017", "17", "1e1", beyond, "-0", "é")}))
    assert finder.find(pa.array([17, 10, 0, None, -(2**63)], pa.int64())).tolist() == [
        2,
        -1,
        -1,
        NO_PATIENT,
        -1,
    ]
    assert finder.find(pa.array([beyond, "017", "é", "", None], pa.string())).tolist() == [4, 1, 5, -2, -2]


def test_an_id_of_another_type_is_refused(make_cohort):
    """A float is not an id: 17.0 may have been 17.4."""
    with pytest.raises(DataError, match=r"patient ids.*got double"):
        PatientFinder(make_cohort({"17": [0]})).find(pa.array([17.0]))


def test_patients_in_one_partition_each_pass():
    """Partitions without a common patient pass, also if one of them is empty."""
    partitions = {"a": np.array([0, 2], np.int32), "b": np.empty(0, np.int32), "c": np.array([1], np.int32)}
    check_partitioned_by_patient(partitions, 3)


def test_a_patient_in_two_partitions_is_named_by_count_and_keys():
    """If patients are in several partitions, the error has their number and the keys of two partitions, and never a patient's id."""
    partitions = {
        "part-0": np.array([0, 1], np.int32),
        "part-1": np.array([2, 3], np.int32),
        "part-2": np.array([1, 3], np.int32),
        "part-3": np.array([1], np.int32),
    }
    with pytest.raises(
        DataError, match=r"part-0 and part-2: .*got 2 patients in more than one of 4 partitions"
    ):
        check_partitioned_by_patient(partitions, 4)
