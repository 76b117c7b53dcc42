"""Checks of the costs of a model for its users: alerts, reasons, sizes, time and memory."""

import resource
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np

from mlho.model.reasons import reason_words
from mlho.model.testing.records import ModelTest
from mlho.model.testing.subject import Finding, Subject

_MB = 1024**2
_CLEAR_REFS = Path("/proc/self/clear_refs")


def alerts(subject: Subject, test: ModelTest) -> Finding:
    """Compare the alert rate of a threshold that is expected of new samples with its bounds."""
    training = subject.bundle.document.training
    rate = None if training is None else training.alert_rates.get(test.inputs["rule"])
    if rate is None:
        return Finding(False, "no rate", "The bundle does not state the alert rate of this threshold.")
    per_100, most = 100 * rate, test.expected["max"]
    few = "It never alerts." if not per_100 else ""
    return Finding(
        0 < per_100 <= most,
        f"{per_100:.1f}",
        few
        or f"It alerts for {per_100:.1f} of 100 samples, more than {most:g}: users would ignore the alerts.",
    )


def reasons(subject: Subject, test: ModelTest) -> Finding:
    """Check that the synthetic row with the highest score has reasons, and no more reasons with separate wording than the budget allows."""
    bundle, most = subject.bundle, int(test.expected)
    golden = bundle.golden
    row = golden.X[[int(np.argmax(golden.calibrated))]]
    size = np.abs(bundle.classifier.contributions(row)[0, :-1])
    shown = [int(place) for place in np.argsort(-size, kind="stable")[:most] if size[place] > 0]
    words = column_words(subject)
    distinct = {words[place] for place in shown}
    return Finding(
        0 < len(shown) <= most and len(distinct) == len(shown),
        f"{len(shown)} reasons, {len(distinct)} of them distinct",
        "An alert has no reasons." if not shown else "Two reasons of an alert have the same words.",
    )


def column_words(subject: Subject) -> list[str]:
    """Return the words of each column as a reason."""
    bundle = subject.bundle
    features = [reason_words(feature.words, feature.shown_code) for feature in bundle.document.features]
    return features + [reason_words(name) for name in bundle.columns[len(features) :]]


def reason_lengths(subject: Subject, test: ModelTest) -> Finding:
    """Check that the words of every column fit the budget."""
    words = column_words(subject)
    empty = [name for name, text in zip(subject.bundle.columns, words, strict=True) if not text.strip()]
    longest = max(map(len, words), default=0)
    return Finding(
        longest <= test.expected and not empty,
        f"at most {longest} characters",
        f"{empty[0]} has no words."
        if empty
        else "The words of a reason are too long to be read in an alert.",
    )


def card_size(subject: Subject, test: ModelTest) -> Finding:
    """Compare the size of the model card with its budget."""
    size = subject.bundle.document.files["model_card.md"].bytes
    return Finding(
        0 < size <= test.expected, f"{size} bytes", "The model card is missing or too long to be read."
    )


def bundle_size(subject: Subject, test: ModelTest) -> Finding:
    """Compare the size of the bundle with its budget. A smaller size is not stated: it depends on nothing else."""
    n_bytes = subject.bundle.n_bytes
    if n_bytes <= test.expected:
        return Finding(True, f"at most {test.expected} bytes")
    return Finding(False, f"{n_bytes} bytes", "The bundle is too large to be fetched at every start.")


def seconds(subject: Subject, test: ModelTest) -> Finding:
    """Measure the time for scores and contributions of 1,000 rows."""
    rows = _rows(subject, 1000)
    start = time.perf_counter()
    subject.bundle.predict_proba(rows)
    subject.bundle.classifier.contributions(rows)
    elapsed = time.perf_counter() - start
    return Finding(elapsed <= test.expected, f"{elapsed:.2f} s", "Scoring is too slow.")


def memory(subject: Subject, test: ModelTest) -> Finding:
    """Measure the additional memory while 1,000 rows are scored.

    It is the larger of two figures: the peak of the arrays and objects of Python, and the growth of the peak of the process, which
    includes native libraries but misses what fits into memory that earlier checks have freed.
    """
    rows, was_tracing = _rows(subject, 1000), tracemalloc.is_tracing()
    if not was_tracing:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        _reset_peak()
        traced, before = tracemalloc.get_traced_memory()[0], _peak_bytes()
        subject.bundle.predict_proba(rows)
        subject.bundle.classifier.contributions(rows)
        grown = max(tracemalloc.get_traced_memory()[1] - traced, _peak_bytes() - before) / _MB
    finally:
        if not was_tracing:
            tracemalloc.stop()
    return Finding(grown <= test.expected, f"{grown:.2f} MB", "Scoring needs too much memory.")


def _rows(subject: Subject, n_rows: int) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    drawn = subject.drawn
    return np.asarray(np.tile(drawn, (-(-n_rows // len(drawn)), 1))[:n_rows], np.float64)


def _reset_peak() -> None:
    """Set the peak memory of this process to its present memory, where the system can do so (Linux)."""
    try:
        _CLEAR_REFS.write_text("5", encoding="ascii")
    except OSError:
        return  # the peak then grows only above that of earlier checks; Python's own figure does not depend on it


def _peak_bytes() -> int:
    """Peak memory of this process; macOS counts bytes, Linux KiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
