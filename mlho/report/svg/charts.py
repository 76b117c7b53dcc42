"""SVG charts of labelled rows: forest plot, importance, waterfall, intervals; and the error distribution.

Each has a wide version (labels beside the marks) and a narrow one for a phone (labels above them).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from markupsafe import Markup

from mlho.report.svg.canvas import (
    WIDE_ENOUGH,
    Scale,
    element,
    fitted_text,
    line,
    marker,
    name_at,
    rect,
    svg,
    text,
    text_width,
    tick_label,
)

WIDE: Final = 900.0
NARROW: Final = 400.0
MIN_TICK_GAP: Final = 30.0  # pixels between two labels of an axis


@dataclass(frozen=True)
class Row:
    """One row of a chart: its label, its formatted figures, and its values; a heading has no values."""

    label: str
    note: str = ""
    values: tuple[float, ...] = ()
    """Input of the chart's drawing function."""
    kind: str = ""
    """Style of the mark, as defined by the chart."""
    is_heading: bool = False


Draw = Callable[[Row, Scale, float], str]


@dataclass(frozen=True)
class _Layout:
    width: float
    start: float
    end: float
    row_height: float
    mark_offset: float
    is_wide: bool


def _layout(width: float, note_room: float, rows: Sequence[Row]) -> _Layout:
    if width >= WIDE_ENOUGH:
        longest = max((text_width(row.label) for row in rows if not row.is_heading), default=0.0)
        lane = min(width * 0.42, longest + 24)
        return _Layout(width, lane, width - note_room - 14, 24.0, 0.0, is_wide=True)
    return _Layout(width, 8.0, width - note_room * 0.92 - 12, 46.0, 10.0, is_wide=False)


@dataclass(frozen=True)
class _HorizontalAxis:
    """The axis below a chart. ``ticks`` replace those of the scale; ``reference`` is the value of a vertical line."""

    bounds: tuple[float, float]
    title: str
    is_log: bool = False
    reference: float | None = None
    ticks: Sequence[tuple[float, str]] | None = None


def _rows_chart(
    name: str,
    title: str,
    description: str,
    rows: Sequence[Row],
    draw: Draw,
    *,
    axis: _HorizontalAxis,
    width: float,
    note_room: float = 130.0,
) -> Markup:
    """Draw labelled rows over one horizontal axis."""
    layout = _layout(width, note_room, rows)
    scale = Scale(*axis.bounds, layout.start, layout.end, axis.is_log)
    heights = [28.0 if row.is_heading else layout.row_height for row in rows]
    bottom = sum(heights) + 6
    ticks = [(tick, tick_label(tick)) for tick in scale.ticks()] if axis.ticks is None else axis.ticks
    parts = [_axis(scale, bottom, axis.title, ticks)]
    if axis.reference is not None:
        at = scale.at(axis.reference)
        parts.append(line(at, 4, at, bottom, "reference"))
    y = 4.0
    for row, height in zip(rows, heights, strict=True):
        parts.append(_heading(row, y) if row.is_heading else _row(row, scale, y + height / 2, layout, draw))
        y += height
    return svg(name_at(name, width), title, description, width, bottom + 42, "".join(parts))


def _axis(scale: Scale, bottom: float, title: str, ticks: Sequence[tuple[float, str]]) -> str:
    parts, last = [line(scale.start, bottom, scale.end, bottom, "axis")], float("-inf")
    for tick, label in ticks:
        at = scale.at(tick)
        if at - last < MIN_TICK_GAP:
            continue
        last = at
        parts += [
            line(at, 4, at, bottom, "grid"),
            text(at, bottom + 16, label, class_="tick", anchor="middle"),
        ]
    middle = max(
        (scale.start + scale.end) / 2, 4 + text_width(title) / 2
    )  # a long title begins at the left edge
    parts.append(text(middle, bottom + 34, title, class_="t", anchor="middle"))
    return "".join(parts)


def _heading(row: Row, y: float) -> str:
    return text(4, y + 19, row.label, class_="heading")


def _row(row: Row, scale: Scale, middle: float, layout: _Layout, draw: Draw) -> str:
    at = middle + layout.mark_offset
    note = text(layout.width - 4, at + 4, row.note, class_="tick", anchor="end") if row.note else ""
    if layout.is_wide:
        label = fitted_text(layout.start - 12, at + 4, row.label, layout.start - 16, anchor="end")
    else:
        label = fitted_text(4, middle - 6, row.label, layout.width - 8)
    return label + draw(row, scale, at) + note


