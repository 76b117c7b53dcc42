"""Run the tests of a bundle: the only entry point for code that decides whether a bundle may be used or promoted."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from mlho.model.scorer import Scorer
from mlho.model.testing import events, figures, interface, rows
from mlho.model.testing.generate import generate_tests
from mlho.model.testing.records import MEASURED, ModelTest, ModelTestResult
from mlho.model.testing.subject import Finding, Subject

Check = Callable[[Subject, ModelTest], Finding]

#: The check of each kind of test.
CHECKS: Final[Mapping[str, Check]] = {
    "golden-scores": rows.golden_scores,
    "golden-calibration": rows.golden_calibration,
    "golden-columns": rows.golden_columns,
    "model-files": rows.model_files,
    "thresholds": rows.thresholds,
    "dictionary": rows.dictionary,
    "scoring-rules": rows.scoring_rules,
    "single-rows": rows.single_rows,
    "row-order": rows.row_order,
    "sparse-rows": rows.sparse_rows,
    "score-range": rows.score_range,
    "empty-row": rows.empty_row,
    "spread": rows.spread,
    "calibration-order": rows.calibration_order,
    "coefficient-directions": rows.coefficient_directions,
    "dictionary-coefficients": rows.dictionary_coefficients,
    "direction": rows.direction,
    "monotone": rows.monotone,
    "contributions": rows.contributions,
    "refused-rows": rows.refused_rows,
    "encoding": events.encoding,
    "patient-ids": events.patient_ids,
    "event-order": events.event_order,
    "partitions": events.partitions,
    "unknown-code": events.unknown_code,
    "no-time": events.no_time,
    "implausible-time": events.implausible_time,
    "after-index": events.after_index,
    "no-events": events.no_events,
    "missing-column": events.missing_column,
    "unseen-levels": events.unseen_levels,
    "case": events.case,
    "metric": figures.metric,
    "recorded": figures.recorded,
    "alerts": interface.alerts,
    "reasons": interface.reasons,
    "reason-lengths": interface.reason_lengths,
    "card-size": interface.card_size,
    "bundle-size": interface.bundle_size,
    "seconds": interface.seconds,
    "memory": interface.memory,
}


def run_tests(bundle: Scorer, *, measured: bool = True) -> list[ModelTestResult]:
    """Run the tests of a bundle, all of them, in their order. A promotion calls this function: every result must be ``passed``.

    A test that raises an exception has failed. A bundle of an earlier version, which carries no tests, is given those that need
    no figures of its training data.

    Parameters
    ----------
    bundle : Scorer
        From :func:`mlho.model.bundle.load_bundle`, which has verified every file.
    measured : bool
        Whether to run the tests of time and memory, which depend on the machine.
    """
    tests = generate_tests(bundle) if bundle.tests is None else bundle.tests
    subject = Subject(bundle)
    return [_run(subject, test) for test in tests if measured or test.kind not in MEASURED]


def blocking(results: "list[ModelTestResult]", *levels: str) -> list[ModelTestResult]:
    """Return the failed tests of these levels; see :data:`mlho.model.testing.records.Level`."""
    return [result for result in results if not result.passed and result.level in levels]


def _run(subject: Subject, test: ModelTest) -> ModelTestResult:
    start = time.perf_counter()
    check = CHECKS.get(test.kind)
    if check is None:
        found = Finding(
            False,
            "unknown",
            f"This version of mlho has no test of kind {test.kind}. Use the one that wrote the bundle.",
        )
    else:
        try:
            found = check(subject, test)
        except Exception as error:  # any exception is a failure, and the other tests still run
            found = Finding(False, type(error).__name__, f"The check stopped with {type(error).__name__}.")
    return ModelTestResult(
        id=test.id,
        kind=test.kind,
        level=test.level,
        meaning=test.meaning,
        expected=expected_words(test.expected),
        tolerance=test.tolerance,
        passed=found.passed,
        got=found.got,
        defect="" if found.passed else found.defect,
        seconds=time.perf_counter() - start,
    )


def expected_words(expected: Any) -> str:
    """Return an expected outcome in words.

    Examples
    --------
    >>> expected_words({"min": 0.5}), expected_words({"min": 0.5, "max": 2}), expected_words(80), expected_words(["a", "b"])
    ('at least 0.5', '0.5 to 2', '80', 'as stored')
    """
    bounds = {"min", "max"}
    if (
        isinstance(expected, dict)
        and expected
        and set(expected) <= bounds
        and all(map(_is_number, expected.values()))
    ):
        low, high = expected.get("min"), expected.get("max")
        if low is None or high is None:
            return f"at most {high:.4g}" if low is None else f"at least {low:.4g}"
        return f"{low:.4g} to {high:.4g}"
    return "as stored" if isinstance(expected, dict | list) else str(expected)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
