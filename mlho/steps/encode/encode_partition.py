"""Step: apply the rules to every row of one partition, and write the used rows by block."""

from typing import Any, ClassVar

from mlho.spec.training import TrainingSpec
from mlho.steps.base import Step, Work
from mlho.steps.inputs import checked_files, open_cohort


class EncodePartition(Step):
    """The ledger and the used rows of one partition."""

    kind: ClassVar[str] = "encode_partition"
    version: ClassVar[int] = 8
    encodes: ClassVar[bool] = True
    sections: ClassVar[tuple[str, ...]] = ("cohort", "features")
    reads_outcome: ClassVar[bool] = False
    reads_demographics: ClassVar[bool] = False
    tables: ClassVar[tuple[str, ...]] = ("events",)

    def _narrowed(self, spec: TrainingSpec) -> TrainingSpec:
        """Keep only the longest window.

        Windows nest, so the longest one decides which rows are used; the presence of others decides whether times are kept.
        """
        narrowed = super()._narrowed(spec)
        windows = narrowed.features.windows
        if len(narrowed.windows) == 1:
            return narrowed
        shortest = narrowed.cohort.gap_days + 1
        longest = () if narrowed.features.all_history else windows[-1:]
        features = narrowed.features.model_copy(update={"windows": (shortest, *longest)})
        return narrowed.model_copy(update={"features": features})

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``segments.arr``, ``partition.arr`` and ``tally.arr``, and ``units.json`` if the values have units."""
        from mlho.encoding.cohort.windows import needs_values
        from mlho.encoding.events.partition import encode_partition
        from mlho.encoding.events.roll_up import read_roll_up
        from mlho.encoding.events.units import FILE as UNITS
        from mlho.encoding.events.units import UnitCounts
        from mlho.encoding.tally.tally import FILE as TALLY
        from mlho.sources import source_of
        from mlho.sources.events import iter_events, require_values

        file, *of_map = checked_files(work)
        named, values = source_of(work.spec.data), needs_values(work.spec)
        if values:
            require_values(named, file)
        units = UnitCounts()
        batches = units.watch(iter_events(named, file, values=values))
        encoded = encode_partition(
            work.spec,
            open_cohort(work),
            batches,
            work.out / "segments.arr",
            where=file.key,
            parents=read_roll_up(named, of_map).parents if of_map else None,
        )
        encoded.write(work.out / "partition.arr")
        assert encoded.tally is not None
        encoded.tally.write(work.out / TALLY)
        if by_code := units.plain():
            work.write_json(UNITS, by_code)
        return {
            "ledger": encoded.ledger.to_json(),
            "n_rows": encoded.ledger.rows_in,
            "rows_by_year": dict(encoded.rows_by_year),
        }
