"""Step: remove the outcome from the cohort, so that runs that differ only in the outcome share the encoding."""

from typing import Any, ClassVar

from mlho.steps.base import Step, Work
from mlho.steps.inputs import open_cohort


class DefineSamples(Step):
    """Patients, samples and index dates. Equal samples give equal bytes for every outcome and set of demographics."""

    kind: ClassVar[str] = "define_samples"
    encodes: ClassVar[bool] = True
    writes_ids: ClassVar[tuple[str, ...]] = ("cohort.arr",)
    states_content: ClassVar[bool] = True

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``cohort.arr`` without outcome, demographics, attrition and warnings."""
        import numpy as np

        from mlho.encoding.cohort.cohort import Cohort

        cohort = open_cohort(work)
        samples = Cohort(
            patient_ids=cohort.patient_ids,
            birth_us=cohort.birth_us,
            last_us=cohort.last_us,
            patient_of=cohort.patient_of,
            index_us=cohort.index_us,
            outcome=np.zeros(cohort.n_samples, np.uint8),
        )
        samples.write(work.out / "cohort.arr")
        return {"n_samples": cohort.n_samples}
