"""A small chart of one figure over days; several of them side by side are the small multiples of a model's page."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from markupsafe import Markup

from mlho.report.svg.canvas import Scale, line, marker, polygon, polyline, svg, text, tick_label

WIDTH: Final = 380.0
HEIGHT: Final = 170.0
_LEFT: Final = 62.0
_MARK: Final = 2.6
_MAX_MARKED: Final = 45  # with more days, marks would cover the line


@dataclass(frozen=True)
class DayValue:
    """The figure of one day; without a value the line is interrupted."""

    day: dt.date
    value: float | None
    low: float | None = None
    high: float | None = None


def timeline(
    name: str,
    title: str,
    description: str,
    values: Sequence[DayValue],
    *,
    references: Sequence[float] = (),
    changes: Sequence[dt.date] = (),
    is_from_zero: bool = True,
) -> Markup:
    """Draw a figure over days.

    Parameters
    ----------
    values : sequence of DayValue
        In order of date; at least one.
    references : sequence of float
        Dashed horizontal lines.
    changes : sequence of date
        Days from which a different version of the model was used: vertical lines.
    is_from_zero : bool
        Whether the axis begins at 0.
    """
    first, last = values[0].day, values[-1].day
    x = Scale(first.toordinal(), max(last.toordinal(), first.toordinal() + 1), _LEFT, WIDTH - 12)
    y = _scale([*_reached(values), *references], is_from_zero=is_from_zero)
    is_counted = all(isinstance(day_value.value, int | None) for day_value in values)
    parts = [_axes(x, y, first, last, is_counted=is_counted)]
    parts += [line(x.start, y.at(reference), x.end, y.at(reference), "reference") for reference in references]
    parts += [line(x.at(day.toordinal()), y.start, x.at(day.toordinal()), y.end, "link") for day in changes]
    pieces = groupby(values, lambda day_value: day_value.value is not None)
    parts += [_piece(list(group), x, y) for is_there, group in pieces if is_there]
    if len(values) <= _MAX_MARKED:
        parts += [
            marker(x.at(day_value.day.toordinal()), y.at(day_value.value), "circle", "point", _MARK)
            for day_value in values
            if day_value.value is not None
        ]
    return svg(name, title, description, WIDTH, HEIGHT, "".join(parts))


def _reached(values: Sequence[DayValue]) -> list[float]:
    ends = ((day_value.value, day_value.low, day_value.high) for day_value in values)
    return [end for bounds in ends for end in bounds if end is not None]


def _scale(reached: Sequence[float], *, is_from_zero: bool) -> Scale:
    low, high = min(reached, default=0.0), max(reached, default=1.0)
    low = min(low, 0.0) if is_from_zero else low
    margin = 0.08 * (high - low or abs(high) or 1.0)
    return Scale(low if is_from_zero else low - margin, high + margin, HEIGHT - 26, 10.0)


def _axes(x: Scale, y: Scale, first: dt.date, last: dt.date, *, is_counted: bool) -> str:
    parts = []
    for tick in y.ticks():
        if is_counted and not tick.is_integer():  # there is no half code
            continue
        parts += [
            line(x.start, y.at(tick), x.end, y.at(tick), "grid"),
            text(x.start - 6, y.at(tick) + 4, tick_label(tick), class_="tick", anchor="end"),
        ]
    parts.append(line(x.start, y.start, x.end, y.start, "axis"))
    parts.append(text(x.start, y.start + 17, first.isoformat(), class_="tick"))
    if last > first:
        parts.append(text(x.end, y.start + 17, last.isoformat(), class_="tick", anchor="end"))
    return "".join(parts)


def _piece(values: Sequence[DayValue], x: Scale, y: Scale) -> str:
    """Return the line through days that all have a value, and the band of their intervals; a mark for a day alone."""
    places = [(x.at(day_value.day.toordinal()), day_value) for day_value in values]
    upper = [(at, y.at(day_value.high)) for at, day_value in places if day_value.high is not None]
    lower = [(at, y.at(day_value.low)) for at, day_value in places if day_value.low is not None]
    band = polygon([*upper, *reversed(lower)], "band") if len(upper) > 1 else ""
    points = [(at, y.at(day_value.value)) for at, day_value in places if day_value.value is not None]
    if len(points) > 1:
        return band + polyline(points, "bold")
    whisker = line(*upper[0], *lower[0], "whisker") if upper and lower else ""
    return whisker + marker(*points[0], "circle", "point", _MARK)
