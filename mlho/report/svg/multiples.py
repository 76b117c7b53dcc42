"""Small multiples of counts over time: one small panel for each series, on a common time axis or its own."""

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from mlho.report.svg.canvas import Scale, fitted_text, line, name_at, polyline, svg, text

_PANEL: Final = 62.0
_TOP: Final = 20.0
_GAP: Final = 24.0

Panel = tuple[str, Sequence[str], Sequence[int | None]]


def multiples(name: str, title: str, panels: Sequence[Panel], *, width: float) -> Markup:
    """Draw the panels in two columns on a wide page, in one on a phone.

    Parameters
    ----------
    panels : sequence of (words, labels, counts)
        A hidden count is None and interrupts the line.
    width : float
        In pixels.
    """
    n_columns = 2 if width > 500 else 1
    room = (width - _GAP * (n_columns - 1)) / n_columns
    parts = []
    for place, (words, labels, counts) in enumerate(panels):
        left = (place % n_columns) * (room + _GAP)
        top = (place // n_columns) * (_PANEL + _TOP + _GAP)
        parts.append(_panel(words, labels, counts, left, top, room))
    n_rows = -(-len(panels) // n_columns)
    summary = f"Rows over time in {len(panels)} panels; each has its own scale from zero."
    return svg(name_at(name, width), title, summary, width, n_rows * (_PANEL + _TOP + _GAP), "".join(parts))


def _panel(
    words: str, labels: Sequence[str], counts: Sequence[int | None], left: float, top: float, room: float
) -> str:
    highest = max((count for count in counts if count is not None), default=0)
    x = Scale(0, max(len(counts) - 1, 1), left, left + room)
    y = Scale(0, max(highest, 1), top + _TOP + _PANEL, top + _TOP)
    marks = [
        fitted_text(left, top + 12, words, room - 70),
        text(left + room, top + 12, f"{highest:,}", anchor="end"),
        line(left, y.at(0), left + room, y.at(0), "axis"),
        text(left, y.at(0) + 14, labels[0]),
        text(left + room, y.at(0) + 14, labels[-1], anchor="end"),
    ]
    piece: list[tuple[float, float]] = []
    for place, count in enumerate([*counts, None]):
        if count is not None:
            piece.append((x.at(place), y.at(count)))
        elif piece:
            marks.append(
                polyline(piece if len(piece) > 1 else [*piece, (piece[0][0] + 1, piece[0][1])], "bold")
            )
            piece = []
    return "".join(marks)
