"""Step: sort the codes of all used rows and number the columns."""

from typing import Any, ClassVar

from mlho.steps.base import Step, Work


class MergeDictionary(Step):
    """The dictionary of the run; independent of how the rows are partitioned."""

    kind: ClassVar[str] = "merge_dictionary"
    encodes: ClassVar[bool] = True

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``dictionary.arr``."""
        from mlho.encoding.events.dictionary import merge_dictionary
        from mlho.encoding.events.ledger import Ledger, no_row_used
        from mlho.encoding.events.partition import EncodedPartition

        partitions = [EncodedPartition.read(part.path("partition.arr")) for part in work.inputs["partitions"]]
        dictionary, _ = merge_dictionary(partitions)
        if not len(dictionary):
            raise no_row_used(Ledger.total(partition.ledger for partition in partitions))
        dictionary.write(work.out / "dictionary.arr")
        return {"n_codes": len(dictionary)}
