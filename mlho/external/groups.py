"""Performance by month, by site and by demographic groups, without small cells."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from mlho.arrays import n_distinct
from mlho.encoding.cohort.cohort import Cohort
from mlho.external.scores import ScoredCohort, has_dates
from mlho.method.evaluation.auroc import auroc_estimate
from mlho.method.evaluation.bootstrap import bootstrap_by_patient
from mlho.method.evaluation.metrics import Estimate as Figure
from mlho.method.evaluation.metrics import brier_of
from mlho.method.evaluation.suppression import shown_counts
from mlho.method.evaluation.tally import Tally
from mlho.report.external import GroupEvaluation
from mlho.report.result import Estimate
from mlho.training.results.groups import demographic_groups

OTHERS: Final = "other"
Period = Literal["month", "night"]
OBSERVED_EXPECTED: Final = "observed_expected"
_Levels = list[tuple[str, NDArray[np.bool_]]]


def evaluate_groups(
    scored: ScoredCohort, *, min_cell: int, n_replicates: int, seed: int, period: Period = "month"
) -> list[GroupEvaluation]:
    """Evaluate the calibrated probabilities in every month, site and demographic group.

    Parameters
    ----------
    scored : ScoredCohort
    min_cell : int
        A month or site with fewer patients counts as ``other``; a group has figures if it has so many patients with and without
        the outcome.
    n_replicates, seed : int
        Of the bootstrap of patients.
    period : str
        ``month`` or ``night``: the periods of the index dates.
    """
    found: list[GroupEvaluation] = []
    for by, levels in _partitions(scored.cohort, min_cell, period):
        counts = _counts(scored.cohort, levels, min_cell)
        for (level, is_in), (n, n_positive) in zip(levels, counts, strict=True):
            figures = _figures(scored, is_in, min_cell, n_replicates, seed)
            fewest = max(1, min_cell)
            found.append(
                GroupEvaluation(
                    by=by,
                    level=level,
                    n_samples=n,
                    n_positive_samples=n_positive,
                    figures=figures,
                    reason=None if figures else f"fewer than {fewest} patients with or without the outcome",
                )
            )
    return found


def periods_of(cohort: Cohort, period: Period) -> NDArray[np.datetime64]:
    """Return the month or the night of each sample."""
    unit = "datetime64[M]" if period == "month" else "datetime64[D]"
    return cohort.index_us.astype("datetime64[us]").astype(unit)


def _partitions(cohort: Cohort, min_cell: int, period: Period) -> Iterator[tuple[str, _Levels]]:
    if has_dates(cohort):
        distinct, codes = np.unique(periods_of(cohort, period), return_inverse=True)
        yield period, _pooled(cohort, [str(own) for own in distinct], codes, min_cell)
    if cohort.parts is not None:
        yield "site", _pooled(cohort, cohort.parts.levels, cohort.parts.codes, min_cell)
    yield from demographic_groups(cohort).items()


def _pooled(cohort: Cohort, levels: Sequence[str], codes: NDArray[np.integer[Any]], min_cell: int) -> _Levels:
    """Return the levels in their order; those with few patients count as ``other``, the last."""
    kept: _Levels = []
    rest = np.zeros(cohort.n_samples, np.bool_)
    for code, level in enumerate(levels):
        is_in = codes == code
        if n_distinct(cohort.unit_of[is_in]) < min_cell:
            rest |= is_in
        else:
            kept.append((level, is_in))
    return [*kept, (OTHERS, rest)] if rest.any() else kept


def _counts(cohort: Cohort, levels: _Levels, min_cell: int) -> list[tuple[int | None, int | None]]:
    """Return samples, and samples with the outcome; None where small or where another one would follow."""
    by_outcome = []
    for outcome in (0, 1):
        cells = [is_in & (cohort.outcome == outcome) for _, is_in in levels]
        patients = [n_distinct(cohort.unit_of[cell]) for cell in cells]
        by_outcome.append(shown_counts([int(cell.sum()) for cell in cells], min_cell, n_patients=patients))
    return [
        (None, None) if without is None or positive is None else (without + positive, positive)
        for without, positive in zip(*by_outcome, strict=True)
    ]


def _figures(
    scored: ScoredCohort, is_in: NDArray[np.bool_], min_cell: int, n_replicates: int, seed: int
) -> dict[str, Estimate]:
    y, p, units = scored.cohort.outcome[is_in], scored.probability[is_in], scored.cohort.unit_of[is_in]
    fewest = min(n_distinct(units[y == outcome]) for outcome in (0, 1))
    if fewest < max(1, min_cell):
        return {}
    groups = np.unique(units, return_inverse=True)[1]
    others = bootstrap_by_patient(y, p, groups, _statistics, n_replicates=n_replicates, seed=seed)
    return estimates({"auroc": auroc_estimate(y, p, groups=groups), **others})


def _statistics(t: Tally) -> dict[str, float | None]:
    expected = math.fsum(t.n * t.p)
    return {OBSERVED_EXPECTED: t.n_positive_total / max(expected, 1e-12), "brier": brier_of(t)}


def estimates(figures: Mapping[str, Figure]) -> dict[str, Estimate]:
    """Return figures as parts of a document."""
    return {
        name: Estimate(value=own.value, low=own.low, high=own.high, method=own.method, reason=own.reason)
        for name, own in figures.items()
    }
