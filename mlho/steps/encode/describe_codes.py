"""Step: read the descriptions and reference ranges of codes."""

from typing import Any, ClassVar

from mlho.steps.base import Step, Work
from mlho.steps.inputs import checked_files


class DescribeCodes(Step):
    """Read the concepts table, or otherwise the descriptions in the events of a ``dbmart``."""

    kind: ClassVar[str] = "describe_codes"
    encodes: ClassVar[bool] = True
    sections: ClassVar[tuple[str, ...]] = ("cohort",)
    reads_windows: ClassVar[bool] = False
    reads_outcome: ClassVar[bool] = False
    tables: ClassVar[tuple[str, ...]] = ("concepts", "events")

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``concepts.json``."""
        from mlho.encoding.events.concepts import (
            Concepts,
            harvest_descriptions,
            read_concept_names,
            read_concepts,
        )
        from mlho.encoding.events.dictionary import Dictionary
        from mlho.encoding.events.roll_up import read_roll_up
        from mlho.sources import source_of
        from mlho.sources.omop.folder import OMOP_NAME

        source = source_of(work.spec.data)
        every = checked_files(work)
        n_map = work.params.get("roll_up", 0)
        files, roll_up_files = every[: len(every) - n_map], every[len(every) - n_map :]
        if work.spec.data.tables.concepts is None:
            concepts = Concepts(descriptions=harvest_descriptions(source, files))
        elif work.spec.data.source == OMOP_NAME:
            used = Dictionary.read(work.one("dictionary").path("dictionary.arr")).codes
            concepts = read_concept_names(source, files, used)
        else:
            concepts = read_concepts(source, files)
        if roll_up_files:
            roll_up = read_roll_up(source, roll_up_files)
            concepts = concepts.with_roll_up(roll_up.parents, roll_up.descriptions)
        work.write_json("concepts.json", concepts.to_json())
        return {"n_described": len(concepts.descriptions)}
