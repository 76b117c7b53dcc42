"""Step: fit the final model and write its bundle."""

from typing import Any, ClassVar

from mlho.steps.base import Step, Work
from mlho.steps.inputs import open_problem
from mlho.steps.learn.artifacts import LEARNING_SECTIONS, read_cross_validation, read_folds, read_selection


class FitFinalModel(Step):
    """Fit on all samples, calibrate on out-of-fold scores, and write the bundle."""

    kind: ClassVar[str] = "fit_final_model"
    version: ClassVar[int] = 23
    sections: ClassVar[tuple[str, ...]] = (*LEARNING_SECTIONS, "final", "report", "tests")

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``bundle/…`` and ``final.json``."""
        from mlho.training.iterations.folds import cross_validate
        from mlho.training.iterations.iteration import select_and_run_folds
        from mlho.training.iterations.splits import FINAL
        from mlho.training.results.final import consensus_features, fit_final
        from mlho.training.results.performance import PerformanceRecord
        from mlho.training.results.publish import pack_bundle
        from mlho.training.results.summary import SummaryRecord

        problem = open_problem(work)
        summary = SummaryRecord.model_validate(work.one("summary").json("summary.json"))
        performance = PerformanceRecord.model_validate(work.one("performance").json("performance.json"))
        name = performance.classifier
        cv = read_cross_validation(work, name)
        if cv is not None:
            features = consensus_features(problem, summary)
        else:
            if work.inputs.get("folds"):
                selection, folds = read_selection(work), read_folds(work)
            else:
                selection, folds = select_and_run_folds(problem, FINAL)
            features, cv = selection.features, cross_validate(problem, folds)[name]
        final = fit_final(problem, name, features, cv)
        digest, record = pack_bundle(
            problem, final, performance, matrix_digest=matrix_digest(work), folder=work.out / "bundle"
        )
        work.write_json("final.json", record)
        return {"bundle_digest": digest, "classifier": final.classifier}


def matrix_digest(work: Work) -> str:
    """SHA-256 over the digests of the cohort, the dictionary and the packed blocks."""
    from mlho.spec.training import digest_of

    cohort = work.one("cohort").commit.files["cohort.arr"].content
    blocks = [block.commit.digest for block in work.inputs["blocks"]]
    return digest_of([cohort, work.one("dictionary").commit.digest, *blocks])
