"""The leakage sentinel: codes and labels that reveal the outcome instead of predicting it, found before training."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.cohort import NO_BOUND
from mlho.encoding.cohort.counts import shown_count
from mlho.encoding.tally.tally import Tally
from mlho.errors import DataError, listed, plural
from mlho.printable import code_words, cut
from mlho.report.checks import Check, Finding, Leakage, Verdict, worst
from mlho.spec.checks import Leakage as Bounds
from mlho.spec.features import RECENCY
from mlho.training.checks.associations import Associations, associate, associate_demographics
from mlho.training.checks.names import proxies_by_name
from mlho.training.checks.twins import MIN_CODES, MIN_OVERLAP, count_twins
from mlho.training.iterations.problem import Problem

SUSPICIOUS_AUROC: Final = 0.85  # of one code: a warning; genuine single predictors stay far below
SUSPICIOUS_CORRELATION: Final = 0.7
BLOCKED_CORRELATION: Final = 0.85
#: Minimum difference between P(code | outcome) and P(code | no outcome): a code that all patients have is not a finding.
MIN_DIFFERENCE: Final = 0.5
_NEGLIGIBLE: Final = 1e-17  # relative size of a term that no longer changes the sum
MAX_CHANCE: Final = 1e-3  # expected number of codes without effect that reach a finding by chance
NAMED_LIFT: Final = 3.0  # P(outcome | code) ÷ P(outcome) at which a code named like the outcome is a finding
TWIN_SHARE: Final = 0.01
EARLY_SHARE: Final = 0.01
MAX_CELLS: Final = 100_000_000  # of the search for near-duplicates, which holds 8 bytes per cell
_NAMED: Final = 5
_NOT_OF_CODES: Final = ("demographics", "outcome-dates", "near-duplicates")
_NAMES_OUTSIDE: Final = 3

TITLES: Final[Mapping[str, str]] = {
    "one-code-auroc": "One code alone predicts the outcome (AUROC of presence, count, value or recency)",
    "outcome-given-code": "Nearly all samples with one code have the outcome",
    "code-given-outcome": "Nearly all samples with the outcome have one code",
    "co-occurrence": "One code coincides with the outcome (correlation of presence and outcome)",
    "demographics": "A demographic alone reveals the outcome (AUROC, or a level by the bounds of a code)",
    "name": "A code is named like the outcome",
    "after-outcome": "A code is recorded only on or after the date of the outcome",
    "outcome-dates": "The outcome is dated on or before the index date",
    "near-duplicates": "Patients with nearly identical records under several ids",
}


@dataclass(frozen=True)
class _Suspect:
    check: str
    column: int
    is_blocking: bool
    detail: str
    figures: dict[str, float]


def find_leakage(problem: Problem, *, outside: Sequence[str], tally: Tally) -> Leakage:
    """Return the findings of the sentinel.

    Parameters
    ----------
    outside : sequence of str
        Codes of the events without a used row.
    tally : Tally
        Of the codes of the problem, for the rows before and after the date of the outcome.
    """
    # A run with features.after describes codes after an index event, and does not predict.
    default = Bounds() if problem.spec.features.after is None else Bounds(action="warn")
    bounds = problem.spec.leakage or default
    associations = associate(problem)
    suspects = [
        *_strongest(problem, _by_auroc(associations, bounds)),
        *_strongest(problem, _by_association(associations, bounds)),
        *_by_name(problem, associations, bounds),
    ]
    is_dated = problem.cohort.outcome_us is not None
    if is_dated:
        suspects += _after_outcome(problem, tally, associations, bounds)
    findings = [_finding(problem, bounds, suspect) for suspect in suspects]
    findings += [*_of_demographics(problem, bounds), *_early_outcomes(problem, bounds)]
    twins, twin_note = _twins(problem, bounds)
    findings += twins
    unknown = {"after-outcome": "", "near-duplicates": twin_note}
    if not is_dated:
        no_dates = "Not checked: the labels have no date of the outcome (cohort.outcomeDate)."
        unknown |= {"after-outcome": no_dates, "outcome-dates": no_dates}
    checks = [_check(name, title, findings, unknown.get(name, "")) for name, title in TITLES.items()]
    notes = [*_unused_reasons(bounds, findings), *_outside_notes(problem, outside)]
    return Leakage(checks=checks, findings=findings, never_enter=len(outside), notes=notes)


def refuse_leakage(found: Leakage) -> None:
    """Raise the error that stops the run if a finding blocks it."""
    blocked = [finding for finding in found.findings if finding.verdict == "blocked"]
    if not blocked:
        return
    by_subject: dict[str, Finding] = {}
    for finding in blocked:
        by_subject.setdefault(finding.subject, finding)
    key = next(iter(by_subject))
    raise DataError(
        "leakage",
        "the data reveal the outcome, so a model would not predict it",
        expected="no code or label that is recorded because of the outcome",
        got=_named(by_subject),
        remedy=f"{_remedy(blocked)} To train nevertheless, write the reason: leakage: {{allow: {{{json.dumps(key, ensure_ascii=False)}: "
        '"why this is known before the outcome"}}, or leakage: {action: warn} to report it only.',
    )


def leakage_warnings(found: Leakage) -> list[str]:
    """Return the sentences on findings that did not stop the run."""
    warned = [finding for finding in found.findings if finding.verdict == "warning"]
    codes = {finding.subject: finding for finding in warned if finding.check not in _NOT_OF_CODES}
    sentences = [
        f"Possible leakage: {f'{finding.words}: ' if finding.check == 'demographics' else ''}{finding.detail}. {finding.remedy}"
        for finding in warned
        if finding.check in _NOT_OF_CODES
    ]
    if codes:
        sentences.append(f"Possible leakage: {_named(codes)}. {_remedy([*codes.values()])}")
    allowed = {finding.subject: finding for finding in found.findings if finding.verdict == "allowed"}
    sentences += [
        f"Allowed despite possible leakage: {finding.words}: {finding.detail}. Reason given: {finding.reason}"
        for finding in allowed.values()
    ]
    return [*sentences, *found.notes]


def _named(by_subject: Mapping[str, Finding]) -> str:
    found = [f"{finding.words}: {finding.detail}" for finding in by_subject.values()]
    return listed(found, _NAMED, "; ")


def _check(name: str, title: str, findings: Sequence[Finding], note: str) -> Check:
    of_check = [finding for finding in findings if finding.check == name]
    return Check(check=name, title=title, verdict=worst(of_check), n_findings=len(of_check), note=note)


def _by_auroc(associations: Associations, bounds: Bounds) -> Iterator[_Suspect]:
    """Yield the columns that separate the outcome by themselves, the largest AUROC first."""
    names = [*associations.auroc]
    found = []
    for name in names:
        is_far = (associations.auroc[name] - 0.5) / associations.error[name] > 5
        if name in associations.low:
            is_far &= associations.low[name] >= min(SUSPICIOUS_AUROC, bounds.max_auroc)
        found.append(np.where(is_far, associations.auroc[name], 0.5))
    # The first aspect that reaches the bound is named, with its own AUROC.
    aspect = np.minimum(found, bounds.max_auroc).argmax(axis=0)
    auroc = np.take_along_axis(np.array(found), aspect[None], axis=0)[0]
    is_suspicious = auroc >= min(SUSPICIOUS_AUROC, bounds.max_auroc)
    far = np.flatnonzero(is_suspicious & (associations.n_patients >= bounds.min_patients))
    for column in far[np.argsort(-auroc[far], kind="stable")].tolist():
        name = names[aspect[column]]
        what = name if name in ("presence", "count", RECENCY) else "value"
        text = f"its {what}{{when}} alone predicts the outcome with an AUROC of {auroc[column]:.3f}"
        is_blocking = bool(auroc[column] >= bounds.max_auroc)
        yield _Suspect("one-code-auroc", column, is_blocking, text, {"auroc": auroc[column]})


def _strongest(problem: Problem, suspects: Iterator[_Suspect]) -> list[_Suspect]:
    """Return one suspect for each check and code: one that blocks before others, then that of the longest window."""
    found: dict[tuple[str, int], _Suspect] = {}
    for suspect in suspects:
        key = suspect.check, suspect.column // problem.n_windows
        other = found.setdefault(key, suspect)
        if (suspect.is_blocking, suspect.column) > (other.is_blocking, other.column):
            found[key] = suspect
    return [*found.values()]


def _by_association(associations: Associations, bounds: Bounds) -> Iterator[_Suspect]:
    """Yield the columns that reveal the outcome; a figure that chance could reach among so many columns is not a finding."""
    n1, n0 = associations.n_with_outcome, associations.n_without_outcome
    enough = (associations.n_patients >= bounds.min_patients) & (associations.n_positive > 0)
    enough &= n1 >= bounds.min_patients
    base = n1 / (n1 + n0)
    # If patients have several samples, only the patients count as independent.
    share = associations.n_patients / np.maximum(associations.n_samples, 1)
    apart = associations.of_positive - associations.of_negative
    is_full = (associations.of_positive >= bounds.max_share) & (apart >= MIN_DIFFERENCE)
    correlation = associations.correlation
    is_precise, is_alike = associations.precision >= bounds.max_share, correlation >= SUSPICIOUS_CORRELATION
    with_outcome = np.ceil(associations.n_positive * share)
    is_striking = enough & (is_precise | is_full | is_alike)
    by_chance = _by_chance(associations.n_patients, with_outcome, base, is_striking)
    is_real = enough & (by_chance * len(by_chance) <= MAX_CHANCE)
    for code in np.flatnonzero(is_real & is_precise).tolist():
        text = f"at least {100 * bounds.max_share:g} % of the samples with it{{when}} have the outcome"
        yield _Suspect("outcome-given-code", code, True, text, {"bound": bounds.max_share})
    for code in np.flatnonzero(is_real & is_full).tolist():
        text = (
            f"at least {100 * bounds.max_share:g} % of the samples with the outcome have it{{when}}; among the other samples the share is at least "
            f"{100 * MIN_DIFFERENCE:g} percentage points lower"
        )
        yield _Suspect("code-given-outcome", code, True, text, {"bound": bounds.max_share})
    for code in np.flatnonzero(is_real & is_alike).tolist():
        text = f"the correlation of its presence{{when}} with the outcome is {correlation[code]:.2f}"
        is_blocking = bool(correlation[code] >= BLOCKED_CORRELATION)
        yield _Suspect("co-occurrence", code, is_blocking, text, {"correlation": correlation[code]})


def _by_chance(
    n: NDArray[Any], k: NDArray[np.float64], base: float, asked: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Probability of at least ``k`` of ``n`` patients with the outcome where requested, and 1 elsewhere."""
    found = np.ones(len(n))
    for code in np.flatnonzero(asked).tolist():
        found[code] = _binomial_tail(max(int(k[code]), 1), int(n[code]), base)
    return found