def forest(
    name: str,
    title: str,
    rows: Sequence[Row],
    bounds: tuple[float, float],
    axis_title: str,
    *,
    width: float = WIDE,
) -> Markup:
    """Draw a forest plot: odds ratio and interval on a logarithmic axis.

    Parameters
    ----------
    rows : sequence of Row
        ``values`` are odds ratio, low, high, or empty where there is none; ``kind`` is ``up`` or ``down`` (shapes and colours differ).
    bounds : (low, high)
        Ends of the axis; an interval beyond them ends in an arrow.
    """
    n = sum(not row.is_heading for row in rows)
    return _rows_chart(
        name,
        title,
        f"Odds ratios with 95 % intervals of {n} features on a logarithmic axis; right of 1 means higher odds of the outcome.",
        rows,
        _forest_mark,
        axis=_HorizontalAxis(bounds, axis_title, is_log=True, reference=1.0),
        width=width,
    )


def _forest_mark(row: Row, scale: Scale, y: float) -> str:
    if not row.values:
        return ""
    value = row.values[0]
    shape, class_ = ("square", "up") if row.kind == "up" else ("diamond", "down")
    whisker = ""
    if len(row.values) == 3:
        low, high = row.values[1:]
        whisker = line(scale.at(low), y, scale.at(high), y, f"whisker {class_}")
        whisker += _arrow(scale.start, y, -1) if low < scale.low else ""
        whisker += _arrow(scale.end, y, 1) if high > scale.high else ""
    # A mark at the edge would be mistaken for the value there.
    is_inside = scale.low <= value <= scale.high
    return whisker + (marker(scale.at(value), y, shape, class_) if is_inside else "")


def _arrow(x: float, y: float, direction: int) -> str:
    return element(
        "path",
        d=f"M{x - 5 * direction:.1f} {y - 4:.1f}L{x:.1f} {y:.1f}L{x - 5 * direction:.1f} {y + 4:.1f}",
        class_="arrow",
    )


def importance(rows: Sequence[Row], *, width: float = WIDE) -> Markup:
    """Draw the mean contribution of features to the log-odds (``values``: one number from 0)."""
    top = max((row.values[0] for row in rows), default=0.0) or 1.0
    return _rows_chart(
        "importance",
        "Features of the final model by importance",
        f"Mean absolute contribution to the log-odds of the {len(rows)} most important features.",
        rows,
        lambda row, scale, y: rect(scale.start, y - 6, scale.at(row.values[0]) - scale.start, 12, "bar"),
        axis=_HorizontalAxis((0, top), "Mean absolute contribution (log-odds)"),
        width=width,
        note_room=60.0,
    )


def waterfall(
    number: int,
    title: str,
    rows: Sequence[Row],
    ticks: Sequence[tuple[float, str]],
    axis_title: str,
    *,
    width: float = WIDE,
) -> Markup:
    """Draw the contributions that add up to the log-odds, over an axis of probabilities.

    Parameters
    ----------
    number : int
        Distinguishes the charts of one page.
    rows : sequence of Row
        ``values`` are the start and the end of the bar in log-odds; of ``total`` and ``last`` the end alone. ``kind`` is
        ``total``, ``up``, ``down`` or ``last``.
    """
    reached = [v for row in rows for v in row.values]
    low, high = min(reached), max(reached)
    margin = 0.12 * (high - low or 1.0)
    return _rows_chart(
        f"profile-{number}",
        f"Contributions: {title}",
        "Bars from the base to the probability of the profile; each starts where the one above ends.",
        rows,
        _fall,
        axis=_HorizontalAxis(
            (low - margin, high + margin),
            axis_title,
            ticks=[(at, label) for at, label in ticks if low - margin <= at <= high + margin],
        ),
        width=width,
        note_room=64.0,
    )


def _fall(row: Row, scale: Scale, y: float) -> str:
    start, end = scale.at(row.values[0]) if len(row.values) > 1 else scale.start, scale.at(row.values[-1])
    left, wide = min(start, end), max(abs(end - start), 1.0)
    link = line(end, y + 6, end, y + 18, "link") if row.kind != "last" else ""
    if row.kind in ("total", "last"):
        return rect(left, y - 6, wide, 12, "total") + link
    return (
        rect(left, y - 6, wide, 12, f"fill-{row.kind}") + _arrow(end, y, 1 if row.kind == "up" else -1) + link
    )


