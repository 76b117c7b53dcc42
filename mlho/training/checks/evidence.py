"""The evidence that the checks of data quality read, and a figure that one of them measures."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.events.ledger import Ledger
from mlho.encoding.tally.tally import VALUE_BINS, YEARS, Tally
from mlho.printable import code_words
from mlho.spec.checks import CheckName
from mlho.training.iterations.problem import Problem

NO_NUMBERS: Final = "no aggregate uses numbers"
NO_SITE: Final = "no site is known (validation.splitColumn)"


@dataclass(frozen=True)
class Measure:
    """A figure of a check for one subject; None if the check cannot be carried out, with the reason as ``detail``."""

    check: CheckName
    subject: str
    figure: float | None
    detail: str
    remedy: str = ""
    words: str = ""


def not_measured(reason: str, *checks: CheckName) -> Iterator[Measure]:
    """Yield the reason in place of the figures of checks that cannot be carried out."""
    for check in checks:
        yield Measure(check, "events", None, reason)


@dataclass(frozen=True)
class Evidence:
    """The integer counts of the encoding, and the data of the run."""

    problem: Problem
    tally: Tally
    """For the codes of the problem, in their order."""
    ledger: Ledger
    plain_ledger: Mapping[str, Any]
    """With the samples without a used row, and the units."""

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Used rows of each code."""
        return self.tally.years.sum(axis=1)

    @cached_property
    def years(self) -> list[int]:
        """Years with at least one row in 200, ascending; empty if they span more years than the counts can distinguish."""
        by_year = self.tally.months.sum(axis=1).reshape(-1, 12).sum(axis=1)
        places = np.flatnonzero(by_year > by_year.sum() / 200)
        if not len(places) or places[-1] - places[0] >= YEARS:
            return []
        return [
            self.problem.spec.data.plausible_years[0] + int(place)
            for place in range(places[0], places[-1] + 1)
        ]

    def of_years(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return counts by year modulo ``YEARS`` (the second to last axis, or the last of counts by code) for ``years``."""
        return counts[..., [year % YEARS for year in self.years]]

    @cached_property
    def has_values(self) -> bool:
        """Whether numbers were counted."""
        return bool(self.tally.values.shape[1] == VALUE_BINS)

    def of_code(self, check: CheckName, code: int, figure: float, detail: str, remedy: str) -> Measure:
        """Return the figure of one code."""
        return Measure(check, self.problem.codes[code], figure, detail, remedy, self.words(code))

    def named(self, codes: NDArray[np.int64]) -> str:
        """Return the three codes with the most rows in words."""
        return ", ".join(map(self.words, codes[np.argsort(-self.rows[codes], kind="stable")][:3].tolist()))

    def words(self, code: int) -> str:
        """Return a code with its description, for a sentence."""
        name = self.problem.codes[code]
        return code_words(name, self.problem.concepts.descriptions.get(name))
