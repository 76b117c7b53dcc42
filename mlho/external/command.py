"""The evaluation as bytes: from the files of a bundle and a specification to ``evaluation.json`` and ``report.html``."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from mlho.errors import BundleError
from mlho.external.evaluation import as_json, evaluate_bundle
from mlho.external.groups import Period
from mlho.model.bundle import Bundle, load_bundle
from mlho.model.files import write_folder
from mlho.model.testing.records import failed_sentence
from mlho.model.testing.runner import blocking
from mlho.report.page.html import render_evaluation
from mlho.sources.files import DataRoot
from mlho.spec.training import TrainingSpec


def evaluation_files(
    files: Mapping[str, bytes],
    spec: TrainingSpec,
    root: DataRoot,
    *,
    data_digest: str,
    n_known_files: int = 0,
    period: Period = "month",
) -> dict[str, bytes]:
    """Evaluate a bundle and return the files to write.

    Parameters
    ----------
    files : mapping of name to bytes
        The files of the bundle, which are verified and tested first.
    spec, root, data_digest, n_known_files, period
        See :func:`mlho.external.evaluation.evaluate_bundle`.
    """
    with tempfile.TemporaryDirectory(prefix="mlho-bundle-") as scratch:
        write_folder(Path(scratch) / "bundle", files)
        bundle = load_bundle(Path(scratch) / "bundle")
    _test(bundle)
    evaluation = evaluate_bundle(
        bundle, spec, root, data_digest=data_digest, n_known_files=n_known_files, period=period
    )
    return {"evaluation.json": as_json(evaluation), "report.html": render_evaluation(evaluation).encode()}


def _test(bundle: Bundle) -> None:
    results = bundle.run_tests(measured=False)
    if defects := blocking(results, "defect"):  # a model that misses a floor may be evaluated
        raise BundleError(
            f"bundle: {failed_sentence(defects, len(results))} Nothing is evaluated. Use the version of mlho that wrote the bundle, or "
            "build it again."
        )
