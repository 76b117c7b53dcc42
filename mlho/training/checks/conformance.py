"""Conformance and completeness: rows that cannot be used, forms of codes, units, missing data."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.cohort import NumericColumn
from mlho.encoding.events.ledger import Rule, intended_rules
from mlho.encoding.tally.tally import LOWEST_OCTAVE, NEGATIVE, ZERO
from mlho.printable import cut, folded
from mlho.spec.checks import CheckName
from mlho.training.checks.evidence import NO_NUMBERS, Evidence, Measure, not_measured

_UNUSABLE: Final = (Rule.NO_PATIENT, Rule.NO_CODE, Rule.UNUSABLE_CODE, Rule.UNREADABLE_TIME, Rule.NO_TIME)
_PLACEHOLDER: Final = re.compile(
    r"(na|n/a|nan|nat|null|none|nil|unknown|unk|missing|\?|-|\.|#n/a|undefined)", re.IGNORECASE
)
_COERCED: Final = re.compile(r"\d+\.0|\d(\.\d+)?e\+\d+", re.IGNORECASE)
_MIN_VALUES: Final = 100  # numbers or rows that a code needs
_MIN_Z: Final = 5.0  # of a difference between outcomes


def measure(evidence: Evidence) -> Iterator[Measure]:
    """Yield the figures of conformance and completeness."""
    yield from _ledger(evidence)
    yield from _codes(evidence)
    yield from _units(evidence)
    yield from _ranges(evidence)
    yield from _values_missing(evidence)
    yield from _by_outcome(evidence)


def _ledger(evidence: Evidence) -> Iterator[Measure]:
    rows = max(evidence.ledger.rows_in, 1)
    intended = intended_rules(evidence.problem.spec)
    for rule in _UNUSABLE:
        if rule not in intended:
            yield _of_rule("unusable-rows", rule, evidence.ledger.n_dropped(rule) / rows)
    rule = Rule.UNKNOWN_PATIENT
    share = evidence.ledger.n_dropped(rule) / rows
    if rule in intended:
        yield from not_measured("cohort.rules or cohort.only leave patients out", "unknown-patients")
    else:
        detail = f"{100 * share:.1f} % of the event rows"
        yield Measure("unknown-patients", "events", share, detail, rule.remedy)
    for rule in (Rule.IMPLAUSIBLE_DATE, Rule.AFTER_DEATH):
        yield _of_rule("implausible-dates", rule, evidence.ledger.n_dropped(rule) / rows)


def _of_rule(check: CheckName, rule: Rule, share: float) -> Measure:
    return Measure(check, rule.words, share, f"{100 * share:.2f} % of the event rows", rule.remedy)


def _codes(evidence: Evidence) -> Iterator[Measure]:
    total = max(int(evidence.rows.sum()), 1)
    forms: dict[str, tuple[str, Callable[[str], object]]] = {
        "placeholder": ("codes such as NA or null", _PLACEHOLDER.fullmatch),
        "number": ("codes that were read as numbers, such as 250.0", _COERCED.fullmatch),
        "blank": ("codes with blanks at an end", lambda code: code if code != code.strip() else None),
    }
    for name, (words, matches) in forms.items():
        n = sum(
            int(evidence.rows[place])
            for place, code in enumerate(evidence.problem.codes)
            if matches(code) is not None
        )
        text = f"{100 * n / total:.2f} % of the used rows have {words}"
        yield Measure("code-form", name, n / total, text, "Write codes as text.", words)
    n = rows_of_variants(evidence.problem.codes, evidence.rows)
    text = f"{100 * n / total:.2f} % of the used rows"
    remedy = "Write each code in one form, or map the variants by features.rollUp."
    yield Measure("code-variants", "codes", n / total, text, remedy)


def rows_of_variants(codes: Sequence[str], rows: NDArray[np.int64]) -> int:
    """Return the rows of codes that are another spelling of a code with more rows: in case, blanks or form of Unicode.

    Examples
    --------
    >>> rows_of_variants(["I10", "i 10", "I11"], np.array([90, 7, 40]))
    7
    """
    most: dict[str, int] = {}
    for place, code in enumerate(codes):
        key = folded(code).replace(" ", "")
        best = most.get(key)
        if best is None or rows[place] > rows[best]:
            most[key] = place
    return int(rows.sum()) - int(rows[[*most.values()]].sum())


def _units(evidence: Evidence) -> Iterator[Measure]:
    units = evidence.plain_ledger.get("units")
    if units is None:
        yield from not_measured("no units are read", "units")
    else:
        share = units["others"] / max(units["rows"], 1)
        words = f"{100 * share:.1f} % of the rows of codes with several units, such as {', '.join(map(cut, units['first']))}"
        yield Measure("units", "events", share, words, "Convert the values of each code to one unit.")


def _ranges(evidence: Evidence) -> Iterator[Measure]:
    asked = evidence.problem.spec.quality.codes if evidence.problem.spec.quality else {}
    if not asked or not evidence.has_values:
        yield from not_measured(NO_NUMBERS if asked else "quality.codes gives no range", "value-range")
        return
    lower = np.array([2 ** (LOWEST_OCTAVE + place / 4) for place in range(NEGATIVE)])
    lower[0] = 0
    upper = np.array([2 ** (LOWEST_OCTAVE + (place + 1) / 4) for place in range(NEGATIVE)])
    upper[-1] = np.inf
    ids = {code: place for place, code in enumerate(evidence.problem.codes)}
    for code, bounds in asked.items():
        if code not in ids:
            yield Measure("value-range", code, None, f"the events have no code {code!r}")
            continue
        counts, (low, high) = evidence.tally.values[ids[code]], bounds.range
        outside = int(counts[:NEGATIVE][(upper <= low) | (lower >= high)].sum())
        outside += int(counts[ZERO]) if not low <= 0 <= high else 0
        outside += int(counts[NEGATIVE]) if low >= 0 else 0
        share = outside / max(int(counts.sum()), 1)
        text = f"{100 * share:.1f} % of its numbers are outside {low:g} to {high:g}"
        yield evidence.of_code("value-range", ids[code], share, text, "Check the unit of these numbers.")


def _values_missing(evidence: Evidence) -> Iterator[Measure]:
    if not evidence.has_values:
        yield from not_measured(NO_NUMBERS, "values-missing")
        return
    known = evidence.tally.values.sum(axis=1)
    for code in np.flatnonzero((evidence.rows >= _MIN_VALUES) & (2 * known >= evidence.rows)).tolist():
        share = 1 - float(known[code]) / float(evidence.rows[code])
        text = f"{100 * share:.1f} % of its rows have no number"
        yield evidence.of_code("values-missing", code, share, text, "Check how numbers are exported.")


def _by_outcome(evidence: Evidence) -> Iterator[Measure]:
    """Yield the difference of missing data by outcome; only differences beyond chance are measured."""
    problem, cohort = evidence.problem, evidence.problem.cohort
    has_row = problem.matrix.has_events(range(problem.n_windows))
    text = f"{100 * (1 - has_row.mean()):.1f} % of the samples"
    remedy = "Check that events and labels write patient ids in the same form, and that the look-back is long enough."
    yield Measure("empty-samples", "samples", 1 - float(has_row.mean()), text, remedy)
    missing: dict[str, NDArray[Any]] = {"records": ~has_row}
    for column in cohort.demographics:
        if isinstance(column, NumericColumn):
            missing[column.name] = np.isnan(column.values)
        elif "unknown" in column.levels:
            missing[column.name] = column.codes == column.levels.index("unknown")
    for name, is_missing in missing.items():
        figure = _difference(is_missing, problem.y == 1)
        text = f"the share of samples with missing data differs by {100 * figure:.1f} percentage points between the outcomes"
        remedy = "Check whether the data are recorded because of the outcome."
        yield Measure("missing-by-outcome", name, figure, text, remedy)


def _difference(is_missing: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    n1, n0 = int(positive.sum()), int((~positive).sum())
    a, b, p = (float(part.mean()) for part in (is_missing[positive], is_missing[~positive], is_missing))
    error = math.sqrt(p * (1 - p) * (1 / n1 + 1 / n0))
    return abs(a - b) if error > 0 and abs(a - b) / error >= _MIN_Z else 0.0
