"""Figures of many replicates in one pass, compared with the functions of one tally, which define them."""

from functools import partial

import numpy as np
import pytest

from mlho.method.evaluation.bootstrap import one_by_one
from mlho.method.evaluation.calibration_curve import quantiles_of_rows
from mlho.method.evaluation.figures import (
    CalibrationBasis,
    Stack,
    accuracy_of,
    calibration_of,
    decision_of,
    discrimination_of,
    operating_of,
)
from mlho.method.evaluation.tally import Tally, tally
from tests.unit.method.evaluation.one_tally import (
    accuracy_figures,
    calibration_figures,
    decision_figures,
    discrimination_figures,
    distances_of,
    operating_figures,
)

THRESHOLDS = {"all": 0.0, "low": 0.1, "half": 0.5, "none": 1.0, "above": 1.1}
# numpy adds up to 7 numbers one by one, up to 128 with 8 sums, and more in halves.
SIZES = (2, 3, 7, 8, 9, 40, 127, 128, 129, 300, 1100, 20_000)


def spread(rng, n):
    return rng.beta(1, 4, n)


def tied(rng, n):
    return np.round(rng.beta(1, 4, n), 1)


def extreme(rng, n):
    """Predictions of exactly 0 and 1, and neighbours of these."""
    return rng.choice([0.0, 1e-17, 1e-9, 0.2, 0.7, 1.0 - 1e-9, 1.0], n)


def equal(rng, n):
    return np.full(n, 0.3)


def separating(rng, n):
    """Two groups far from each other: local fits of the curve lie between them."""
    return np.where(rng.random(n) < 0.5, 0.01, 0.9) + rng.random(n) / 100


def bits(values):
    """Return the bits of floats, with one for all NaN."""
    return np.where(np.isnan(values), np.nan, values).view(np.int64).tolist()


def replicates_of(y, p, *, n_patients: int, seed: int, n_replicates: int = 12) -> list[Tally]:
    rng = np.random.default_rng(seed)
    patient = rng.integers(0, n_patients, y.size)
    draws = (np.bincount(rng.integers(0, n_patients, n_patients), minlength=n_patients) for _ in range(10**6))
    redrawn = (tally(y, p).redrawn(times, patient, y == 1) for times in draws)
    return [t for t, _ in zip((t for t in redrawn if t.n_total), range(n_replicates), strict=False)]


@pytest.mark.parametrize("prevalence", [0.0, 0.03, 0.4, 1.0])
@pytest.mark.parametrize("predicted", [spread, tied, extreme, equal, separating])
@pytest.mark.parametrize("n", SIZES)
def test_every_figure_has_the_bits_of_the_replicate_alone(n, predicted, prevalence):
    """For every kind of predictions, ties, the data themselves, and replicates of one class or with empty cells."""
    rng = np.random.default_rng([n, int(100 * prevalence)])
    y, p = (rng.random(n) < prevalence).astype(int), predicted(rng, n)
    fixed = CalibrationBasis.prepare(tally(y, p))
    at_thresholds = partial(operating_figures, thresholds=THRESHOLDS)
    pairs = [
        (accuracy_figures, accuracy_of),
        (discrimination_figures, discrimination_of),
        (decision_figures, decision_of),
        (at_thresholds, partial(operating_of, thresholds=THRESHOLDS)),
        (partial(calibration_figures, fixed=fixed), partial(calibration_of, fixed=fixed)),
    ]
    drawn = [replicates_of(y, p, n_patients=n_patients, seed=n) for n_patients in {n, max(2, n // 3)}]
    for replicates in ([tally(y, p)], *drawn):
        for of_one, of_stack in pairs:
            expected, found = one_by_one(of_one)(replicates), of_stack(Stack.of(replicates))
            assert list(found) == list(expected)
            for name, values in expected.items():
                assert bits(found[name]) == bits(values), name


def test_a_figure_that_does_not_exist_is_nan_in_its_replicate_only():
    """The second of three replicates has no positive."""
    y, p = np.array([1, 0, 0, 1]), np.array([0.9, 0.6, 0.2, 0.4])
    draws = ([1, 1, 1, 1], [0, 2, 2, 0], [2, 0, 1, 1])
    replicates = [tally(y, p).redrawn(np.array(times), np.arange(4), y == 1) for times in draws]
    figures = discrimination_of(Stack.of(replicates))

    assert np.isnan(figures["average_precision"]).tolist() == [False, True, False]
    assert np.isnan(figures["roc"]).all(axis=1).tolist() == [False, True, False]


@pytest.mark.parametrize("shape", ["random", "tied", "tent", "skewed", "zero"])
def test_selected_quantiles_are_those_of_sorted_distances(shape):
    """Also for distances whose order is far from random, and for cells without samples."""
    rng = np.random.default_rng(1)
    for n in (1, 2, 3, 10, 101, 1000):
        distance = {
            "random": rng.random((20, n)),
            "tied": rng.integers(0, 4, (20, n)) / 4,
            "tent": np.tile(np.minimum(np.arange(n), n - np.arange(n)) / n, (20, 1)),
            "skewed": 10.0 ** -rng.integers(0, 300, (20, n)),
            "zero": np.zeros((20, n)),
        }[shape]
        times = rng.poisson(1.0, (20, n)).astype(float)
        times[:, rng.integers(0, n)] += 1.0
        found = quantiles_of_rows(distance, times)

        for row in range(20):
            t = Tally(p=np.arange(n) / n, n=times[row], n_positive=np.zeros(n), cell=np.zeros(0, np.int64))
            assert bits(found[:, row]) == bits(np.array(distances_of(t, distance[row])[1:]))
