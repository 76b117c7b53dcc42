"""Answers to the questions of a reviewer, each with the section that has the details. Pure functions."""

from collections.abc import Callable, Sequence
from typing import Final

from mlho.errors import listed
from mlho.report import words
from mlho.report.bias.audit import BiasAudit, GroupBias
from mlho.report.changes import ChangesSince
from mlho.report.checks import Check
from mlho.report.comparison import difference, turnover
from mlho.report.figures.groups import flagged_of_hundred, have, hundred
from mlho.report.page import limits
from mlho.report.page.bias import is_found, metric_words, n_tested
from mlho.report.page.header import period
from mlho.report.parts import Estimate
from mlho.report.result import Result

_NAMED: Final = 3
_FEW: Final = 0.001  # share of the event rows below which a rule is not named


def questions(result: Result) -> list[tuple[str, str, str]]:
    """Return question, answer, and the section with the details."""
    answers: tuple[tuple[str, Callable[[Result], str], str], ...] = (
        ("Who was included?", _who, "cohort"),
        ("Which records were excluded, and why?", _dropped, "ledger"),
        ("Could there be leakage?", _leaking, "leakage"),
        ("Are the data sound?", _sound, "quality"),
        ("Is the model calibrated?", words.calibrated, "performance"),
        (f"What happens to {hundred(result)[0]}?", _flagged, "performance"),
        ("For whom does the model perform worst?", _failed, "performance"),
        ("What changed since the last run?", _changed, "changes"),
        ("What must not be concluded?", _limited, "limits"),
    )
    return [(question, answer(result), section) for question, answer, section in answers]


def _who(result: Result) -> str:
    cohort = result.cohort
    dates = "" if cohort.index_dates is None else f", index dates {period(cohort.index_dates)}"
    samples = (
        "" if cohort.n_samples == cohort.n_patients else f" with {words.plural(cohort.n_samples, 'sample')}"
    )
    rules = [step.rule for step in cohort.attrition[1:]]
    excluded = (
        f" Rules that excluded patients or samples: {', '.join(f'“{rule}”' for rule in rules)}."
        if rules
        else " No rule excluded a patient or sample."
    )
    return (
        f"{words.plural(cohort.n_patients, 'patient')}{samples}{dates}; "
        f"{words.share(cohort.n_positive_patients, cohort.n_patients)} of the patients have the outcome{words.censored_as_without(result)}.{excluded}"
    )


def _dropped(result: Result) -> str:
    ledger = result.ledger
    n = ledger.rows_in - ledger.rows_used
    by_rows = sorted((rule for rule in ledger.rules if rule.rows), key=lambda rule: -rule.rows)
    if not n or not by_rows:
        return f"None: all {words.plural(ledger.rows_in, 'event row')} are used."
    shown = [rule for rule in by_rows[:_NAMED] if rule.rows >= _FEW * ledger.rows_in] or by_rows[:1]
    named = "; ".join(f"“{rule.rule}” {words.share(rule.rows, ledger.rows_in)}" for rule in shown)
    others = len(by_rows) - len(shown)
    more = f"; and {words.plural(others, 'rule')} with fewer rows" if others else ""
    return f"{words.share(n, ledger.rows_in)} of {words.plural(ledger.rows_in, 'event row')}: {named}{more}."


def _leaking(result: Result) -> str:
    summary = _checked(result.leakage.checks)
    if not result.predictive:
        return f"Yes: there is no prediction at an index date, so records after the outcome may be used. {summary}"
    return f"{summary} Whether a code is known before the outcome is also a clinical question."


def _sound(result: Result) -> str:
    return _checked(result.quality.checks)


def _checked(checks: Sequence[Check]) -> str:
    """State how many checks passed and how many could not be carried out, and name those with findings.

    Examples
    --------
    >>> passed = Check(check="a", title="A", verdict="passed", n_findings=0)
    >>> found = Check(check="b", title="B", verdict="warning", n_findings=2)
    >>> _checked([passed, found])
    '1 of 2 checks passed. Findings: B.'
    """
    absent = [check for check in checks if check.is_absent]
    found = [check for check in checks if check.verdict != "passed"]
    n_passed = len(checks) - len(absent) - len(found)
    summary = f"{n_passed} of {words.plural(len(checks), 'check')} passed"
    summary += f"; {len(absent)} could not be carried out." if absent else "."
    if not found:
        return f"{summary} No findings."
    titles = [
        f"{check.title}{' (allowed with a reason)' if check.verdict == 'allowed' else ''}" for check in found
    ]
    return f"{summary} Findings: {listed(titles, _NAMED, '; ')}."


