"""Step: before anything is fitted, refuse a run if a part of a split has one class only, or if groups do not exist."""

from typing import Any, ClassVar

from mlho.spec.training import Cohort, Index, TrainingSpec
from mlho.steps.base import Step, Work
from mlho.steps.inputs import open_cohort


class CheckSplits(Step):
    """Check that every test set, fold and training part has samples with and without the outcome, and that ``bias`` names groups."""

    kind: ClassVar[str] = "check_splits"
    sections: ClassVar[tuple[str, ...]] = ("validation",)

    def _narrowed(self, spec: TrainingSpec) -> TrainingSpec:
        """Keep the validation, the groups of the audit and, for a split by date, the fields of the cohort that it reads. The cohort is among the inputs."""
        narrowed = super()._narrowed(spec)
        stated, cohort = spec.cohort, Cohort(index=Index(none=True))
        if spec.validation.by_date:
            cohort = Cohort(index=stated.index, follow_up_days=stated.outcome_days)
        # With a time to an event, the default candidates are different.
        candidates = TrainingSpec.model_fields["candidates"].default
        if stated.time_to_event is not None:
            cohort = Cohort(index=stated.index, time_to_event=stated.time_to_event)
            candidates = narrowed.candidates
        update: dict[str, Any] = {"cohort": cohort, "candidates": candidates}
        if spec.bias is not None:
            features = type(spec.features)(
                demographics=spec.features.demographics, categorical=spec.features.categorical
            )
            report = type(spec.report)(min_cell=spec.report.min_cell)
            update |= {"bias": spec.bias, "features": features, "report": report}
        return narrowed.model_copy(update=update)

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``splits.json``. Its content is constant, so that dependent tasks stay valid when iterations are added."""
        from mlho.training.iterations.splits import check_splits
        from mlho.training.results.groups import groupings

        cohort = open_cohort(work)
        check_splits(work.spec, cohort)
        if work.spec.bias is not None:
            groupings(work.spec, cohort)
        work.write_json("splits.json", {"checked": True})
        return {"n_checked": work.spec.validation.iterations + 1}
