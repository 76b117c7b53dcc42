"""Test sets by date, site or given part, and the person behind several patient ids."""

import datetime as dt
from dataclasses import replace

import numpy as np
import pytest

from mlho.encoding.cohort.cohort import CategoricalColumn, Groups
from mlho.errors import DataError
from mlho.training.iterations.planned import (
    AFTERWARDS,
    CROSSING,
    TEST_PATIENT,
    TESTED,
    TRAINED,
    cut_of,
    planned_sets,
)
from mlho.training.iterations.splits import FINAL, check_splits, partition
from tests.unit.training.iterations.test_splits import asking, make_cohort

DAY_US = 86_400_000_000
N_DAYS = 1000


def dated(**changes):
    """Return 200 patients with two samples each, 200 days apart, over a thousand days from 2020-01-01; every third has the outcome."""
    cohort = make_cohort()
    start = (dt.date(2020, 1, 1) - dt.date(1970, 1, 1)).days
    first = cohort.patient_of * (N_DAYS - 200) // cohort.n_patients
    day = start + first + np.tile([0, 200], cohort.n_patients)
    outcome = (cohort.patient_of % 3 == 0).astype(np.uint8)
    return replace(cohort, index_us=(day + 1) * DAY_US - 1, outcome=outcome, **changes)


def with_parts(*levels, of=lambda patient, number: patient % number):
    cohort = dated()
    codes = of(cohort.patient_of, len(levels)).astype(np.int16)
    return replace(cohort, parts=CategoricalColumn("site", levels, codes))


def days_of(cohort, samples):
    return cohort.index_us[samples] // DAY_US


def test_a_temporal_split_trains_before_its_date_and_tests_from_it_on():
    """A sample of the date itself is tested, and no patient is in both parts."""
    cohort, spec = dated(), asking(split="temporal", testFrom="2021-12-01")
    cut = (dt.date(2021, 12, 1) - dt.date(1970, 1, 1)).days

    parts = partition(spec, cohort, 1)

    assert days_of(cohort, parts.test).min() == cut
    assert parts.test.sum() == (days_of(cohort, slice(None)) >= cut).sum()
    assert days_of(cohort, parts.train).max() < cut
    assert not set(cohort.patient_of[parts.train]) & set(cohort.patient_of[parts.test])


def test_an_outcome_window_that_reaches_the_test_period_is_not_trained_on():
    """If the outcome window of 28 days reaches the first day of the test period, the sample crosses it and is not used for training."""
    cohort = dated()
    spec = asking({"followUpDays": 28}, split="temporal", testFrom="2021-12-01")
    cut = (dt.date(2021, 12, 1) - dt.date(1970, 1, 1)).days

    (test_set,) = planned_sets(spec, cohort)

    assert days_of(cohort, test_set.role == CROSSING).min() == cut - 28
    assert days_of(cohort, test_set.role == TRAINED).max() == cut - 32


def test_every_sample_has_one_role():
    """Each sample is tested, trained on, or left out by one rule, and each rule occurs here."""
    cohort = dated()
    spec = asking({"followUpDays": 30}, split="rolling", origins=["2021-06-01", "2021-12-01"])

    first, last = planned_sets(spec, cohort)

    assert (first.name, last.name) == ("2021-06-01 to 2021-11-30", "from 2021-12-01")
    assert set(first.role.tolist()) == {TESTED, TRAINED, AFTERWARDS, TEST_PATIENT, CROSSING}
    assert AFTERWARDS not in last.role


def test_iterations_of_a_temporal_split_share_the_test_set_and_draw_the_training_patients():
    """All iterations have the same test samples, and each draws other training patients: 70 % of the possible ones, in each stratum."""
    cohort, spec = dated(), asking(split="temporal", testFrom="2021-12-01", testFraction=0.3)
    (test_set,) = planned_sets(spec, cohort)

    first, second = (partition(spec, cohort, iteration) for iteration in (1, 2))

    assert (first.test == second.test).all()
    assert (first.is_train != second.is_train).any()
    n_trainable = len(set(cohort.patient_of[test_set.role == TRAINED]))
    assert abs(first.is_train.sum() - 0.7 * n_trainable) <= 1