def _flagged(result: Result) -> str:
    """State of 100 samples how many have the outcome, are flagged at each threshold, and both."""
    counted = flagged_of_hundred(result)
    if not counted:
        return "Not known: no threshold has figures on test sets."
    first, (_, pronoun) = next(iter(counted.values())), hundred(result)
    n_cases = first["hit"] + first["missed"]
    flagged = "; ".join(
        f"at “{words.rule_words(rule)}” {counts['hit'] + counts['false']}, of {pronoun} {counts['hit']} {have(counts['hit'])} it"
        for rule, counts in counted.items()
    )
    return f"{n_cases} of 100 {have(n_cases)} the outcome. The model flags, by threshold: {flagged}."


def _failed(result: Result) -> str:
    audit = result.bias
    if audit is None or len(audit.groups) < 2:
        return (
            "Not known: no groups of patients are declared. Declare them as demographics or in bias.columns."
        )
    shown = [group for group in audit.groups[1:] if group.figures]
    sentences = [_worst(audit, shown, _differs(result)), _different(audit)]
    small = [_name(group) for group in audit.groups[1:] if not group.figures]
    if small:
        sentences.append(f"Too few patients to assess: {listed(small, _NAMED)}.")
    return " ".join(sentence for sentence in sentences if sentence)


def _worst(audit: BiasAudit, shown: Sequence[GroupBias], note: str) -> str:
    """Name the group with the lowest AUROC, and the one whose expected number of outcomes is furthest from the observed one."""
    auroc = [(value, group) for group in shown if (value := group.figures["auroc"].value) is not None]
    balance = [
        (max(value, 1 / value), group)
        for group in shown
        if (value := group.figures["observed_expected"].value)
    ]
    if not auroc or not balance:
        return ""
    lowest = min(auroc, key=lambda pair: pair[0])[1]
    furthest = max(balance, key=lambda pair: pair[0])[1]
    everyone = audit.groups[0].figures.get("auroc")
    of_all = "" if everyone is None else f" (all patients: {_number(everyone)}{note})"
    return (
        f"Lowest AUROC: {_name(lowest)}, {_number(lowest.figures['auroc'])}{of_all}. Observed ÷ expected furthest from 1: "
        f"{_name(furthest)}, {_number(furthest.figures['observed_expected'])}."
    )


def _differs(result: Result) -> str:
    """Return the reason why the AUROC of all patients differs from that of the headline; empty with one test set."""
    if len(result.test_sets) < 2:
        return ""
    if limits.is_pooled(result):
        return "; within each outer fold, unlike the headline, which pools the folds"
    return f"; each sample once, by the first model that tested it, unlike the headline: the mean over {words.plural(len(result.test_sets), 'iteration')}"


def _different(audit: BiasAudit) -> str:
    found = sorted(filter(is_found, audit.comparisons), key=lambda comparison: comparison.adjusted or 0.0)
    n = n_tested(audit.comparisons)
    if not audit.comparisons:
        return ""
    if not n:
        return "Differences between groups were not tested."
    if not found:
        return f"None of {words.plural(n, 'difference')} between groups is significant."
    first = found[0]
    return (
        f"{len(found)} of {words.plural(n, 'difference')} between groups {'is' if len(found) == 1 else 'are'} significant. "
        f"The clearest: {metric_words(first.metric)}, {first.by}: {first.level} against {first.reference}."
    )


def _changed(result: Result) -> str:
    changes = result.changes
    if changes is None:
        return (
            "Not compared: the specification names no earlier run in compareWith. “mlho compare EARLIER LATER” compares two runs, and "
            "“mlho site” shows the versions of a model."
        )
    before, now = changes.earlier, changes.now
    outcome = " → ".join(words.share(size.n_positive_samples, size.n_samples) for size in (before, now))
    used = " → ".join(words.share(size.n_event_rows_used, size.n_event_rows) for size in (before, now))
    n_fields = len(changes.spec)
    fields = (
        f"{words.plural(n_fields, 'field')} of the specification changed"
        if n_fields
        else "the specification is the same"
    )
    return (
        f"Since run {changes.run} ({changes.note}): patients {words.count(before.n_patients)} → {words.count(now.n_patients)}; samples with the outcome "
        f"{outcome}; event rows used {used}; {fields}. {_performed(changes)} Stable features: {turnover(changes)}."
    )


def _performed(changes: ChangesSince) -> str:
    """State the difference of the AUROC, paired if possible."""
    if changes.paired.reason is None:
        auroc = difference(changes.paired.differences["auroc"])
        return f"AUROC on {words.plural(changes.paired.n_samples, 'sample')} tested in both runs: difference {auroc}."
    change = next((figure.difference for figure in changes.performance if figure.metric == "auroc"), None)
    return f"AUROC: {'no difference' if change is None else f'unpaired difference {difference(change)}'}."


def _limited(result: Result) -> str:
    first, *others = limits.limits(result)
    return f"{first} {words.plural(len(others), 'further limitation')} below."


def _name(group: GroupBias) -> str:
    return f"{group.by}: {group.level}"


def _number(estimate: Estimate) -> str:
    return words.brief(estimate, 2)
