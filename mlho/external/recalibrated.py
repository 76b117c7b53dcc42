"""A recalibrated bundle: the same model with a new calibrator, fitted on recent labels, as a new version with its own tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlho.errors import DataError, plural
from mlho.external.figures import evaluate_scores
from mlho.external.recalibration import fit_correction, outside_probabilities
from mlho.external.scores import ScoredCohort
from mlho.method.evaluation.calibration import PlattCalibrator, fit_line_of, logit_of
from mlho.method.evaluation.tally import tally
from mlho.method.evaluation.thresholds import values_by_rule
from mlho.model.bundle import CARD, GOLDEN, Bundle, load_bundle
from mlho.model.card import model_card
from mlho.model.document import document_bytes
from mlho.model.files import DIGEST, DOCUMENT, digest_line, facts_of, write_folder
from mlho.model.parts import BundleParts, BundlePerformance, TrainingSamples
from mlho.model.testing.generate import MAX_GAP
from mlho.model.testing.records import TESTS_FILE, ModelTest, written_tests
from mlho.report.advice import Correction
from mlho.report.result import Estimate
from mlho.scoring.drift import DECILE_ROUNDING
from mlho.scratch import scratch_folder
from mlho.spec.training import TrainingSpec, canonical_json
from mlho.training.results.performance import curves_over, figures_of
from mlho.training.results.records import record_curves

PROCEDURE: Final = "the model of an earlier bundle with a calibrator fitted on later samples; calibrated figures are those of patients not used in each fit"
#: Relative. A sample with a probability equal to the threshold must not lose its alert to rounding.
_ROUNDING: Final = 1e-12


@dataclass(frozen=True)
class Recalibrated:
    """A recalibrated bundle."""

    files: dict[str, bytes]
    """Name to bytes."""
    bundle: Bundle
    correction: PlattCalibrator
    """Applied to the calibrated probabilities of the earlier bundle."""
    probability: NDArray[np.float64]
    """Recalibrated probabilities, each from a fit without that patient. Shape (n_samples,)."""


def recalibrated_bundle(
    bundle: Bundle,
    files: Mapping[str, bytes],
    spec: TrainingSpec,
    scored: ScoredCohort,
    correction: Correction,
    *,
    delivered: Mapping[str, Estimate],
    data_digest: str,
) -> Recalibrated:
    """Return a bundle with a new calibrator. Model, features and the samples that alert stay.

    Thresholds and deciles of training move with the probabilities. The test figures become those of the later samples; calibrated
    figures and the net benefit are measured on patients not used in each fit. The figures at the thresholds are those as delivered, because
    the same samples alert.

    Parameters
    ----------
    spec : TrainingSpec
        Of the later data: the seed and the bootstrap count.
    scored : ScoredCohort
        The later samples with the scores of the bundle.
    correction : str
        ``intercept`` or ``line``.
    delivered : mapping of str to Estimate
        Figures of the earlier bundle on these samples.

    Raises
    ------
    DataError
        No correction can be fitted on these samples.
    """
    _refuse_horizons(bundle)
    line, outside = _fit(scored, correction, seed=spec.validation.seed)
    document, before = bundle.document, bundle.calibrator
    calibrator = PlattCalibrator(line.intercept + line.slope * before.intercept, line.slope * before.slope)
    thresholds = tuple(
        threshold if threshold.value is None else replace(threshold, value=_moved(threshold.value, line))
        for threshold in bundle.thresholds
    )
    evaluation = evaluate_scores(scored, spec, thresholds, outside)
    everyone = np.arange(scored.cohort.n_samples)
    curves = record_curves(scored.cohort, evaluation, outside, everyone, min_cell=spec.report.min_cell)
    at_thresholds = {name: figure.model_dump() for name, figure in delivered.items() if "/" in name}
    parts = BundleParts(
        classifier=bundle.classifier,
        features=document.features,
        calibrator=calibrator,
        thresholds=thresholds,
        outcome=document.outcome,
        predictive=document.predictive,
        scoring=document.scoring,
        statistics=(),
        lineage={
            **document.lineage,
            "recalibrated_from": bundle.digest,
            "recalibrated_on": data_digest,
            "recalibration": correction,
        },
        demographics=bundle.demographics,
        metrics=_metrics({**figures_of(evaluation.to_json()), **at_thresholds}),
        performance=BundlePerformance(
            procedure=PROCEDURE, n_test_sets=1, decision_curve=curves_over([curves]).decision
        ),
        training=None
        if document.training is None
        else _training(document.training, scored.probability, line),
        roll_up=document.roll_up or {},
        notes=document.notes,
    )
    corrected = np.asarray(calibrator.apply(scored.uncalibrated))
    written = _written(bundle, files, parts, scored.cohort.outcome, corrected)
    return Recalibrated(written, loaded(written), line, outside)


def _refuse_horizons(bundle: Bundle) -> None:
    if bundle.document.horizons is not None:
        raise DataError(
            "bundle",
            "the risks of a time to an event are not recalibrated",
            expected="a bundle of an outcome of 0 and 1",
            got=f"one with {plural(len(bundle.document.horizons), 'horizon')}",
            remedy="Train another model on the later data.",
        )


def _fit(
    scored: ScoredCohort, correction: Correction, *, seed: int
) -> tuple[PlattCalibrator, NDArray[np.float64]]:
    """Return the correction, and the probabilities corrected by fits on other patients."""
    line = fit_correction(scored.cohort.outcome, scored.probability, correction)
    outside = outside_probabilities(scored.cohort, scored.probability, correction, seed=seed)
    if line.reason is not None or outside is None:
        raise DataError(
            "labels",
            "no correction of the calibration can be fitted",
            expected="both outcomes, in at least ten patients each, and an outcome that becomes more frequent with the probability",
            got=(line.reason or "").removeprefix("not calibrated: ")
            or "too few patients with or without the outcome, or a fold without such a relation",
            remedy="Recalibrate on more patients, or train another model.",
        )
    return line, outside


def _moved(value: float, line: PlattCalibrator) -> float:
    return float(line.apply([value])[0]) * (1.0 - _ROUNDING)


def _metrics(figures: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return estimates in the form of the figures over test sets, with one test set."""
    return {
        name: {"mean": figure["value"], "low": figure["low"], "high": figure["high"], "n": 1}
        for name, figure in figures.items()
        if figure["value"] is not None
    }


