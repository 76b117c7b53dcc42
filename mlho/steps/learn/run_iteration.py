"""Step: run a whole iteration in one task, for cohorts whose folds are too small for separate tasks."""

from typing import Any, ClassVar

from mlho.steps.base import Work
from mlho.steps.inputs import open_problem
from mlho.steps.learn.artifacts import LearningStep, write_iteration


class RunIteration(LearningStep):
    """Give the same bytes as separate tasks for the selection, the folds and the end of the iteration."""

    kind: ClassVar[str] = "run_iteration"
    version: ClassVar[int] = 10

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``iteration.json`` and ``scores.arr``."""
        from mlho.training.iterations.iteration import finish_iteration, select_and_run_folds

        problem, iteration = open_problem(work), work.params["iteration"]
        selection, folds = select_and_run_folds(problem, iteration)
        outcome = finish_iteration(problem, iteration, selection, folds)
        write_iteration(work, problem, outcome)
        return {"winner": outcome.winner}
