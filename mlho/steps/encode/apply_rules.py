"""Step: make the labels of a cohort by rule."""

from typing import Any, ClassVar

from mlho.steps.base import Step, Work
from mlho.steps.inputs import checked_root


class ApplyRules(Step):
    """Entries, index dates, criteria and outcomes, from the extracted events of all partitions and the demographics."""

    kind: ClassVar[str] = "apply_rules"
    version: ClassVar[int] = 2
    encodes: ClassVar[bool] = True
    writes_ids: ClassVar[tuple[str, ...]] = ("labels.arr",)
    sections: ClassVar[tuple[str, ...]] = ("cohort",)
    reads_windows: ClassVar[bool] = False
    reads_outcome: ClassVar[bool] = False
    reads_rules: ClassVar[bool] = True
    tables: ClassVar[tuple[str, ...]] = ("demographics",)

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``labels.arr``."""
        from mlho.encoding.rules.extraction import RuleEvents
        from mlho.encoding.rules.history import join_histories
        from mlho.encoding.rules.whole import label_histories
        from mlho.sources import source_of

        parts = [RuleEvents.read(part.path("rule_events.arr")) for part in work.inputs["events"]]
        source, root = source_of(work.spec.data), checked_root(work)
        labels = label_histories(work.spec, source, root, join_histories(parts))
        labels.write(work.out / "labels.arr")
        return {"n_samples": len(labels.rows.patient)}
