"""Step: inspect the tables of a scoring run before the scoring if the scheduler cannot read them itself."""

from typing import Any, ClassVar

from mlho.spec.scoring import ScoringSpec
from mlho.steps.base import Step, Work
from mlho.steps.inputs import checked_root
from mlho.steps.score.artifacts import BUNDLE_FOLDER


class InspectScored(Step):
    """The inspection of ``mlho validate``: the small tables and a sample of the events, compared with the needs of the bundle."""

    kind: ClassVar[str] = "inspect_scored"
    version: ClassVar[int] = 5

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``inspection.json``; raise the first error that is found."""
        from mlho.inspection.scoring import inspect_scoring
        from mlho.model.files import DOCUMENT

        spec = ScoringSpec.model_validate({"bundle": {"uri": "-"}, **work.params})
        inspection = inspect_scoring(
            spec, checked_root(work), work.one("bundle").read(BUNDLE_FOLDER + DOCUMENT)
        )
        if inspection.errors:
            raise inspection.errors[0]
        work.write_json("inspection.json", inspection.to_json())
        return {"n_warnings": len(inspection.warnings)}
