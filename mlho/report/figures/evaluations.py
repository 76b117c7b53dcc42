"""Access to the evaluations of a result: JSON of ``mlho.method.evaluation.evaluation.Evaluation``, one per iteration and candidate."""

from collections.abc import Iterator, Mapping
from typing import Any

from mlho.report.result import Result

Tidy = tuple[str, float | None, float | None, float | None, str | None]


def figure_value(evaluation: Mapping[str, Any], metric: str) -> float | None:
    """Return one metric of an evaluation, or None if absent."""
    figure = evaluation.get("figures", {}).get(metric)
    return None if figure is None else figure.get("value")


def tidy_figures(evaluation: Mapping[str, Any]) -> Iterator[Tidy]:
    """Yield (metric, value, low, high, reason) of an evaluation: overall, by calibration version, and by threshold.

    Names of metrics of a version or a threshold have it as prefix: ``calibrated/slope``, ``youden/sensitivity``.
    """
    yield from _tidy("", evaluation.get("figures", {}))
    for version, report in sorted(evaluation.get("calibration", {}).items()):
        yield from _tidy(f"{version}/", report.get("figures", {}))
    for rule, report in sorted(evaluation.get("thresholds", {}).items()):
        yield from _tidy(f"{rule}/", report.get("figures", {}))


def _tidy(prefix: str, figures: Mapping[str, Mapping[str, Any]]) -> Iterator[Tidy]:
    for metric, figure in sorted(figures.items()):
        yield (
            prefix + metric,
            figure.get("value"),
            figure.get("low"),
            figure.get("high"),
            figure.get("reason"),
        )


def tried_thresholds(result: Result) -> dict[str, list[float]]:
    """Return the thresholds applied to the test sets, by rule; test sets without a threshold are omitted."""
    tried: dict[str, list[float]] = {}
    for test_set in result.test_sets:
        for rule, threshold in sorted(test_set.thresholds.items()):
            if threshold is not None:
                tried.setdefault(rule, []).append(threshold)
    return tried
