"""Step: score the patients of one partition."""

from typing import Any, ClassVar

from mlho.steps.base import Step, Work
from mlho.steps.inputs import checked_source
from mlho.steps.score.artifacts import index_of, open_bundle, open_roster, write_part


class ScorePartition(Step):
    """Encode with the bundle's dictionary, score, calibrate, explain, and write the part."""

    kind: ClassVar[str] = "score_partition"
    version: ClassVar[int] = 4

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``part.parquet``, ``patients.arr`` and ``unknown.json``."""
        from mlho.encoding.cohort.windows import needs_values
        from mlho.model.scoring import scoring_spec
        from mlho.scoring.roster import everybody, patients_in
        from mlho.sources import source_from
        from mlho.sources.events import iter_events, require_values
        from mlho.sources.files import SourceFile

        (pinned,) = work.task.sources
        file = SourceFile(pinned.key, checked_source(work, pinned), pinned.size)
        source, bundle, roster = source_from(work.params), open_bundle(work), open_roster(work)
        values = needs_values(scoring_spec(bundle.document))
        if values:
            require_values(source, file)
        named, numbers = patients_in(source, file), None
        if roster is None:
            samples = everybody(named, index_of(work))
        else:
            numbers = roster.find(named)
            samples = roster.samples_of(numbers)
        batches = iter_events(source, file, values=values)
        return write_part(work, bundle, samples, batches, where=pinned.key, files=[file], numbers=numbers)
