"""Step: sort the codes of all used rows and number the columns."""

from typing import Any, ClassVar

from mlho.errors import DataError
from mlho.steps.base import Step, Work


class MergeDictionary(Step):
    """The dictionary of the run; independent of how the rows are partitioned."""

    kind: ClassVar[str] = "merge_dictionary"

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``dictionary.arr``."""
        from mlho.encoding.events.dictionary import merge_dictionary
        from mlho.encoding.events.partition import EncodedPartition

        partitions = [EncodedPartition.read(part.path("partition.arr")) for part in work.inputs["partitions"]]
        dictionary, _ = merge_dictionary(partitions)
        if not len(dictionary):
            raise _no_row_used(partitions)
        dictionary.write(work.out / "dictionary.arr")
        return {"n_codes": len(dictionary)}


def _no_row_used(partitions: list[Any]) -> DataError:
    from mlho.encoding.events.ledger import Ledger, Rule

    total = Ledger.total(partition.ledger for partition in partitions)
    cause = total.largest_rule
    dropped = [f"{total.n_dropped(rule)} {rule.words}" for rule in Rule if total.n_dropped(rule)]
    return DataError(
        "events",
        "no row can be used",
        expected="rows of the cohort's patients inside the look-back",
        got=f"{total.rows_in} rows, dropped: {', '.join(dropped) or 'none'}",
        remedy=cause.remedy if cause is not None else "Check data.tables.events.",
    )
