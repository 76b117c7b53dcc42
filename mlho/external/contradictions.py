"""Samples whose label the model contradicts, with their patients: for ``mlho worklist``."""

from dataclasses import dataclass

import numpy as np

from mlho.encoding.cohort.cohort import NO_BOUND, Cohort
from mlho.method.bias.contradictions import Contradictions


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
    contradicted = found.contradicted
    return [
        ContradictedSample(
            patient=cohort.patient_ids[cohort.patient_of[sample]],
            date=_date(int(cohort.index_us[sample])),
            label=int(cohort.outcome[sample]),
            probability=float(found.probability[sample]),
            contradicted=int(contradicted[sample]),
            tested=int(found.tested[sample]),
        )
        for sample in found.ranked().tolist()
    ]


def _date(index_us: int) -> str:
    return "" if index_us == NO_BOUND else str(np.datetime64(index_us, "us").astype("datetime64[D]"))
