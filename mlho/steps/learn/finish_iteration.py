"""Step: choose settings by the folds, refit, and evaluate on the test patients."""

from typing import Any, ClassVar

from mlho.steps.base import Work
from mlho.steps.inputs import open_problem
from mlho.steps.learn.artifacts import LearningStep, read_folds, read_selection, write_iteration


class FinishIteration(LearningStep):
    """Finish one iteration from its folds."""

    kind: ClassVar[str] = "finish_iteration"
    version: ClassVar[int] = 9

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``iteration.json`` and ``scores.arr``."""
        from mlho.training.iterations.iteration import finish_iteration

        problem = open_problem(work)
        selection = read_selection(work)
        outcome = finish_iteration(problem, work.params["iteration"], selection, read_folds(work))
        write_iteration(work, problem, outcome)
        return {"winner": outcome.winner}
