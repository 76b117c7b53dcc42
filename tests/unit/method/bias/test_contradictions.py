"""Contradicted labels: planted wrong labels come first in the list, and a group with wrong labels has more of them than expected."""

import numpy as np
import pytest

from mlho.method.bias.contradictions import find_contradictions


def iterations(outcome, truth, *, n=12, seed=1):
    """Yield iterations that score half of the samples with a model of the true outcome, with an AUROC of about 0.96."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        samples = np.sort(rng.choice(len(outcome), len(outcome) // 2, replace=False))
        log_odds = -2.0 + 5.0 * truth[samples] + rng.normal(0, 1.5, len(samples))
        yield {"samples": samples, "glmboost": 1 / (1 + np.exp(-log_odds))}


def test_planted_wrong_labels_lead_the_list():
    """If 80 of 4,000 labels are flipped, at least 90 % of the first 60 listed samples are among them; by chance it would be 2 %."""
    rng = np.random.default_rng(0)
    truth = (rng.random(4000) < 0.2).astype(np.uint8)
    wrong = rng.choice(4000, 80, replace=False)
    outcome = truth.copy()
    outcome[wrong] ^= 1

    found = find_contradictions(iterations(outcome, truth), "glmboost", outcome)
    first = found.ranked()[:60]

    assert np.isin(first, wrong).mean() >= 0.9


def test_a_sample_is_listed_if_most_of_at_least_three_iterations_contradict_it():
    """A sample contradicted in 2 of 3 iterations is listed; one contradicted in 1 of 3, or tested only twice, is not."""
    outcome = np.array([0, 0, 0, 0, 1, 1], np.uint8)
    high, low = 0.9, 0.1
    rows = [[high, high, low], [high, low, low], [high, high, None], [low, low, low], [0.8] * 3, [0.8] * 3]
    arrays = [
        {
            "samples": np.array([s for s, row in enumerate(rows) if row[i] is not None]),
            "m": np.array([row[i] for row in rows if row[i] is not None]),
        }
        for i in range(3)
    ]

    found = find_contradictions(arrays, "m", outcome)

    assert found.contradicted[:4].tolist() == [2, 1, 2, 0]
    assert found.tested.tolist() == [3, 3, 2, 3, 3, 3]
    assert found.ranked().tolist() == [0]


def calibrated(outcome, p, *, n=5):
    """Yield iterations that score every sample with these probabilities."""
    return ({"samples": np.arange(len(outcome)), "m": p} for _ in range(n))


def test_right_labels_are_contradicted_as_often_as_expected():
    """For 20,000 labels drawn with the predicted probabilities, the expected share is within the interval of the observed share."""
    rng = np.random.default_rng(2)
    p = rng.beta(0.5, 2.0, 20_000)
    outcome = (rng.random(20_000) < p).astype(np.uint8)

    rate = find_contradictions(calibrated(outcome, p), "m", outcome).rate(
        np.ones(20_000, np.bool_), np.arange(20_000)
    )

    assert rate.observed.low < rate.expected < rate.observed.high
    assert rate.expected > 0.05


def test_a_group_with_wrong_labels_is_contradicted_more_often_than_expected():
    """If a tenth of the labels of the second group are flipped, its observed share clearly exceeds the expected one; that of the first group does not."""
    rng = np.random.default_rng(3)
    p = rng.beta(0.5, 2.0, 20_000)
    outcome = (rng.random(20_000) < p).astype(np.uint8)
    second = np.arange(20_000) >= 10_000
    outcome[second & (rng.random(20_000) < 0.1)] ^= 1

    found = find_contradictions(calibrated(outcome, p), "m", outcome)
    first, noisy = (found.rate(group, np.arange(20_000)) for group in (~second, second))

    assert noisy.observed.low > noisy.expected + 0.03
    assert first.observed.low < first.expected + 0.01


def test_the_interval_counts_patients_and_not_samples():
    """The interval for 500 patients with four equal samples each is about twice as wide as that for 2,000 patients."""
    rng = np.random.default_rng(4)
    p = np.repeat(rng.beta(0.5, 2.0, 500), 4)
    outcome = np.repeat(rng.random(500) < p[::4], 4).astype(np.uint8)

    found = find_contradictions(calibrated(outcome, p), "m", outcome)
    alone, together = (
        found.rate(np.ones(2000, np.bool_), patient_of).observed
        for patient_of in (np.arange(2000), np.arange(2000) // 4)
    )

    assert alone.value == together.value
    assert (together.high - together.low) / (alone.high - alone.low) == pytest.approx(2, rel=0.15)
