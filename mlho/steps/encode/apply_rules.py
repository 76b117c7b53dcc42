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
        from mlho.encoding.rules.evaluation import apply_rules
        from mlho.encoding.rules.extraction import RuleEvents
        from mlho.encoding.rules.history import join_histories
        from mlho.encoding.rules.labels import RuleLabels
        from mlho.encoding.rules.periods import read_periods
        from mlho.encoding.rules.persons import read_rule_persons
        from mlho.sources import list_inputs, source_of

        rules = work.spec.cohort.rules
        assert rules is not None, "the plan has this task for rules only"
        parts = [RuleEvents.read(part.path("rule_events.arr")) for part in work.inputs["events"]]
        histories = join_histories(parts)
        root = checked_root(work)
        persons = read_rule_persons(work.spec, root, histories.patient_ids)
        pattern = rules.observation.periods
        periods = (
            read_periods(source_of(work.spec.data), list_inputs(root, pattern), histories.patient_ids)
            if pattern
            else None
        )
        cohort = apply_rules(rules, histories, persons, periods, times=work.spec.cohort.time_to_event)
        labels = RuleLabels.of(cohort, histories.patient_ids)
        labels.write(work.out / "labels.arr")
        return {"n_samples": len(labels.rows.patient)}
