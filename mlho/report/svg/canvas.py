"""SVG primitives: scales, ticks, marks and frames. Pure functions of numbers and text, without a drawing library."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import accumulate, takewhile
from typing import Final

from markupsafe import Markup, escape

from mlho.printable import printable

# Character widths at 12 px in the widest common system font, so that labels do not overlap.
NARROW_CHARACTERS: Final = frozenset("iIljft.,:;'|!()[] /-")
NARROW_WIDTH, USUAL_WIDTH, WIDE_WIDTH = 4.4, 7.2, 8.6
LOG_STEPS: Final = (1.0, 2.0, 5.0)
FINE_LOG_STEPS: Final = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
MAX_LOG_TICKS: Final = 7
WIDE_ENOUGH: Final = 600.0  # pixels; a narrower chart has the layout for a phone
SAMPLE_WIDTH: Final = 20.0  # length of a sample line in a legend

Point = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """Map a value to a position in pixels, linearly or logarithmically. Values outside are moved to the edge unless ``is_open``."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False
    is_open: bool = False

    def at(self, value: float) -> float:
        """Return the position of a value."""
        low, high = self._on_scale(self.low), self._on_scale(self.high)
        share = (self._on_scale(value) - low) / (high - low) if high > low else 0.5
        if not self.is_open:
            share = min(1.0, max(0.0, share))
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Return about six round values within the scale."""
        return log_ticks(self.low, self.high) if self.is_log else linear_ticks(self.low, self.high)

    def _on_scale(self, value: float) -> float:
        return math.log(max(value, 1e-12)) if self.is_log else value


def linear_ticks(low: float, high: float) -> list[float]:
    """Return round values from ``low`` to ``high``, in steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return round values within the bounds of a logarithmic axis, with at most seven ticks."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in (FINE_LOG_STEPS, LOG_STEPS, (1.0,)):
        ticks = [round(step * 10.0**p, 10) for p in powers for step in steps if low <= step * 10.0**p <= high]
        if len(ticks) <= MAX_LOG_TICKS:
            break
    return ticks


def tick_label(value: float) -> str:
    """Format a tick as short as possible: ``0.2``, ``1,200``, ``−0.05``."""
    text = f"{value:,.10g}"
    return text.replace("-", "\N{MINUS SIGN}")


def coordinate(value: float) -> str:
    """Format a position to a tenth of a pixel, without a trailing ``.0``."""
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text


def element(tag: str, content: str = "", /, **attributes: object) -> str:
    """Return an SVG element. ``class_`` becomes class, ``_`` becomes ``-``, floats are rounded; text must be escaped."""
    written = "".join(
        f' {_name(name)}="{_value(value)}"' for name, value in attributes.items() if value is not None
    )
    return f"<{tag}{written}>{content}</{tag}>" if content else f"<{tag}{written}/>"


def _name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _value(value: object) -> str:
    return coordinate(value) if isinstance(value, float) else str(escape(value))


def text(x: float, y: float, words: str, *, class_: str = "t", anchor: str | None = None) -> str:
    """Return a text element; ``anchor`` is ``middle`` or ``end``."""
    return element("text", str(escape(words)), x=float(x), y=float(y), class_=class_, text_anchor=anchor)


def text_width(words: str) -> float:
    """Return an upper bound of the width of a text in pixels at 12 px."""
    return sum(map(_character_width, words))


def _character_width(character: str) -> float:
    return (
        NARROW_WIDTH
        if character in NARROW_CHARACTERS
        else WIDE_WIDTH
        if character.isupper() or character in "mw%"
        else USUAL_WIDTH
    )


