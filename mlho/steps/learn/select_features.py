"""Step: screen and rank features on all training patients of an iteration."""

from typing import Any, ClassVar

from mlho.steps.base import Work
from mlho.steps.inputs import open_problem
from mlho.steps.learn.artifacts import LearningStep, write_selection


class SelectFeatures(LearningStep):
    """The features of an iteration's model."""

    kind: ClassVar[str] = "select_features"
    version: ClassVar[int] = 4

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``selection.arr``."""
        from mlho.training.iterations.selection import select
        from mlho.training.iterations.splits import FINAL

        problem, iteration = open_problem(work), work.params["iteration"]
        train = problem.partition(iteration).train
        selection = select(problem, train, beside_chance=iteration != FINAL)
        write_selection(work.out / "selection.arr", selection)
        return {"n_screened": selection.n_screened, "n_selected": len(selection.features)}
