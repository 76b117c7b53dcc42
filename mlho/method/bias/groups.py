"""Groups and periods of an audit, and their figures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlho.method.evaluation.metrics import Estimate
from mlho.method.evaluation.suppression import shown_counts
from mlho.method.evaluation.tally import FloatArray, IntArray

EVERYONE: Final = "all patients"


@dataclass(frozen=True, eq=False)
class Grouping:
    """A partition of the samples."""

    by: str
    """Name of the column, or of the pair of columns."""
    levels: tuple[str, ...]
    codes: NDArray[np.integer[Any]]
    """Level of each sample; −1 for none. Shape (n_samples,)."""
    reference: int | None = None
    """Level with which the others are compared. None: the level with the most samples."""
    is_crossed: bool = False
    """The levels are combinations of the levels of two groupings. If one is small, no count is shown, because the counts of the two
    groupings would reveal it."""

    @classmethod
    def everyone(cls, n_samples: int) -> "Grouping":
        """Return the grouping with all samples in one level."""
        return cls("all", (EVERYONE,), np.zeros(n_samples, np.int64))

    @property
    def reference_level(self) -> int:
        """Level with which the others are compared; in a tie of sample counts, the first."""
        if self.reference is not None:
            return self.reference
        return int(np.bincount(self.codes[self.codes >= 0], minlength=len(self.levels)).argmax())

    def members(self) -> Iterator[IntArray]:
        """Yield the samples of each level, ascending."""
        for level in range(len(self.levels)):
            yield np.flatnonzero(self.codes == level)


@dataclass(frozen=True, eq=False)
class Periods:
    """A partition of the samples in time."""

    unit: str
    """``month``, ``quarter`` or ``year``."""
    levels: tuple[str, ...]
    """In chronological order."""
    codes: NDArray[np.integer[Any]]
    """Shape (n_samples,)."""
    years: FloatArray
    """Beginning of each period, in years since the first. Shape (n_periods,)."""


@dataclass(frozen=True)
class PeriodFigures:
    """A group in one period. Counts are given for all patients only: those of groups could reveal a small cell."""

    period: str
    figures: dict[str, Estimate]
    n_samples: int | None = None
    n_positive: int | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Chance:
    """Distribution of a non-negative figure if there is no true deviation: its mean and its 95 % quantile."""

    mean: float
    high: float


@dataclass(frozen=True)
class GroupFigures:
    """Performance in one group."""

    by: str
    level: str
    n_samples: int | None
    n_positive: int | None
    """None for a small cell, or one from which a small cell could be computed."""
    figures: dict[str, Estimate] = field(default_factory=dict)
    """See :func:`mlho.method.bias.cells.figures_of`. Empty for a group that is too small."""
    perfect: dict[str, Chance] = field(default_factory=dict)
    """ECE and MCE of these predictions if they were calibrated perfectly."""
    recalibrated: dict[str, Estimate] = field(default_factory=dict)
    """Calibration figures of probabilities recalibrated within the group, each outside the data of its fit."""
    periods: tuple[PeriodFigures, ...] = ()
    reason: str | None = None
    """Reason why there are no figures."""


@dataclass(frozen=True)
class Comparison:
    """A figure of a group compared with that of the reference group: the difference and the ratio.

    ``p_value`` tests the difference; ``adjusted`` accounts for all comparisons of the audit (false discovery rate).
    """

    by: str
    level: str
    reference: str
    metric: str
    difference: Estimate
    ratio: Estimate
    p_value: float | None
    adjusted: float | None = None


@dataclass(frozen=True)
class ErrorComparison:
    """The error |y − p| of a group's patients against that of the reference group's, among samples of one outcome.

    ``delta`` is Cliff's: the share of pairs in which the patient of the group has the larger error, minus the share in which the
    patient of the reference has.
    """

    by: str
    level: str
    reference: str
    outcome: int
    delta: Estimate
    p_value: float | None
    adjusted: float | None = None


@dataclass(frozen=True)
class Gap:
    """The largest difference of a rate between any two groups of a column.

    ``by_chance`` is the mean gap of groups with equal rates and these numbers of patients; it is above 0, because a gap is never
    negative.
    """

    by: str
    metric: str
    value: Estimate
    by_chance: float | None


@dataclass(frozen=True)
class Trend:
    """Change of a figure of a group per year: weighted least squares over its periods."""

    by: str
    level: str
    metric: str
    n_periods: int
    per_year: Estimate
    p_value: float | None
    adjusted: float | None = None


@dataclass(frozen=True)
class Audit:
    """The results of an audit; groups in the order of the groupings, all patients first."""

    unit: str | None
    rules: tuple[str, ...]
    groups: tuple[GroupFigures, ...]
    comparisons: tuple[Comparison, ...]
    errors: tuple[ErrorComparison, ...]
    gaps: tuple[Gap, ...]
    trends: tuple[Trend, ...]


def counts_shown(
    members: Sequence[IntArray], positive: NDArray[np.bool_], patient: IntArray, min_cell: int
) -> list[tuple[int | None, int | None]]:
    """Return the numbers of samples and of samples with the outcome in each part; None for those that could disclose a small cell."""
    by_outcome = []
    for outcome in (False, True):
        cells = [samples[positive[samples] == outcome] for samples in members]
        patients = [int(np.unique(patient[cell]).size) for cell in cells]
        by_outcome.append(shown_counts([cell.size for cell in cells], min_cell, n_patients=patients))
    return [
        (None, None) if without is None or having is None else (without + having, having)
        for without, having in zip(*by_outcome, strict=True)
    ]


def fewest_patients(samples: IntArray, positive: NDArray[np.bool_], patient: IntArray) -> int:
    """Return the smaller of the numbers of patients with and without the outcome."""
    is_positive = positive[samples]
    return min(int(np.unique(patient[samples[is_positive == outcome]]).size) for outcome in (False, True))