def test_without_a_date_the_test_set_begins_with_the_month_closest_to_its_share():
    """The cut is the first day of the month whose share of later samples is closest to 30 %."""
    cohort, spec = dated(), asking(split="temporal")
    months = (cohort.index_us // DAY_US).astype("datetime64[D]").astype("datetime64[M]")

    cut = cut_of(spec, cohort)

    assert cut.day == 1
    share = {month: (months >= month).mean() for month in np.unique(months)}
    assert min(share, key=lambda month: abs(share[month] - 0.3)) == np.datetime64(cut, "M")


def test_iterations_take_the_origins_in_turn():
    """With two origins, the third iteration uses the first origin again."""
    cohort = dated()
    spec = asking(split="rolling", origins=["2021-06-01", "2021-12-01"])

    tests = [partition(spec, cohort, iteration).test for iteration in (1, 2, 3)]

    assert (tests[0] == tests[2]).all()
    assert not (tests[0] & tests[1]).any()


def test_each_site_is_left_out_once():
    """A patient with samples at two sites is not used for training while one of the sites is tested."""
    cohort = with_parts(
        "north", "south", "west", of=lambda patient, n: (patient + np.tile([0, 0, 1, 0], 100)) % n
    )
    spec = asking(split="site", splitColumn="site", iterations=3)

    sets = planned_sets(spec, cohort)

    assert [test_set.name for test_set in sets] == ["site north", "site south", "site west"]
    assert (sum((test_set.role == TESTED).astype(int) for test_set in sets) == 1).all()
    assert {TEST_PATIENT} <= set(sets[0].role.tolist())
    parts = partition(spec, cohort, 2)
    assert not set(cohort.patient_of[parts.train]) & set(cohort.patient_of[parts.test])


def test_a_given_split_is_followed():
    """The words ``train`` and ``test`` give one split, and numbers give folds in numeric order."""
    words = with_parts("test", "train", of=lambda patient, n: (patient % 4 > 0).astype(int))
    folds = with_parts("1", "10", "2")

    (test_set,) = planned_sets(asking(split="given", splitColumn="site"), words)

    assert ((test_set.role == TESTED) == (words.patient_of % 4 == 0)).all()
    names = [fold.name for fold in planned_sets(asking(split="given", splitColumn="site"), folds)]
    assert names == ["fold 1", "fold 2", "fold 10"]


def test_the_final_iteration_trains_on_all_samples_of_any_split():
    """The published model is trained on every sample, for any split."""
    parts = partition(asking(split="temporal", testFrom="2021-12-01"), dated(), FINAL)

    assert parts.train.all()


@pytest.mark.parametrize(
    ("cohort", "validation", "words"),
    [
        (
            dated(),
            {"split": "temporal", "testFrom": "2030-01-01"},
            r"is empty.*0 with and 0 without in the test set 1 of 1",
        ),
        (
            dated(),
            {"split": "temporal", "testFrom": "2020-01-01"},
            "is empty.*training samples of test set 1",
        ),
        (
            dated(),
            {"split": "rolling", "origins": ["2021-06-01", "2022-09-10"]},
            "too few patients.*test set 2 of 2",
        ),
        (
            with_parts("north", "south", of=lambda patient, n: (patient < 9).astype(int)),
            {"split": "site", "splitColumn": "site"},
            "too few patients.*test set 2 of 2.*common name",
        ),
        (
            with_parts("north", "south", "west"),
            {"split": "site", "splitColumn": "site"},
            "a multiple of 3 test sets.*Set validation.iterations to 21",
        ),
        (
            with_parts("north"),
            {"split": "site", "splitColumn": "site"},
            "the same value for the whole cohort",
        ),
        (
            with_parts("tets", "train"),
            {"split": "given", "splitColumn": "site"},
            "does not define a split.*1 other value",
        ),
        (with_parts("train"), {"split": "given", "splitColumn": "site"}, "only train, only test"),
    ],
)
def test_a_split_that_measures_nothing_is_refused_with_the_remedy(cohort, validation, words):
    """A split with an empty or too small part is refused with a remedy. The error has the part's position, never the name of a site."""
    with pytest.raises(DataError, match=f"(?s){words}") as refused:
        check_splits(asking(iterations=20, **validation), cohort)
    assert "south" not in str(refused.value)


def test_a_person_with_several_patient_ids_is_in_one_part():
    """Splits, folds and the final iteration use persons, whose outcome is positive if that of any of their ids is."""
    cohort = dated(
        groups=Groups(
            tuple(f"g{number:03d}" for number in range(100)), (np.arange(200) // 2).astype(np.int32)
        )
    )

    for iteration in (1, 2, FINAL):
        parts = partition(asking(), cohort, iteration)
        assert not set(cohort.unit_of[parts.train]) & set(cohort.unit_of[parts.test])
        assert len(parts.fold) == 100
    assert cohort.positive_units().sum() == len({number // 2 for number in range(0, 200, 3)})


def test_persons_are_drawn_as_patients_with_their_ids_would_be():
    """Persons are drawn by the hash of the group's id, so other patient ids change no part."""
    groups = Groups(tuple(f"p{number:04d}" for number in range(200)), np.arange(200, dtype=np.int32))
    cohort = replace(dated(groups=groups), patient_ids=tuple(f"x{number:04d}" for number in range(200)))

    assert (partition(asking(), cohort, 1).fold == partition(asking(), dated(), 1).fold).all()
