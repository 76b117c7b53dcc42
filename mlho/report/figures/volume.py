"""Small multiples of the events over time, from the checks of data quality."""

from functools import partial

from mlho.report import words
from mlho.report.figures.figure import Figure, both
from mlho.report.result import Result
from mlho.report.svg.multiples import multiples


def volume(result: Result) -> Figure | None:
    """Plot the used rows by month, in all and by site, and by year for codes that begin or end within the period."""
    panels = [(series.name, series.at, series.rows) for series in result.quality.series]
    if not panels:
        return None
    return Figure(
        "volume",
        "Events over time",
        "Used rows by month, in all and by site, and by year for codes that begin or end within the period. The number is the highest count; "
        "each panel has its own scale from zero. A gap in a line is a count below the bound for small cells.",
        *both(partial(multiples, "volume", "Events over time", panels)),
        ("What", "Time", "Rows"),
        tuple(
            (name, at, words.counted(n))
            for name, times, rows in panels
            for at, n in zip(times, rows, strict=True)
        ),
    )
