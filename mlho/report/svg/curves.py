"""Curves of the test sets as SVG: ROC, precision–recall, calibration and decision curves.

Iterations are thin lines, their mean is bold. The band is a pointwise 95 % interval of the mean, corrected for patients
shared by test sets.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from markupsafe import Markup

from mlho.errors import plural
from mlho.method.stability.student_t import t_quantile
from mlho.report.svg.canvas import Frame, legend, line, marker, polyline, rect, svg, text

N_GRID: Final = 101
MAX_DRAWN: Final = 160  # points of a thin line; more are invisible at this size and enlarge the file
Line = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class MeanCurve:
    """Mean of several curves on one grid, with a pointwise interval if there is more than one curve."""

    x: list[float]
    mean: list[float]
    low: list[float] | None
    high: list[float] | None


def value_at(xs: Sequence[float], ys: Sequence[float], x: float) -> float:
    """Interpolate a curve at ``x``: at a jump the upper end, outside its range the nearest value."""
    best = None
    for (x0, y0), (x1, y1) in pairwise(zip(xs, ys, strict=True)):
        if x0 <= x <= x1:
            here = max(y0, y1) if x1 == x0 else y0 + (y1 - y0) * (x - x0) / (x1 - x0)
            best = here if best is None else max(best, here)
        elif best is not None:
            break
    if best is not None:
        return best
    return ys[0] if x < xs[0] else ys[-1]


def mean_curve(lines: Sequence[Line], grid: Sequence[float], overlap: float | None) -> MeanCurve:
    """Average curves vertically on a grid.

    Parameters
    ----------
    lines : sequence of {"x": ..., "y": ...}
        One curve per test set, with monotonic x.
    overlap : float or None
        Test patients ÷ training patients: correction of the resampled t-interval (Nadeau and Bengio 2003) for patients shared
        by test sets. None: the test sets are not random draws, and their mean has no interval.
    """
    sorted_lines = [_ascending(curve) for curve in lines]
    heights = [[value_at(xs, ys, x) for xs, ys in sorted_lines] for x in grid]
    mean = [math.fsum(values) / len(values) for values in heights]
    n_lines = len(lines)
    if n_lines < 2 or overlap is None:
        return MeanCurve(list(grid), mean, None, None)
    half = [t_quantile(0.975, n_lines - 1) * _standard_error(values, overlap) for values in heights]
    if not any(half):  # equal curves: a band of zero height would suggest an exact curve
        return MeanCurve(list(grid), mean, None, None)
    low = [min(1.0, max(0.0, m - h)) for m, h in zip(mean, half, strict=True)]
    high = [min(1.0, max(0.0, m + h)) for m, h in zip(mean, half, strict=True)]
    return MeanCurve(list(grid), mean, low, high)


def _ascending(curve: Line) -> tuple[list[float], list[float]]:
    pairs = list(zip(curve["x"], curve["y"], strict=True))
    if len(pairs) > 1 and pairs[0][0] > pairs[-1][0]:
        pairs.reverse()
    return [x for x, _ in pairs], [y for _, y in pairs]


def _standard_error(values: Sequence[float], overlap: float) -> float:
    n = len(values)
    mean = math.fsum(values) / n
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return math.sqrt(variance * (1 / n + overlap))


def thinned(
    xs: Sequence[float], ys: Sequence[float], limit: int = MAX_DRAWN
) -> tuple[list[float], list[float]]:
    """Return at most ``limit`` points of a line, evenly spaced by index, including the ends."""
    n = len(xs)
    if n <= limit:
        return list(xs), list(ys)
    keep = sorted({round(i * (n - 1) / (limit - 1)) for i in range(limit)})
    return [xs[i] for i in keep], [ys[i] for i in keep]


def unit_grid() -> list[float]:
    """Return 0, 0.01, … 1."""
    return [i / (N_GRID - 1) for i in range(N_GRID)]


def roc(lines: Sequence[Line], mean: MeanCurve) -> Markup:
    """Draw ROC curves: one thin line per test set, their mean, its interval, and the diagonal of chance."""
    frame = Frame.make((0, 1), (0, 1), "1 − specificity (false alarms)", "Sensitivity (found)", bottom=66.0)
    chance = frame.path([0, 1], [0, 1], "reference")
    body = _lines(frame, lines, mean) + chance + _line_legend(frame, lines, mean, "chance")
    return _chart(
        frame,
        "roc",
        _title("ROC curve", lines),
        f"Sensitivity against false-positive rate{_of_lines(lines)}, with the diagonal of chance.",
        body,
    )


def precision_recall(lines: Sequence[Line], mean: MeanCurve, prevalence: float) -> Markup:
    """Draw precision–recall curves; the dashed level is the prevalence, which random predictions reach."""
    frame = Frame.make((0, 1), (0, 1), "Recall (sensitivity)", "Precision (PPV)", bottom=66.0)
    level = frame.path([0, 1], [prevalence, prevalence], "reference")
    body = _lines(frame, lines, mean) + level + _line_legend(frame, lines, mean, "prevalence")
    return _chart(
        frame,
        "precision-recall",
        _title("Precision–recall curve", lines),
        f"Precision against recall{_of_lines(lines)}, with the level of the prevalence.",
        body,
    )


def _chart(frame: Frame, name: str, title: str, description: str, body: str) -> Markup:
    return svg(name, title, description, frame.width, frame.height, body, data=frame.data)


def _lines(frame: Frame, lines: Sequence[Line], mean: MeanCurve) -> str:
    parts = [frame.background()]
    if mean.low is not None and mean.high is not None:
        parts.append(frame.band(mean.x, mean.low, mean.high, "band"))
    parts += [frame.path(*thinned(curve["x"], curve["y"]), "thin") for curve in lines]
    parts.append(frame.path(mean.x, mean.mean, "bold"))
    return "".join(parts)


def _line_legend(frame: Frame, lines: Sequence[Line], mean: MeanCurve, reference: str) -> str:
    """Return a legend on one row under the axis title."""
    entries = [*_line_entries(lines), ("reference", reference)]
    if mean.low is not None:
        entries.insert(2, ("band", "95 % interval"))
    return _row_legend(entries, frame)


def _line_entries(lines: Sequence[Line]) -> list[tuple[str, str]]:
    """Return the entries of the curves in a legend; a single curve is its own mean."""
    return [("bold", "model")] if len(lines) == 1 else [("thin", "test set"), ("bold", "mean")]


def _title(curve: str, lines: Sequence[Line]) -> str:
    return curve if len(lines) == 1 else f"{curve}s on the test sets"


def _of_lines(lines: Sequence[Line]) -> str:
    return "" if len(lines) == 1 else f" for {plural(len(lines), 'test set')} and their mean"


def _row_legend(entries: Sequence[tuple[str, str]], frame: Frame) -> str:
    return legend(entries, 12, frame.height - 8, frame.width - 16)


Bins = Sequence[Mapping[str, float]]
Histogram = tuple[Sequence[float], Sequence[float | None]]


def calibration(
    name: str,
    lines: Sequence[Line],
    mean: MeanCurve | None,
    bins: Bins,
    histogram: Histogram | None,
    top: float,
) -> Markup:
    """Draw the calibration of the calibrated probabilities.

    Parameters
    ----------
    lines : sequence of {"x": ..., "y": ...}
        Smoothed curve per test set.
    mean : MeanCurve or None
        Their mean over the range of probabilities common to all.
    bins : sequence of {"mean", "observed", "low", "high", "n"}
        Reliability bins of one typical test set, with Wilson intervals.
    histogram : (edges, shares) or None
        Share of samples per probability bin, drawn below the axis; ``None`` if too small to show.
    top : float
        Upper end of both axes.
    """
    both, titles = (0, top), ("Predicted probability", "Observed share")
    frame = Frame.make(both, both, *titles, height=430.0, bottom=136.0, is_open=True)
    marks = [frame.path([0, top], [0, top], "reference")]
    marks += [frame.path(*thinned(curve["x"], curve["y"], 60), "thin") for curve in lines]
    if mean is not None:
        marks.append(frame.path(mean.x, mean.mean, "bold"))
    marks += [_bin(frame, item) for item in bins if item["mean"] <= top]
    parts = [frame.background(), frame.clipped("".join(marks))]
    if histogram is not None:
        parts.append(_histogram_strip(frame, histogram))
    is_single = len(lines) == 1
    points = ("point", "bins" if is_single else "one of them")
    parts.append(_row_legend([*_line_entries(lines), points, ("reference", "ideal")], frame))
    return _chart(
        frame,
        name,
        "Calibration" if is_single else "Calibration on the test sets",
        f"Observed share against predicted probability, smoothed{'' if is_single else f', for {plural(len(lines), "test set")}'}; "
        f"points with intervals are bins{'' if is_single else ' of one typical test set'}; the diagonal is perfect calibration.",
        "".join(parts),
    )


def _bin(frame: Frame, item: Mapping[str, float]) -> str:
    at = frame.x.at(item["mean"])
    whisker = line(at, frame.y.at(item["low"]), at, frame.y.at(item["high"]), "whisker")
    return whisker + marker(at, frame.y.at(item["observed"]), "circle", "point", 3.5)


def _histogram_strip(frame: Frame, histogram: Histogram) -> str:
    edges, shares = histogram
    base, room = frame.height - 30, 40.0
    largest = max((share for share in shares if share is not None), default=0.0) or 1.0
    parts = [text(frame.x.start - 6, base, "share", class_="tick", anchor="end")]
    for (left, right), share in zip(pairwise(edges), shares, strict=True):
        if left >= frame.x.high:
            continue
        x0, x1 = frame.x.at(left), min(frame.x.at(right), frame.x.end)
        if share is None:
            parts.append(rect(x0 + 0.5, base - 2, x1 - x0 - 1, 2, "hidden", "too few to show"))
        elif share > 0:
            height = max(0.8, room * share / largest)
            words = f"{100 * left:.0f} to {100 * right:.0f} %: {100 * share:.1f} % of samples"
            parts.append(rect(x0 + 0.5, base - height, x1 - x0 - 1, height, "bar", words))
    parts.append(line(frame.x.start, base, frame.x.end, base, "axis"))
    return "".join(parts)


def decision(name: str, curve: Mapping[str, Any], end: float) -> Markup:
    """Draw the decision curve: net benefit of the model, of treating all, and of treating none.

    Parameters
    ----------
    curve : mapping
        ``threshold`` (list), ``model`` {mean, low, high}, ``all`` (list). Without ``low`` and ``high`` it is that of one set.
    end : float
        Largest threshold to draw.
    """
    xs, model = curve["threshold"], curve["model"]
    top = max([*(v for v in model["mean"] if v is not None), *(model.get("high") or []), 0.01]) * 1.05
    frame = Frame.make(
        (0, end), (-0.25 * top, top), "Threshold probability", "Net benefit", bottom=66.0, is_open=True
    )
    marks = []
    if model.get("low") and model.get("high"):
        marks.append(frame.band(xs, model["low"], model["high"], "band"))
    marks.append(frame.path([0, end], [0, 0], "reference"))
    marks.append(polyline(_above(frame, xs, curve["all"]), "second"))
    marks.append(frame.path(xs, model["mean"], "bold"))
    parts = [frame.background(), frame.clipped("".join(marks))]
    entries = [("bold", "model"), ("second", "treat all"), ("reference", "treat none")]
    if model.get("low"):
        entries.insert(1, ("band", "range"))
    parts.append(_row_legend(entries, frame))
    return _chart(
        frame,
        name,
        "Decision curve on the test sets" if model.get("low") else "Decision curve",
        "Net benefit against threshold probability for the model, for treating all and for treating none.",
        "".join(parts),
    )


def _above(frame: Frame, xs: Sequence[float], ys: Sequence[float]) -> list[tuple[float, float]]:
    """Return the points of a descending line, clipped at the bottom of the frame."""
    points = []
    for (x0, y0), (x1, y1) in pairwise(zip(xs, ys, strict=True)):
        if y0 < frame.y.low:
            break
        points.append((x0, y0))
        if y1 < frame.y.low:
            points.append((x0 + (x1 - x0) * (y0 - frame.y.low) / (y0 - y1), frame.y.low))
            break
    else:
        points.append((xs[-1], ys[-1]))
    return [(frame.x.at(x), frame.y.at(y)) for x, y in points]


def frequency(shares: Sequence[float], in_consensus: Sequence[bool]) -> Markup:
    """Draw the selection frequency of features in descending order; dots mark the consensus.

    Parameters
    ----------
    shares : sequence of float in [0, 1], descending
    """
    n = len(shares)
    title = "Features, the most frequently selected first"
    frame = Frame.make((0, n), (0, 1), title, "Share of iterations", width=640.0, bottom=66.0)
    steps = [(x, share) for i, share in enumerate(shares) for x in (i, i + 1)]
    corners = [
        p
        for k, p in enumerate(steps)
        if k in (0, len(steps) - 1) or not steps[k - 1][1] == p[1] == steps[k + 1][1]
    ]
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    parts = [frame.background(), frame.band(xs, [0.0] * len(xs), ys, "band"), frame.path(xs, ys, "bold")]
    parts += [
        marker(frame.x.at(i + 0.5), frame.y.at(share), "circle", "accent", 3.5)
        for i, (share, chosen) in enumerate(zip(shares, in_consensus, strict=True))
        if chosen
    ]
    parts.append(_row_legend([("bold", "selected"), ("accent", "in the consensus")], frame))
    reading = f"Share of iterations that selected each of {n} features, in descending order; dots are features of the consensus."
    return svg("frequency", "Selection frequency", reading, frame.width, frame.height, "".join(parts))
