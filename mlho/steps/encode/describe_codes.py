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
        from mlho.encoding.events.concepts import concepts_of_run
        from mlho.encoding.events.dictionary import Dictionary
        from mlho.encoding.events.roll_up import read_roll_up
        from mlho.sources import source_of

        source = source_of(work.spec.data)
        every = checked_files(work)
        n_map = work.params.get("roll_up", 0)
        files, roll_up_files = every[: len(every) - n_map], every[len(every) - n_map :]
        concepts = concepts_of_run(
            source,
            files,
            lambda: Dictionary.read(work.one("dictionary").path("dictionary.arr")).codes,
            in_events=work.spec.data.tables.concepts is None,
        )
        if roll_up_files:
            roll_up = read_roll_up(source, roll_up_files)
            concepts = concepts.with_roll_up(roll_up.parents, roll_up.descriptions)
        work.write_json("concepts.json", concepts.to_json())
        return {"n_described": len(concepts.descriptions)}
