"""Step: read the descriptions and reference ranges of codes."""

from typing import Any, ClassVar

from mlho.steps.base import Step, Work
from mlho.steps.inputs import checked_source


class DescribeCodes(Step):
    """Read the concepts table, or else the descriptions beside the events of a ``dbmart``."""

    kind: ClassVar[str] = "describe_codes"
    sections: ClassVar[tuple[str, ...]] = ("cohort",)
    reads_outcome: ClassVar[bool] = False
    tables: ClassVar[tuple[str, ...]] = ("concepts", "events")

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``concepts.json``."""
        from mlho.encoding.events.concepts import Concepts, harvest_descriptions, read_concepts
        from mlho.sources import source_of
        from mlho.sources.files import SourceFile

        source = source_of(work.spec.data)
        files = [SourceFile(own.key, checked_source(work, own), own.size) for own in work.task.sources]
        given = work.spec.data.tables.concepts is not None
        concepts = (
            read_concepts(source, files)
            if given
            else Concepts(descriptions=harvest_descriptions(source, files))
        )
        work.write_json("concepts.json", {name: dict(own) for name, own in vars(concepts).items()})
        return {"n_described": len(concepts.descriptions)}
