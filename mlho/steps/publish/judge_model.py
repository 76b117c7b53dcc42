"""Step: evaluate the final model."""

from typing import TYPE_CHECKING, Any, ClassVar

from mlho.steps.base import Step, Work
from mlho.steps.inputs import open_problem
from mlho.steps.learn.artifacts import (
    LEARNING_SECTIONS,
    read_consensus_folds,
    read_iterations,
    write_cross_validation,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from mlho.report.result import TestSet
    from mlho.training.iterations.problem import Problem
    from mlho.training.results.groups import Predictions


class JudgeModel(Step):
    """Test metrics of models fitted like the final one, on patients outside their training data."""

    kind: ClassVar[str] = "judge_model"
    version: ClassVar[int] = 13
    sections: ClassVar[tuple[str, ...]] = (*LEARNING_SECTIONS, "final", "report", "bias")

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``performance.json``, and for a model on the consensus also ``cv.arr``."""
        from mlho.external.comparison import mean_probability
        from mlho.method.bias.contradictions import find_contradictions
        from mlho.training.results.groups import add_contradictions, audit_test_sets
        from mlho.training.results.performance import judge_by_iterations
        from mlho.training.results.summary import SummaryRecord, final_classifier

        problem = open_problem(work)
        if work.inputs.get("consensus_folds"):
            return _judge_consensus(work, problem)
        summary = SummaryRecord.model_validate(work.one("summary").json("summary.json"))
        name = final_classifier(problem, summary)
        mean = mean_probability(_scores(work), name, problem.cohort.n_samples)
        performance = judge_by_iterations(problem, read_iterations(work), name, mean)
        tested = _tested(work, name, performance.test_sets)
        bias = audit_test_sets(problem.spec, problem.cohort, tested)
        if problem.spec.cohort.time_to_event is None:
            contradictions = find_contradictions(_scores(work), name, problem.cohort.outcome)
            bias = add_contradictions(bias, problem.spec, problem.cohort, contradictions)
        performance = performance.model_copy(update={"bias": bias})
        work.write_json("performance.json", performance.model_dump(mode="json"))
        return {"auroc": performance.headline["auroc"].mean, "classifier": name}


def _judge_consensus(work: Work, problem: "Problem") -> dict[str, Any]:
    """Evaluate by the outer folds. The scores of the final classifier and setting there also calibrate the final model."""
    from mlho.training.results.consensus_performance import judge_consensus

    performance, cv = judge_consensus(problem, read_consensus_folds(work), read_iterations(work))
    write_cross_validation(work, cv)
    work.write_json("performance.json", performance.model_dump(mode="json"))
    return {
        "auroc": performance.headline["auroc"].mean,
        "classifier": performance.classifier,
        "n_empty": sum(not test_set.n_features for test_set in performance.test_sets),
    }


def _tested(work: Work, classifier: str, test_sets: "Sequence[TestSet]") -> "Iterator[Predictions]":
    """Yield the predictions on the test set of each iteration."""
    from mlho.training.results.groups import Predictions

    for arrays, test_set in zip(_scores(work), test_sets, strict=True):
        yield Predictions(arrays["samples"], arrays[classifier], test_set.thresholds)


def _scores(work: Work) -> "Iterator[dict[str, NDArray[Any]]]":
    """Yield the test samples of each iteration with their probabilities by classifier."""
    from mlho.arrays import read_arrays

    for artifact in work.inputs["iterations"]:
        yield read_arrays(artifact.path("scores.arr"))
