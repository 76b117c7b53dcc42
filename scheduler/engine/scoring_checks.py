"""Checks of a scoring run.

Before it starts, the specification must fit the bundle. Before anything is published, the night must be complete.
"""

import json
import statistics
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

from mlho.errors import DataError, SpecError, plural
from mlho.model.files import DOCUMENT
from mlho.spec.scoring import PreviousNights, ScoringRunSpec, ScoringSpec, check_fits
from mlho.store.base import Store
from scheduler.engine.plan import Manifest
from scheduler.runs.nights import Night, day_of, nights_before

TESTS_FILE: Final = "tests/tests.json"  # TESTS_FILE of mlho.model.testing.records, which imports numpy
_REMEDY: Final = (
    "Nothing is published. Wait for the tables and run the same command again, or correct checks.complete."
)


def check_document(files: Mapping[str, bytes], spec: ScoringSpec) -> None:
    """Check the index and the demographics.

    A document of a different shape is rejected later by the bundle tests, with a reason.
    """
    document = json.loads(files[DOCUMENT])
    scoring = document.get("scoring")
    if (
        isinstance(scoring, dict)
        and "indexKind" in scoring
        and isinstance(document.get("demographics"), list | None)
    ):
        check_fits(spec, document)
    only_rule, rules = spec.explain.only_alerts_of, _rules_of(document)
    if only_rule is not None and only_rule not in rules:
        raise SpecError(
            f"explain.onlyAlertsOf: the bundle has no such threshold. Expected one of {', '.join(rules) or 'none'}; got {only_rule}. Correct it."
        )
    most = _most_reasons(files)
    if most is not None and spec.explain.top_reasons > most:
        raise SpecError(
            f"explain.topReasons: the bundle was built for at most {plural(most, 'reason')} (tests.budgets.reasons). Expected at most "
            f"{most}; got {spec.explain.top_reasons}. Lower it, or build the bundle with another budget."
        )


def _rules_of(document: Mapping[str, Any]) -> list[str]:
    """Return the threshold rules of a bundle that have a value; none for a document of a different shape."""
    try:
        return [
            str(threshold["rule"]) for threshold in document["thresholds"] if threshold["value"] is not None
        ]
    except (KeyError, TypeError):
        return []  # rejected later by the tests of the bundle, with a reason


def check_compared(files: Mapping[str, bytes], compared: Mapping[str, bytes], spec: ScoringSpec) -> None:
    """Refuse to compare with a bundle that does not fit the specification, or that predicts another outcome."""
    outcome, compared_outcome = (json.loads(found[DOCUMENT]).get("outcome") for found in (files, compared))
    if outcome != compared_outcome:
        raise SpecError(
            f"compareWith: a bundle for another outcome. Expected {outcome}; got {compared_outcome}. Compare models of one outcome."
        )
    try:
        check_document(compared, spec)
    except SpecError as error:
        raise SpecError(f"compareWith: {error}") from None


def _most_reasons(files: Mapping[str, bytes]) -> int | None:
    """Return the largest number of reasons that the specification of the bundle allows; ``None`` if it states none."""
    try:
        tests = json.loads(files[TESTS_FILE])["tests"]
        numbers = [
            test["expected"] for test in tests if test["kind"] == "reasons" and test["level"] == "required"
        ]
    except (KeyError, TypeError, ValueError):
        return None  # an earlier version, or damaged: the tests of the bundle show which
    return min((number for number in numbers if isinstance(number, int)), default=None)


def check_files(spec: ScoringRunSpec, manifest: Manifest, store: Store) -> None:
    """Refuse a night with missing files.

    Raise DataError if a partition is missing, there are too few files, or the extract is that of the night before, and SpecError
    if nights are to be compared, and the name of the run has no date.
    """
    checks = spec.spec.checks.complete
    if checks is None:
        return
    events = manifest.tables["events"]
    missing = [
        pattern for pattern in checks.partitions if not any(fnmatchcase(file.key, pattern) for file in events)
    ]
    if missing:
        raise _incomplete(
            "a file of events for each of checks.complete.partitions", f"none for {', '.join(missing)}"
        )
    if checks.min_files is not None and len(events) < checks.min_files:
        raise _incomplete(
            f"at least {plural(checks.min_files, 'file')} of events (checks.complete.minFiles)",
            f"{len(events):,}",
        )
    if checks.previous_nights is None:
        return
    if day_of(spec.metadata.name) is None:
        raise SpecError(
            f"checks.complete.previousNights: expected a name that ends with the date of the night, such as nightly-2026-11-24; got "
            f"{spec.metadata.name}. Score with mlho score --as-of, or name the run in this way."
        )
    if checks.previous_nights.new_events:
        _refuse_same_events(manifest, nights_before(store, spec.metadata.name, 1))


def _refuse_same_events(manifest: Manifest, before: list[Night]) -> None:
    files = sorted((file.size, file.version) for file in manifest.tables["events"])
    for night in before:
        if files == sorted((file["size"], file["version"]) for file in night.events):
            raise _incomplete(
                "event files that differ from those of the night before (checks.complete.previousNights.newEvents)",
                f"those of {night.name}, byte for byte: the extract was not renewed",
            )


def check_counts(spec: ScoringRunSpec, scores: Mapping[str, Any], store: Store) -> None:
    """Refuse to publish a night with too few rows or samples.

    Raise DataError if there are fewer than ``checks.complete`` requires. ``scores`` is ``scores.json`` of the run; the store has
    the earlier nights.
    """
    checks = spec.spec.checks.complete
    if checks is None:
        return
    n_rows, n_samples = scores["ledger"]["rows_in"], scores["samples"]
    for name, what, count, least in (
        ("minRows", "event rows", n_rows, checks.min_rows),
        ("minSamples", "samples", n_samples, checks.min_samples),
    ):
        if least is not None and count < least:
            raise _incomplete(f"at least {least:,} {what} (checks.complete.{name})", f"{count:,}")
    if checks.previous_nights is not None:
        _check_against_nights(n_rows, checks.previous_nights, spec.metadata.name, store)


def _check_against_nights(n_rows: int, previous: PreviousNights, name: str, store: Store) -> None:
    before = nights_before(store, name, previous.nights)
    if not before:
        return
    median = statistics.median(night.n_rows for night in before)
    if n_rows < previous.min_share * median:
        raise _incomplete(
            f"at least {100 * previous.min_share:.0f} % of the median of {plural(len(before), 'night')} before, {median:,.0f} event rows "
            "(checks.complete.previousNights)",
            f"{n_rows:,}, {100 * n_rows / median:.0f} %",
        )


def _incomplete(expected: str, got: str) -> DataError:
    return DataError("events", "the night is not complete", expected=expected, got=got, remedy=_REMEDY)
