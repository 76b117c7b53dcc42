"""The result of a recalibration: the changes, the gates of the new version, and its tests."""

from collections.abc import Iterator, Mapping, Sequence

from mlho.external.figures import audit_scores
from mlho.external.recalibrated import Recalibrated
from mlho.external.recalibration import AS_DELIVERED, VERSIONS
from mlho.external.scores import ScoredCohort
from mlho.model.bundle import Bundle
from mlho.report.advice import Correction
from mlho.report.external import ExternalEvaluation, RecalibratedModel, RecalibrationResult
from mlho.report.gates import NOT_TO_PROMOTE
from mlho.report.result import BundleTest, Spread
from mlho.report.verdicts import MIN_FOR_CALIBRATION, few_for_calibration
from mlho.report.words import estimate, number, plural
from mlho.spec.training import TrainingSpec
from mlho.training.results.final import threshold_results
from mlho.training.results.gates import gate_warning, judge_gates


def recalibration_result(
    bundle: Bundle,
    spec: TrainingSpec,
    evaluation: ExternalEvaluation,
    scored: ScoredCohort,
    recalibrated: Recalibrated,
    correction: Correction,
    *,
    tests: Sequence[BundleTest],
    versions: Mapping[str, str],
) -> RecalibrationResult:
    """Return the result of a recalibration.

    Parameters
    ----------
    spec : TrainingSpec
        Of the later data, with the gates.
    evaluation : ExternalEvaluation
        The earlier bundle on the later data.
    tests : sequence of BundleTest
        Results of the tests of the new bundle.
    """
    document = recalibrated.bundle.document
    headline = {name: Spread(**figure) for name, figure in document.metrics.items()}
    bias = audit_scores(scored, spec, document.thresholds, recalibrated.probability)
    gates = judge_gates(spec.gates, headline, bias, tests)
    return RecalibrationResult(
        outcome=document.outcome,
        predictive=document.predictive,
        cohort={
            name: getattr(evaluation, name) for name in ("n_patients", "n_samples", "n_positive_samples")
        },
        summary=[
            *evaluation.summary[:1],
            *_summary(evaluation, recalibrated, correction, sum(test.passed for test in tests)),
        ],
        warnings=[
            *gate_warning(gates),
            *_failed_tests(tests),
            *_few_samples(evaluation),
            *_no_gain(evaluation, correction),
            *_not_sufficient(evaluation),
            *evaluation.warnings,
        ],
        recalibrated_from=bundle.digest,
        correction={
            "kind": correction,
            "intercept": recalibrated.correction.intercept,
            "slope": recalibrated.correction.slope,
        },
        headline=headline,
        final_model=RecalibratedModel(
            classifier=document.classifier,
            bundle_digest=recalibrated.bundle.digest,
            calibrator=document.calibrator.to_json(),
            thresholds=threshold_results(document.thresholds, document.training),
            tests=list(tests),
        ),
        gates=gates,
        lineage={"data_digest": evaluation.data_digest, "versions": dict(versions)},
    )


def labels_of_training(n_files: int) -> list[str]:
    """Return the warning about a correction fitted on files of labels that the model was trained on."""
    if not n_files:
        return []
    return [
        f"{plural(n_files, 'file')} of labels {'is one' if n_files == 1 else 'are among those'} that the bundle was trained on. A model ranks its own "
        f"training patients too well, so the correction makes the probabilities of other patients too extreme. {NOT_TO_PROMOTE} this "
        "version: recalibrate on labels of other patients."
    ]


def _failed_tests(tests: Sequence[BundleTest]) -> Iterator[str]:
    failed = [test.name for test in tests if not test.passed]
    if failed:
        yield f"{len(failed)} of the {len(tests)} tests of the bundle failed, which blocks its promotion: {', '.join(failed[:3])}."


def _summary(
    evaluation: ExternalEvaluation, recalibrated: Recalibrated, correction: Correction, n_passed: int
) -> Iterator[str]:
    line = recalibrated.correction
    slope = "" if correction == "intercept" else f" {line.slope:.2f} times"
    yield f"The log-odds become {number(line.intercept)} plus{slope} the log-odds as delivered. The ranking of patients and the flagged patients do not change."
    figures = evaluation.recalibration.figures
    for name, words in (
        ("calibration_in_the_large", "calibration in the large"),
        ("calibration_slope", "the calibration slope"),
        ("log_loss", "the log loss"),
    ):
        before, after = (figures[version][name] for version in (AS_DELIVERED, VERSIONS[correction]))
        yield f"In patients not used to fit the correction, {words} is {estimate(after, 3)}; as delivered it was {estimate(before, 3)}."
    yield f"{plural(n_passed, 'test')} of the new bundle passed."


def _few_samples(evaluation: ExternalEvaluation) -> Iterator[str]:
    if few_for_calibration(evaluation):
        n = evaluation.n_positive_samples
        yield (
            f"The correction is fitted on {n:,} samples with and {evaluation.n_samples - n:,} without the outcome. At least {MIN_FOR_CALIBRATION} of "
            "each are needed to assess calibration, so its effect is uncertain: check it on further patients before promotion."
        )


def _no_gain(evaluation: ExternalEvaluation, correction: Correction) -> Iterator[str]:
    figures = evaluation.recalibration.figures
    before, after = (figures[name]["log_loss"].value for name in (AS_DELIVERED, VERSIONS[correction]))
    if before is not None and after is not None and after >= before:
        yield "The correction does not lower the log loss of patients not used to fit it: the bundle as delivered is at least as good."


def _not_sufficient(evaluation: ExternalEvaluation) -> Iterator[str]:
    """Yield a warning if the ranking is the problem, which a correction does not change."""
    if evaluation.advice.action == "retrain":
        yield f"A recalibration does not change the ranking of patients. {evaluation.advice.sentence}"
