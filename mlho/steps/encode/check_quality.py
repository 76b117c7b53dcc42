"""Step: check the quality of the data before training, and stop the run if the specification requires it."""

from typing import Any, ClassVar

from mlho.spec.training import TrainingSpec
from mlho.steps.base import Step, Work
from mlho.steps.inputs import open_problem


class CheckQuality(Step):
    """Conformance, completeness and plausibility, from the counts of the encoding."""

    kind: ClassVar[str] = "check_quality"
    version: ClassVar[int] = 13
    sections: ClassVar[tuple[str, ...]] = ("cohort", "features", "quality")
    reads_min_cell: ClassVar[bool] = True

    def _narrowed(self, spec: TrainingSpec) -> TrainingSpec:
        """Keep the plausible years, from which months are counted, and the source, because its static rows have no time."""
        narrowed = super()._narrowed(spec)
        kept = {"plausible_years": spec.data.plausible_years, "source": spec.data.source}
        data = narrowed.data.model_copy(update=kept)
        return narrowed.model_copy(update={"data": data})

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``quality.json``; raise an error if a finding blocks the run."""
        from mlho.encoding.events.ledger import Ledger
        from mlho.encoding.tally.tally import FILE, merge_tallies
        from mlho.training.checks.evidence import Evidence
        from mlho.training.checks.quality import check_quality, refuse_quality

        problem, ledger = open_problem(work), work.one("ledger").json("ledger.json")
        tally = merge_tallies([part.path(FILE) for part in work.inputs["partitions"]], problem.codes)
        quality = check_quality(Evidence(problem, tally, Ledger.from_json(ledger), ledger))
        refuse_quality(quality)
        work.write_json("quality.json", quality.model_dump(mode="json"))
        return {"n_findings": len(quality.findings)}
