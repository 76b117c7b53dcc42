"""Step: check that every row is used or dropped by exactly one named rule; fail the run otherwise."""

from typing import Any, ClassVar

from mlho.steps.base import Step, Work
from mlho.steps.inputs import open_cohort


class BalanceLedger(Step):
    """Check the total ledger, and verify that each patient is in one partition if the specification claims it."""

    kind: ClassVar[str] = "balance_ledger"
    version: ClassVar[int] = 2
    encodes: ClassVar[bool] = True
    sections: ClassVar[tuple[str, ...]] = ("cohort",)
    reads_outcome: ClassVar[bool] = False
    tables: ClassVar[tuple[str, ...]] = ("events",)
    reads_promise: ClassVar[bool] = True

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``ledger.json``: the total, which is independent of the partitions."""
        import numpy as np

        from mlho.encoding.events.fates import join_fates, samples_lost
        from mlho.encoding.events.ledger import Ledger
        from mlho.encoding.events.partition import EncodedPartition
        from mlho.encoding.events.patients import check_partitioned_by_patient
        from mlho.encoding.events.units import FILE as UNITS
        from mlho.encoding.events.units import judge_units

        parts = [EncodedPartition.read(part.path("partition.arr")) for part in work.inputs["partitions"]]
        if work.spec.data.partitioned_by == "patient":
            keys = (source.key for source in work.task.sources)
            by_partition = {key: part.patients for key, part in zip(keys, parts, strict=True)}
            check_partitioned_by_patient(by_partition, open_cohort(work).n_patients)
        duplicates = sum(sum(block.facts["duplicates"]) for block in work.inputs["blocks"])
        total = Ledger.total(part.ledger for part in parts).with_duplicates(duplicates).check("events, total")
        cohort = open_cohort(work)
        fates = join_fates([(part.patients, part.fates) for part in parts], cohort.n_patients)
        lost = samples_lost(fates, np.diff(cohort.sample_starts()))
        units = judge_units(part.json(UNITS) for part in work.inputs["partitions"] if UNITS in part.names)
        of_units = {} if units is None else {"units": units}
        work.write_json("ledger.json", {**total.to_json(), "samples_lost": lost, **of_units})
        return {"rows_in": total.rows_in, "rows_used": total.rows_used}
