"""Demographics as columns of numbers."""

import json

import numpy as np
import pytest

from mlho.encoding.cohort.cohort import CategoricalColumn, NumericColumn
from mlho.encoding.cohort.demographics import CategoryCode, DemographicsEncoder, encode_demographics
from mlho.errors import DataError

SEX = CategoricalColumn("sex", ("F", "M", "unknown"), np.array([0, 1, 2, 0], np.int16))
RACE = CategoricalColumn("race", ("White", "Asian"), np.array([0, 1, 0, 0], np.int16))
AGE = NumericColumn("age", np.array([40.0, 60.0, np.nan, 90.0]))
BMI = NumericColumn("bmi", np.array([20.0, 30.0, 25.0, 22.0]))
TRAIN = np.array([True, True, True, False])


def test_columns_are_named_in_words():
    """There is a column for each level except the reference, and an indicator if the cohort has missing numbers."""
    encoder = encode_demographics([SEX, AGE, BMI], TRAIN)

    assert encoder.names == (
        "sex: M (reference F)",
        "sex: unknown (reference F)",
        "age",
        "age: missing",
        "bmi",
    )


def test_a_missing_number_is_the_training_median_and_is_marked():
    """The median is computed without the held-out sample of 90."""
    encoder = encode_demographics([SEX, AGE], TRAIN)

    assert encoder.transform([SEX, AGE]).tolist() == [
        [0, 0, 40, 0],
        [1, 0, 60, 0],
        [0, 1, 50, 1],
        [0, 0, 90, 0],
    ]


def test_columns_do_not_depend_on_the_fold():
    """The indicator exists even if no training sample needs it. Without a training value, the median is 0."""
    complete = encode_demographics([AGE], np.array([True, True, False, False]))
    nothing = encode_demographics([AGE], np.array([False, False, True, False]))

    assert complete.names == nothing.names == ("age", "age: missing")
    assert nothing.transform([AGE])[2].tolist() == [0, 1]


def test_new_patients_are_encoded_like_the_cohort():
    """The same values in a table give the same numbers to the bit."""
    encoder = encode_demographics([SEX, AGE, BMI, RACE])
    table = {
        "age": [40.0, 60.0, None, 90.0],
        "bmi": np.array([20, 30, 25, 22]),
        "sex": np.array(["F", "M", None, "F"], object),
        "race": ["White", "Asian", "White", "White"],
        "other": ["ignored"],
    }

    assert encoder.transform_table(table).tobytes() == encoder.transform([SEX, AGE, BMI, RACE]).tobytes()


@pytest.mark.parametrize("value", ["X", None, " ", float("nan")])
def test_an_unseen_level_is_unknown_or_else_the_reference(value):
    """An unseen level is ``unknown`` if training had this level, and otherwise the reference."""
    encoder = encode_demographics([SEX, RACE])

    assert encoder.transform_table({"sex": [value], "race": [value]}).tolist() == [[0, 1, 0]]
    other = CategoricalColumn("race", ("Black", "Asian"), np.array([0, 1], np.int16))
    sex = CategoricalColumn("sex", ("M", "X"), np.array([0, 1], np.int16))
    assert encoder.transform([sex, other]).tolist() == [[1, 0, 0], [0, 1, 1]]


def test_booleans_are_the_levels_true_and_false():
    """Booleans from Parquet are the levels ``false`` and ``true``."""
    smoker = CategoricalColumn("smoker", ("false", "true"), np.array([0, 1], np.int16))

    encoded = encode_demographics([smoker]).transform_table({"smoker": [True, np.False_]})

    assert encoded.tolist() == [[1], [0]]


def test_a_number_without_indicator_takes_the_median():
    """If training had no missing number, a missing number of a new patient is the median."""
    assert encode_demographics([BMI]).transform_table({"bmi": [None]}).tolist() == [[23.5]]


def test_an_encoder_survives_json():
    """The encoder, including the last bit of the median, is equal after a round trip through JSON."""
    encoder = encode_demographics([NumericColumn("x", np.array([0.1, 0.2, np.nan])), SEX])

    assert DemographicsEncoder.from_json(json.loads(json.dumps(encoder.to_json()))) == encoder


def test_no_demographics_give_no_columns():
    """An encoder without demographics has no columns."""
    assert encode_demographics([]).names == ()


@pytest.mark.parametrize(
    ("table", "rule"),
    [
        ({"bmi": [1]}, "column 'age' is missing"),
        ({"age": ["Ada"], "bmi": [1]}, "column 'age' holds a value that is not a number"),
        ({"age": [float("inf")], "bmi": [1]}, "column 'age' holds infinite numbers"),
        ({"age": [1, 2], "bmi": [1]}, "columns differ in length"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(table, rule):
    """A table that does not fit the encoder is refused, and neither the error nor its cause contains a value."""
    with pytest.raises(DataError) as caught:
        encode_demographics([AGE, BMI]).transform_table(table)

    assert caught.value.rule == rule
    assert "Ada" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_column_that_changed_its_kind_is_refused():
    """A number in training cannot be a category later."""
    with pytest.raises(DataError, match="a different kind than in training"):
        encode_demographics([AGE]).transform([CategoricalColumn("age", ("40",), np.zeros(1, np.int16))])
    with pytest.raises(DataError, match="'age' is missing"):
        encode_demographics([AGE]).transform([BMI])


def test_trees_see_numbers_as_they_are():
    """Trees get neither median nor indicator: 0 stays 0, and a missing number stays NaN, also after a round trip through JSON."""
    encoder = encode_demographics([SEX, AGE]).for_trees()
    again = DemographicsEncoder.from_json(json.loads(json.dumps(encoder.to_json())))

    assert again == encoder
    assert again.names == tuple(
        name for name in encode_demographics([SEX, AGE]).names if "missing" not in name
    )
    assert again.is_value.tolist() == [name == "age" for name in again.names]
    table = {"sex": ["F", None], "age": [0.0, None]}
    assert str(again.transform_table(table)[:, -1].tolist()) == "[0.0, nan]"


@pytest.mark.parametrize(
    ("levels", "values", "positions"),
    [
        (("3", "1", "unknown"), [3, 3.0, "3", "3.0", "03", 1.0, None, 7, "x"], [0, 0, 0, 0, 0, 1, 2, 2, 2]),
        (("01", "1", "unknown"), ["01", "1", 1, 1.0, "1.0"], [0, 1, 1, 2, 2]),
    ],
    ids=["one level a number", "two levels that read as one number: only their own text"],
)
def test_a_number_that_is_a_name_is_the_level_that_reads_as_it(levels, values, positions):
    """With ``of_numbers``, a number in any form is the level with that number. If it fits several levels it is unknown. Other categories compare text."""
    assert CategoryCode("ward", levels, of_numbers=True).positions(values).tolist() == positions
    assert CategoryCode("ward", levels).positions([3.0, "01 "]).tolist() == [2, 2]
