"""Step: inspect the tables before the encoding if the scheduler cannot read them itself."""

from typing import Any, ClassVar

from mlho.steps.base import Step, Work
from mlho.steps.inputs import checked_root


class InspectTables(Step):
    """The inspection of ``mlho validate``: the small tables, and a sample of the events."""

    kind: ClassVar[str] = "inspect_tables"
    encodes: ClassVar[bool] = True
    version: ClassVar[int] = 9
    sections: ClassVar[tuple[str, ...]] = ("cohort", "features")
    reads_rules: ClassVar[bool] = True
    reads_min_cell: ClassVar[bool] = True
    reads_bias_columns: ClassVar[bool] = True
    tables: ClassVar[tuple[str, ...]] = ("labels", "demographics", "concepts", "events")

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``inspection.json``; raise the first error that is found."""
        from mlho.inspection.training import inspect_training

        inspection = inspect_training(work.spec, checked_root(work), has_all_events=False, trains=False)
        if inspection.errors:
            raise inspection.errors[0]
        work.write_json("inspection.json", inspection.to_json())
        return {"n_warnings": len(inspection.warnings)}