def intervals(
    name: str,
    title: str,
    description: str,
    rows: Sequence[Row],
    axis_title: str,
    *,
    reference: float | None,
    width: float = WIDE,
) -> Markup:
    """Draw values with intervals and the single iterations.

    Parameters
    ----------
    rows : sequence of Row
        ``values`` are value, low, high and then any number of single values, drawn as small rings above; low = high if there
        is no interval; ``kind`` is ``chosen`` for the chosen row.
    """
    reached = [value for row in rows for value in row.values] + ([] if reference is None else [reference])
    low, high = min(reached), max(reached)
    margin = 0.06 * (high - low or 1.0)
    return _rows_chart(
        name,
        title,
        description,
        rows,
        _interval,
        axis=_HorizontalAxis((low - margin, high + margin), axis_title, reference=reference),
        width=width,
    )


def _interval(row: Row, scale: Scale, y: float) -> str:
    value, low, high, *single = row.values
    rings = "".join(marker(scale.at(v), y - 7, "circle", "ring", 2.6) for v in single)
    whisker = line(scale.at(low), y, scale.at(high), y, "whisker") if high > low else ""
    return (
        rings
        + whisker
        + marker(scale.at(value), y, "diamond" if row.kind == "chosen" else "square", "point", 4.0)
    )


def errors(groups: Sequence[tuple[str, Mapping[str, Any]]]) -> Markup:
    """Draw the distribution of |y − p|, one panel per group, as shares of the group.

    Parameters
    ----------
    groups : sequence of (label, distribution)
        ``bin_edges``, ``counts`` (``None``: too few to show), ``n``, and ``quantiles`` or ``None``.
    """
    width, panel = 440.0, 150.0
    scale = Scale(0.0, 1.0, 20.0, width - 14)
    parts = [
        _panel(scale, 8 + i * panel, label, group, f"bar g{i}") for i, (label, group) in enumerate(groups)
    ]
    bottom = 8 + panel * len(groups)
    ticks = "".join(
        text(scale.at(t), bottom + 10, tick_label(t), class_="tick", anchor="middle") for t in scale.ticks()
    )
    title = text(
        (scale.start + scale.end) / 2,
        bottom + 29,
        "Error |y − p| (0 correct and confident, 1 wrong and confident)",
        anchor="middle",
    )
    return svg(
        "errors",
        "Error per patient, by outcome",
        "Histograms of the absolute difference between outcome and probability: "
        + "; ".join(label for label, _ in groups)
        + ".",
        width,
        bottom + 38,
        "".join(parts) + ticks + title,
    )


def _panel(scale: Scale, top: float, label: str, group: Mapping[str, Any], class_: str) -> str:
    base, room = top + 112.0, 78.0
    counts: Sequence[int | None] = group["counts"]
    largest = max((count for count in counts if count is not None), default=0) or 1
    parts = [text(scale.start, top + 14, label, class_="heading")]
    for (left, right), n in zip(pairwise(group["bin_edges"]), counts, strict=True):
        x0, x1 = scale.at(left), scale.at(right)
        if n is None:
            parts.append(rect(x0 + 1, base - 3, x1 - x0 - 2, 3, "hidden", "too few to show"))
        elif n > 0:
            height = max(1.0, room * n / largest)
            parts.append(
                rect(x0 + 1, base - height, x1 - x0 - 2, height, class_, f"{left:g} to {right:g}: {n:,}")
            )
    parts.append(line(scale.start, base, scale.end, base, "axis"))
    quantiles = group.get("quantiles")
    if quantiles:
        parts.append(_box(scale, base + 12, quantiles))
    return "".join(parts)


def _box(scale: Scale, y: float, quantiles: Mapping[str, float]) -> str:
    """Return a box plot: whiskers at 5 and 95 %, box at 25 and 75 %, a mark at the median."""
    q = {float(key): scale.at(value) for key, value in quantiles.items()}
    whisker = line(q[0.05], y, q[0.95], y, "whisker")
    return (
        whisker
        + rect(q[0.25], y - 5, q[0.75] - q[0.25], 10, "box")
        + line(q[0.5], y - 7, q[0.5], y + 7, "median")
    )
