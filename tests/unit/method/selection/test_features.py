"""Aggregates of values: how the ranking, trees and linear models encode a value and a missing value."""

from typing import get_args

import numpy as np
import pytest

from mlho.method.selection.features import (
    AGGREGATES,
    DURATIONS,
    OF_NUMBERS,
    VALUES,
    Cells,
    learn_encoding,
    levels_for_ranking,
)
from mlho.spec.features import NUMBERS, Aggregate

# Samples 1, 2 and 4 have a value, sample 3 has an event without one, and samples 0 and 5 have no event.
CELLS = Cells(
    np.array([1, 2, 3, 4], np.int32), np.array([2, 1, 1, 5], np.int32), np.array([0.0, 7.0, np.nan, -3.0])
)


def test_the_aggregates_are_those_of_the_specification():
    """The aggregates named in the method equal those of the specification, which the method does not import."""
    assert list(AGGREGATES) == sorted(get_args(Aggregate))
    assert frozenset(NUMBERS) == OF_NUMBERS - set(DURATIONS)


@pytest.mark.parametrize("aggregate", sorted(VALUES))
def test_an_absent_value_is_a_level_and_a_missing_number(aggregate):
    """A missing value has level 0 in the ranking and no cell in trees, where zero is a value. Linear models use the median."""
    encoding = learn_encoding(aggregate, CELLS)
    ranked, levels = levels_for_ranking(encoding, CELLS)
    stored, numbers = encoding.stored(CELLS)
    linear, centred = encoding.encode(CELLS)

    assert ranked.tolist() == [1, 2, 4]
    assert levels.min() >= 1
    assert (stored.tolist(), numbers.tolist()) == ([1, 2, 4], [0.0, 7.0, -3.0])
    assert encoding.centre == 0.0
    assert (linear.tolist(), centred.tolist()) == ([2, 4], [7.0, -3.0])


@pytest.mark.parametrize("aggregate", sorted(OF_NUMBERS))
def test_presence_stands_beside_a_value(aggregate):
    """Presence distinguishes a sample without a value from one with the median, in every kind of model."""
    presence = learn_encoding("presence", CELLS)
    present, _ = presence.encode(CELLS)
    known, _ = learn_encoding(aggregate, CELLS).encode(CELLS)

    assert present.tolist() == [1, 2, 3, 4]
    assert set(known.tolist()) <= set(present.tolist())
