"""Bins of predictions."""

import numpy as np
import pytest

from mlho.method.evaluation.reliability import bins_of, pooled_bins, reliability_bins
from mlho.method.evaluation.tally import tally
from tests.unit.method.evaluation.one_tally import calibration_error_of
from tests.unit.method.evaluation.predictions import two_groups


def test_equal_width_bins_of_a_worked_example():
    """0.0 and 0.05 are in the first bin, 0.1 is in the second because lower edges are inclusive, and 1.0 is in the last."""
    bins = reliability_bins([0, 1, 1, 1], [0.0, 0.05, 0.1, 1.0], how="equal-width")

    assert [(b.n, b.n_positive, b.observed) for b in bins] == [(2, 1, 0.5), (1, 1, 1.0), (1, 1, 1.0)]
    assert bins[0].mean_predicted == 0.025


def test_equal_count_bins_hold_equal_counts():
    """100 distinct predictions give ten bins of ten, in ascending order."""
    bins = reliability_bins(np.arange(100) % 2, np.random.default_rng(0).permutation(100) / 100)

    assert [b.n for b in bins] == [10] * 10
    assert [b.mean_predicted for b in bins] == pytest.approx([0.045 + 0.1 * i for i in range(10)])


def test_equal_count_bins_never_part_equal_predictions():
    """If six of ten samples share 0.2, one bin contains all of them."""
    bins = reliability_bins([0] * 10, [0.1] + [0.2] * 6 + [0.3, 0.4, 0.5], n_bins=5)

    assert [(b.n, b.mean_predicted) for b in bins] == [
        (7, pytest.approx(1.3 / 7)),
        (1, 0.3),
        (2, pytest.approx(0.45)),
    ]


def test_wilson_interval_of_no_events_in_ten():
    """The interval of 0 of 10 is from 0 to z²/(10 + z²) = 0.2775."""
    (only,) = reliability_bins([0] * 10, [0.3] * 10)

    assert only.low == 0.0
    assert only.high == pytest.approx(0.2775328, abs=1e-7)


def test_calibration_error_of_a_worked_example():
    """Gaps of |0.2 − 0.15| on 20 samples and |0.8 − 0.7| on 30 give an ECE of 0.08 and an MCE of 0.1 with both binnings."""
    t = tally(*two_groups())

    for how in ("equal-width", "equal-count"):
        assert calibration_error_of(t, bins_of(t, 10, how), 10) == pytest.approx((0.08, 0.1), abs=1e-14)


def test_bins_with_few_patients_join_their_neighbours():
    """Each pooled bin has none or at least five samples with and without the outcome, and the counts add up to all samples."""
    y, p = (
        np.r_[np.zeros(20), [1, 0, 0, 0], np.ones(6), np.zeros(6), [1]],
        np.r_[np.full(20, 0.02), np.linspace(0.1, 0.9, 17)],
    )
    bins = reliability_bins(y, p, how="equal-width")

    pooled = pooled_bins(bins, 5)

    assert sum(b.n for b in pooled) == 37
    assert sum(b.n_positive for b in pooled) == 8
    assert all(k == 0 or k >= 5 for b in pooled for k in (b.n_positive, b.n - b.n_positive))
    assert pooled[0].n == 20
    assert [b.mean_predicted for b in pooled] == sorted(b.mean_predicted for b in pooled)
    total = sum(b.n * b.mean_predicted for b in pooled)
    assert total == pytest.approx(p.sum())


def test_bins_that_are_too_few_together_are_not_shown():
    """Nine patients cannot form a bin of at least eleven, so no bin is shown. Without a minimum, all bins stay."""
    bins = reliability_bins([0, 1, 0, 1, 0, 1, 0, 1, 0], np.linspace(0.1, 0.9, 9), how="equal-width")

    assert pooled_bins(bins, 11) == ()
    assert pooled_bins(bins, 0) == bins


def test_bins_are_small_by_their_patients():
    """Of three bins of ten samples, the first has two patients and is merged with the second."""
    bins = reliability_bins(np.zeros(30), np.repeat([0.1, 0.5, 0.9], 10), how="equal-width")
    patients = [{1, 2}, {2, 3, 4, 5, 6}, {7, 8, 9, 10, 11}]

    pooled = pooled_bins(bins, 5, patients_of=lambda a, b: (0, len(set().union(*patients[a:b]))))

    assert [b.n for b in pooled] == [20, 10]
