"""Gates: whether the figures of a result reach the bounds of the specification before a promotion."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from mlho.report.bias.audit import BiasAudit
from mlho.report.comparison import difference
from mlho.report.parts import Estimate
from mlho.report.result import BundleTest, GateResult, Spread
from mlho.report.words import metric_name, plural
from mlho.spec.gates import METRIC_KEYS, Gate

_PARTS: Final = {
    "mean": "",
    "low": ", lower end of the 95 % interval",
    "high": ", upper end of the 95 % interval",
}
_VERSUS: Final = {
    "difference": " minus that of the reference group",
    "ratio": " divided by that of the reference group",
    "perYear": ", change per year",
}
_WITHOUT_CONTRAST: Final = {
    "difference": "the group is the reference, or one of the two has no figures",
    "ratio": "the group is the reference, or one of the two has no figures",
    "perYear": "fewer than three periods have figures: set bias.periods",
}
_AGE_DASH: Final = ("-", "–")  # a band of ages is written with an en dash in the report


def judge_gates(
    gates: Sequence[Gate] | None,
    headline: Mapping[str, Spread],
    bias: BiasAudit | None,
    tests: Sequence[BundleTest],
) -> list[GateResult] | None:
    """Evaluate every gate, and check that all self-tests of the bundle have passed.

    Parameters
    ----------
    gates : sequence of Gate or None
        ``None`` if the specification has none.
    headline : mapping of metric to Spread

    Returns
    -------
    list of GateResult or None
        The self-tests first, then in the order of the specification. A gate against a champion is evaluated at promotion. A figure without a value, such as that of a small group,
        does not pass.
    """
    if gates is None:
        return None
    return [_of_tests(tests), *(_judge(gate, headline, bias) for gate in gates)]


def gate_warning(results: Sequence[GateResult] | None) -> list[str]:
    """Return the sentence about failed gates, if there are any."""
    failed = [result for result in results or () if result.passed is False]
    if not failed:
        return []
    named = "; ".join(f"{result.words}: {result.detail}" for result in failed)
    return [
        f"{len(failed)} of {plural(len(results or ()), 'gate')} failed, which blocks the promotion of this model: {named}."
    ]


def _of_tests(tests: Sequence[BundleTest]) -> GateResult:
    n_passed = sum(test.passed for test in tests)
    return GateResult(
        gate={"tests": "passed"},
        words="all self-tests of the bundle pass",
        passed=n_passed == len(tests),
        detail=f"{n_passed} of {len(tests)} passed",
    )


def _judge(gate: Gate, headline: Mapping[str, Spread], bias: BiasAudit | None) -> GateResult:
    plain, words = gate.model_dump(mode="json", by_alias=True), _words(gate)
    if gate.champion is not None:
        return GateResult(gate=plain, words=words, passed=None, detail="evaluated at promotion")
    figure, reason = _figure(gate, headline, bias)
    failures = list(_failures(gate, figure, reason))
    return GateResult(
        gate=plain,
        words=words,
        passed=not failures,
        value=figure.mean,
        low=figure.low,
        high=figure.high,
        detail="; ".join(failures) or _found(figure),
    )


def _figure(gate: Gate, headline: Mapping[str, Spread], bias: BiasAudit | None) -> tuple[Spread, str]:
    """Return the figure of a gate, or the reason for a missing value."""
    absent = Spread(mean=None)
    if gate.groups_by is not None:
        gaps = (
            {} if bias is None else {gap.metric: gap.value for gap in bias.gaps if gap.by == gate.groups_by}
        )
        return _as_spread(_named(gate, gaps)), f"fewer than two groups of {gate.groups_by} have figures"
    if gate.group is None:
        return _named(gate, headline) or absent, "no test set has a value"
    ((by, level),) = gate.group.items()
    groups = [] if bias is None else [group for group in bias.groups[1:] if group.by == by]
    group = next((group for group in groups if group.level in _spellings(level)), None)
    if bias is None or group is None:
        levels = ", ".join(other.level for other in groups) or "none"
        return absent, f"the result has no group {level} of {by}; it has: {levels}"
    if gate.versus is None:
        return _as_spread(_named(gate, group.figures)), group.reason or "the figure does not exist"
    found = _contrasts(gate.versus, bias, by, group.level)
    return _as_spread(_named(gate, found)), group.reason or _WITHOUT_CONTRAST[gate.versus]


def _contrasts(versus: str, bias: BiasAudit, by: str, level: str) -> dict[str, Estimate]:
    """Return the differences, the ratios or the changes per year of a group, by figure."""
    if versus == "perYear":
        return {
            trend.metric: trend.per_year for trend in bias.trends if (trend.by, trend.level) == (by, level)
        }
    return {
        comparison.metric: comparison.difference if versus == "difference" else comparison.ratio
        for comparison in bias.comparisons
        if (comparison.by, comparison.level) == (by, level)
    }


def _as_spread(estimate: Estimate | None) -> Spread:
    if estimate is None:
        return Spread(mean=None)
    return Spread(mean=estimate.value, low=estimate.low, high=estimate.high)


def _named[Figure: (Spread, Estimate)](gate: Gate, figures: Mapping[str, Figure]) -> Figure | None:
    key = METRIC_KEYS[gate.metric]
    if gate.threshold is None:
        return figures.get(key)
    for name, figure in figures.items():
        rule, _, metric = name.rpartition("/")
        if metric == key and rule.partition(":")[0] == gate.threshold:
            return figure
    return None


def _spellings(level: str) -> tuple[str, ...]:
    return level, level.replace(*_AGE_DASH)


def _failures(gate: Gate, figure: Spread, reason: str) -> Iterator[str]:
    """Yield why a gate does not pass, for each bound."""
    if figure.mean is None:
        yield reason
        return
    for part, low, high in gate.bounds():
        value = {"mean": figure.mean, "low": figure.low, "high": figure.high}[part]
        if value is None:
            yield "there is no interval"
        elif (low is not None and value < low) or (high is not None and value > high):
            yield _found(figure)
            return


def _found(figure: Spread) -> str:
    if figure.mean is None:
        return ""
    return difference(Estimate(value=figure.mean, low=figure.low, high=figure.high))


def _words(gate: Gate) -> str:
    """Describe a gate: ``AUROC of sex female, lower end of the 95 % interval, at least 0.7``."""
    name = metric_name(METRIC_KEYS[gate.metric])
    at = f" at threshold {gate.threshold}" if gate.threshold is not None else ""
    group = "".join(f" of {name} {level}" for name, level in (gate.group or {}).items())
    group += "" if gate.groups_by is None else f" between groups of {gate.groups_by}"
    group += _VERSUS.get(gate.versus or "", "")
    champion = f" minus that of the model in {gate.champion}" if gate.champion is not None else ""
    return f"{name}{at}{group}{champion}" + " and".join(_bound_words(gate))


def _bound_words(gate: Gate) -> Iterator[str]:
    for part, low, high in gate.bounds():
        if low is not None and high is not None:
            limits = f"between {low:g} and {high:g}"
        else:
            limits = f"at least {low:g}" if low is not None else f"at most {high:g}"
        yield f"{_PARTS[part]}{',' if _PARTS[part] else ''} {limits}"
