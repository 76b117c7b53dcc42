"""Step: score the patients of one partition."""

from typing import Any, ClassVar

from mlho.steps.base import Step, Work
from mlho.steps.inputs import checked_files
from mlho.steps.score.artifacts import index_of, open_bundle, open_roster, write_part


class ScorePartition(Step):
    """Encode with the bundle's dictionary, score, calibrate, explain, and write the part. A CDM folder is one partition."""

    kind: ClassVar[str] = "score_partition"
    version: ClassVar[int] = 14

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``part.parquet``, ``patients.arr``, ``present.arr``, ``codes.json`` and ``unknown.json``."""
        from mlho.encoding.cohort.deaths import check_cdm_version, last_days
        from mlho.encoding.cohort.windows import needs_values
        from mlho.scoring.roster import everybody, patients_in
        from mlho.sources import source_from
        from mlho.sources.events import iter_events, require_values
        from mlho.sources.omop.folder import CDM_SOURCE, OMOP_NAME, cdm_table

        pinned = checked_files(work)
        source, bundle, roster = source_from(work.params), open_bundle(work), open_roster(work)
        values = needs_values(bundle.encoding_spec)
        files = [file for file in pinned if cdm_table(file.key) != CDM_SOURCE] if source.views else pinned
        for file in files if values else ():
            require_values(source, file)
        named, numbers = sorted({patient for file in files for patient in patients_in(source, file)}), None
        if roster is None:
            samples = everybody(named, index_of(work))
        else:
            numbers = roster.find(named)
            samples = roster.samples_of(numbers)
        last_us = None
        if source.name == OMOP_NAME:
            check_cdm_version(source, pinned)
            days = work.params.get("afterDeathDays")
            last_us = last_days(source, files, samples.patient_ids, after_days=days)
        batches = ((file.key, iter_events(source, file, values=values)) for file in files)
        return write_part(work, bundle, samples, batches, last_us=last_us, files=files, numbers=numbers)
