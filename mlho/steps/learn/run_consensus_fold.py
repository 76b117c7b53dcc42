"""Step: build the consensus without the held-out folds, and fit models on it."""

from typing import Any, ClassVar

from mlho.spec.training import TrainingSpec
from mlho.steps.base import Step, Work
from mlho.steps.inputs import open_problem
from mlho.steps.learn.artifacts import LEARNING_SECTIONS, read_votes, write_consensus_fold


class RunConsensusFold(Step):
    """Scores of the held-out samples, for every setting of each classifier that may be the final one."""

    kind: ClassVar[str] = "run_consensus_fold"
    sections: ClassVar[tuple[str, ...]] = (*LEARNING_SECTIONS, "final")

    def _narrowed(self, spec: TrainingSpec) -> TrainingSpec:
        """Keep only the candidates that may be the final model, and the one that builds the consensus."""
        narrowed = super()._narrowed(spec)
        final, consensus = spec.final.classifier, spec.consensus.classifier
        kept = tuple(
            candidate
            for candidate in spec.candidates
            if final == "best" or candidate.classifier in (final, consensus)
        )
        return narrowed.model_copy(update={"candidates": kept})

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``fold.arr``."""
        from mlho.training.results.consensus_folds import run_consensus_fold, vote

        problem, held = open_problem(work), tuple(work.params["held"])
        if work.inputs.get("subsamples"):
            votes = read_votes(work)
        else:
            n_subsamples = problem.spec.validation.iterations
            votes = [vote(problem, held, number) for number in range(1, n_subsamples + 1)]
        fold = run_consensus_fold(problem, held, votes)
        write_consensus_fold(work.out / "fold.arr", fold)
        return {"n_features": len(fold.features), "n_samples": len(fold.scores.samples)}
