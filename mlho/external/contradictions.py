"""Samples whose label the model contradicts: where to look first for wrong labels. A contradiction is no proof of one.

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

from mlho.encoding.cohort.cohort import NO_BOUND, Cohort

FEWEST: Final = 3  # iterations that must have tested a sample, before "most of them" means something


@dataclass(frozen=True, eq=False)
class Contradictions:
    """How often each sample was tested and contradicted.

    Attributes
    ----------
    tested, contradicted : int64, shape (n_samples,)
        Iterations.
    probability : float64, shape (n_samples,)
        Mean test probability; ``NaN`` for a sample that no iteration tested.
    """

    tested: NDArray[np.int64]
    contradicted: NDArray[np.int64]
    probability: NDArray[np.float64]

    @property
    def n_tested(self) -> int:
        """Samples that enough iterations have tested."""
        return int((self.tested >= FEWEST).sum())

    def ranked(self, outcome: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Return the samples that most iterations contradict: by the share of iterations, then by the distance of label and probability.

        Samples that no iteration, or fewer than three, have tested are left out.
        """
        listed = np.flatnonzero((self.tested >= FEWEST) & (2 * self.contradicted > self.tested))
        share = self.contradicted[listed] / self.tested[listed]
        distance = np.abs(outcome[listed] - self.probability[listed])
        return listed[np.lexsort((listed, -distance, -share))]


def find_contradictions(
    arrays: Iterable[Mapping[str, NDArray[Any]]], classifier: str, outcome: NDArray[np.uint8]
) -> Contradictions:
    """Count in how many iterations the label of each sample is contradicted.

    Parameters
    ----------
    arrays : iterable of mapping
        For each iteration ``samples`` (int, the test samples) and their probabilities by classifier.
    classifier : str
    outcome : uint8, shape (n_samples,)
        0 or 1.
    """
    n = len(outcome)
    tested, contradicted, total = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n)
    for own in arrays:
        samples, p = own["samples"], own[classifier]
        has = outcome[samples] == 1
        tested[samples] += 1
        total[samples] += p
        if has.all() or not has.any():
            continue
        contradicted[samples] += np.where(has, p <= p[~has].mean(), p >= p[has].mean())
    probability = np.full(n, np.nan)
    np.divide(total, tested, out=probability, where=tested > 0)
    return Contradictions(tested, contradicted, probability)


@dataclass(frozen=True)
class ContradictedSample:
    """A sample that most iterations contradict. ``date`` is empty without an index date."""

    patient: str
    date: str
    label: int
    probability: float
    contradicted: int
    tested: int


def contradicted_samples(found: Contradictions, cohort: Cohort) -> list[ContradictedSample]:
    """Return the samples that most iterations contradict, the clearest first."""
    return [
        ContradictedSample(
            patient=cohort.patient_ids[cohort.patient_of[sample]],
            date=_date(int(cohort.index_us[sample])),
            label=int(cohort.outcome[sample]),
            probability=float(found.probability[sample]),
            contradicted=int(found.contradicted[sample]),
            tested=int(found.tested[sample]),
        )
        for sample in found.ranked(cohort.outcome).tolist()
    ]


def _date(index_us: int) -> str:
    return "" if index_us == NO_BOUND else str(np.datetime64(index_us, "us").astype("datetime64[D]"))
