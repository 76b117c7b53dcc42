"""Commands on a bundle and other labelled data, as bytes: its evaluation, and its recalibration as a new version."""

from collections.abc import Mapping

from mlho.errors import BundleError
from mlho.external.evaluation import as_json, evaluate_scored
from mlho.external.monitoring import Period
from mlho.external.new_version import labels_of_training, recalibration_result
from mlho.external.recalibrated import loaded, recalibrated_bundle
from mlho.external.recalibration import VERSIONS
from mlho.external.scores import ScoredCohort, evaluated_spec, score_cohort
from mlho.model.bundle import Bundle
from mlho.model.testing.records import ModelTestResult, failed_sentence
from mlho.model.testing.runner import blocking
from mlho.report.advice import Correction
from mlho.report.page.html import render_evaluation, render_recalibration
from mlho.report.result import BundleTest
from mlho.sources.files import DataRoot
from mlho.spec.training import TrainingSpec


def evaluation_files(
    files: Mapping[str, bytes],
    spec: TrainingSpec,
    root: DataRoot,
    *,
    data_digest: str,
    n_known_files: int = 0,
    n_known_labels: int = 0,
    period: Period = "month",
) -> dict[str, bytes]:
    """Evaluate a bundle and return the files to write.

    Parameters
    ----------
    files : mapping of name to bytes
        The files of the bundle, which are verified and tested first.
    spec : TrainingSpec
        Its sections ``data``, ``cohort``, ``features.demographics`` (groups beyond those of the bundle), ``report``, and of
        ``validation`` the seed, the bootstrap and ``splitColumn`` of ``split: site`` are used.
    data_digest, n_known_files, n_known_labels, period
        See :func:`mlho.external.evaluation.evaluate_scored`.
    """
    bundle, evaluated, scored = _scored(files, spec, root)
    evaluation = evaluate_scored(
        bundle,
        evaluated,
        scored,
        data_digest=data_digest,
        n_known_files=n_known_files,
        n_known_labels=n_known_labels,
        period=period,
    )
    return {"evaluation.json": as_json(evaluation), "report.html": render_evaluation(evaluation).encode()}


def recalibration_files(
    files: Mapping[str, bytes],
    spec: TrainingSpec,
    root: DataRoot,
    correction: Correction,
    *,
    data_digest: str,
    versions: Mapping[str, str],
    n_known_labels: int = 0,
) -> dict[str, bytes]:
    """Recalibrate a bundle and return the files of the new version: ``bundle/…``, ``report.html`` and ``result.json``.

    Parameters
    ----------
    files : mapping of name to bytes
        The files of the earlier bundle, which are verified and tested first.
    spec : TrainingSpec
        Of the later data, with the gates of the new version.
    correction : str
        ``intercept`` or ``line``.
    versions : mapping
        Software, for the lineage.
    n_known_labels : int
        Files of labels that the bundle was trained on, as far as this is known.

    Raises
    ------
    BundleError
        The earlier bundle is defective, or the new one is.
    DataError
        As in :func:`evaluation_files`; or no correction can be fitted.
    """
    bundle, evaluated, scored = _scored(files, spec, root)
    evaluation = evaluate_scored(bundle, evaluated, scored, data_digest=data_digest)
    known = labels_of_training(n_known_labels)
    evaluation = evaluation.model_copy(update={"warnings": [*known, *evaluation.warnings]})
    recalibrated = recalibrated_bundle(
        bundle, files, evaluated, scored, correction, delivered=evaluation.figures, data_digest=data_digest
    )
    tests = [BundleTest(**result.reported()) for result in _test(recalibrated.bundle)]
    result = recalibration_result(
        bundle, evaluated, evaluation, scored, recalibrated, correction, tests=tests, versions=versions
    )
    return {
        **{f"bundle/{name}": content for name, content in recalibrated.files.items()},
        "report.html": render_recalibration(evaluation, result, VERSIONS[correction]).encode(),
        "result.json": as_json(result),
    }


def _scored(
    files: Mapping[str, bytes], spec: TrainingSpec, root: DataRoot
) -> tuple[Bundle, TrainingSpec, ScoredCohort]:
    """Return the bundle, which has no defect, the specification of the evaluated cohort, and its scores."""
    bundle = loaded(files)
    _test(bundle)
    evaluated = evaluated_spec(spec, bundle)
    return bundle, evaluated, score_cohort(bundle, evaluated, root)


def _test(bundle: Bundle) -> list[ModelTestResult]:
    """Run the tests of a bundle and return the results; refuse one with a defect."""
    results = bundle.run_tests(measured=False)
    if defects := blocking(results, "defect"):  # a model that misses a floor may be evaluated
        raise BundleError(
            f"bundle: {failed_sentence(defects, len(results))} Nothing is written. Use the version of mlho that wrote the bundle, or "
            "build it again."
        )
    return results
