"""Step: check for leakage before training, and stop the run if any is found."""

from typing import Any, ClassVar

from mlho.steps.base import Step, Work
from mlho.steps.inputs import open_problem


class CheckLeakage(Step):
    """The leakage sentinel: features that reveal the outcome instead of predicting it."""

    kind: ClassVar[str] = "check_leakage"
    version: ClassVar[int] = 4
    sections: ClassVar[tuple[str, ...]] = ("cohort", "features", "leakage")
    reads_min_cell: ClassVar[bool] = True

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``leakage.json``; raise an error if a finding blocks the run."""
        from mlho.encoding.tally.tally import FILE, codes_outside, merge_tallies
        from mlho.training.checks.leakage import find_leakage, refuse_leakage

        problem = open_problem(work)
        parts = [part.path(FILE) for part in work.inputs["partitions"]]
        tally = merge_tallies(parts, problem.codes)
        leakage = find_leakage(problem, outside=codes_outside(parts, problem.codes), tally=tally)
        refuse_leakage(leakage)
        work.write_json("leakage.json", leakage.model_dump(mode="json"))
        return {"n_findings": len(leakage.findings)}
