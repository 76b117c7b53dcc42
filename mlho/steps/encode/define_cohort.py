"""Step: define the cohort from labels and demographics."""

from typing import Any, ClassVar, override

from mlho.spec.training import TrainingSpec
from mlho.steps.base import Step, Work
from mlho.steps.inputs import checked_root


class DefineCohort(Step):
    """Patients, samples, index dates, outcomes and demographics in canonical order."""

    kind: ClassVar[str] = "define_cohort"
    version: ClassVar[int] = 8
    encodes: ClassVar[bool] = True
    writes_ids: ClassVar[tuple[str, ...]] = ("cohort.arr",)
    states_content: ClassVar[bool] = True
    sections: ClassVar[tuple[str, ...]] = ("cohort", "features")
    reads_windows: ClassVar[bool] = False
    reads_min_cell: ClassVar[bool] = True  # the bound for rare levels
    reads_bias_columns: ClassVar[bool] = True
    tables: ClassVar[tuple[str, ...]] = ("labels", "demographics")

    def _narrowed(self, spec: TrainingSpec) -> TrainingSpec:
        """Keep only the demographics of the features, and the column of splits."""
        narrowed = super()._narrowed(spec)
        features = type(spec.features)(
            demographics=spec.features.demographics, categorical=spec.features.categorical
        )
        stated = spec.validation
        validation = (
            type(stated)(split=stated.split, split_column=stated.split_column)
            if stated.split_column
            else type(stated)()
        )
        return narrowed.model_copy(update={"features": features, "validation": validation})

    @override
    def tables_of(self, spec: TrainingSpec) -> tuple[str, ...]:
        return (*self.tables, "events") if spec.reads_static_rows else self.tables

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``cohort.arr`` and ``labels.json``."""
        from mlho.encoding.cohort.define import define_cohort
        from mlho.encoding.rules.labels import RuleLabels

        root, labels = checked_root(work), None
        if "labels" in work.inputs:
            labels = RuleLabels.read(work.one("labels").path("labels.arr"))
        result = define_cohort(
            work.spec,
            root,
            cdm=root.files,
            labels=None if labels is None else labels.rows,
            rules=None if labels is None else labels.account,
        )
        result.cohort.write(work.out / "cohort.arr")
        work.write_json("labels.json", dict(result.label_ledger))
        return {
            "n_blocks": result.cohort.n_blocks,
            "n_patients": result.cohort.n_patients,
            "n_positive": int(result.cohort.outcome.sum()),
            "n_samples": result.cohort.n_samples,
        }