def _binomial_tail(k: int, n: int, p: float) -> float:
    """Return the probability of at least ``k`` successes in ``n`` trials, exact to about 1e-9 relative above the expectation.

    Up to the expectation, return 1: no bound on chance distinguishes it from the exact value. Importing scipy.special would take 0.06 s.

    Examples
    --------
    >>> round(_binomial_tail(9, 10, 0.5), 6), _binomial_tail(5, 10, 0.5), _binomial_tail(11, 10, 0.5)
    (0.010742, 1.0, 0.0)
    """
    if k <= n * p:
        return 1.0
    if k > n or not p:
        return 0.0
    ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    term = math.exp(ways + k * math.log(p) + (n - k) * math.log1p(-p))
    total = term
    # Above the expectation the terms decrease, at an increasing rate.
    while k < n and term > total * _NEGLIGIBLE:
        term *= (n - k) / (k + 1) * p / (1.0 - p)
        total += term
        k += 1
    return total


def _by_name(problem: Problem, associations: Associations, bounds: Bounds) -> Iterator[_Suspect]:
    """Yield the codes that are named like the outcome; they block if they also raise its probability."""
    base = associations.n_with_outcome / problem.cohort.n_samples
    named = proxies_by_name(problem.spec.cohort.outcome, problem.codes, problem.concepts.descriptions)
    for code in problem.longest_columns[named].tolist():
        lift = associations.precision[code] / base
        is_strong = associations.n_patients[code] >= bounds.min_patients and (
            lift >= NAMED_LIFT
            or (associations.precision[code] >= 0.9 and associations.of_positive[code] >= 0.5)
        )
        # A high lift alone could be chance: the code must also cover a share of the samples with the outcome.
        is_blocking = bool(is_strong and associations.of_positive[code] >= 0.2)
        text = "its name contains the words of the outcome's name"
        if is_blocking:
            text += f", and the outcome is {lift:.1f} times as frequent with it"
        yield _Suspect("name", code, is_blocking, text, {"lift": lift} if is_blocking else {})


