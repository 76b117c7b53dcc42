"""Boxes in rows, with an arrow from each box to each box of the next row: the flow from inputs to outputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from markupsafe import Markup

from mlho.report.svg.canvas import fitted_text, line, name_at, polygon, rect, svg

_HEIGHT: Final = 62.0
_BETWEEN: Final = 12.0
_DOWN: Final = 30.0
_WIDEST: Final = 230.0
_EDGE: Final = 1.0  # half of a stroke


@dataclass(frozen=True)
class Box:
    """A box with a heading and two lines."""

    heading: str
    first: str
    second: str


def flow(name: str, title: str, rows: Sequence[Sequence[Box]], *, width: float) -> Markup:
    """Draw the rows from top to bottom, each in the middle of ``width`` pixels."""
    parts: list[str] = []
    places = [_places(len(row), width) for row in rows]
    for depth, (above, below) in enumerate(pairwise(places)):
        top = _EDGE + depth * (_HEIGHT + _DOWN) + _HEIGHT
        parts += [_arrow(_middle(start), top, _middle(end), top + _DOWN) for start in above for end in below]
    for depth, (row, place) in enumerate(zip(rows, places, strict=True)):
        top = _EDGE + depth * (_HEIGHT + _DOWN)
        for box, (left, room) in zip(row, place, strict=True):
            parts.append(rect(left, top, room, _HEIGHT, "box"))
            for number, words in enumerate((box.heading, box.first, box.second)):
                class_ = "tick" if number else "heading"
                y = top + 19 + 17 * number
                parts.append(
                    fitted_text(left + room / 2, y, words, room - 12, class_=class_, anchor="middle")
                )
    description = "; then ".join(" and ".join(f"{box.heading} ({box.first})" for box in row) for row in rows)
    height = len(rows) * (_HEIGHT + _DOWN) - _DOWN + 2 * _EDGE
    return svg(name_at(name, width), title, f"{description}.", width, height, "".join(parts))


def _places(n: int, width: float) -> list[tuple[float, float]]:
    """Return the left edge and the width of each box of a row."""
    room = min(_WIDEST, (width - 2 * _EDGE - (n - 1) * _BETWEEN) / n)
    first = (width - n * room - (n - 1) * _BETWEEN) / 2
    return [(first + place * (room + _BETWEEN), room) for place in range(n)]


def _middle(place: tuple[float, float]) -> float:
    return place[0] + place[1] / 2


def _arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    head = polygon([(x2 - 4, y2 - 7), (x2 + 4, y2 - 7), (x2, y2)], "total")
    return line(x1, y1, x2, y2 - 6, "axis") + head
