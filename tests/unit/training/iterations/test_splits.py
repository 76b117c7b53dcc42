"""The split of patients into test set and folds."""

from dataclasses import replace

import numpy as np
import pytest

from mlho.encoding.cohort.cohort import Cohort, FollowUp
from mlho.errors import DataError
from mlho.spec.training import TrainingSpec
from mlho.training.iterations.splits import FINAL, check_splits, partition, seed_of


def make_cohort(n_patients=200, n_positive=60, n_samples_each=2):
    patient_of = np.repeat(np.arange(n_patients, dtype=np.int32), n_samples_each)
    return Cohort(
        patient_ids=tuple(f"p{number:04d}" for number in range(n_patients)),
        birth_us=np.full(n_patients, np.iinfo(np.int64).min),
        patient_of=patient_of,
        index_us=np.arange(len(patient_of), dtype=np.int64),
        outcome=(patient_of < n_positive).astype(np.uint8),
    )


def asking(cohort=None, **validation):
    return TrainingSpec.model_validate(
        {
            "data": {"tables": {"events": "events/", "labels": "labels.csv"}},
            "cohort": {"index": {"column": "index_date"}, **(cohort or {})},
            "validation": validation,
        }
    )


@pytest.mark.parametrize("split", ["random", "stratified"])
@pytest.mark.parametrize("iteration", [1, 2, 17])
def test_a_patient_is_tested_or_in_one_fold(split, iteration):
    """The parts cover all patients once, in the requested sizes."""
    parts = partition(asking(split=split, folds=4, test_fraction=0.3), make_cohort(), iteration)

    assert int(parts.is_test.sum()) == 60
    assert ((parts.fold == -1) == parts.is_test).all()
    # Folds are assigned within each stratum, so of 42 and 98 patients two folds get one more each.
    expected = {"random": [35, 35, 35, 35], "stratified": [36, 36, 34, 34]}[split]
    assert np.bincount(parts.fold[parts.is_train]).tolist() == expected


def test_stratified_parts_have_equal_shares_of_positives():
    """Every part has thirty percent positives."""
    cohort = make_cohort()
    parts = partition(asking(split="stratified", folds=5), cohort, 1)
    positive = cohort.positive_patients()

    assert int((positive & parts.is_test).sum()) == 18
    counts = [int((positive & (parts.fold == fold)).sum()) for fold in range(5)]
    assert max(counts) - min(counts) <= 1


def test_the_final_iteration_trains_on_all_patients():
    """The final iteration has no test set; its folds serve calibration."""
    parts = partition(asking(folds=5), make_cohort(), FINAL)

    assert not parts.is_test.any()
    assert sorted(set(parts.fold.tolist())) == [0, 1, 2, 3, 4]


def test_iterations_and_seeds_draw_other_parts():
    """Other iterations and seeds draw other parts, and equal ones draw the same."""
    cohort, spec = make_cohort(), asking(seed=1)
    first = partition(spec, cohort, 1)

    assert (partition(spec, cohort, 1).is_test == first.is_test).all()
    assert (partition(spec, cohort, 2).is_test != first.is_test).any()
    assert (partition(asking(seed=2), cohort, 1).is_test != first.is_test).any()
    assert (partition(asking(seed=1, iterations=99), cohort, 1).is_test == first.is_test).all()


def test_valid_splits_pass():
    """Valid splits raise no error."""
    check_splits(asking(iterations=3), make_cohort())


def test_a_part_with_one_class_is_refused_with_the_remedy():
    """Three positives cannot be in all of five folds and the test set."""
    with pytest.raises(DataError, match=r"one class.*stratified") as refused:
        check_splits(asking(iterations=2), make_cohort(n_positive=3))
    assert "p0" not in str(refused.value)


def followed(days_without_event, horizon_days):
    """Return a cohort in which patients with the event have it on day 20, and the others are censored, and its specification."""
    cohort = make_cohort(n_samples_each=1)
    days = np.where(cohort.outcome == 1, 20.0, days_without_event)
    times = {"timeToEvent": {"event": "event", "end": "end", "horizonDays": horizon_days}}
    spec = asking(cohort=times, iterations=2)
    return spec, replace(cohort, follow_up=FollowUp(days, cohort.outcome.copy()))


@pytest.mark.parametrize("horizon_days", [[730], [365, 730]], ids=["first horizon", "later horizon"])
def test_a_horizon_that_nobody_is_followed_to_is_refused(horizon_days):
    """Where all patients without the event are censored before a horizon, nothing is known there, and the message names it."""
    spec, cohort = followed(400.0, horizon_days)

    with pytest.raises(DataError, match=r"without the outcome known at 730 days in every part.*horizonDays"):
        check_splits(spec, cohort)


def test_a_horizon_within_the_follow_up_passes():
    """Horizons up to the end of observation are known in every part, and a few censored samples are no error."""
    spec, cohort = followed(np.where(np.arange(200) % 4 == 0, 10.0, 400.0), [30, 400])

    check_splits(spec, cohort)


def test_a_seed_is_31_bits_and_of_its_place():
    """Seeds depend only on the run's seed, classifier, iteration and fold, and must never change, because results depend on them."""
    places = [(7, "glmboost", 1, None), (7, "glmboost", 1, 0), (7, "glmboost", 2, None), (7, "xgboost", 1, None), (8, "glmboost", 1, None), (7, "glmboost", FINAL, None)]  # fmt: skip
    seeds = [seed_of(*place) for place in places]

    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert seeds[0] == seed_of(7, "glmboost", 1)


def test_the_order_of_samples_does_not_matter_to_patients():
    """All samples of a patient are in the same part."""
    single, double = make_cohort(n_samples_each=1), make_cohort(n_samples_each=2)
    spec = asking()

    assert (partition(spec, single, 1).fold == partition(spec, double, 1).fold).all()
    assert replace(single).n_patients == double.n_patients
