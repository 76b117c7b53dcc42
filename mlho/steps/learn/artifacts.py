"""Reading and writing of the artifacts of the learning steps, such as selections and fold scores."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from mlho.spec.training import TrainingSpec
from mlho.steps.base import Step, Work
from mlho.steps.learn.held_out import held_out_together

if TYPE_CHECKING:
    from mlho.training.iterations.folds import CrossValidation, FoldScores
    from mlho.training.iterations.iteration import IterationOutcome
    from mlho.training.iterations.problem import Problem
    from mlho.training.iterations.selection import Selection
    from mlho.training.results.consensus_folds import ConsensusFold, Held, Vote
    from mlho.training.results.records import IterationRecord


LEARNING_SECTIONS: Final = ("cohort", "features", "selection", "validation", "candidates", "consensus")


class LearningStep(Step):
    """A step of one iteration. Its task key does not depend on the number of iterations."""

    sections: ClassVar[tuple[str, ...]] = LEARNING_SECTIONS
    reads_min_cell: ClassVar[bool] = True

    def _narrowed(self, spec: TrainingSpec) -> TrainingSpec:
        """Reset the number of iterations and the consensus threshold, so that adding iterations keeps the results."""
        narrowed = super()._narrowed(spec)
        validation = narrowed.validation.model_copy(update={"iterations": 1})
        consensus = type(spec.consensus)(classifier=spec.consensus.classifier)
        return narrowed.model_copy(update={"validation": validation, "consensus": consensus})


def write_selection(path: Path, selection: "Selection") -> None:
    """Write a selection to one array file."""
    import numpy as np

    from mlho.arrays import write_arrays

    arrays = {
        "features": selection.features,
        "scores": selection.scores,
        "n_screened": np.array([selection.n_screened], np.int64),
        "shadows": selection.shadows,
        "of_permuted": selection.of_permuted,
    }
    write_arrays(path, arrays)


def read_selection(work: Work) -> "Selection":
    """Read the selection among the inputs, written by :func:`write_selection`."""
    from mlho.arrays import read_arrays
    from mlho.training.iterations.selection import Selection

    arrays = read_arrays(work.one("selection").path("selection.arr"))
    return Selection(
        features=arrays["features"],
        scores=arrays["scores"],
        n_screened=int(arrays["n_screened"][0]),
        shadows=arrays["shadows"],
        of_permuted=arrays["of_permuted"],
    )


def given_selection(work: Work) -> "Selection | None":
    """Read the selection among the inputs, if there is one."""
    return read_selection(work) if work.inputs.get("selection") else None


def write_fold(path: Path, fold: "FoldScores") -> None:
    """Write the scores of one fold to one array file."""
    from mlho.arrays import write_arrays

    write_arrays(path, {"samples": fold.samples, **fold.by_classifier})


def read_folds(work: Work) -> "list[FoldScores]":
    """Read the scores of every fold among the inputs, in their order."""
    from mlho.arrays import read_arrays
    from mlho.training.iterations.folds import FoldScores

    folds = []
    for artifact in work.inputs["folds"]:
        arrays = read_arrays(artifact.path("fold.arr"))
        samples = arrays.pop("samples")
        folds.append(FoldScores(samples, arrays))
    return folds


def write_vote(path: Path, vote: "Vote") -> None:
    """Write the result of one subsample to one array file."""
    from mlho.arrays import write_arrays

    write_arrays(path, vars(vote))


def read_votes(work: Work) -> "list[Vote]":
    """Read the result of every subsample among the inputs, in their order."""
    from mlho.arrays import read_arrays
    from mlho.training.results.consensus_folds import Vote

    return [Vote(**read_arrays(artifact.path("vote.arr"))) for artifact in work.inputs["subsamples"]]


def write_consensus_fold(path: Path, fold: "ConsensusFold") -> None:
    """Write the consensus without the held-out folds, and the scores of their samples, to one array file."""
    from mlho.arrays import write_arrays

    scores = fold.scores
    write_arrays(path, {"features": fold.features, "samples": scores.samples, **scores.by_classifier})


def read_consensus_folds(work: Work) -> "dict[Held, ConsensusFold]":
    """Read the consensus and scores of every set of held-out folds among the inputs."""
    from mlho.arrays import read_arrays
    from mlho.training.iterations.folds import FoldScores
    from mlho.training.results.consensus_folds import ConsensusFold

    held = held_out_together(work.spec.validation)
    by_folds = {}
    for folds, artifact in zip(held, work.inputs["consensus_folds"], strict=True):
        arrays = read_arrays(artifact.path("fold.arr"))
        features, samples = arrays.pop("features"), arrays.pop("samples")
        by_folds[folds] = ConsensusFold(features, FoldScores(samples, arrays))
    return by_folds


def write_cross_validation(work: Work, cv: "CrossValidation") -> None:
    """Write the chosen setting and the out-of-fold scores to ``cv.arr``; the settings follow from the grid."""
    import numpy as np

    from mlho.arrays import write_arrays

    chosen = np.array([cv.chosen], np.int64)
    arrays = {"auroc": cv.auroc, "chosen": chosen, "samples": cv.samples, "scores": cv.scores}
    write_arrays(work.out / "cv.arr", arrays)


def read_cross_validation(work: Work, classifier: str) -> "CrossValidation | None":
    """Read the cross-validation of the final model from the performance artifact; ``None`` for a model on ranked features."""
    from mlho.arrays import read_arrays
    from mlho.method.classifiers import classifier_named
    from mlho.training.iterations.folds import CrossValidation

    artifact = work.one("performance")
    if "cv.arr" not in artifact.names:
        return None
    arrays = read_arrays(artifact.path("cv.arr"))
    grid = next(candidate.grid for candidate in work.spec.candidates if candidate.classifier == classifier)
    return CrossValidation(
        settings=classifier_named(classifier).settings(grid),
        auroc=arrays["auroc"],
        chosen=int(arrays["chosen"][0]),
        samples=arrays["samples"],
        scores=arrays["scores"],
    )


def write_iteration(work: Work, problem: "Problem", outcome: "IterationOutcome") -> None:
    """Write an iteration's record, and each candidate's calibrated probabilities on the test samples."""
    import numpy as np

    from mlho.arrays import write_arrays
    from mlho.training.results.records import record_iteration

    work.write_json("iteration.json", record_iteration(problem, outcome).model_dump(mode="json"))
    calibrated = {name: candidate.calibrated for name, candidate in outcome.candidates.items()}
    write_arrays(work.out / "scores.arr", {"samples": np.flatnonzero(outcome.test), **calibrated})


def read_iterations(work: Work) -> "list[IterationRecord]":
    """Read the records of the iterations among the inputs."""
    from mlho.training.results.records import IterationRecord

    return [
        IterationRecord.model_validate(artifact.json("iteration.json"))
        for artifact in work.inputs["iterations"]
    ]
