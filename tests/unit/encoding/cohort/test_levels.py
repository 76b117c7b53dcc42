"""Rare levels of a category are merged before any learning."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlho.encoding.cohort.demographics import encode_demographics
from mlho.encoding.cohort.levels import OTHER, UNKNOWN, merge_rare_levels, renumbered


def column_of(texts):
    levels = sorted(set(texts))
    return renumbered("race", levels, np.array([levels.index(text) for text in texts]))


def merged_texts(result):
    return [result.column.levels[code] for code in result.column.codes]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["a"] * 5 + ["b"] * 3 + ["x", "y", "z"], ["a"] * 5 + ["b"] * 3 + [OTHER] * 3),
        (["a"] * 5 + ["b"] * 3 + ["x", "y"], ["a"] * 5 + ["b"] * 3 + ["a"] * 2),
        (["a"] * 5 + [UNKNOWN] * 3 + ["x"], ["a"] * 5 + [UNKNOWN] * 3 + [UNKNOWN]),
        (["a"] * 5 + [OTHER] * 3 + ["x"], ["a"] * 5 + [OTHER] * 3 + [OTHER]),
        (["a"] * 5 + [OTHER] * 2 + ["x"], ["a"] * 5 + [OTHER] * 3),
        (["a"] * 5 + [UNKNOWN, "x", "y"], ["a"] * 5 + [OTHER] * 3),
        (["a", "b"], [OTHER] * 2),
        (["a"] * 5 + ["b"] * 3, ["a"] * 5 + ["b"] * 3),
    ],
    ids=[
        "together enough",
        "together too few: the reference",
        "together too few: unknown",
        "other is a level",
        "other is rare itself",
        "unknown is rare",
        "all are rare",
        "none is rare",
    ],
)
def test_rare_levels_count_as_other_or_like_a_new_level(texts, expected):
    """With a minimum of three patients, rare levels count as ``other`` if together they are enough, and else as a new level would."""
    assert merged_texts(merge_rare_levels(column_of(texts), np.arange(len(texts)), min_cell=3)) == expected


def test_a_level_is_rare_by_its_patients():
    """Five samples of two patients count as two patients."""
    result = merge_rare_levels(
        column_of(["a"] * 5 + ["x"] * 5), np.array([0, 1, 2, 3, 4, 5, 5, 5, 6, 6]), min_cell=3
    )

    assert result.column.levels == ("a",)
    assert result.n_levels == 1


@given(st.lists(st.sampled_from(["a", "b", "c", OTHER, UNKNOWN]), min_size=1, max_size=14), st.integers(0, 4))
def test_a_patient_of_a_merged_level_scores_as_in_training(texts, min_cell):
    """Raw and merged values have the same columns in the model, and every remaining level has enough patients."""
    column = column_of(texts)

    merged = merge_rare_levels(column, np.arange(len(texts)), min_cell=min_cell).column

    encoder = encode_demographics([merged])
    raw = [None if text == UNKNOWN else text for text in texts]
    assert encoder.transform_table({"race": raw}).tolist() == encoder.transform([merged]).tolist()
    counts = np.bincount(merged.codes, minlength=len(merged.levels))
    assert len(counts) == 1 or counts.min() >= min_cell
    assert set(merged.levels) <= set(column.levels) | {OTHER}
