"""What the learning steps share: how selections and fold scores are written and read."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from mlho.spec import TrainingSpec
from mlho.steps.base import Artifact, Step, Work

if TYPE_CHECKING:
    from mlho.training.folds import FoldScores
    from mlho.training.iteration import IterationOutcome
    from mlho.training.problem import Problem
    from mlho.training.records import IterationRecord
    from mlho.training.selection import Selection


class LearningStep(Step):
    """A step of one iteration: what it asks does not depend on how many iterations there are."""

    sections: ClassVar[tuple[str, ...]] = (
        "cohort",
        "features",
        "selection",
        "validation",
        "candidates",
        "consensus",
    )

    def narrow(self, spec: TrainingSpec) -> TrainingSpec | None:
        """More iterations later keep these; the threshold of the consensus counts in the summary only."""
        narrowed = super().narrow(spec)
        assert narrowed is not None
        validation = narrowed.validation.model_copy(update={"iterations": 1})
        consensus = type(spec.consensus)(classifier=spec.consensus.classifier)
        report = type(spec.report)(min_cell=spec.report.min_cell)
        return narrowed.model_copy(
            update={"validation": validation, "consensus": consensus, "report": report}
        )


def write_selection(path: Path, selection: "Selection") -> None:
    """Write a selection to one array file."""
    import numpy as np

    from mlho.arrays import write_arrays

    screened = np.array([selection.n_screened], np.int64)
    write_arrays(path, {"features": selection.features, "scores": selection.scores, "n_screened": screened})


def read_selection(artifact: Artifact) -> "Selection":
    """Read what :func:`write_selection` wrote."""
    from mlho.arrays import read_arrays
    from mlho.training.selection import Selection

    arrays = read_arrays(artifact.path("selection.arr"))
    return Selection(arrays["features"], arrays["scores"], int(arrays["n_screened"][0]))


def given_selection(work: Work) -> "Selection | None":
    """The selection among the inputs, if there is one."""
    return read_selection(work.one("selection")) if work.inputs.get("selection") else None


def write_fold(path: Path, fold: "FoldScores") -> None:
    """Write the scores of one fold to one array file."""
    from mlho.arrays import write_arrays

    write_arrays(path, {"samples": fold.samples, **fold.by_classifier})


def read_folds(work: Work) -> "list[FoldScores]":
    """Scores of every fold among the inputs, in their order."""
    from mlho.arrays import read_arrays
    from mlho.training.folds import FoldScores

    found = []
    for artifact in work.inputs["folds"]:
        arrays = read_arrays(artifact.path("fold.arr"))
        samples = arrays.pop("samples")
        found.append(FoldScores(samples, arrays))
    return found


def write_iteration(work: Work, problem: "Problem", outcome: "IterationOutcome") -> None:
    """Write an iteration's record, and each candidate's calibrated probabilities on the test samples."""
    import numpy as np

    from mlho.arrays import write_arrays
    from mlho.training.records import record_iteration

    work.write_json("iteration.json", record_iteration(problem, outcome).model_dump(mode="json"))
    calibrated = {name: candidate.calibrated for name, candidate in outcome.candidates.items()}
    write_arrays(work.out / "scores.arr", {"samples": np.flatnonzero(outcome.test), **calibrated})


def read_iterations(work: Work) -> "list[IterationRecord]":
    """Records of the iterations among the inputs."""
    from mlho.training.records import IterationRecord

    return [
        IterationRecord.model_validate(json.loads(artifact.read("iteration.json")))
        for artifact in work.inputs["iterations"]
    ]
