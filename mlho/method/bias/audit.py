"""The audit of a set of predictions: every group in every period, from the same bootstrap samples of patients."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlho.errors import SpecError
from mlho.method.bias.cells import MAX_RULES, SUMS, Cell, draw_weights, figures_of
from mlho.method.bias.contrasts import Drawn, compare, compare_errors, gaps, trends, with_adjusted
from mlho.method.bias.groups import (
    Audit,
    Chance,
    Comparison,
    ErrorComparison,
    Gap,
    GroupFigures,
    Grouping,
    PeriodFigures,
    Periods,
    Trend,
    counts_shown,
    fewest_patients,
)
from mlho.method.bias.intervals import group_estimate, is_equal_rate, scattered
from mlho.method.evaluation.calibration import fit_calibrator
from mlho.method.evaluation.metrics import MIN_CELL, Estimate
from mlho.method.evaluation.tally import FloatArray, IntArray, checked_groups, tally

N_REPLICATES: Final = 1000
N_SIMULATIONS: Final = 200
CALIBRATION: Final = (
    "brier",
    "observed_expected",
    "in_the_large",
    "ece_equal_width",
    "mce_equal_width",
    "ece_equal_count",
    "mce_equal_count",
)
ERRORS: Final = CALIBRATION[3:]
# Special periods in the key of a cell: all samples, and all samples with recalibrated probabilities.
WHOLE: Final = -1
RECALIBRATED: Final = -2
_Key = tuple[int, int, int]  # grouping, level, period
_Copies = Callable[[IntArray], IntArray]
_LARGEST_CHUNK: Final = 2**26  # bytes of weights, or of simulated outcomes, at a time


def audit(
    y: ArrayLike,
    p: ArrayLike,
    groupings: Sequence[Grouping],
    *,
    patients: ArrayLike | None,
    alerts: Mapping[str, ArrayLike],
    seed: Sequence[int],
    periods: Periods | None = None,
    groups_by_period: bool = True,
    folds: NDArray[np.integer[Any]] | None = None,
    models: ArrayLike | None = None,
    copies: _Copies | None = None,
    min_cell: int = MIN_CELL,
    n_replicates: int = N_REPLICATES,
    n_threads: int = 1,
) -> Audit:
    """Evaluate every group, in all periods together and in each.

    Parameters
    ----------
    y : array of 0/1, shape (n_samples,)
    p : array of float in [0, 1], shape (n_samples,)
        Probabilities of models that were not trained on the sample.
    groupings : sequence of Grouping
        All patients are added as the first.
    patients : array of int, shape (n_samples,), or None
        Patient of each sample; None: each sample is a patient.
    alerts : mapping of rule to array of bool, shape (n_samples,)
    seed : sequence of int ≥ 0
    periods : Periods or None
    groups_by_period : bool
        If false, only all patients are evaluated in each period.
    folds : int array, shape (n_samples,), or None
        Fold of each sample's patient, for the recalibration within groups; None omits it.
    models : array of int ≥ 0, shape (n_samples,), or None
        Number of the model that predicted each sample; None: one model. The AUROC compares only samples of one model: the scales of two
        models differ, and a model trained without a site where the outcome is frequent predicts risks that are too low for that
        site.
    copies : function or None
        Returns the positions of the given samples that enter their figures, each repeated by its weight. It is called for each group in each
        period, so that a weight may depend on them. None: each sample once.
    min_cell : int
        Minimum number of patients with the outcome, and of patients without it, for a group to have figures.
    n_replicates : int
        All groups and periods use the same replicates, so differences are paired.
    n_threads : int
        Has no effect on the result.

    Examples
    --------
    >>> y, p = [0, 1] * 40, [0.2, 0.7, 0.4, 0.3] * 20
    >>> sex = Grouping("sex", ("f", "m"), np.repeat([0, 1], 40))
    >>> found = audit(y, p, [sex], patients=None, alerts={}, seed=[1], n_replicates=50)
    >>> [(group.level, round(group.figures["auroc"].value, 3)) for group in found.groups]
    [('all patients', 0.75), ('f', 0.75), ('m', 0.75)]
    """
    problem = _Problem.of(y, p, patients, models, alerts, min_cell, copies)
    all_groupings = [Grouping.everyone(problem.p.size), *groupings]
    cells: dict[_Key, Cell] = {}
    for (place, level), samples in _members(all_groupings):
        for period, members in _parts(samples, periods if groups_by_period or not place else None):
            if problem.is_usable(part := problem.copies(members)):
                cells[place, level, period] = problem.cell(part, problem.p)
        if folds is not None and (cell := cells.get((place, level, WHOLE))) is not None:
            cells[place, level, RECALIBRATED] = problem.recalibrated(cell, folds)
    drawn = problem.draw(cells, seed=[*seed, 0], n_replicates=n_replicates, n_threads=n_threads)
    perfect = problem.simulate({key: cell for key, cell in cells.items() if key[2] == WHOLE}, seed=[*seed, 1])
    groups = [
        problem.group(
            all_groupings[place],
            (place, level),
            cells,
            drawn,
            perfect,
            periods if groups_by_period or not place else None,
        )
        for (place, level), _ in _members(all_groupings)
    ]
    comparisons, errors, gap, trend = _contrasts(problem, all_groupings, drawn, periods)
    return Audit(
        unit=None if periods is None else periods.unit,
        rules=problem.rules,
        groups=tuple(groups),
        comparisons=comparisons,
        errors=errors,
        gaps=gap,
        trends=trend,
    )


def _members(groupings: Sequence[Grouping]) -> Iterator[tuple[tuple[int, int], IntArray]]:
    """Yield the samples of each level, keyed by the numbers of the grouping and the level."""
    for place, grouping in enumerate(groupings):
        for level, samples in enumerate(grouping.members()):
            yield (place, level), samples


def _parts(samples: IntArray, periods: Periods | None) -> Iterator[tuple[int, IntArray]]:
    """Yield all samples, then those of each period."""
    yield WHOLE, samples
    if periods is not None:
        for period in range(len(periods.levels)):
            yield period, samples[periods.codes[samples] == period]


def _contrasts(
    problem: "_Problem",
    groupings: Sequence[Grouping],
    drawn: Mapping[_Key, Drawn],
    periods: Periods | None,
) -> tuple[tuple[Comparison, ...], tuple[ErrorComparison, ...], tuple[Gap, ...], tuple[Trend, ...]]:
    comparisons: list[Comparison] = []
    errors: list[ErrorComparison] = []
    gap: list[Gap] = []
    trend: list[Trend] = []
    for place, grouping in enumerate(groupings):
        whole = [drawn.get((place, level, WHOLE)) for level in range(len(grouping.levels))]
        comparisons += compare(grouping, whole, problem.rules)
        errors += compare_errors(
            grouping,
            [
                None if figures is None else problem.copies(of_level)
                for figures, of_level in zip(whole, grouping.members(), strict=True)
            ],
            p=problem.p,
            positive=problem.positive,
            patient=problem.patient,
        )
        gap += gaps(grouping, whole, problem.rules)
        for level, name in enumerate(grouping.levels if periods is not None else ()):
            assert periods is not None
            parts = [drawn.get((place, level, period)) for period in range(len(periods.levels))]
            trend += trends(grouping.by, name, parts, periods, problem.rules)
    return with_adjusted(comparisons), with_adjusted(errors), tuple(gap), with_adjusted(trend)


@dataclass(frozen=True, eq=False)
class _Problem:
    """The audited arrays."""

    positive: NDArray[np.bool_]
    p: FloatArray
    patient: IntArray
    model: IntArray
    alerts: NDArray[np.uint8]
    rules: tuple[str, ...]
    min_cell: int
    copies: _Copies

    @classmethod
    def of(
        cls,
        y: ArrayLike,
        p: ArrayLike,
        patients: ArrayLike | None,
        models: ArrayLike | None,
        alerts: Mapping[str, ArrayLike],
        min_cell: int,
        copies: _Copies | None,
    ) -> "_Problem":
        if len(alerts) > MAX_RULES:
            raise SpecError(
                f"audit: expected at most {MAX_RULES} alert rules; got {len(alerts)}. Audit fewer."
            )
        size = tally(y, p).cell.size  # checks both arrays
        bits = np.zeros(size, np.uint8)
        for place, alert in enumerate(alerts.values()):
            bits |= np.asarray(alert, bool).astype(np.uint8) << np.uint8(place)
        return cls(
            positive=np.asarray(y) == 1,
            p=np.asarray(p, np.float64),
            patient=checked_groups(patients, size),
            model=np.zeros(size, np.int64) if models is None else checked_groups(models, size),
            alerts=bits,
            rules=tuple(alerts),
            min_cell=max(1, min_cell),
            copies=copies or (lambda samples: samples),
        )

    @property
    def too_few(self) -> str:
        return f"fewer than {self.min_cell} patients with or without the outcome"

    def cell(self, samples: IntArray, p: FloatArray) -> Cell:
        return Cell.of(
            samples, p=p, positive=self.positive, patient=self.patient, model=self.model, alerts=self.alerts
        )

    def is_usable(self, samples: IntArray) -> bool:
        """Return whether there are enough patients with and without the outcome."""
        return fewest_patients(samples, self.positive, self.patient) >= self.min_cell

    def recalibrated(self, cell: Cell, folds: NDArray[np.integer[Any]]) -> Cell:
        """Return the cell with the probabilities of each fold recalibrated by a fit on the group's other folds."""
        p, fold, y = self.p.copy(), folds[cell.sample], cell.positive.astype(np.uint8)
        for number in np.unique(fold):
            held = fold == number
            if not held.all():
                calibrator = fit_calibrator(y[~held], cell.p[~held])
                p[cell.sample[held]] = calibrator.apply(cell.p[held])
        return self.cell(np.sort(cell.sample), p)

    def draw(
        self, cells: Mapping[_Key, Cell], *, seed: Sequence[int], n_replicates: int, n_threads: int
    ) -> dict[_Key, Drawn]:
        """Return the figures of each cell and of its replicates."""
        n_patients = int(self.patient.max()) + 1
        rng = np.random.Generator(np.random.PCG64(seed))
        size = max(1, _LARGEST_CHUNK // n_patients)
        with ThreadPoolExecutor(n_threads) as pool:

            def sums(weights: NDArray[np.uint8], starts: Sequence[float]) -> list[FloatArray]:
                n_rules = len(self.rules)
                return list(
                    pool.map(lambda cell, start: cell.sums(weights, n_rules, start), cells.values(), starts)
                )

            chunks = [sums(np.ones((1, n_patients), np.uint8), [0.0] * len(cells))]
            starts = np.nan_to_num(
                [cell_sums[0, SUMS.index("in_the_large")] for cell_sums in chunks[0]]
            ).tolist()
            for first in range(0, n_replicates, size):
                chunks.append(sums(draw_weights(rng, min(size, n_replicates - first), n_patients), starts))
        found = {}
        for key, *parts in zip(cells, *chunks, strict=True):
            figures = figures_of(np.concatenate(parts), self.rules)
            own_seed = [*seed, *(part - RECALIBRATED for part in key)]  # none is negative
            found[key] = self._drawn(cells[key], figures, own_seed)
        return found

    def _drawn(self, cell: Cell, figures: Mapping[str, FloatArray], seed: Sequence[int]) -> Drawn:
        """Return the first row of the figures as the values, and the others as their replicates."""
        replicates, n_patients = {name: values[1:] for name, values in figures.items()}, {}
        for number, (name, drawn) in enumerate(replicates.items()):
            if is_equal_rate(name, drawn):
                n_patients[name] = cell.n_patients(name, self.rules)
                rng = np.random.Generator(np.random.PCG64([*seed, number]))
                replicates[name] = scattered(name, drawn, n_patients[name], rng)
        values = {name: float(of_name[0]) for name, of_name in figures.items()}
        return Drawn(values, replicates, n_patients, cell.n_patients("auroc", self.rules))

    def simulate(self, cells: Mapping[_Key, Cell], *, seed: Sequence[int]) -> dict[_Key, dict[str, Chance]]:
        """Return ECE and MCE of outcomes drawn with the predicted probabilities; all copies of a sample have one outcome."""
        rng = np.random.Generator(np.random.PCG64(seed))
        size = max(1, _LARGEST_CHUNK // (8 * self.p.size))
        order = np.lexsort((self.patient, self.p))  # so that the order of rows has no effect
        chunks = []
        for first in range(0, N_SIMULATIONS, size):
            outcomes = np.empty((min(size, N_SIMULATIONS - first), self.p.size), np.bool_)
            outcomes[:, order] = rng.random(outcomes.shape) < self.p[order]
            chunks.append([cell.calibration_errors(outcomes) for cell in cells.values()])
        return {key: _chances(np.concatenate(parts)) for key, *parts in zip(cells, *chunks, strict=True)}

    def group(
        self,
        grouping: Grouping,
        key: tuple[int, int],
        cells: Mapping[_Key, Cell],
        drawn: Mapping[_Key, Drawn],
        perfect: Mapping[_Key, dict[str, Chance]],
        periods: Periods | None,
    ) -> GroupFigures:
        """Return the figures of one level."""
        place, level = key
        whole = (*key, WHOLE)
        counts = self.counts(list(grouping.members()))
        if grouping.is_crossed and (None, None) in counts:
            counts = [(None, None)] * len(counts)

        def figures(period: int, names: Sequence[str] | None = None) -> dict[str, Estimate]:
            cell_key = (place, level, period)
            return self.estimates(drawn[cell_key], cells[cell_key], names) if cell_key in drawn else {}

        shown: list[tuple[int | None, int | None]] = []
        if periods is not None and place == 0:
            shown = self.counts([part for _, part in _parts(np.arange(self.p.size), periods)][1:])
        return GroupFigures(
            by=grouping.by,
            level=grouping.levels[level],
            n_samples=counts[level][0],
            n_positive=counts[level][1],
            figures=figures(WHOLE),
            perfect=perfect.get(whole, {}),
            recalibrated=figures(RECALIBRATED, CALIBRATION),
            periods=tuple(
                PeriodFigures(
                    period=name,
                    figures=figures(period),
                    n_samples=shown[period][0] if shown else None,
                    n_positive=shown[period][1] if shown else None,
                    reason=None if (*key, period) in drawn else self.too_few,
                )
                for period, name in enumerate(periods.levels if periods is not None else ())
            ),
            reason=None if whole in drawn else self.too_few,
        )

    def counts(self, members: Sequence[IntArray]) -> list[tuple[int | None, int | None]]:
        copies = [self.copies(samples) for samples in members]
        return counts_shown(copies, self.positive, self.patient, self.min_cell)

    def estimates(self, drawn: Drawn, cell: Cell, names: Sequence[str] | None) -> dict[str, Estimate]:
        return {
            name: group_estimate(
                name, drawn.value[name], drawn.replicates[name], n_patients=drawn.n_patients.get(name, 0)
            )
            for name in (drawn.value if names is None else names)
        }


def _chances(errors: FloatArray) -> dict[str, Chance]:
    return {
        name: Chance(float(values.mean()), float(np.quantile(values, 0.95)))
        for name, values in zip(ERRORS, errors.T, strict=True)
    }
