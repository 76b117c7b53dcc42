"""A chart with its numbers and a reading guide, shown in report and notebook."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from markupsafe import Markup

from mlho.report.svg import charts
from mlho.report.svg.canvas import standalone


@dataclass(frozen=True)
class Figure:
    """A chart with its numbers."""

    name: str
    title: str
    reading: str
    """One sentence that explains how to read it."""
    wide: Markup
    """SVG without style, for a page that has the style."""
    narrow: Markup | None
    """Narrow version for a phone; None if ``wide`` serves both."""
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """The numbers, formatted."""
    whole: Markup | None = None
    """The whole range, if the chart is zoomed to a part of it."""

    @property
    def svg(self) -> str:
        """The chart as a standalone SVG with its style."""
        return standalone(self.wide)

    def save(self, path: str | Path) -> Path:
        """Write the chart to an SVG file and return its path."""
        target = Path(path)
        target.write_text(self.svg, encoding="utf-8")
        return target

    def _repr_svg_(self) -> str:
        return self.svg


class _Drawing(Protocol):
    def __call__(self, *, width: float) -> Markup: ...


def both(draw: _Drawing) -> tuple[Markup, Markup]:
    """Draw a chart for a wide page and for a phone."""
    return draw(width=charts.WIDE), draw(width=charts.NARROW)
