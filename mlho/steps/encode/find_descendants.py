"""Step: find the descendants of the codes that the rules of the cohort name."""

from typing import Any, ClassVar

from mlho.steps.base import Step, Work
from mlho.steps.inputs import checked_root


class FindDescendants(Step):
    """Descendants of the codes of sets with ``descendants``, computed once for all partitions: the table may have a hundred million rows."""

    kind: ClassVar[str] = "find_descendants"
    encodes: ClassVar[bool] = True
    sections: ClassVar[tuple[str, ...]] = ("cohort",)
    reads_windows: ClassVar[bool] = False
    reads_outcome: ClassVar[bool] = False
    reads_demographics: ClassVar[bool] = False
    reads_rules: ClassVar[bool] = True
    tables: ClassVar[tuple[str, ...]] = ("events",)  # for the form of CSV files

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``descendants.json``."""
        from mlho.encoding.rules.hierarchy import find_descendants
        from mlho.sources import list_inputs, source_of

        rules = work.spec.cohort.rules
        assert rules is not None, "the plan has this task for rules only"
        assert rules.hierarchy is not None, "the plan has this task for a hierarchy only"
        files = list_inputs(checked_root(work), rules.hierarchy)
        descendants = find_descendants(rules, source_of(work.spec.data), files)
        work.write_json("descendants.json", descendants)
        return {"n_codes": len({code for codes in descendants.values() for code in codes})}
