"""Jumps of numbers and carried-forward numbers: planted ones are found; chance and constant numbers are not reported."""

import numpy as np
import pytest

from mlho.training.checks.numbers import copied_share, jump

N_SERIES, LENGTH = 400, 5


def sample(value):
    """Return series of five numbers each, one day apart."""
    series = np.repeat(np.arange(N_SERIES, dtype=np.uint64), LENGTH)
    return series, np.tile(np.arange(LENGTH), N_SERIES), np.asarray(value, float).ravel()


def test_numbers_carried_forward_are_measured():
    """Half of the numbers, except the first of each patient, are replaced by the previous one, and the measured share is 0.5."""
    rng = np.random.default_rng(1)
    value = rng.lognormal(0, 1, (N_SERIES, LENGTH))
    for place in range(1, LENGTH):
        is_copied = rng.random(N_SERIES) < 0.5
        value[is_copied, place] = value[is_copied, place - 1]

    assert copied_share(*sample(value)) == pytest.approx(0.5, abs=0.05)


def test_coarse_numbers_repeat_by_chance_only():
    """For whole numbers from 1 to 3, a third of the neighbours are equal by chance, and the corrected share is 0."""
    value = np.random.default_rng(2).integers(1, 4, (N_SERIES, LENGTH))

    assert copied_share(*sample(value)) == pytest.approx(0, abs=0.05)


def test_a_number_that_never_changes_in_a_patient_is_not_judged():
    """A number that is constant in each patient, such as height, has no share."""
    value = np.repeat(np.random.default_rng(3).lognormal(0, 1, (N_SERIES, 1)), LENGTH, axis=1)

    assert copied_share(*sample(value)) is None


def test_the_month_of_a_unit_swap_is_found():
    """Of 48 months around level 27, month 17 has numbers 18 times smaller, which is 4.17 octaves, and is found."""
    mean = np.random.default_rng(4).normal(27, 0.15, 48)
    mean[17] -= 16.7

    place, change = jump(mean, np.full(48, 50), 1.0)

    assert place == 17
    assert change == pytest.approx(-16.7, abs=0.6)


def test_a_month_with_few_numbers_does_not_jump_by_chance():
    """A change of 1.5 levels with 20 numbers and a spread of 4 is within five standard errors."""
    mean = np.full(12, 27.0)
    mean[6] += 1.5

    assert jump(mean, np.full(12, 20), 4.0) is None
