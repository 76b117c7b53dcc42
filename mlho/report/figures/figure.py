"""One picture with its numbers and its reading: what report and notebook both show."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from mlho.report.svg import charts
from mlho.report.svg.canvas import standalone


@dataclass(frozen=True)
class Figure:
    """One picture with its numbers.

    Attributes
    ----------
    name, title : str
    reading : str
        One sentence: how to read it.
    wide : Markup
        SVG without its style, for a page that has the style.
    narrow : Markup or None
        The same for a phone; None when ``wide`` serves both.
    columns, rows : tuple
        The numbers, ready to read.
    """

    name: str
    title: str
    reading: str
    wide: Markup
    narrow: Markup | None
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def svg(self) -> str:
        """The picture alone, with its style inside."""
        return standalone(self.wide)

    def save(self, path: str | Path) -> Path:
        """Write the picture as an SVG file and return its path."""
        target = Path(path)
        target.write_text(self.svg, encoding="utf-8")
        return target

    def _repr_svg_(self) -> str:
        return self.svg


def both(draw: Callable[[float], Markup]) -> tuple[Markup, Markup]:
    """Return a picture for a wide page and for a phone."""
    return draw(charts.WIDE), draw(charts.NARROW)
