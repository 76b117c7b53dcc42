"""Step: read the patients to score from the cohort table, and their demographics."""

from typing import Any, ClassVar

from mlho.steps.base import Step, Work
from mlho.steps.inputs import checked_root
from mlho.steps.score.artifacts import PERSONS_FILE, ROSTER_FILE, index_of, open_bundle


class DefineScored(Step):
    """Read the two small tables once for all partitions."""

    kind: ClassVar[str] = "define_scored"
    version: ClassVar[int] = 4

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``roster.arr`` and ``persons.arr``, each if its table is given."""
        from mlho.scoring.persons import read_known_persons
        from mlho.scoring.roster import read_roster
        from mlho.sources import source_from

        root = checked_root(work)
        source, index = source_from(work.params), index_of(work)
        facts: dict[str, Any] = {}
        cohort, demographics = work.params["cohort"], work.params["demographics"]
        if cohort is not None:
            years = open_bundle(work).document.scoring.plausible_years
            roster = read_roster(index, source, root, cohort, years=years)
            roster.write(work.out / ROSTER_FILE)
            facts |= {"n_patients": roster.n_patients, "n_samples": roster.n_samples}
        if demographics is not None:
            encoder = open_bundle(work).demographics
            persons = read_known_persons(encoder, index, source, root, demographics)
            persons.write(work.out / PERSONS_FILE)
            facts["n_known"] = len(persons.patient_ids)
        return facts
