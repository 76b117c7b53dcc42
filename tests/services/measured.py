"""The figures of a proof, their limits, and a table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

_HEADINGS: Final = ("proof", "trials", "min", "median", "p99", "max", "limit", "verdict")


@dataclass(frozen=True)
class Measured:
    """One figure with its value in each trial.

    Parameters
    ----------
    what : str
    values : sequence of float
        One value for each trial.
    limit : float
        Upper limit.
    least : float
        Lower limit.
    unit : str
    share : float
        Share of the trials that must keep the limit: 0.99 applies it to the 99th percentile.
    """

    what: str
    values: Sequence[float]
    limit: float
    least: float = -math.inf
    unit: str = "s"
    share: float = 1.0

    @property
    def is_kept(self) -> bool:
        """Return whether there were trials and the required share kept the limits."""
        return (
            bool(self.values) and self.quantile(self.share) <= self.limit and min(self.values) >= self.least
        )

    def quantile(self, share: float) -> float:
        """Return the smallest value that this share of the trials does not exceed."""
        ordered = sorted(self.values)
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

    def plain(self) -> dict[str, Any]:
        """Return the figures for a line of JSON."""
        least = {} if self.least == -math.inf else {"least": self.least}
        shares = {"min": 0.0, "p50": 0.5, "p99": 0.99, "max": 1.0}
        figures = {name: round(self.quantile(share), 3) for name, share in shares.items() if self.values}
        judged = {"limit": self.limit, **least, "unit": self.unit, "holds": self.is_kept}
        return {"what": self.what, "n": len(self.values), **figures, **judged}

    def row(self) -> tuple[str, ...]:
        """Return the cells of the table."""
        shares = [f"{self.quantile(share):.4g}" if self.values else "–" for share in (0, 0.5, 0.99, 1)]
        least = f"{self.least:g} to " if self.least > -math.inf else "≤ "
        judged = " (p99)" if self.share == 0.99 else ""
        limit = f"{self.limit:g}" if self.least == self.limit else f"{least}{self.limit:g}"
        verdict = "ok" if self.is_kept else "MISSED"
        return (self.what, str(len(self.values)), *shares, f"{limit} {self.unit}{judged}", verdict)


def missed(measured: Sequence[Measured], *, slower: int = 1) -> list[str]:
    """Return the rows of the figures that missed their limit, on a machine that is this many times slower."""
    figures = [
        replace(figure, limit=slower * figure.limit) if figure.unit == "s" else figure for figure in measured
    ]
    return [" | ".join(figure.row()) for figure in figures if not figure.is_kept]


def table(measured: Sequence[Measured]) -> str:
    """Return a table with one line per figure."""
    rows = [_HEADINGS, *(figure.row() for figure in measured)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, "  ".join("─" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)
