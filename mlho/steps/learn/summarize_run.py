"""Step: summarize all iterations."""

from typing import Any, ClassVar

from mlho.steps.base import Step, Work
from mlho.steps.inputs import open_problem
from mlho.steps.learn.artifacts import LEARNING_SECTIONS, read_iterations


class SummarizeRun(Step):
    """Confidence scores, stability, the consensus model, and the comparison of candidates."""

    kind: ClassVar[str] = "summarize_run"
    version: ClassVar[int] = 12
    sections: ClassVar[tuple[str, ...]] = (*LEARNING_SECTIONS, "report")

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``summary.json``."""
        from mlho.training.results.summary import summarize

        problem = open_problem(work)
        summary = summarize(problem, read_iterations(work))
        work.write_json("summary.json", summary.model_dump(mode="json"))
        return {
            "best_candidate": summary.best_candidate,
            "n_consensus": summary.stability.n_consensus,
        }
