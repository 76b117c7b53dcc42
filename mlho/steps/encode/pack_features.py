"""Step: pack the columns of one block of patients."""

from typing import Any, ClassVar

from mlho.steps.base import Step, Work
from mlho.steps.inputs import open_cohort


class PackFeatures(Step):
    """Counts and latest values of every column for one block of patients; the bytes depend only on the data."""

    kind: ClassVar[str] = "pack_features"
    encodes: ClassVar[bool] = True
    sections: ClassVar[tuple[str, ...]] = ("cohort", "features")
    reads_outcome: ClassVar[bool] = False
    reads_demographics: ClassVar[bool] = False

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``block.arr``."""
        from mlho.encoding.events.blocks import pack_block
        from mlho.encoding.events.dictionary import Dictionary
        from mlho.encoding.events.partition import EncodedPartition

        dictionary = Dictionary.read(work.one("dictionary").path("dictionary.arr"))
        parts = work.inputs["partitions"]
        codes = [EncodedPartition.read(part.path("partition.arr")).codes for part in parts]
        segments = [
            (part.path("segments.arr"), dictionary.ids_of(part_codes))
            for part, part_codes in zip(parts, codes, strict=True)
        ]
        packed = pack_block(
            work.spec, open_cohort(work), work.params["block"], segments, dictionary, work.out / "block.arr"
        )
        return {"duplicates": list(packed.duplicates), "n_cells": packed.n_cells, "n_rows": packed.n_rows}
