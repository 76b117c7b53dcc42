"""Step: process one subsample of the patients outside the held-out folds, for cohorts large enough for separate tasks."""

from typing import Any, ClassVar

from mlho.steps.base import Work
from mlho.steps.inputs import open_problem
from mlho.steps.learn.artifacts import LearningStep, write_vote


class RunSubsample(LearningStep):
    """Screen, rank and fit the consensus classifier; write the features and their coefficients."""

    kind: ClassVar[str] = "run_subsample"
    version: ClassVar[int] = 2

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``vote.arr``."""
        from mlho.training.results.consensus_folds import vote

        votes = vote(open_problem(work), tuple(work.params["held"]), work.params["subsample"])
        write_vote(work.out / "vote.arr", votes)
        return {"n_selected": len(votes.features)}
