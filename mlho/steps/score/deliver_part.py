"""Step: write a part in the further forms that the specification chooses."""

from typing import Any, ClassVar

from mlho.steps.base import Step, Work
from mlho.steps.score.artifacts import open_bundle


class DeliverPart(Step):
    """Write the scores of one partition as CSV or FHIR. Nothing is scored again when a form is added later."""

    kind: ClassVar[str] = "deliver_part"
    version: ClassVar[int] = 2

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``part.csv`` or ``part.ndjson``, or both."""
        from mlho.scoring.delivery import CSV_FILE, FHIR_FILE, write_csv, write_fhir
        from mlho.scoring.parts import PART_FILE

        part, formats = work.one("part").path(PART_FILE), work.params["formats"]
        if "csv" in formats:
            write_csv(part, work.out / CSV_FILE)
        if "fhir" in formats:
            bundle = open_bundle(work)
            write_fhir(
                part,
                work.out / FHIR_FILE,
                outcome=bundle.document.outcome,
                bundle_digest=bundle.digest,
                patient_system=work.params["patient_system"],
            )
        return {}
