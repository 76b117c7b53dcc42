"""Step: score the patients of the cohort table who are in no partition: a patient without events has a score too."""

from typing import Any, ClassVar

from mlho.steps.base import Step, Work
from mlho.steps.score.artifacts import PATIENTS_FILE, open_bundle, open_roster, write_part


class ScoreAbsent(Step):
    """Write these patients to a separate part, after all partitions are scored."""

    kind: ClassVar[str] = "score_absent"
    version: ClassVar[int] = 9

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``part.parquet``, ``patients.arr``, ``present.arr``, ``codes.json`` and ``unknown.json``."""
        import numpy as np

        from mlho.arrays import read_arrays

        roster = open_roster(work)
        assert roster is not None  # the task is planned only with a cohort table
        is_absent = np.ones(roster.n_patients, np.bool_)
        for part in work.inputs["parts"]:
            is_absent[read_arrays(part.path(PATIENTS_FILE))["numbers"]] = False
        numbers = np.flatnonzero(is_absent)
        samples = roster.samples_of(numbers)
        return write_part(work, open_bundle(work), samples, [("no events", [])], numbers=numbers)
