"""Step: select and fit without one fold, and score its samples."""

from typing import Any, ClassVar

from mlho.steps.base import Work
from mlho.steps.inputs import open_problem
from mlho.steps.learn.artifacts import LearningStep, given_selection, write_fold


class RunFold(LearningStep):
    """Out-of-fold scores of every setting of every candidate."""

    kind: ClassVar[str] = "run_fold"
    version: ClassVar[int] = 5

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``fold.arr``."""
        from mlho.training.iterations.folds import run_fold

        problem = open_problem(work)
        fold = run_fold(
            problem, work.params["iteration"], work.params["fold"], selection=given_selection(work)
        )
        write_fold(work.out / "fold.arr", fold)
        return {"n_samples": len(fold.samples)}