def _after_outcome(
    problem: Problem, tally: Tally, associations: Associations, bounds: Bounds
) -> Iterator[_Suspect]:
    columns = problem.longest_columns
    total = tally.before_outcome + tally.after_outcome
    share = tally.after_outcome / np.maximum(total, 1)
    is_enough = (associations.n_patients[columns] >= bounds.min_patients) & (
        associations.n_positive[columns] >= bounds.min_patients
    )
    for code in columns[is_enough & (total > 0) & (share >= bounds.max_share)].tolist():
        text = f"at least {100 * bounds.max_share:g} % of its rows in patients with the outcome are dated on or after the outcome"
        yield _Suspect("after-outcome", code, True, text, {"bound": bounds.max_share})


def _of_demographics(problem: Problem, bounds: Bounds) -> Iterator[Finding]:
    """Yield one finding for each suspicious demographic. It never blocks: a person chose it, and age or sex may predict as well."""
    names, associations = associate_demographics(problem.cohort)
    if not names:
        return
    seen: set[str] = set()
    for suspect in (*_by_auroc(associations, bounds), *_by_association(associations, bounds)):
        name, level = names[suspect.column]
        if name in seen:
            continue
        seen.add(name)
        yield Finding(
            check="demographics",
            verdict="warning",
            subject=name,
            words=name if level is None else f"{name} “{cut(level)}”",
            detail=suspect.detail.format(when=""),
            figures=_rounded(suspect.figures),
            remedy=f"Check that {name} is known at the index date; otherwise leave it out of features.demographics.",
        )


