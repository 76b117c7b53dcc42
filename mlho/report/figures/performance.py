"""Figures of the performance: curves, test sets, candidates and errors."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from mlho.report import words
from mlho.report.figures.evaluations import figure_value
from mlho.report.figures.figure import Figure, both
from mlho.report.result import CandidateSummary, Curves, Estimate, Result, Spread, TestSet
from mlho.report.svg import charts, curves
from mlho.report.svg.charts import Row

_NEARLY_ALL: Final = 0.99  # share of the predictions that a zoomed chart shows
_STEP_OF_ZOOM: Final = 0.05
_ZOOMED: Final = " The chart shows the range of 99 % of the predictions."


def of_test_sets(result: Result) -> list[Figure]:
    """Plot the curves of the test sets."""
    typical = _typical_test_set(result)
    return of_curves(
        result.curves,
        prevalence=tested_prevalence(result),
        smallest=words.min_cell_of(result.lineage.spec),
        typical=typical,
        which=f"one test set, the one with the median AUROC ({_test_set_name(result, typical)})",
        overlap=_overlap(result),
    )


def tested_prevalence(result: Result) -> float:
    """Return the mean share of the test samples with the outcome, from the net benefit of treating all; that of the cohort without it.

    By date or site it differs from that of the cohort, and with a time to an event it is corrected for censoring.
    """
    decision, cohort = result.curves.decision, result.cohort
    if not decision.get("all"):
        return cohort.n_positive_samples / cohort.n_samples if cohort.n_samples else 0.0
    threshold, treat_all = float(decision["threshold"][0]), float(decision["all"][0])
    weight = threshold / (1.0 - threshold)
    return (treat_all + weight) / (1.0 + weight)


def of_curves(
    curve_data: Curves,
    *,
    prevalence: float,
    smallest: int,
    typical: int,
    which: str,
    overlap: float | None = 0.0,
) -> list[Figure]:
    """Plot ROC, precision–recall, calibration and decision curves with their means, where data are available.

    Parameters
    ----------
    smallest : int
        Minimum number of samples in a bin of the calibration curve.
    typical : int
        Position of the test set whose bins are drawn.
    which : str
        Description of that test set.
    overlap : float or None
        As in :func:`mlho.report.svg.curves.mean_curve`.
    """
    drawn = (
        _roc(curve_data, overlap),
        _precision_recall(curve_data, prevalence, overlap),
        _calibration(curve_data, smallest, typical=typical, which=which, overlap=overlap),
        _decision(curve_data, smallest),
    )
    return [figure for figure in drawn if figure is not None]


def _roc(curve_data: Curves, overlap: float | None) -> Figure | None:
    lines = [line for line in curve_data.roc if len(line["x"]) > 1]
    if not lines:
        return None
    mean = curves.mean_curve(lines, curves.unit_grid(), overlap)
    return Figure(
        "roc",
        "ROC curve",
        "The closer a line comes to the upper left corner, the better. The diagonal is chance.",
        curves.roc(lines, mean),
        None,
        ("1 − specificity", "Sensitivity", *_interval_column(mean)),
        _curve_rows(mean),
    )


def _precision_recall(curve_data: Curves, prevalence: float, overlap: float | None) -> Figure | None:
    lines = [line for line in curve_data.precision_recall if len(line["x"]) > 1]
    if not lines:
        return None
    mean = curves.mean_curve(lines, curves.unit_grid()[1:], overlap)
    return Figure(
        "precision_recall",
        "Precision–recall curve",
        f"For each sensitivity (share of cases found), the precision (share of alerts that are correct). Random alerts reach the dashed line, the prevalence ({words.percent(prevalence)}).",
        curves.precision_recall(lines, mean, prevalence),
        None,
        ("Recall", "Precision", *_interval_column(mean)),
        _curve_rows(mean),
    )


def _curve_rows(mean: curves.MeanCurve) -> tuple[tuple[str, ...], ...]:
    """Return the mean curve in steps of 0.05, with its interval if it has one."""
    rows: list[tuple[str, ...]] = []
    for i, x in enumerate(mean.x):
        if round(100 * x) % 5 == 0:
            row = (words.number(x), words.number(mean.mean[i], 3))
            if mean.low is None or mean.high is None:
                rows.append(row)
            else:
                is_wide = mean.low[i] < mean.high[i]
                rows.append((*row, words.ends(mean.low[i], mean.high[i], 3) if is_wide else words.DASH))
    return tuple(rows)


def _interval_column(mean: curves.MeanCurve) -> tuple[str, ...]:
    """Return the heading of the intervals; none without them, as for the curve of a single test set."""
    return () if mean.low is None or mean.high is None else ("95 % interval",)


def _calibration(
    curve_data: Curves, smallest: int, *, typical: int, which: str, overlap: float | None
) -> Figure | None:
    """Plot smoothed curves, the bins of one test set, and the distribution of probabilities."""
    items = [_calibration_item(item, smallest) for item in curve_data.calibration]
    lines = [item for item in items if len(item["x"]) > 1]
    bins = items[typical]["bins"] if typical < len(items) else []
    if not lines and not bins:
        return None
    whole_top = _calibration_top(lines, bins)
    mean = _calibration_mean(lines, overlap)
    histogram = _histogram(items)
    top = min(whole_top, _end_of_predictions(histogram))
    is_zoomed = top < whole_top
    return Figure(
        "calibration",
        "Calibration",
        "On the diagonal, 20 of 100 patients with a predicted probability of 20 % have the outcome. Below it, the probabilities are "
        "too high; above it, too low. "
        + (
            f"Points with intervals (Wilson, for independent samples) are bins of {which}."
            if bins
            else f"The bins have too few samples to show ({which})."
        )
        + (" The small bars show how often each probability is predicted." if histogram else "")
        + (_ZOOMED if is_zoomed else ""),
        curves.calibration("calibration", lines, mean, bins, histogram, top),
        None,
        ("Mean probability", "Observed", "95 % interval", "Samples"),
        tuple(
            (
                words.number(b["mean"], 3),
                words.number(b["observed"], 3),
                words.ends(b["low"], b["high"], 3),
                words.count(b["n"]),
            )
            for b in bins
        ),
        curves.calibration("calibration-whole", lines, mean, bins, histogram, whole_top)
        if is_zoomed
        else None,
    )


def _end_of_predictions(histogram: curves.Histogram | None) -> float:
    """Return the probability below which nearly all predictions are, rounded up to a twentieth; 1 if unknown."""
    if histogram is None:
        return 1.0
    edges, shares = histogram
    reached = 0.0
    for end, share in zip(edges[1:], shares, strict=True):
        reached += share or 0.0
        if reached >= _NEARLY_ALL:
            return max(_STEP_OF_ZOOM, math.ceil(end / _STEP_OF_ZOOM - 1e-9) * _STEP_OF_ZOOM)
    return 1.0


def _calibration_item(item: dict[str, Any], smallest: int) -> dict[str, Any]:
    """Return the calibration of one test set under the names used here, without bins that are too small to show."""
    bins = [{**b, "mean": b.get("mean", b.get("mean_predicted"))} for b in item.get("bins", [])]
    return {
        "x": item.get("x", []),
        "y": item.get("y", []),
        "bins": [b for b in bins if b["n"] >= smallest],
        "histogram": item.get("histogram"),
    }


def _test_set_name(result: Result, place: int) -> str:
    """Return the name of a test set; of an iteration of a split by date or column, with the date, site or part that it tests."""
    if place >= len(result.test_sets):
        return f"test set {place + 1}"
    name = result.test_sets[place].name
    tested = {f"iteration {i.iteration}": i.test_set for i in result.iterations if i.test_set is not None}
    return f"{name}, {tested[name]}" if name in tested else name


def _typical_test_set(result: Result) -> int:
    """Return the position of the test set with the median AUROC (the lower of two)."""
    known = sorted(
        (estimate.value, i) for i, estimate in enumerate(result.headline_auroc) if estimate.value is not None
    )
    return known[(len(known) - 1) // 2][1] if known else 0


def _calibration_top(lines: Sequence[dict[str, Any]], bins: Sequence[dict[str, float]]) -> float:
    """Return the end of both axes: the next tenth above all data, so that a rare outcome fills the chart."""
    reached = [v for line in lines for v in (*line["x"], *line["y"])]
    reached += [v for b in bins for v in (b["mean"], b["high"])]
    return min(1.0, max(1, -int(-max(reached) * 10 // 1)) / 10)


def _calibration_mean(lines: Sequence[dict[str, Any]], overlap: float | None) -> curves.MeanCurve | None:
    if not lines:
        return None
    low, high = max(min(line["x"]) for line in lines), min(max(line["x"]) for line in lines)
    if not high > low:
        return None
    grid = [low + (high - low) * i / 50 for i in range(51)]
    return curves.mean_curve(lines, grid, overlap)


def _histogram(items: Sequence[dict[str, Any]]) -> curves.Histogram | None:
    """Return the share of predictions by probability over all test sets; ``None`` for bins hidden in all of them."""
    histograms = [item["histogram"] for item in items if item["histogram"]]
    if not histograms or any(h["edges"] != histograms[0]["edges"] for h in histograms):
        return None
    columns = list(zip(*(h["counts"] for h in histograms), strict=True))
    sums = [None if all(n is None for n in column) else sum(n or 0 for n in column) for column in columns]
    total = sum(n for n in sums if n is not None) or 1
    return histograms[0]["edges"], [None if n is None else n / total for n in sums]


def _decision(curve_data: Curves, smallest: int) -> Figure | None:
    """Plot the net benefit of the model, of treating all and of treating none, with a range where there are several test sets."""
    curve = curve_data.decision
    if not curve.get("threshold"):
        return None
    is_range = len(curve_data.calibration) > 1
    model = curve["model"] if is_range else {"mean": curve["model"]["mean"]}
    low, high = (model.get(end) or [None] * len(model["mean"]) for end in ("low", "high"))
    rows = [
        (
            words.percent(t, 0),
            words.number(mean, 4),
            *([words.ends(a, b, 4) or words.DASH] if is_range else []),
            words.number(everybody, 4),
        )
        for i, (t, mean, a, b, everybody) in enumerate(
            zip(curve["threshold"], model["mean"], low, high, curve["all"], strict=True)
        )
        if i % 5 == 4 or len(model["mean"]) <= 20
    ]
    drawn = {**curve, "model": model}
    items = [_calibration_item(item, smallest) for item in curve_data.calibration]
    whole_end = max(curve["threshold"])
    end = min(whole_end, _end_of_predictions(_histogram(items)))
    return Figure(
        "decision",
        "Decision curve (net benefit)",
        "The threshold is the probability at which one would act. The model is useful where its net benefit exceeds that of both other strategies."
        + (" Shaded: from the lowest to the highest test set." if is_range else "")
        + (_ZOOMED if end < whole_end else ""),
        curves.decision("decision", drawn, end),
        None,
        ("Threshold", "Model", *(["Lowest to highest"] if is_range else []), "Treat all"),
        tuple(rows),
        curves.decision("decision-whole", drawn, whole_end) if end < whole_end else None,
    )


def auroc_by_test_set(result: Result) -> Figure | None:
    """Plot the AUROC on each test set with its interval, and the headline AUROC."""
    named = [
        (_test_set_name(result, place), test_set, estimate)
        for place, (test_set, estimate) in enumerate(
            zip(result.test_sets, result.headline_auroc, strict=False)
        )
    ]
    known = [item for item in named if item[2].value is not None]
    if not known:
        return None
    rows = _auroc_rows(known, result.headline.get("auroc"))
    lowest = min(row.values[1] for row in rows)
    name, title = "auroc", "AUROC on each test set"
    draw = partial(
        charts.intervals,
        name,
        title,
        f"AUROC with 95 % interval, {words.test_sets_in_words(result.test_sets)}, and the headline.",
        rows,
        "AUROC on the test set",
        reference=0.5 if lowest < 0.6 else None,
    )
    return Figure(
        name,
        title,
        f"Each square is one test set with its own 95 % interval{_method(result)}; the diamond is the headline.",
        *both(draw),
        ("Test set", "AUROC (95 % CI)", "Interval"),
        tuple(
            (test_set_name, words.estimate(estimate, 3), estimate.method or words.DASH)
            for test_set_name, _, estimate in named
        ),
    )


def _auroc_rows(known: Sequence[tuple[str, TestSet, Estimate]], overall: Spread | None) -> list[Row]:
    rows = [
        Row(
            f"{words.capitalized(name)} ({test_set.classifier})",
            words.brief(estimate),
            _triple(estimate.value, estimate.low, estimate.high),
        )
        for name, test_set, estimate in known
        if estimate.value is not None
    ]
    if overall is not None and overall.mean is not None:
        rows.insert(
            0,
            Row("Headline", words.brief(overall), _triple(overall.mean, overall.low, overall.high), "chosen"),
        )
    return rows


def _method(result: Result) -> str:
    methods = {estimate.method for estimate in result.headline_auroc if estimate.method}
    return f" ({methods.pop()})" if len(methods) == 1 else ""


def _triple(value: float, low: float | None, high: float | None) -> tuple[float, ...]:
    return (value, value if low is None else low, value if high is None else high)


def candidates(result: Result) -> Figure | None:
    """Plot the test AUROC of each candidate."""
    rows = [row for candidate in result.candidates if (row := _candidate_row(candidate, result)) is not None]
    if not rows:
        return None

    draw = partial(
        charts.intervals,
        "candidates",
        "Candidates compared",
        "Mean test AUROC of each candidate with its interval, and its single iterations as rings.",
        rows,
        "AUROC on the test set",
        reference=None,
    )
    return Figure(
        "candidates",
        "Test AUROC of the candidates",
        "Filled: the mean over iterations with its 95 % interval (diamond: the final model's classifier); rings: single iterations.",
        *both(draw),
        ("Candidate", "Test AUROC", "Lowest", "Highest", "Wins"),
        tuple(_candidate_numbers(candidate) for candidate in result.candidates),
    )


def _candidate_row(candidate: CandidateSummary, result: Result) -> Row | None:
    auroc = candidate.test.get("auroc")
    if auroc is None or auroc.mean is None:
        return None
    single = [
        value
        for iteration in result.iterations
        for fitted in iteration.candidates
        if fitted.classifier == candidate.classifier
        and (value := figure_value(fitted.evaluation, "auroc")) is not None
    ]
    values = (*_triple(auroc.mean, auroc.low, auroc.high), *single)
    return Row(candidate.classifier, words.brief(auroc), values, "chosen" if candidate.is_final else "")


def _candidate_numbers(candidate: CandidateSummary) -> tuple[str, ...]:
    auroc = candidate.test.get("auroc")
    if auroc is None or auroc.mean is None:
        return (candidate.classifier, words.ABSENT, words.DASH, words.DASH, words.count(candidate.wins))
    ends = [words.DASH if v is None else words.number(v, 3) for v in (auroc.minimum, auroc.maximum)]
    return (candidate.classifier, words.spread(auroc, 3), *ends, words.count(candidate.wins))


def errors(result: Result) -> Figure | None:
    """Plot the distribution of the error per patient, by outcome."""
    names = {"negative": "Without the outcome", "positive": "With the outcome"}
    groups = [(key, label, result.errors[key]) for key, label in names.items() if result.errors.get(key)]
    if not groups:
        return None
    return Figure(
        "errors",
        "Distribution of the error, by outcome",
        "Bars on the left are predictions that are confident and correct, bars on the right those that are confident and wrong. The box spans "
        "the middle half, the whiskers the 5th to the 95th percentile. When the outcome is rare, errors of samples with the outcome are large "
        "for any model. For a sample in several test sets, the mean probability is used; its error is smaller than that of a single model.",
        charts.errors([(f"{label} (n = {words.count(group['n'])})", group) for _, label, group in groups]),
        None,
        ("Group", "Samples", "5 %", "25 %", "Median", "75 %", "95 %"),
        tuple(_error_row(label, group) for _, label, group in groups),
    )


def _error_row(label: str, group: dict[str, Any]) -> tuple[str, ...]:
    quantiles = {float(q): value for q, value in (group.get("quantiles") or {}).items()}
    shown = [
        words.number(quantiles[q], 3) if q in quantiles else words.DASH for q in (0.05, 0.25, 0.5, 0.75, 0.95)
    ]
    return (label, words.count(group["n"]), *shown)


def _overlap(result: Result) -> float | None:
    """Return the ratio of test to training patients, for the interval of a mean over test sets; None if they are not drawn."""
    if result.split is not None:
        return None
    n_train = sum(test_set.n_train_patients for test_set in result.test_sets)
    return sum(test_set.n_test_patients for test_set in result.test_sets) / n_train if n_train else 0.0
