"""Samples whose label the model contradicts: the first place to look for wrong labels. A contradiction does not prove an error.

In each iteration the final classifier scores patients that it was not trained on. A sample without the outcome is contradicted if its
probability is at least the mean of the test samples with the outcome; one with the outcome, if its probability is at most the mean of those
without. These are the thresholds of confident learning.

References
----------
Northcutt, Jiang & Chuang (2021), Confident learning: estimating uncertainty in dataset labels, JAIR 70, 1373-1411.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlho.method.bias.intervals import wilson
from mlho.method.evaluation.metrics import Estimate

FEWEST: Final = 3  # minimum number of iterations that tested a sample, for "most of them" to be meaningful


@dataclass(frozen=True, eq=False)
class Contradictions:
    """How often each sample was tested, and how often either label would have been contradicted."""

    outcome: NDArray[np.uint8]
    """Shape (n_samples,)."""
    tested: NDArray[np.int64]
    as_positive: NDArray[np.int64]
    as_negative: NDArray[np.int64]
    """Iterations: all that tested the sample; those that contradict the label 1; those that contradict the label 0. Shape (n_samples,)."""
    probability: NDArray[np.float64]
    """Mean test probability; ``NaN`` for a sample that no iteration tested. Shape (n_samples,)."""

    @property
    def contradicted(self) -> NDArray[np.int64]:
        """Number of iterations that contradict the label of each sample."""
        return np.where(self.outcome == 1, self.as_positive, self.as_negative)

    @property
    def is_judged(self) -> NDArray[np.bool_]:
        """Samples that enough iterations have tested."""
        return self.tested >= FEWEST

    @property
    def n_tested(self) -> int:
        """Number of samples that enough iterations have tested."""
        return int(self.is_judged.sum())

    def ranked(self) -> NDArray[np.int64]:
        """Return the samples that most iterations contradict, sorted by the share of iterations.

        Ties are sorted by the distance between label and probability. Samples that fewer than three iterations have tested are
        omitted.
        """
        contradicted = self.contradicted
        listed = np.flatnonzero(self.is_judged & (2 * contradicted > self.tested))
        share = contradicted[listed] / self.tested[listed]
        distance = np.abs(self.outcome[listed] - self.probability[listed])
        return listed[np.lexsort((listed, -distance, -share))]

    def rate(self, samples: NDArray[np.bool_], patient_of: NDArray[np.integer[Any]]) -> "Rate":
        """Return the share of samples that most iterations contradict, and its expected value.

        Parameters
        ----------
        samples : bool, shape (n_samples,)
            At least one of them has a result.
        patient_of : int array, shape (n_samples,)

        Notes
        -----
        The expected share is that of labels drawn with the mean test probabilities: even if every label is right, some samples with a low
        probability have the outcome. The variance of the share is that of a ratio of sums over patients (Cochran 1977, section 11.8).
        """
        judged = np.flatnonzero(samples & self.is_judged)
        tested, p = self.tested[judged], self.probability[judged]
        is_contradicted = 2 * self.contradicted[judged] > tested
        share = float(is_contradicted.mean())
        expected = p * (2 * self.as_positive[judged] > tested) + (1 - p) * (
            2 * self.as_negative[judged] > tested
        )
        _, patient = np.unique(patient_of[judged], return_inverse=True)
        residual = np.bincount(patient, is_contradicted - share)
        n_patients = residual.size
        variance = float(residual @ residual) / judged.size**2 * n_patients / max(n_patients - 1, 1)
        low, high, error = wilson(share, variance, n_patients)
        observed = Estimate(share, low, high, error, "Wilson, effective size by patient")
        return Rate(judged.size, observed, float(expected.mean()))


@dataclass(frozen=True)
class Rate:
    """Samples tested often enough, the share that most iterations contradict, and the share expected if all labels are right."""

    n_samples: int
    observed: Estimate
    expected: float


def find_contradictions(
    arrays: Iterable[Mapping[str, NDArray[Any]]], classifier: str, outcome: NDArray[np.uint8]
) -> Contradictions:
    """Count in how many iterations the label of each sample is contradicted.

    Parameters
    ----------
    arrays : iterable of mapping
        For each iteration ``samples`` (int, the test samples) and their probabilities by classifier.
    outcome : uint8, shape (n_samples,)
        0 or 1.
    """
    n = len(outcome)
    tested, as_positive, as_negative = (np.zeros(n, np.int64) for _ in range(3))
    total = np.zeros(n)
    for iteration in arrays:
        samples, p = iteration["samples"], iteration[classifier]
        is_positive = outcome[samples] == 1
        tested[samples] += 1
        total[samples] += p
        if is_positive.all() or not is_positive.any():
            continue
        as_positive[samples] += p <= p[~is_positive].mean()
        as_negative[samples] += p >= p[is_positive].mean()
    probability = np.full(n, np.nan)
    np.divide(total, tested, out=probability, where=tested > 0)
    return Contradictions(outcome, tested, as_positive, as_negative, probability)
