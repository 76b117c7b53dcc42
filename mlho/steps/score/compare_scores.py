"""Step: compare the scores of the bundle of a run with those of another bundle on the same samples."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from mlho.errors import MlhoError
from mlho.steps.base import Artifact, Step, Work

if TYPE_CHECKING:
    import pyarrow as pa

COMPARISON_FILE: Final = "comparison.json"
_SAMPLE: Final = ("patient_id", "index_date")


class CompareScores(Step):
    """Join the parts of both bundles, sample by sample, and write how their scores and alerts differ."""

    kind: ClassVar[str] = "compare_scores"
    version: ClassVar[int] = 2

    def run(self, work: Work) -> dict[str, Any]:
        """Write ``comparison.json``."""
        import numpy as np

        from mlho.scoring.comparison import compare_scores

        digests = [work.one(name).facts["bundle_digest"] for name in ("bundle", "compared_bundle")]
        pairs = [
            _joined(part, compared)
            for part, compared in zip(_parts(work, ""), _parts(work, "compared_"), strict=True)
        ]
        probability = [
            np.concatenate([np.asarray(pair[side].column("probability")) for pair in pairs])
            for side in (0, 1)
        ]
        rules = [name for name in pairs[0][0].column_names if name.startswith("alert: ")]
        alerts = {
            name.removeprefix("alert: "): (_column(pairs, 0, name), _column(pairs, 1, name))
            for name in rules
            if name in pairs[0][1].column_names
        }
        comparison = compare_scores(
            probability[0], probability[1], alerts, bundle_digest=digests[0], compared_digest=digests[1]
        )
        work.write_json(COMPARISON_FILE, comparison.model_dump(mode="json", by_alias=True))
        return {"n_samples": comparison.samples}


def _column(pairs: "Sequence[tuple[pa.Table, pa.Table]]", side: int, name: str) -> Any:
    import numpy as np

    return np.concatenate([np.asarray(pair[side].column(name)) for pair in pairs]).astype(bool)


def _parts(work: Work, prefix: str) -> list[Artifact]:
    return [*work.inputs[f"{prefix}parts"], *work.inputs.get(f"{prefix}absent", ())]


def _joined(part: Artifact, compared: Artifact) -> "tuple[pa.Table, pa.Table]":
    """Return the scores and alerts of one partition by both bundles, which have the same samples in the same order."""
    import pyarrow.parquet as pq

    from mlho.scoring.parts import PART_FILE

    tables = []
    for artifact in (part, compared):
        path = artifact.path(PART_FILE)
        names = [
            name for name in pq.read_schema(path).names if name == "probability" or name.startswith("alert: ")
        ]
        tables.append(pq.read_table(path, columns=[*_SAMPLE, *names]))
    samples = [table.select(list(_SAMPLE)) for table in tables]
    if not samples[0].equals(samples[1]):
        raise MlhoError(
            "comparison: the two bundles have scored different samples. This is an error of the program: report it. Nothing is published."
        )
    return tables[0], tables[1]
