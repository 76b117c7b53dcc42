"""A hundred patients as marks: who is flagged, and who has the outcome."""

from collections.abc import Mapping
from typing import Final

from markupsafe import Markup

from mlho.report.svg.canvas import marker, svg, text

# In the order of drawing: kind, shape, legend.
KINDS: Final = (
    ("hit", "square", "flagged, with the outcome"),
    ("false", "diamond", "flagged, without the outcome"),
    ("missed", "triangle", "not flagged, with the outcome"),
    ("rest", "circle", "not flagged, without the outcome"),
)
_A_ROW: Final = 20
_STEP: Final = 14.5


def pictogram(name: str, title: str, counts: Mapping[str, int]) -> Markup:
    """Draw 100 patients.

    Parameters
    ----------
    counts : mapping of str to int
        Number of patients of each of ``KINDS``; they add up to 100.
    """
    marks = [(kind, shape) for kind, shape, _ in KINDS for _ in range(counts[kind])]
    parts = []
    for place, (kind, shape) in enumerate(marks):
        x, y = 8 + _STEP * (place % _A_ROW), 8 + _STEP * (place // _A_ROW)
        parts.append(marker(x, y, shape, f"person {kind}", 4.0))
    top = 8 + _STEP * (len(marks) // _A_ROW) + 8
    for row, (kind, shape, words) in enumerate(KINDS):
        y = top + 20 * row
        parts.append(marker(8, y, shape, f"person {kind}", 4.0))
        parts.append(text(22, y + 4, f"{counts[kind]} {words}", class_="t"))
    description = "; ".join(f"{counts[kind]} {words}" for kind, _, words in KINDS)
    return svg(
        name, title, f"Of 100 samples: {description}.", 8 * 2 + _STEP * (_A_ROW - 1), top + 72, "".join(parts)
    )
