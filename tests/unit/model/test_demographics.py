"""Demographics of new patients get the columns of training."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from mlho.encoding.cohort.demographics import CategoryCode, DemographicsEncoder, NumberCode
from mlho.errors import DataError
from mlho.model.demographics import demographics_block
from mlho.model.frames import NO_DATE, samples_of, samples_of_frame

ENCODER = DemographicsEncoder((NumberCode("age", 54.0, True), CategoryCode("sex", ("F", "M", "unknown"))))
DAY = dt.date(2020, 1, 1)


def test_known_unknown_and_absent_patients_are_encoded():
    """Known values are used. Missing values, new levels and absent patients are unknown, with median and indicator."""
    frame = pd.DataFrame({"patient_id": [1, 2, 3], "age": [61.0, None, 40.0], "sex": ["M", None, "X"]})

    block, births = demographics_block(ENCODER, samples_of(["1", "2", "3", "4"], DAY), frame)

    assert block.tolist() == [[61, 0, 1, 0], [54, 1, 0, 1], [40, 0, 0, 1], [54, 1, 0, 1]]
    assert births.tolist() == [NO_DATE] * 4


def test_age_is_counted_from_the_birth_date():
    """The age is the number of days to the index date divided by 365.25; a later birth, or none, is a missing age."""
    frame = pd.DataFrame(
        {
            "patient_id": ["1", "2", "3"],
            "birth_date": [dt.date(1970, 1, 1), dt.date(2021, 1, 1), None],
            "sex": ["F", "F", "F"],
        }
    )

    block, births = demographics_block(ENCODER, samples_of(["1", "2", "3"], DAY), frame)

    assert block[:, :2].tolist() == [[18262 / 365.25, 0], [54, 1], [54, 1]]
    assert births[0] == 0


def test_rows_may_be_joined_by_the_index_date_too():
    """With a column ``index_date``, a row applies to that sample only."""
    dates = [dt.date(2020, 1, 1), dt.date(2021, 1, 1)]
    samples = samples_of_frame(pd.DataFrame({"patient_id": ["1", "1"], "index_date": dates}), has_dates=True)
    frame = pd.DataFrame({"patient_id": ["1", "1"], "index_date": dates, "age": [50, 51], "sex": ["F", "F"]})

    block, _ = demographics_block(ENCODER, samples, frame)

    assert block[:, 0].tolist() == [50, 51]


def test_equal_rows_collapse_and_contradictions_are_refused():
    """Equal rows of a patient are merged. For contradicting rows, the error has a count and no value."""
    samples = samples_of(["1"], DAY)
    equal = pd.DataFrame({"patient_id": ["1", "1"], "age": [np.nan, np.nan], "sex": ["F", "F"]})

    assert demographics_block(ENCODER, samples, equal)[0].tolist() == [[54, 1, 0, 0]]
    with pytest.raises(DataError, match="got 1 row contradicting") as caught:
        demographics_block(ENCODER, samples, equal.assign(sex=["F", "Jane"]))
    assert "Jane" not in str(caught.value)


def test_missing_values_are_equal_and_rows_without_a_patient_are_ignored():
    """As in training, None, NaN and blanks are equal, and rows without a patient do not count."""
    samples = samples_of(["1"], DAY)
    sexes = pd.Series(["F", "M", None, np.nan, " "], dtype=object)
    frame = pd.DataFrame({"patient_id": [None, None, "1", "1", "1"], "age": np.nan, "sex": sexes})

    block, _ = demographics_block(ENCODER, samples, frame)

    assert block.tolist() == demographics_block(ENCODER, samples, frame.iloc[2:3])[0].tolist()


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (None, "the bundle uses demographics"),
        (pd.DataFrame({"patient_id": ["1"], "sex": ["F"]}), "column 'age' is missing"),
        (pd.DataFrame({"sex": ["F"], "age": [1]}), "patient_id"),
        (pd.DataFrame({"patient_id": ["1"], "age": ["Jane"], "sex": ["F"]}), "is not a number"),
    ],
)
def test_missing_or_invalid_demographics_are_an_error(frame, message):
    """A model that needs demographics is never scored without them, and the error shows no value."""
    with pytest.raises(DataError, match=message) as caught:
        demographics_block(ENCODER, samples_of(["1"], DAY), frame)
    assert "Jane" not in str(caught.value)


def test_a_model_without_demographics_needs_none():
    """Without demographics there are no columns, but a birth date is still used to find events before birth."""
    samples = samples_of(["1"], DAY)
    frame = pd.DataFrame({"patient_id": ["1"], "birth_date": ["1970-01-02"]})

    assert demographics_block(None, samples, None)[0] is None
    assert demographics_block(None, samples, frame)[1].tolist() == [86_400_000_000]