def _training(
    before: TrainingSamples, probability: NDArray[np.float64], line: PlattCalibrator
) -> TrainingSamples:
    if before.deciles is None:
        return before
    return before.model_copy(update={"deciles": moved_deciles(before.deciles, probability, line)})


def moved_deciles(
    deciles: Sequence[float], probability: NDArray[np.float64], line: PlattCalibrator
) -> tuple[float, ...]:
    """Return the deciles of training after a correction of the probabilities.

    A correction can enlarge the rounding of a decile, so that samples that share its probability would no longer be on it. A decile
    therefore first becomes the most frequent of the probabilities that are equal to it up to rounding, if samples share one.

    Parameters
    ----------
    deciles : sequence of float, shape (9,)
        Of the earlier bundle, rounded.
    probability : float64, shape (n_samples,)
        Probabilities of the earlier bundle for the later samples.
    """
    values, counts = np.unique(probability, return_counts=True)
    values, counts = values[counts > 1], counts[counts > 1]
    exact = []
    for decile in deciles:
        is_near = np.abs(values - decile) <= DECILE_ROUNDING
        exact.append(float(values[is_near][counts[is_near].argmax()]) if is_near.any() else decile)
    return tuple(round(decile, 4) for decile in np.asarray(line.apply(exact)).tolist())


def _written(
    bundle: Bundle,
    files: Mapping[str, bytes],
    parts: BundleParts,
    y: NDArray[np.uint8],
    corrected: NDArray[np.float64],
) -> dict[str, bytes]:
    """Return the files of the new bundle; those of the model are the same bytes."""
    golden = replace(bundle.golden, calibrated=np.asarray(parts.calibrator.apply(bundle.golden.probability)))
    model_files = {name: content for name, content in files.items() if name.startswith("model/")}
    written = {**model_files, GOLDEN: canonical_json(golden.to_json()), CARD: model_card(parts).encode()}
    if bundle.tests is not None:
        tests = tuple(_moved_test(test, parts, y, corrected) for test in bundle.tests)
        written[TESTS_FILE] = written_tests(tests)
    document = document_bytes(parts, {name: facts_of(content) for name, content in written.items()})
    return {**written, DOCUMENT: document, DIGEST: digest_line(document)}


def _moved_test(
    test: ModelTest, parts: BundleParts, y: NDArray[np.uint8], corrected: NDArray[np.float64]
) -> ModelTest:
    """Return a test with the changes of the new calibrator; a test that it does not affect is returned unchanged."""
    if test.id == "thresholds.stored":
        return test.model_copy(update={"expected": values_by_rule(parts.thresholds)})
    if test.id == "calibration.mean":
        rate = float(y.mean())
        bounds = {"min": rate - MAX_GAP, "max": rate + MAX_GAP}
        meaning = "The mean calibrated probability of the later samples equals their share with the outcome."
        inputs = {**test.inputs, "value": float(corrected.mean())}
        return test.model_copy(update={"expected": bounds, "meaning": meaning, "inputs": inputs})
    if test.id == "calibration.slope":
        t = tally(y, corrected)
        meaning = "The calibration slope of the calibrated probabilities of the later samples is 1."
        inputs = {**test.inputs, "value": fit_line_of(t, logit_of(t)).slope}
        return test.model_copy(update={"meaning": meaning, "inputs": inputs})
    return test


def loaded(files: Mapping[str, bytes]) -> Bundle:
    """Return the bundle of these files, verified."""
    with scratch_folder("mlho-bundle") as scratch:
        write_folder(scratch / "bundle", files)
        return load_bundle(scratch / "bundle")
