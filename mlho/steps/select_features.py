"""Step: screen and rank on all training patients of an iteration."""

from typing import Any, ClassVar

from mlho.steps.base import Work
from mlho.steps.inputs import open_problem
from mlho.steps.learning import LearningStep, write_selection


class SelectFeatures(LearningStep):
    """The features of an iteration's model."""

    kind: ClassVar[str] = "select_features"
    version: ClassVar[int] = 2

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``selection.arr``."""
        from mlho.training.selection import select

        problem = open_problem(work)
        parts = problem.partition(work.params["iteration"])
        selection = select(problem, problem.samples_of(parts.is_train))
        write_selection(work.out / "selection.arr", selection)
        return {"n_screened": selection.n_screened, "n_selected": len(selection.features)}
