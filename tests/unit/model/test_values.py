"""A model's values in words."""

import pytest

from mlho.encoding.cohort.demographics import CategoryCode, DemographicsEncoder, NumberCode
from mlho.method.selection.features import Encoding
from mlho.model.values import demographic_in_words, value_in_words


@pytest.mark.parametrize(
    ("encoding", "number", "words"),
    [
        (Encoding("presence"), 1.0, "yes"),
        (Encoding("presence"), 0.0, "no"),
        (Encoding("outOfRange"), 1.0, "yes"),
        (Encoding("count"), 12.0, "12"),
        (Encoding("count"), 12345.0, "12,340"),
        (Encoding("levels", level_cuts=(1, 3, 10)), 0.0, "0"),
        (Encoding("levels", level_cuts=(1, 3, 10)), 1.0, "1 to 2"),
        (Encoding("levels", level_cuts=(1, 2, 10)), 1.0, "1"),
        (Encoding("levels", level_cuts=(1, 3, 10)), 3.0, "10 or more"),
        (Encoding("last", centre=138.0), -7.0, "131"),
        (Encoding("last", centre=-1.0), -0.25, "\N{MINUS SIGN}1.25"),
        (Encoding("last", centre=138.0), 0.0, "138, or none"),
        (Encoding("last", centre=0.0), 0.0, "0"),
        (Encoding("last", centre=0.0), float("nan"), "none"),
    ],
)
def test_the_value_of_a_feature_is_in_the_unit_of_the_data(encoding, number, words):
    """The words do not show the model's encoding, such as the difference from the median or the number of a level."""
    assert value_in_words(encoding, number) == words


def test_demographics_are_numbers_or_yes_and_no():
    """Numbers are shown unchanged, indicators and levels as yes or no, and NaN as none."""
    encoder = DemographicsEncoder((NumberCode("age", 54.0, True), CategoryCode("sex", ("F", "M"))))

    in_words = dict(demographic_in_words(encoder))

    assert in_words["age"](61.25) == "61.25"
    assert in_words["age"](float("nan")) == "none"
    assert in_words["age: missing"](1.0) == "yes"
    assert in_words["sex: M (reference F)"](0.0) == "no"