def _early_outcomes(problem: Problem, bounds: Bounds) -> Iterator[Finding]:
    """Yield the finding on outcomes that are dated on or before the index date."""
    cohort = problem.cohort
    if cohort.outcome_us is None or not problem.spec.cohort.has_index:
        return
    is_dated = (cohort.outcome == 1) & (cohort.outcome_us != NO_BOUND)
    is_early = is_dated & (cohort.outcome_us <= cohort.index_us)
    n = len(np.unique(cohort.unit_of[is_early]))
    if not n:
        return
    is_blocking = n >= bounds.min_patients and is_early.sum() > EARLY_SHARE * is_dated.sum()
    counted = shown_count(n, "patient", problem.spec.report.min_cell)
    text = f"the outcome of {counted} is dated on or before the index date"
    remedy = "Move the index date before the outcome, leave these samples out, or set cohort.gapDays."
    yield _table_finding("outcome-dates", bounds, is_blocking=bool(is_blocking), text=text, remedy=remedy)


def _twins(problem: Problem, bounds: Bounds) -> tuple[list[Finding], str]:
    if problem.matrix.n_cells > MAX_CELLS:
        return [], f"Not checked: the matrix has more than {MAX_CELLS:,} cells."
    n, n_units = count_twins(problem)
    looked = f"Compared: {plural(n_units, 'patient')} with at least {MIN_CODES} codes."
    if not n:
        return [], looked
    is_blocking = n >= bounds.min_patients and n >= TWIN_SHARE * len(problem.cohort.unit_ids)
    counted = shown_count(n, "patient", problem.spec.report.min_cell)
    text = (
        f"{counted} share at least {100 * MIN_OVERLAP:g} % of their codes and counts with a patient under another id, "
        "so the same person may be in both training and test parts"
    )
    remedy = "Name the person behind the ids in cohort.groupBy, or merge the ids."
    finding = _table_finding("near-duplicates", bounds, is_blocking=is_blocking, text=text, remedy=remedy)
    return [finding], looked