def fitted_text(
    x: float, y: float, words: str, room: float, *, class_: str = "t", anchor: str | None = None
) -> str:
    """Return a text truncated to ``room`` pixels, with the full text as a tooltip if it was truncated."""
    if text_width(words) <= room:
        return text(x, y, words, class_=class_, anchor=anchor)
    reached = accumulate(map(_character_width, words))
    n_kept = sum(1 for _ in takewhile(lambda width: width <= room - WIDE_WIDTH, reached))
    content = f"{escape(words[:n_kept].rstrip())}…<title>{escape(words)}</title>"
    return element("text", content, x=float(x), y=float(y), class_=class_, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    """Return a straight line."""
    return element("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=class_)


def polyline(points: Iterable[Point], class_: str) -> str:
    """Return an open polyline."""
    return element("polyline", points=_points(points), class_=class_)


def polygon(points: Iterable[Point], class_: str) -> str:
    """Return a filled polygon."""
    return element("polygon", points=_points(points), class_=class_)


def _points(points: Iterable[Point]) -> str:
    return " ".join(f"{coordinate(x)},{coordinate(y)}" for x, y in points)


def rect(x: float, y: float, width: float, height: float, class_: str, tooltip: str = "") -> str:
    """Return a rectangle; negative sizes become zero."""
    title = f"<title>{escape(tooltip)}</title>" if tooltip else ""
    return element(
        "rect",
        title,
        x=float(x),
        y=float(y),
        width=float(max(width, 0.0)),
        height=float(max(height, 0.0)),
        class_=class_,
    )


def marker(x: float, y: float, shape: str, class_: str, size: float = 4.5) -> str:
    """Return a ``circle``, ``square``, ``diamond`` or ``triangle``. Shape, not colour alone, distinguishes marks."""
    if shape == "circle":
        return element("circle", cx=float(x), cy=float(y), r=float(size), class_=class_)
    corners: dict[str, list[Point]] = {
        "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        "diamond": [(0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)],
        "triangle": [(0, -1.2), (1.1, 0.9), (-1.1, 0.9)],
    }
    return polygon([(x + size * dx, y + size * dy) for dx, dy in corners[shape]], class_)


def svg(
    name: str, title: str, description: str, width: float, height: float, body: str, *, data: str = ""
) -> Markup:
    """Return a whole chart with an accessible title and description; ``data`` are attributes for the page's script."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" role="img" viewBox="0 0 {coordinate(width)} {coordinate(height)}" '
        f'style="max-width:{coordinate(width)}px"{data} aria-labelledby="{escape(name)}-title {escape(name)}-desc">'
        f'<title id="{escape(name)}-title">{escape(title)}</title><desc id="{escape(name)}-desc">{escape(description)}</desc>'
    )
    # All content is made by the functions above, which escape text.
    return Markup(f"{head}{body}</svg>")  # noqa: S704


def name_at(name: str, width: float) -> str:
    """Return the name of a chart at a width: a page may contain both a wide and a narrow version."""
    return name if width >= WIDE_ENOUGH else f"{name}-narrow"


@cache
def chart_style() -> str:
    """Return the style sheet of the charts. The report includes it once, a standalone chart inline."""
    return resources.files("mlho.report").joinpath("templates/charts.css").read_text(encoding="utf-8")


def standalone(picture: str) -> str:
    """Return a chart with inline style, for a file or a notebook."""
    head, _, rest = picture.partition(">")
    return printable(f"{head}><style>{chart_style()}</style>{rest}", lines=True)


@dataclass(frozen=True)
class Frame:
    """A plotting area with two scales, its grid, tick labels and axis titles."""

    width: float
    height: float
    x: Scale
    y: Scale
    x_title: str
    y_title: str

    @classmethod
    def make(
        cls,
        x_range: tuple[float, float],
        y_range: tuple[float, float],
        x_title: str,
        y_title: str,
        *,
        width: float = 440.0,
        height: float = 360.0,
        bottom: float = 46.0,
        is_open: bool = False,
    ) -> "Frame":
        """Create a frame of a size that is legible on a phone and in two columns on a desktop.

        With ``is_open`` lines leave the frame at its edges; draw them with :meth:`clipped`.
        """
        x = Scale(*x_range, 52.0, width - 12.0, is_open=is_open)
        y = Scale(*y_range, height - bottom, 12.0, is_open=is_open)
        return cls(width, height, x, y, x_title, y_title)

    def background(self) -> str:
        """Return grid lines, tick labels and axis titles."""
        left, right, bottom, top = self.x.start, self.x.end, self.y.start, self.y.end
        parts = []
        for tick in self.x.ticks():
            at = self.x.at(tick)
            parts += [
                line(at, bottom, at, top, "grid"),
                text(at, bottom + 16, tick_label(tick), class_="tick", anchor="middle"),
            ]
        for tick in self.y.ticks():
            at = self.y.at(tick)
            parts += [
                line(left, at, right, at, "grid"),
                text(left - 6, at + 4, tick_label(tick), class_="tick", anchor="end"),
            ]
        parts += [line(left, bottom, right, bottom, "axis"), line(left, bottom, left, top, "axis")]
        parts.append(text((left + right) / 2, bottom + 35, self.x_title, class_="t", anchor="middle"))
        middle = (bottom + top) / 2
        rotation = f"rotate(-90 13 {coordinate(middle)})"
        parts.append(
            element(
                "text",
                str(escape(self.y_title)),
                x=13.0,
                y=middle,
                class_="t",
                text_anchor="middle",
                transform=rotation,
            )
        )
        return "".join(parts)

    @property
    def data(self) -> str:
        """Attributes from which the page's script computes the values under the pointer."""
        axes = [(scale.start, scale.end, scale.low, scale.high) for scale in (self.x, self.y)]
        numbers = " ".join(f"{value:.6g}" for axis in axes for value in axis)
        return f' data-axes="{numbers}" data-names="{escape(self.x_title)}|{escape(self.y_title)}"'

    def clipped(self, body: str) -> str:
        """Return marks clipped to the plotting area: a nested SVG clips its content."""
        left, top = self.x.start, self.y.end
        width, height = self.x.end - left, self.y.start - top
        box = " ".join(map(coordinate, (left, top, width, height)))
        return element(
            "svg", body, x=left, y=top, width=width, height=height, viewBox=box, role="presentation"
        )

    def path(self, xs: Sequence[float], ys: Sequence[float], class_: str) -> str:
        """Return a polyline through data points."""
        return polyline([(self.x.at(a), self.y.at(b)) for a, b in zip(xs, ys, strict=True)], class_)

    def band(self, xs: Sequence[float], low: Sequence[float], high: Sequence[float], class_: str) -> str:
        """Return the area between two curves."""
        there = [(self.x.at(a), self.y.at(b)) for a, b in zip(xs, high, strict=True)]
        back = [(self.x.at(a), self.y.at(b)) for a, b in zip(xs, low, strict=True)]
        return polygon([*there, *reversed(back)], class_)


def legend(entries: Sequence[tuple[str, str]], x: float, y: float, room: float) -> str:
    """Return a legend in one row, spread over ``room`` pixels; each entry has the class of its sample and its text."""
    widths = [SAMPLE_WIDTH + 6 + text_width(words) for _, words in entries]
    gap = max(4.0, (room - sum(widths)) / max(1, len(entries)))
    parts = []
    for (class_, words), width in zip(entries, widths, strict=True):
        parts += [_sample(class_, x, y), text(x + SAMPLE_WIDTH + 6, y, words, class_="tick")]
        x += width + gap
    return "".join(parts)


def _sample(class_: str, x: float, y: float) -> str:
    if class_ == "band":
        return rect(x, y - 9, SAMPLE_WIDTH, 9, class_)
    if class_ == "accent":
        return marker(x + 10, y - 4, "circle", class_, 3.5)
    if class_ == "point":
        return line(x + 10, y - 10, x + 10, y + 2, "whisker") + marker(x + 10, y - 4, "circle", "point", 3.5)
    return line(x, y - 4, x + SAMPLE_WIDTH, y - 4, class_)
