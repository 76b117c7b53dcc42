"""Step: refuse a run in which a part of a split contains one class only, before anything is fitted."""

from typing import Any, ClassVar

from mlho.spec.training import Cohort, Index, TrainingSpec
from mlho.steps.base import Step, Work
from mlho.steps.inputs import open_cohort


class CheckSplits(Step):
    """Check that every test set, fold and training part has samples with and without the outcome."""

    kind: ClassVar[str] = "check_splits"
    sections: ClassVar[tuple[str, ...]] = ("validation",)

    def narrow(self, spec: TrainingSpec) -> TrainingSpec | None:
        """Keep the validation, and for a split by date what it reads of the cohort, which itself is among the inputs."""
        narrowed = super().narrow(spec)
        assert narrowed is not None
        own, cohort = spec.cohort, Cohort(index=Index(none=True))
        if spec.validation.by_date:
            cohort = Cohort(index=own.index, follow_up_days=own.follow_up_days)
        return narrowed.model_copy(update={"cohort": cohort})

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``splits.json``. Its content is constant, so that dependent tasks stay valid when iterations are added."""
        from mlho.training.iterations.splits import check_splits

        check_splits(work.spec, open_cohort(work))
        work.write_json("splits.json", {"checked": True})
        return {"n_checked": work.spec.validation.iterations + 1}