def _table_finding(check: str, bounds: Bounds, *, is_blocking: bool, text: str, remedy: str) -> Finding:
    verdict, reason = _verdict(bounds, check, is_blocking=is_blocking)
    return Finding(
        check=check,
        verdict=verdict,
        subject=check,
        words="Labels" if check == "outcome-dates" else "Patients",
        detail=text,
        remedy=remedy,
        reason=reason,
    )


def _finding(problem: Problem, bounds: Bounds, suspect: _Suspect) -> Finding:
    code = problem.codes[suspect.column // problem.n_windows]
    window = problem.window_of(suspect.column)
    is_longest = window == problem.n_windows - 1
    when = "" if is_longest else f" in the {problem.windows[window]} days before the index date"
    verdict, reason = _verdict(bounds, code, is_blocking=suspect.is_blocking)
    patterns = dict.fromkeys([*(problem.spec.features.exclude or ()), code])
    return Finding(
        check=suspect.check,
        verdict=verdict,
        subject=code,
        words=code_words(code, problem.concepts.descriptions.get(code)),
        detail=suspect.detail.format(when=when),
        figures=_rounded(suspect.figures),
        remedy=f"features: {{exclude: {json.dumps([*patterns], ensure_ascii=False)}}}",
        reason=reason,
    )


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: round(float(value), 3) for name, value in figures.items()}


def _verdict(bounds: Bounds, subject: str, *, is_blocking: bool) -> tuple[Verdict, str | None]:
    if not is_blocking or bounds.action == "warn":
        return "warning", None
    reason = bounds.allow.get(subject)
    return ("blocked", None) if reason is None else ("allowed", reason)


def _remedy(findings: Sequence[Finding]) -> str:
    """Return the remedy, with the line of the specification that excludes the codes."""
    of_codes = [finding for finding in findings if finding.remedy.startswith("features:")]
    if not of_codes:
        return findings[0].remedy
    patterns: dict[str, None] = {}
    for finding in of_codes:
        line = finding.remedy.partition("exclude: ")[2].removesuffix("}")
        patterns |= dict.fromkeys(json.loads(line))
    return (
        "Such a code is usually recorded because of the outcome: check when it is recorded, then set an index date or a gap, or "
        f"leave it out: features: {{exclude: {json.dumps([*patterns], ensure_ascii=False)}}}."
    )


def _unused_reasons(bounds: Bounds, findings: Sequence[Finding]) -> list[str]:
    allowed = {finding.subject for finding in findings if finding.verdict == "allowed"}
    unused = sorted(set(bounds.allow) - allowed)
    return [f"leakage.allow names {name!r}, which is not a blocking finding: remove it." for name in unused]


def _outside_notes(problem: Problem, outside: Sequence[str]) -> list[str]:
    """Return the note on codes that are named like the outcome and cannot become features."""
    alike = [outside[place] for place in proxies_by_name(problem.spec.cohort.outcome, outside, {})]
    if not alike:
        return []
    return [
        f"Codes named like the outcome that are recorded outside the windows of all samples, so no model uses them: "
        f"{', '.join(map(cut, alike[:_NAMES_OUTSIDE]))}."
    ]
