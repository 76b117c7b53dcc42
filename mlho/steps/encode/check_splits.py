"""Step: refuse a run whose splits hold a part with one class, before anything is fitted."""

from typing import Any, ClassVar

from mlho.spec.training import Cohort, Index, TrainingSpec
from mlho.steps.base import Step, Work
from mlho.steps.inputs import open_cohort


class CheckSplits(Step):
    """Every test set, fold and training part has samples with and without the outcome."""

    kind: ClassVar[str] = "check_splits"
    sections: ClassVar[tuple[str, ...]] = ("validation",)

    def narrow(self, spec: TrainingSpec) -> TrainingSpec | None:
        """Only the splits count; who was in the cohort and when is in the input."""
        narrowed = super().narrow(spec)
        assert narrowed is not None
        return narrowed.model_copy(update={"cohort": Cohort(index=Index(none=True))})

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``splits.json``, which says only that all is well: what depends on it stays when iterations are added."""
        from mlho.training.iterations.splits import check_splits

        check_splits(work.spec.validation, open_cohort(work))
        work.write_json("splits.json", {"checked": True})
        return {"n_checked": work.spec.validation.iterations + 1}
