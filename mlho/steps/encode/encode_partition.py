"""Step: apply the rules to every row of one partition, and write the used rows by block."""

from typing import Any, ClassVar

from mlho.spec.training import TrainingSpec
from mlho.steps.base import Step, Work
from mlho.steps.inputs import checked_source, open_cohort


class EncodePartition(Step):
    """The ledger and the used rows of one partition."""

    kind: ClassVar[str] = "encode_partition"
    version: ClassVar[int] = 5
    sections: ClassVar[tuple[str, ...]] = ("cohort", "features")
    reads_outcome: ClassVar[bool] = False
    tables: ClassVar[tuple[str, ...]] = ("events",)

    def narrow(self, spec: TrainingSpec) -> TrainingSpec | None:
        """Ignore the model's demographics and the claim that the data are partitioned by patient. Of several windows keep the longest.

        Windows nest, so that the longest one alone decides which rows are used; that there are others decides whether times are kept.
        """
        own = without_demographics(super().narrow(spec))
        assert own is not None
        windows = own.features.windows
        if len(own.windows) == 1:
            return own
        shortest = own.cohort.gap_days + 1
        longest = () if own.features.all_history else windows[-1:]
        features = own.features.model_copy(update={"windows": (shortest, *longest)})
        return own.model_copy(update={"features": features})

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
        from mlho.sources.files import SourceFile

        source, *others = work.task.sources
        file, *of_map = (
            SourceFile(own.key, checked_source(work, own), own.size) for own in (source, *others)
        )
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
            where=source.key,
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


def without_demographics(spec: TrainingSpec | None) -> TrainingSpec | None:
    """Return a specification without demographics, for steps that read events only."""
    if spec is None:
        return None
    features = spec.features.model_copy(update={"demographics": (), "categorical": ()})
    return spec.model_copy(update={"features": features})
