"""The lineage of a result: from tables, specification and software by the matrix to bundle, result and scores."""

from functools import partial
from typing import Final

from mlho.report import words
from mlho.report.figures.figure import Figure, both
from mlho.report.result import Result
from mlho.report.svg.flow import Box, flow
from mlho.spec.training import digest_of

_SHOWN: Final = 12  # characters of a digest
_PRODUCT: Final = "mlho-batch"


def lineage(result: Result) -> Figure:
    """Draw the inputs of the result and the objects derived from it. A digest is cut to 12 characters; the numbers contain it in full."""
    provenance = result.lineage
    files = result.inputs.get("files", [])
    tables = digest_of(sorted(files, key=lambda file: str(file["key"]))) if files else ""
    version = provenance.versions.get(_PRODUCT, "")
    image = str(result.inputs.get("image", "") or words.plural(len(provenance.versions), "package"))
    rows = (
        ("Tables", tables, words.plural(len(files), "file") if files else "not recorded"),
        ("Specification", provenance.spec_digest, f"seed {provenance.seed}"),
        ("Software", f"{_PRODUCT} {version}".strip(), image),
        ("Matrix", provenance.matrix_digest, words.plural(result.cohort.n_samples, "sample")),
        ("Bundle", result.final_model.bundle_digest, result.final_model.classifier),
        ("Result", result.result_digest, "this report"),
        ("Scores", "made with the bundle", "mlho lineage lists them"),
    )
    boxes = [
        Box(heading, first if " " in first else first[:_SHOWN], second) for heading, first, second in rows
    ]

    levels = [boxes[:3], boxes[3:4], boxes[4:5], boxes[5:]]
    return Figure(
        "lineage",
        "Lineage",
        "Each row was made from the row above. Equal digests mean equal content. Scores name the digest of the bundle that produced them.",
        *both(partial(flow, "lineage", "Lineage", levels)),
        ("What", "Digest or version", "Detail"),
        rows,
    )
