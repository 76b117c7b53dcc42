"""Small multiples: one panel for each group, with points and their intervals over periods."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from mlho.report.svg.canvas import (
    WIDE_ENOUGH,
    Scale,
    fitted_text,
    line,
    marker,
    name_at,
    svg,
    text,
    tick_label,
)
from mlho.report.svg.charts import WIDE

PANEL_HEIGHT: Final = 132.0
LEFT, TOP, BOTTOM, RIGHT = 40.0, 24.0, 24.0, 12.0
MAX_TICKS: Final = 4


@dataclass(frozen=True)
class Panel:
    """One group: its label, and (period, value, low, high) of each period with a value."""

    label: str
    points: tuple[tuple[int, float, float, float], ...]


def small_multiples(
    name: str,
    title: str,
    description: str,
    panels: Sequence[Panel],
    periods: Sequence[str],
    *,
    reference: float | None,
    width: float = WIDE,
) -> Markup:
    """Draw the panels on common scales.

    Parameters
    ----------
    periods : sequence of str
        In the order of time; the first and the last are written below each panel.
    reference : float or None
        Value of the dashed line.
    """
    across = min(len(panels), 3 if width >= WIDE_ENOUGH else 1)
    reached = [value for panel in panels for point in panel.points for value in point[1:]]
    reached += [] if reference is None else [reference]
    margin = 0.06 * (max(reached) - min(reached) or 1.0)
    bounds = min(reached) - margin, max(reached) + margin
    wide = width / across
    parts = [
        _panel(
            panel, periods, bounds, reference, (place % across) * wide, (place // across) * PANEL_HEIGHT, wide
        )
        for place, panel in enumerate(panels)
    ]
    height = PANEL_HEIGHT * -(-len(panels) // across)
    return svg(name_at(name, width), title, description, width, height, "".join(parts))


def _panel(
    panel: Panel,
    periods: Sequence[str],
    bounds: tuple[float, float],
    reference: float | None,
    left: float,
    top: float,
    width: float,
) -> str:
    across = Scale(0, max(1, len(periods) - 1), left + LEFT + 6, left + width - RIGHT - 6)
    up = Scale(*bounds, top + PANEL_HEIGHT - BOTTOM, top + TOP)
    start, end = left + LEFT, left + width - RIGHT
    parts = [fitted_text(start, top + 14, panel.label, end - start, class_="heading")]
    ticks = up.ticks()
    for tick in ticks[:: -(-len(ticks) // MAX_TICKS)]:
        at = up.at(tick)
        parts += [
            line(start, at, end, at, "grid"),
            text(start - 4, at + 4, tick_label(tick), class_="tick", anchor="end"),
        ]
    parts.append(line(start, up.start, end, up.start, "axis"))
    if reference is not None:
        parts.append(line(start, up.at(reference), end, up.at(reference), "reference"))
    parts.append(text(start, up.start + 15, periods[0], class_="tick"))
    parts.append(text(end, up.start + 15, periods[-1], class_="tick", anchor="end"))
    for period, value, low, high in panel.points:
        x = across.at(period)
        parts.append(line(x, up.at(low), x, up.at(high), "whisker") if high > low else "")
        parts.append(marker(x, up.at(value), "square", "point", 3.0))
    return "".join(parts)
