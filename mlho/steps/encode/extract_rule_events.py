"""Step: take from one partition the events that the rules of the cohort mention."""

from typing import Any, ClassVar

from mlho.steps.base import Step, Work
from mlho.steps.inputs import checked_files


class ExtractRuleEvents(Step):
    """Patients, times and sets of the events that rules mention; see :mod:`mlho.encoding.rules.extraction`."""

    kind: ClassVar[str] = "extract_rule_events"
    version: ClassVar[int] = 4
    encodes: ClassVar[bool] = True
    writes_ids: ClassVar[tuple[str, ...]] = ("rule_events.arr",)
    sections: ClassVar[tuple[str, ...]] = ("cohort",)
    reads_windows: ClassVar[bool] = False
    reads_outcome: ClassVar[bool] = False
    reads_demographics: ClassVar[bool] = False
    reads_rules: ClassVar[bool] = True
    tables: ClassVar[tuple[str, ...]] = ("events",)

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``rule_events.arr``."""
        from mlho.encoding.rules.extraction import extract_file
        from mlho.sources import source_of

        (file,) = checked_files(work)
        rules = work.spec.cohort.rules
        assert rules is not None, "the plan has this task for rules only"
        years = work.spec.data.plausible_years
        below = work.one("descendants").json("descendants.json") if rules.hierarchy else {}
        events = extract_file(rules, source_of(work.spec.data), file, years=years, below=below)
        events.write(work.out / "rule_events.arr")
        return {"n_events": len(events.patient), "n_patients": len(events.patient_ids)}
